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


class Twice(layers.Layer):
    """A product in a function of its own, in a branch, in a loop."""

    def __init__(self, length):
        super().__init__()
        self.dense, self.length = layers.Dense(4, use_bias=False), length

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        product = tf.function(lambda y: tf.tanh(tf.matmul(y, self.dense.kernel)), autograph=False)

        def step(i, y):
            return i + 1, tf.cond(tf.reduce_sum(y) > 0, lambda: product(y), lambda: y + 1.0)

        length = self.length
        return tf.while_loop(lambda i, _: i < 3, step, (0, x), maximum_iterations=length)[1]


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
    "SimpleRNN": ((5, 3), [layers.SimpleRNN(4)], 5 * 4 * (3 + 4)),
    "LSTM": ((5, 3), [layers.LSTM(4)], 5 * 4 * 4 * (3 + 4)),
    "GRU": ((5, 3), [layers.GRU(4)], 5 * 3 * 4 * (3 + 4)),
    "unrolled": ((5, 3), [layers.LSTM(4, unroll=True)], 5 * 4 * 4 * (3 + 4)),
    "both ways": ((5, 3), [layers.Bidirectional(layers.LSTM(4))], 2 * 5 * 4 * 4 * (3 + 4)),
    "ConvLSTM2D": ((3, 4, 4, 2), [layers.ConvLSTM2D(3, 3, padding="same")], 3 * 16 * 12 * 9 * 5),
    "each": ((5, 3), [layers.TimeDistributed(layers.Dense(4))], 5 * 3 * 4),
    "own function": ((4,), [Twice(3)], 3 * 4 * 4),
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
    # Each step: five activations and three states or so of four numbers: the gates i, f, o and g,
    # tanh(c), and c and h of before; and the input's three.
    "LSTM": ((5, 3), [layers.LSTM(4)], 2 * 5 * (7 * 4 + 3) * 4),
    # Each step: tanh's output and, as a state, h of before; and the input's three.
    "SimpleRNN": ((5, 3), [layers.SimpleRNN(4)], 2 * 5 * (2 * 4 + 3) * 4),
    # Each step of three: tanh's output in its branch, and the product's other factor.
    "own function": ((4,), [Twice(3)], 3 * 2 * (2 * 4) * 4),
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
    with pytest.warns(UserWarning, match="unknown length"):
        once = counts((4,), Twice(None))
    assert once.flops == 2 * 2 * 4 * 4
    spec = tf.TensorSpec((6, 4), tf.float32)
    kernel = tf.Variable(tf.ones((4, 3)))

    def masked(x):
        return tf.boolean_mask(x, x[:, 0] > 0) @ kernel

    with pytest.warns(UserWarning, match="unknown shape"):
        assert count(masked, [spec], [kernel]).flops == 0


@pytest.mark.parametrize(("mode", "gates"), [("lstm", 4), ("gru", 3), ("rnn_tanh", 1)])
def test_recurrence_of_cudnn(mode, gates):
    weights = tf.Variable(tf.zeros(gates * 4 * (3 + 4 + 2)))

    def forward(x):
        state = tf.zeros((1, 2, 4))
        options = {"params": weights, "is_training": True, "rnn_mode": mode}
        memory = {"sequence_lengths": tf.fill([2], 5)}
        return tf.raw_ops.CudnnRNNV3(
            input=x, input_h=state, input_c=state, **memory, **options
        ).output

    spec = tf.TensorSpec((5, 2, 3), tf.float32)
    assert count(forward, [spec], [weights]).flops == 2 * 5 * 2 * gates * 4 * (3 + 4)


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
