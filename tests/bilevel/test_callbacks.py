"""What a search leaves for TensorBoard."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import tensorflow as tf

from bilevel.networks import tiny_backbone
from sedona_tf.auxiliary import candidates_from
from sedona_tf.bilevel import SearchModel
from sedona_tf.bilevel.callbacks import ArchitectureLog
from sedona_tf.callbacks import log_errors
from sedona_tf.errors import UserError


def test_every_step_is_recorded_with_histograms_of_alpha_and_beta(tmp_path):
    """Also while keras.callbacks.TensorBoard has recording switched off."""
    model = SearchModel(tiny_backbone(), candidates_from([{"kind": "separable", "depth": 1}]))
    history: dict[str, list] = {
        name: [] for name in ("steps", "cut_probability", "candidate_weights", "outer_loss")
    }
    log = ArchitectureLog(3, tmp_path, history)
    log.set_model(model)
    with tf.summary.record_if(False):
        for batch in range(2):
            model.alpha.assign(np.full(model.alpha.shape, 5.0 + batch))
            log.on_train_batch_end(batch, {"outer_loss": 0.5})
    log.on_train_end()
    assert history["steps"] == [4, 5]

    found = defaultdict(list)
    (path,) = (tmp_path / "architecture").iterdir()
    for record in tf.data.TFRecordDataset([str(path)]).as_numpy_iterator():
        event = tf.compat.v1.Event.FromString(record)
        for value in event.summary.value:
            found[value.tag].append((event.step, tf.make_ndarray(value.tensor)))
    for tag in ("alpha", "beta", "candidate_weights", "outer_loss", "cut_probability/unit_1"):
        assert [step for step, _ in found[tag]] == [4, 5]
    for step, buckets in found["alpha"]:  # rows of (left edge, right edge, count)
        assert buckets[:, 2].sum() == model.alpha.shape[0] * 2
        assert np.all((buckets[:, 0] <= step + 1) & (step + 1 <= buckets[:, 1]))


def test_unwritable_logs_are_one_line(tmp_path):
    (tmp_path / "logs").write_text("")
    with (
        pytest.raises(UserError, match="cannot write TensorBoard's files: .*not a directory"),
        log_errors(tmp_path / "logs"),
    ):
        ArchitectureLog(0, tmp_path / "logs", {})
