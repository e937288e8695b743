"""The buffer at a cut."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from sedona_tf.train.schedules import Batch, Buffer


def test_holds_one_batch_of_any_size_or_none():
    spec = Batch(tf.TensorSpec((None, 3)), tf.TensorSpec((None,), tf.int64), ())
    buffer = Buffer(spec, "CPU:1")
    batch, full = buffer.read()
    assert not full and batch.features.shape == (0, 3) and batch.labels.dtype == tf.int64
    assert batch.sample_weight is None
    assert all(variable.device.endswith("CPU:1") for variable in buffer.variables)
    assert [variable.trainable for variable in buffer.variables] == [False] * 3
    for count in (4, 2):
        given = Batch(tf.random.normal((count, 3)), tf.range(count, dtype=tf.int64), ())
        buffer.write(given, tf.constant(True))
        batch, full = buffer.read()
        assert full
        np.testing.assert_array_equal(batch.features, given.features)
        np.testing.assert_array_equal(batch.labels, given.labels)
    buffer.write(batch, tf.constant(False))
    assert not buffer.read()[1]


def test_weights_are_optional():
    weights = tf.ones(2)
    assert Batch(None, None, weights).sample_weight is weights
    assert Batch(None, None, ()).sample_weight is None
