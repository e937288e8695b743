"""MomentumSGD against its rule, written out."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from sedona_tf.search.inner_optimizer import InnerOptimizer
from sedona_tf.train.momentum_sgd import MomentumSGD
from sedona_tf.train.optimizers import follower


def test_equals_the_rule(float64):
    rng = np.random.default_rng(0)
    value = rng.standard_normal(5)
    variable = keras.Variable(value)
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.1, 0.05])
    optimizer = follower(MomentumSGD(rates, momentum=0.9, l2=0.3))
    velocity = np.zeros(5)
    for step in range(4):
        gradient = rng.standard_normal(5)
        optimizer.apply([gradient], [variable])
        velocity = 0.9 * velocity - (0.1 if step <= 1 else 0.05) * (gradient + 0.3 * value)
        value = value + velocity
        # The schedule gives its rates in float32.
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-6)


def test_differs_from_the_searchs_rule_once_the_rate_changes(float64):
    """Numbers that binary fractions hold exactly."""
    variable, optimizer = keras.Variable([1.0]), MomentumSGD(0.5, momentum=0.5, l2=0.25)
    rule, weights, velocity = InnerOptimizer(0.5, 0.25), tf.constant([1.0], "float64"), 0.0
    for gradient in (1.0, -3.0):
        before = weights
        optimizer.apply([tf.constant([gradient], "float64")], [variable])
        weights, velocity = rule.step(weights, velocity, gradient, 0.5)
        np.testing.assert_array_equal(variable, weights)
    last = weights - before
    optimizer.learning_rate = 0.125
    optimizer.apply([-0.25 * weights], [variable])  # and the decay's is nothing
    after, _ = rule.step(weights, velocity, -0.25 * weights, 0.125)
    np.testing.assert_array_equal(variable - weights, 0.5 * last)
    np.testing.assert_array_equal(after - weights, 0.25 * 0.5 * last)
