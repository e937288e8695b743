"""Counting against figures worked out by hand."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf
from keras import layers

from sedona_tf.profile.counts import Counts, count


def counts(shape, *stack, batch=2, precision="float32") -> Counts:
    """Of layers one after the other, for images of a shape."""
    model = keras.Sequential([keras.Input(shape), *stack])
    spec = tf.TensorSpec((batch, *shape), precision)
    values = [variable.value for variable in model.trainable_variables]

    def forward(x):
        for layer in model.layers:
            x = layer(x, training=True)
        return x

    return count(forward, [spec], values)


class Attention(layers.Layer):
    """Of a sequence to itself."""

    def __init__(self):
        super().__init__()
        self.inner = layers.MultiHeadAttention(4, 8)

    def build(self, shape):
        self.inner.build(shape, shape)

    def call(self, x):
        return self.inner(x, x)


class OwnFunction(layers.Layer):
    """A product in a function of its own."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4, use_bias=False)

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        product = tf.function(lambda y: tf.tanh(tf.matmul(y, self.dense.kernel)), autograph=False)
        return product(product(x))


SAME = {"padding": "same", "use_bias": False}
# Multiplications of a batch of two, by hand; a FLOP is half of one, since each has an addition.
PRODUCTS = {
    "Dense": ((5,), [layers.Dense(3)], 5 * 3),
    "Conv1D": ((5, 3), [layers.Conv1D(4, 2)], 4 * 4 * 2 * 3),
    "Conv2D": ((4, 4, 3), [layers.Conv2D(5, 3, **SAME)], 16 * 5 * 9 * 3),
    "strided": ((4, 4, 3), [layers.Conv2D(5, 3, strides=2, **SAME)], 4 * 5 * 9 * 3),
    "dilated": ((6, 6, 3), [layers.Conv2D(5, 3, dilation_rate=2)], 4 * 5 * 9 * 3),
    "Conv3D": ((4, 4, 4, 3), [layers.Conv3D(4, 2)], 27 * 4 * 8 * 3),
    "grouped": ((4, 4, 8), [layers.Conv2D(6, 3, groups=2, **SAME)], 16 * 6 * 9 * 4),
    "transposed": ((4, 4, 3), [layers.Conv2DTranspose(5, 3, strides=2)], 16 * 3 * 9 * 5),
    "depthwise": ((4, 4, 3), [layers.DepthwiseConv2D(3, depth_multiplier=2)], 4 * 6 * 9),
    "separable": ((4, 4, 3), [layers.SeparableConv2D(5, 3)], 4 * 3 * 9 + 4 * 3 * 5),
    "EinsumDense": ((5, 4), [layers.EinsumDense("abc,cd->abd", (None, 6))], 5 * 4 * 6),
    # Four projections; scores and their products with the values.
    "attention": ((16, 32), [Attention()], 4 * 16 * 32 * 32 + 2 * 16 * 16 * 32),
    "unrolled": ((5, 3), [layers.LSTM(4, unroll=True)], 5 * 4 * 4 * (3 + 4)),
    "own function": ((4,), [OwnFunction()], 2 * 4 * 4),
    "no product": (
        (4, 4, 3),
        [layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D(), layers.Flatten()],
        0,
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_flops_by_hand(name):
    shape, stack, multiplications = PRODUCTS[name]
    assert counts(shape, *stack).flops == 2 * 2 * multiplications


# Bytes kept for a batch of two, by hand; the input and weights are kept anyway.
IMAGE = 2 * 4 * 4 * 6 * 4  # six channels of floats
KEPT = {
    "one memory": ((4, 4, 6), [layers.ReLU(), layers.Flatten(), layers.Dense(3)], IMAGE),
    "the input's memory": ((4, 4, 6), [layers.Reshape((96,)), layers.Dense(3)], 0),
    "a mask of bytes": ((4, 4, 6), [layers.Dropout(0.5)], IMAGE // 4),
    "grouped": ((4, 4, 6), [layers.ReLU(), layers.Conv2D(6, 3, groups=2, **SAME)], IMAGE),
    # Query, key, value and what leaves the heads; a weight for each pair of positions and head.
    "attention": ((16, 32), [Attention()], 4 * (2 * 16 * 32) * 4 + 2 * 4 * 16 * 16 * 4),
    # Each call's tanh; the first one's is also the second product's other factor.
    "own function": ((4,), [OwnFunction()], 2 * (2 * 4) * 4),
}


@pytest.mark.parametrize("name", KEPT)
def test_kept_bytes_by_hand(name):
    shape, stack, expected = KEPT[name]
    assert counts(shape, *stack).kept_bytes == expected


def test_weights_cast_to_half_precision_are_no_activations():
    policy = keras.DTypePolicy("mixed_bfloat16")
    stack = [
        layers.Conv2D(6, 3, dtype=policy, **SAME),
        layers.Activation("tanh", dtype=policy),
        layers.Conv2D(8, 3, groups=2, dtype=policy, **SAME),
        layers.Activation("tanh", dtype=policy),
    ]
    found = counts((4, 4, 2), *stack, precision="bfloat16")
    assert found.kept_bytes == 2 * 16 * (6 + 8) * 2  # tanh's outputs


def test_statistics_do_not_grow_with_the_batch():
    shape = (4, 4, 6)
    sizes = {
        batch: counts(
            shape, layers.Conv2D(6, 1, **SAME), layers.BatchNormalization(), batch=batch
        ).kept_bytes
        for batch in (2, 4)
    }
    assert sizes[4] - sizes[2] == IMAGE
    assert 0 < sizes[2] - IMAGE <= 5 * 6 * 4  # mean, deviation and the like, a number a channel


def test_what_can_not_be_counted_is_said():
    with pytest.warns(UserWarning, match="While"):
        found = counts((5, 3), layers.LSTM(4), layers.Dense(2))
    assert found.flops == 2 * 2 * 4 * 2  # the dense layer's
    spec = tf.TensorSpec((6, 4), tf.float32)
    kernel = tf.Variable(tf.ones((4, 3)))

    def masked(x):
        return tf.boolean_mask(x, x[:, 0] > 0) @ kernel

    with pytest.warns(UserWarning, match="unknown shape"):
        assert count(masked, [spec], [kernel]).flops == 0


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
