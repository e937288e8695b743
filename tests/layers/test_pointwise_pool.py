"""PointwisePool against the four layers it stands for, with both derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from sedona_tf.layers import BatchNormalization, PointwisePool
from sedona_tf.layers.pointwise_pool import pooled_relu


def make(shape=(5, 4, 3, 6), filters=7, seed=0):
    rng = np.random.default_rng(seed)
    layer = PointwisePool(filters)
    layer.build(shape)
    for variable in layer.variables:  # positive, so that it can be a variance
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    layer.kernel.assign(rng.standard_normal(layer.kernel.shape))
    layer.beta.assign(rng.standard_normal(layer.beta.shape))
    return layer, tf.constant(rng.standard_normal(shape) + 0.3)


def layer_by_layer(layer, x, kernel, gamma, beta, training):
    """Returns the output and the moving statistics afterwards."""
    z = tf.nn.conv2d(x, kernel, 1, "SAME")
    moving = [layer.moving_mean.value, layer.moving_variance.value]
    if training:
        mean = tf.reduce_mean(z, [0, 1, 2])
        statistics = [mean, tf.reduce_mean((z - mean) ** 2, [0, 1, 2])]
        after = [0.9 * m + 0.1 * s for m, s in zip(moving, statistics, strict=True)]
    else:
        statistics = after = moving
    z = (z - statistics[0]) / tf.sqrt(statistics[1] + layer.epsilon) * gamma + beta
    return tf.reduce_mean(tf.nn.relu(z), [1, 2]), after


def without_spread(shape=(2, 1, 1, 6)):
    """Two positions that differ in a direction which the kernel does not see."""
    layer, x = make(shape, filters=32)
    apart = np.ravel(x[0] - x[1])
    kernel = layer.kernel.numpy()[0, 0]
    kernel -= np.outer(apart, apart @ kernel) / (apart @ apart)
    layer.kernel.assign(kernel[np.newaxis, np.newaxis])
    layer.epsilon = 0.1  # with 1e-5, derivatives would be 1e12 times the rounding
    return layer, x


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("made", [make, without_spread])
def test_equals_four_layers_with_both_derivatives(float64, training, made):
    layer, x = made()
    trainable = (layer.kernel, layer.gamma, layer.beta)
    values = [tf.convert_to_tensor(variable.value) for variable in trainable]
    state = [tf.convert_to_tensor(v.value) for v in layer.non_trainable_variables]

    def ours(x, *values):
        of = {id(variable): value for variable, value in zip(trainable, values, strict=True)}
        by_position = [of[id(variable)] for variable in layer.trainable_variables]
        return layer.stateless_call(by_position, state, x, training=training)

    def theirs(x, *values):
        return layer_by_layer(layer, x, *values, training)

    rng = np.random.default_rng(1)
    weights = [rng.standard_normal(np.shape(value)) for value in (x, *values)]
    pull = rng.standard_normal((x.shape[0], layer.filters))

    def derivatives(function):
        with tf.GradientTape() as outer:
            outer.watch([x, values])
            with tf.GradientTape() as inner:
                inner.watch([x, values])
                output, after = function(x, *values)
                moved = tf.add_n([tf.reduce_sum(a * a) for a in after])
                loss = tf.reduce_sum(output * pull) + moved
            first = inner.gradient(loss, [x, *values])
            scalar = tf.add_n([tf.reduce_sum(g * w) for g, w in zip(first, weights, strict=True)])
        return [output, *after, *first, *outer.gradient(scalar, [x, *values])]

    for actual, expected in zip(derivatives(ours), derivatives(theirs), strict=True):
        scale = np.max(np.abs(expected))
        np.testing.assert_allclose(actual, expected, atol=1e-11 * max(scale, 1.0), rtol=1e-9)


def test_second_derivative_of_the_incoming_gradient(float64):
    """The cotangent of the cotangent too, against the operations one by one."""
    rng = np.random.default_rng(2)
    x, kernel, pull = (
        tf.constant(rng.standard_normal(shape)) for shape in ((2, 5, 3), (3, 4), (2, 4))
    )
    of_x, of_kernel = (tf.constant(rng.standard_normal(shape)) for shape in ((2, 5, 3), (3, 4)))

    def plain(x, kernel):
        return tf.reduce_mean(tf.nn.relu(tf.einsum("npc,cf->npf", x, kernel)), 1)

    results = []
    for function in (pooled_relu, plain):
        with tf.GradientTape() as outer:
            outer.watch([x, kernel, pull])
            with tf.GradientTape() as inner:
                inner.watch([x, kernel])
                output = function(x, kernel)
            first = inner.gradient(output, [x, kernel], output_gradients=pull)
            scalar = tf.reduce_sum(first[0] * of_x) + tf.reduce_sum(first[1] * of_kernel)
        results.append([output, *first, *outer.gradient(scalar, [x, kernel, pull])])
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("layer", [PointwisePool, None], ids=["pool", "normalization"])
def test_half_precision_keeps_full_statistics(layer):
    """0.1 of a mean of 1/3 is not a bfloat16."""
    layer = (
        BatchNormalization(dtype="mixed_bfloat16")
        if layer is None
        else PointwisePool(4, dtype="mixed_bfloat16", name="pool")
    )
    inputs = tf.random.stateless_normal((8, 3, 3, 4), (1, 2)) + 1.0 / 3.0
    outputs = [layer(inputs, training=training) for training in (True, False)]
    assert all(output.dtype == tf.bfloat16 for output in outputs)
    mean = layer.moving_mean.value
    assert mean.dtype == tf.float32
    assert np.any(tf.cast(tf.cast(mean, tf.bfloat16), tf.float32) != mean)


def test_two_positions_have_no_negative_variance():
    """By rounding some were less than -epsilon, whose root is not a number."""
    layer, x = without_spread()
    layer.epsilon = 1e-5
    layer.moving_variance.assign(tf.zeros_like(layer.moving_variance))
    outputs = layer(300.0 * tf.cast(x, tf.float32), training=True)
    assert np.all(np.isfinite(outputs))
    assert np.min(layer.moving_variance) >= 0.0


def test_frozen_it_is_in_inference_mode():
    layer, x = make()
    before = [variable.numpy() for variable in layer.variables]
    expected = layer(x)
    layer.trainable = False
    np.testing.assert_array_equal(layer(x, training=True), expected)
    for variable, value in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
