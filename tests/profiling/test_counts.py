"""Counting against figures worked out by hand."""

from __future__ import annotations

import keras
import tensorflow as tf

from sedona_tf.profiling.counts import count


def test_convolution_and_relu_keep_input_and_output():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(4, 3, padding="same", use_bias=False),
            keras.layers.ReLU(),
            keras.layers.Conv2D(5, 1, use_bias=False),
        ]
    )
    spec = tf.TensorSpec((8, 6, 6, 2), tf.float32)
    found = count(lambda x: model(x, training=True), [spec], [v.value for v in model.variables])
    # The second convolution reads what the ReLU gave, which also tells the ReLU's gradient; the
    # first one's output and the last output are read by nobody.
    assert found.kept_bytes == 8 * 6 * 6 * 4 * 4
    products = 8 * 36 * (9 * 2 * 4 + 4 * 5)
    assert found.flops == 2 * products


def test_what_only_gives_its_shape_is_not_kept():
    spec = tf.TensorSpec((8, 5), tf.float32)
    scale = tf.Variable(2.0)
    found = count(lambda x: tf.reduce_sum(tf.tanh(x) + scale), [spec], [scale])
    assert found.kept_bytes == 8 * 5 * 4  # tanh's output, for its own gradient


def test_doubles_take_twice_the_memory():
    sizes = []
    for dtype in (tf.float32, tf.float64):
        spec = tf.TensorSpec((8, 5), dtype)
        sizes.append(count(lambda x: tf.exp(tf.tanh(x)), [spec], []).kept_bytes)
    assert sizes[1] == 2 * sizes[0] == 2 * 2 * 8 * 5 * 4
