"""MomentumSGD against its rule, written out."""

from __future__ import annotations

import keras
import numpy as np

from sedona_tf.decoupled.block_optimizer import clone_optimizer
from sedona_tf.decoupled.momentum_sgd import MomentumSGD


def test_equals_the_rule(float64):
    rng = np.random.default_rng(0)
    value = rng.standard_normal(5)
    variable = keras.Variable(value)
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.1, 0.05])
    optimizer = clone_optimizer(MomentumSGD(rates, momentum=0.9, l2=0.3))
    velocity = np.zeros(5)
    for step in range(4):
        gradient = rng.standard_normal(5)
        optimizer.apply([gradient], [variable])
        velocity = 0.9 * velocity - (0.1 if step <= 1 else 0.05) * (gradient + 0.3 * value)
        value = value + velocity
        # The schedule gives its rates in float32.
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-6)
