"""Cross entropy with smoothing against its definition."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from sedona_tf.auxiliary import CrossEntropy, cross_entropy
from sedona_tf.errors import UserError


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_both_forms_equal_the_definition(float64, smoothing):
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((6, 4)), np.array([0, 1, 2, 3, 1, 1])
    weights = rng.uniform(size=6)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    targets = np.full((6, 4), smoothing / 3)
    targets[np.arange(6), labels] = 1 - smoothing
    each = -(targets * log_p).sum(1)
    loss = CrossEntropy(smoothing)
    np.testing.assert_allclose(cross_entropy(logits, labels, smoothing), each.mean(), rtol=1e-12)
    np.testing.assert_allclose(loss(labels[:, None], logits), each.mean(), rtol=1e-12)
    expected = (weights * each).sum() / 6
    np.testing.assert_allclose(loss(labels, logits, sample_weight=weights), expected, rtol=1e-12)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.smoothing == smoothing


def test_refuses_other_smoothing():
    with pytest.raises(UserError, match="smoothing"):
        CrossEntropy(1)
