"""Stratified choices: exact counts, disjoint, complete, seeded."""

from __future__ import annotations

import numpy as np
import pytest

from sedona_tf.data import bilevel_split, stratified_subset
from sedona_tf.errors import UserError

COUNTS = (50, 7, 2, 1, 20)
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), COUNTS)).astype(np.int32)


@pytest.mark.parametrize(
    ("fraction", "validation_counts"),
    [
        (0.4, [20, 3, 1, 0, 8]),
        (0.01, [1, 1, 1, 0, 1]),  # At least one where a class has two.
        (0.99, [49, 6, 1, 1, 19]),  # And one stays.
    ],
)
def test_split_counts(fraction, validation_counts):
    train, validation = bilevel_split(LABELS, fraction, seed=3)
    np.testing.assert_array_equal(np.bincount(LABELS[validation], minlength=5), validation_counts)
    np.testing.assert_array_equal(np.union1d(train, validation), np.arange(len(LABELS)))
    assert np.intersect1d(train, validation).size == 0
    assert (np.diff(train) > 0).all()
    assert (np.diff(validation) > 0).all()


def test_split_is_a_function_of_the_seed():
    first, again, other = (bilevel_split(LABELS, seed=seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_split_refuses_fraction(fraction):
    with pytest.raises(UserError, match="fraction"):
        bilevel_split(LABELS, fraction)


@pytest.mark.parametrize(
    ("count", "expected"), [(40, [25, 4, 1, 0, 10]), (8, [5, 1, 0, 0, 2]), (99, list(COUNTS))]
)
def test_subset_counts(count, expected):
    # 40 of 80 halves: 25, 3.5, 1, 0.5, 10; the tie of remainders goes to the lower class.
    chosen = stratified_subset(LABELS, count)
    np.testing.assert_array_equal(np.bincount(LABELS[chosen], minlength=5), expected)
    assert (np.diff(chosen) > 0).all()
