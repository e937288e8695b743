"""The inner rule written out, and its adjoint against a tape."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from sedona_tf.search.inner_optimizer import InnerOptimizer


def test_a_step_is_the_rule():
    weights, velocity = InnerOptimizer(momentum=0.5, weight_decay=0.25).step(
        tf.constant([2.0]), tf.constant([3.0]), tf.constant([5.0]), tf.constant(0.125)
    )
    assert velocity.numpy().tolist() == [0.5 * 3 + 5 + 0.25 * 2]
    assert weights.numpy().tolist() == [2 - 0.125 * 7]


def test_the_papers_settings():
    assert InnerOptimizer() == InnerOptimizer(momentum=0.9, weight_decay=1e-4)


def test_the_adjoint_is_what_a_tape_finds():
    rng = np.random.default_rng(0)
    inputs = [tf.constant(rng.standard_normal(4)) for _ in range(3)]
    cotangents = [tf.constant(rng.standard_normal(4)) for _ in range(2)]
    rule, rate = InnerOptimizer(momentum=0.7, weight_decay=0.3), tf.constant(0.2, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = rule.step(*inputs, rate)
    expected = tape.gradient(outputs, inputs, output_gradients=cotangents)
    for found, wanted in zip(rule.adjoint(*cotangents, rate), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-14)
