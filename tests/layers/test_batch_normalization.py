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


@pytest.mark.parametrize("shape", [(6, 4, 4, 3), (6, 3), (1, 4, 4, 3), (1, 3)])
@pytest.mark.parametrize("training", [True, False])
def test_agrees_with_keras(shape, training):
    keras.utils.set_random_seed(1)
    ours = BatchNormalization()
    theirs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
    x = np.random.default_rng(2).standard_normal(shape).astype("float32") * 3 + 1
    for _ in range(2):
        np.testing.assert_allclose(
            ours(x, training=training), theirs(x, training=training), atol=1e-5
        )
    for mine, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)
