"""Moments whose second derivative is right, against closed forms."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from sedona_tf.layers import exact_moments


def hessian(of, x) -> np.ndarray:
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            value = of(x)
        first = inner.gradient(value, x)
    return outer.jacobian(first, x).numpy()


def test_the_second_derivative_of_the_variance():
    x = tf.constant([0.5, -1.0, 2.0, 4.0], tf.float64)
    exact = 2.0 / 4 * (np.eye(4) - 0.25)
    original = tf.nn.moments

    def variance(x):
        return keras.ops.moments(x, [0])[1]

    with exact_moments():
        with exact_moments():
            np.testing.assert_allclose(hessian(variance, x), exact, atol=1e-15)
        np.testing.assert_allclose(hessian(variance, x), exact, atol=1e-15)
    assert tf.nn.moments is original
    # What it is for; a TensorFlow without this fault needs no replacement any more.
    np.testing.assert_allclose(hessian(variance, x), np.eye(4) / 2, atol=1e-15)


def test_values_are_tensorflows_own():
    rng = np.random.default_rng(0)
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        x = tf.cast(rng.standard_normal((3, 4, 5)), dtype)
        for options in ({"axes": [0, 1]}, {"axes": [-1], "keepdims": True}):
            expected = tf.nn.moments(x, **options)
            with exact_moments():
                actual = tf.nn.moments(x, **options)
            for mine, other in zip(actual, expected, strict=True):
                assert mine.dtype == other.dtype
                np.testing.assert_array_equal(mine, other)
