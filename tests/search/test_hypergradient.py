"""The hypergradient against finite differences of the whole outer objective."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import tiny_backbone

from sedona_tf.auxiliary import candidates_from
from sedona_tf.search.field import State, relaxed_field
from sedona_tf.search.hypergradient import hypergradient
from sedona_tf.search.inner_optimizer import InnerOptimizer
from sedona_tf.search.supernet import Supernet


class Problem:
    def __init__(self, steps: int, dropout: float = 0.0, hidden: int = 0, idle: bool = False):
        keras.utils.set_random_seed(5)
        candidates = candidates_from([{"kind": "separable", "depth": m} for m in (1, 2)])
        self.net = Supernet(tiny_backbone(dropout, hidden, idle), candidates, smoothing=0.1)
        rng = np.random.default_rng(7)
        self.x = tf.constant(rng.standard_normal((steps, 5, 6, 6, 2)))
        self.y = tf.constant(rng.integers(0, 3, (steps, 5)))
        self.valid = (
            tf.constant(rng.standard_normal((7, 6, 6, 2))),
            tf.constant(rng.integers(0, 3, 7)),
        )
        self.p = tf.constant([0.3, 0.8], tf.float64)
        self.b = tf.constant([[0.6, 0.4], [0.1, 0.9]], tf.float64)
        seeds = tuple(tf.convert_to_tensor(seed.value) for seed in self.net.seeds)
        self.state = State(self.net.weights.read(), self.net.statistics.read(), seeds)
        moved = [
            0.0 * v.value if v.name == "idle" else 0.01 * rng.standard_normal(v.shape)
            for v in self.net.weights.variables
        ]
        self.velocity = self.net.weights.pack([tf.constant(each) for each in moved])
        self._solve = {
            unrolled: tf.function(lambda p, b, u=unrolled: self.build(p, b, u), autograph=False)
            for unrolled in (False, True)
        }

    def build(self, p, b, unrolled):
        return hypergradient(
            self.net,
            InnerOptimizer(momentum=0.9, weight_decay=0.05),
            self.state,
            self.velocity,
            p,
            b,
            (self.x, self.y),
            self.valid,
            tf.constant(0.05, tf.float64),
            unrolled=unrolled,
        )

    def solve(self, p=None, b=None, unrolled=False):
        return self._solve[unrolled](self.p if p is None else p, self.b if b is None else b)

    def differences(self, name: str, size: float = 1e-5) -> np.ndarray:
        base = getattr(self, name).numpy()
        gradient = np.zeros_like(base)
        for index in np.ndindex(*base.shape):
            shift = np.zeros_like(base)
            shift[index] = size
            up, down = (self.solve(**{name: tf.constant(base + s)}).loss for s in (shift, -shift))
            gradient[index] = (up - down) / (2 * size)
        return gradient


@pytest.fixture(scope="module")
def two_steps():
    """Gives a problem of two steps that is traced once; made on first use, in float64."""
    return functools.cache(lambda: Problem(2))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_equals_finite_differences(float64, two_steps, steps):
    problem = two_steps() if steps == 2 else Problem(steps, dropout=0.3 if steps == 3 else 0.0)
    check_differences(problem)
    problem.p, inner = tf.constant([0.0, 1.0], tf.float64), problem.p
    check_differences(problem)  # a polynomial in p: also beyond
    problem.p = inner


def test_goes_through_the_moving_statistics_of_the_head(float64):
    """One pull reaches the weights from two steps on, a chain of pulls from three on."""
    check_differences(Problem(3, hidden=4))


def check_differences(problem):
    result = problem.solve()
    for name, gradient in (("p", result.cut_probability), ("b", result.mixture)):
        expected = problem.differences(name)
        # Central differences of size 1e-5 are good to about 1e-8 of the objective's scale.
        assert np.max(np.abs(gradient - expected)) < 1e-5 * np.max(np.abs(expected))


def test_is_independent_of_looping(float64, two_steps):
    looped, unrolled = two_steps().solve(), two_steps().solve(unrolled=True)
    np.testing.assert_allclose(looped.cut_probability, unrolled.cut_probability, rtol=1e-11)
    np.testing.assert_allclose(looped.mixture, unrolled.mixture, rtol=1e-11)


def test_the_number_of_steps_may_differ_from_call_to_call(float64):
    """As in a second fit with another T and other batches, for which nothing is traced anew."""
    problem = Problem(3, dropout=0.3)
    x, y = problem.x, problem.y

    def solve(images, labels):
        problem.x, problem.y = images, labels
        return problem.build(problem.p, problem.b, False)

    signature = [
        tf.TensorSpec((None, None, *x.shape[2:]), x.dtype),
        tf.TensorSpec((None, None), y.dtype),
    ]
    dynamic = tf.function(solve, input_signature=signature, autograph=False)
    dynamic(x[:1, :4], y[:1, :4])
    found, expected = dynamic(x, y), tf.function(solve, autograph=False)(x, y)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-14)


def test_a_weight_without_a_part_in_the_output_changes_nothing(float64, two_steps):
    """In units, where the sweep needs a gradient for it, and in the head."""
    plain, idle = two_steps(), Problem(2, idle=True)
    assert idle.state.weights.shape[0] == plain.state.weights.shape[0] + 6
    found, expected = idle.solve(), plain.solve()
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-12)
    np.testing.assert_allclose(found.cut_probability, expected.cut_probability, rtol=1e-9)
    np.testing.assert_allclose(found.mixture, expected.mixture, rtol=1e-9)


def parts_of(problem, gradients):
    return dict(
        zip(
            [part.name for part in problem.net.parts],
            problem.net.weights.unpack(gradients),
            strict=True,
        )
    )


def test_without_cuts_is_backpropagation(float64):
    problem = Problem(1)
    net = problem.net

    # Not compiled: the graph optimiser may order the sums of the two sides differently.
    field = relaxed_field(
        net, problem.state, tf.zeros_like(problem.p), problem.b, problem.x[0], problem.y[0]
    )
    with tf.GradientTape() as tape:
        loss = net.head_loss(net.backbone(problem.x[0], training=True), problem.y[0])
    plain = tape.gradient(loss, [v.value for v in net.backbone.trainable_variables])
    actual = parts_of(problem, field.gradients)
    plain = {id(v): g for v, g in zip(net.backbone.trainable_variables, plain, strict=True)}
    for part in (*net.backbone.units, net.backbone.head):
        for variable, gradient in zip(part.trainable_variables, actual[part.name], strict=True):
            np.testing.assert_array_equal(gradient, plain[id(variable)])


def isolated_gradients(net, b, images, labels):
    """Every unit's gradient from its own loss alone, behind a stopped gradient."""
    gradients, features = [], images
    for index, unit in enumerate(net.backbone.units):
        with tf.GradientTape() as tape:
            features = unit(tf.stop_gradient(features), training=True)
            if unit is net.backbone.units[-1]:
                loss = net.head_loss(net.backbone.head(features, training=True), labels)
            else:
                outputs = [aux(features, training=True) for aux in net.auxiliaries[index]]
                mixed = tf.add_n([b[index, m] * output for m, output in enumerate(outputs)])
                loss = net.local_loss(mixed, labels)
        gradients.append(tape.gradient(loss, [v.value for v in unit.trainable_variables]))
    return gradients


def test_all_cuts_are_isolated_blocks(float64):
    problem = Problem(1)
    net, images, labels = problem.net, problem.x[0], problem.y[0]
    ones = tf.ones_like(problem.p)
    field = tf.function(relaxed_field, autograph=False)
    actual = parts_of(problem, field(net, problem.state, ones, problem.b, images, labels).gradients)
    expected = tf.function(isolated_gradients, autograph=False)(net, problem.b, images, labels)
    for unit, gradients in zip(net.backbone.units, expected, strict=True):
        for gradient, value in zip(actual[unit.name], gradients, strict=True):
            # one graph here and two there: sums over candidates are ordered differently
            np.testing.assert_allclose(gradient, value, rtol=1e-10, atol=1e-15)

    # Exactly isolated: nothing above a cut reaches below it, not even as rounding.
    for variable in (*net.backbone.units[-1].weights, *net.backbone.head.weights):
        variable.assign(variable.value * 2.0 + 1.0)
    changed = problem.state._replace(weights=net.weights.read())
    after = parts_of(problem, field(net, changed, ones, problem.b, images, labels).gradients)
    for unit in net.backbone.units[:-1]:
        for gradient, value in zip(actual[unit.name], after[unit.name], strict=True):
            np.testing.assert_array_equal(gradient, value)
