"""Closed forms against TensorFlow's own differentiation of the definition."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from sedona_tf.layers import BatchNormalization, batch_normalize


def by_definition(x, gamma, beta):
    mean = tf.reduce_mean(x, [0, 1, 2])
    variance = tf.reduce_mean((x - mean) * (x - mean), [0, 1, 2])
    return (x - mean) * tf.math.rsqrt(variance + 1e-5) * gamma + beta, mean, variance


def closed_form(x, gamma, beta):
    return batch_normalize(x, gamma, beta, 1e-5)


def everything(normalize, dtype):
    """Values, first derivatives, and second derivatives of a non-linear function of both."""
    rng = np.random.default_rng(0)
    x, dy, c = (tf.constant(rng.standard_normal((4, 3, 2, 5)) + 0.5, dtype) for _ in range(3))
    gamma, beta, c_gamma, c_beta, d_mean, d_variance = (
        tf.constant(rng.standard_normal(5), dtype) for _ in range(6)
    )

    @tf.function(autograph=False)
    def compute(x, gamma, beta, dy):
        with tf.GradientTape() as outer:
            outer.watch([x, gamma, beta, dy])
            with tf.GradientTape() as inner:
                inner.watch([x, gamma, beta])
                y, mean, variance = normalize(x, gamma, beta)
                z = tf.tanh(y)
            first = inner.gradient(z, [x, gamma, beta], output_gradients=dy)
        second = outer.gradient(
            [*first, mean, variance],
            [x, gamma, beta, dy],
            output_gradients=[c, c_gamma, c_beta, d_mean, d_variance],
        )
        return [y, mean, variance, *first, *second]

    return compute(x, gamma, beta, dy)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
def test_values_and_derivatives(dtype, tolerance):
    # float32 runs other kernels than float64; its rounding is 6e-8, amplified by the sums
    for actual, expected in zip(
        everything(closed_form, dtype), everything(by_definition, "float64"), strict=True
    ):
        error = np.max(np.abs(np.asarray(actual, "float64") - expected))
        assert error < tolerance * np.max(np.abs(expected))


SHAPES = [(6, 4, 4, 3), (6, 3), (1, 4, 4, 3), (1, 3), (5, 4, 3), (2, 3, 2, 4, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", ["training", "inference", "frozen", "masked"])
def test_agrees_with_keras(shape, mode):
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(2)
    ours = BatchNormalization()
    theirs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    x = rng.standard_normal(shape).astype("float32") * 3 + 1
    options = {"training": mode != "inference"}
    if mode == "masked":
        options["mask"] = rng.uniform(size=shape[:-1]) < 0.7
    for layer in (ours, theirs):
        layer.build(shape)
        layer.trainable = mode != "frozen"
        for index, variable in enumerate(layer.variables):  # of equal order
            variable.assign(variable + 0.1 * (index + 1))
    for _ in range(2):
        np.testing.assert_allclose(ours(x, **options), theirs(x, **options), atol=2e-5)
    for mine, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)


def test_unknown_sizes_and_masks_in_a_model():
    """Sequences of any length, padded ones masked, as Keras' own layer treats them."""
    results = []
    for layer in (BatchNormalization(), keras.layers.BatchNormalization(-1, 0.9, 1e-5)):
        inputs = keras.Input((None, 3))
        model = keras.Model(inputs, layer(keras.layers.Masking(0.0)(inputs)))
        x = np.random.default_rng(3).standard_normal((2, 5, 3)).astype("float32")
        unmasked = tf.function(layer, autograph=False).get_concrete_function(
            tf.TensorSpec((None, None, 3)), training=True
        )
        x[1, 3:] = 0.0
        results.append([model(x, training=True), unmasked(tf.constant(x)), *layer.variables])
    for mine, other in zip(*results, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)


def test_a_mask_has_both_derivatives(float64):
    """A masked batch gives what the batch without the masked positions gives."""
    rng = np.random.default_rng(4)
    layer = BatchNormalization(epsilon=0.01)
    layer.build((None, 2))
    x, pull, mask = rng.standard_normal((6, 2)), rng.standard_normal((6, 2)), np.arange(6) != 2
    results = []
    for kept, options in ((slice(None), {"mask": tf.constant(mask)}), (mask, {})):
        inputs, cotangent = tf.constant(x[kept]), tf.constant(pull[kept] * mask[kept, None])
        with tf.GradientTape() as outer:
            outer.watch(inputs)
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                y = layer(inputs, training=True, **options)
            first = inner.gradient(y, inputs, output_gradients=cotangent)
            total = tf.reduce_sum(first * cotangent)
        second = outer.gradient(total, inputs)
        results.append([tensor.numpy()[mask[kept]] for tensor in (y, first, second)])
    for mine, other in zip(*results, strict=True):  # Keras adds 1e-7 to the number of positions
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)
