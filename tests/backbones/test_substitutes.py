"""Layers in the place of others: logits without a softmax, exact normalisation."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from sedona_tf import Backbone
from sedona_tf.auxiliary import Candidate
from sedona_tf.bilevel import InnerOptimizer, State, Supernet, hypergradient
from sedona_tf.errors import UserError
from sedona_tf.layers import BatchNormalization


def classifier(*ends, normalization=None) -> keras.Model:
    x = images = keras.Input((6, 6, 2))
    for index in range(2):
        x = keras.layers.Conv2D(4, 3, padding="same", name=f"conv_{index}")(x)
        if normalization is not None:
            x = normalization(name=f"bn_{index}")(x)
        x = keras.layers.Activation("tanh", name=f"tanh_{index}")(x)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    for end in ends or (keras.layers.Flatten(), keras.layers.Dense(3)):
        x = end(x)
    return keras.Model(images, x)


def images(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 6, 6, 2))


DENSE = keras.layers.Dense
WITH_SOFTMAX = {
    "dense": lambda: [keras.layers.Flatten(), DENSE(3, "softmax", name="last")],
    "no bias": lambda: [keras.layers.Flatten(), DENSE(3, "softmax", use_bias=False)],
    "activation": lambda: [keras.layers.Flatten(), DENSE(3), keras.layers.Activation("softmax")],
    "layer": lambda: [keras.layers.Flatten(), DENSE(3), keras.layers.Softmax()],
    "operation": lambda: [keras.layers.Flatten(), DENSE(3), keras.ops.softmax],
    "convolution": lambda: [
        keras.layers.Conv2D(3, 1, activation="softmax"),
        keras.layers.Flatten(),
        keras.layers.Activation("linear", dtype="float32"),
    ],
    "in a model": lambda: [
        keras.Sequential([keras.layers.Flatten(), DENSE(4), DENSE(3, "softmax")])
    ],
}


@pytest.mark.parametrize("kind", WITH_SOFTMAX)
def test_a_softmax_is_left_out(kind):
    keras.utils.set_random_seed(1)
    model = classifier(*WITH_SOFTMAX[kind]())
    before = model.get_config()
    backbone = Backbone.from_keras(model)
    logits = backbone(images())
    np.testing.assert_allclose(tf.nn.softmax(logits), model(images()), atol=1e-6)
    assert np.ptp(logits) > 0.01 and np.max(np.abs(np.sum(logits, -1) - 1.0)) > 0.01
    assert set(map(id, backbone.variables)) == set(map(id, model.variables))
    assert model.get_config() == before


@pytest.mark.parametrize(
    "ends",
    [lambda: [], lambda: [keras.layers.Flatten(), DENSE(3), keras.ops.log_softmax]],
    ids=["logits", "log_softmax"],
)
def test_logits_stay(ends):
    model = classifier(*ends())
    np.testing.assert_array_equal(Backbone.from_keras(model)(images()), model(images()))


@pytest.mark.parametrize(
    "end",
    [
        lambda: DENSE(3, "sigmoid", name="last"),
        lambda: keras.layers.Activation("sigmoid", name="last"),
    ],
)
def test_refuses_other_activations(end):
    model = classifier(keras.layers.Flatten(), DENSE(3), end())
    with pytest.raises(UserError, match="layer 'last' ends the model with the activation 'sigmo"):
        Backbone.from_keras(model)


def objective(backbone: Backbone):
    """A search's outer loss after two inner steps and its gradient, as a function of p."""
    net = Supernet(backbone, [Candidate("separable", (("depth", 1),))])
    rng = np.random.default_rng(2)
    batches = tf.constant(rng.standard_normal((2, 5, 6, 6, 2)))
    labels = tf.constant(rng.integers(0, 3, (2, 5)))
    state = State(net.weights.read(), net.statistics.read(), ())

    @tf.function(autograph=False)
    def solve(p):
        result = hypergradient(
            net,
            InnerOptimizer(),
            state,
            tf.zeros_like(state.weights),
            p,
            tf.ones((1, 1), tf.float64),
            (batches, labels),
            (batches[0] + 0.3, labels[1]),
            tf.constant(0.2, tf.float64),
        )
        return result.loss, result.cut_probability

    return solve


def error(backbone: Backbone) -> float:
    """Relative error of the hypergradient, by central differences of size 1e-5."""
    solve, p, size = objective(backbone), tf.constant([0.4], tf.float64), 1e-5
    expected = (solve(p + size)[0] - solve(p - size)[0]) / (2 * size)
    return abs(float(solve(p)[1][0] / expected) - 1.0)


def test_exact_normalization_makes_the_hypergradient_exact(float64):
    keras.utils.set_random_seed(1)
    model = classifier(normalization=keras.layers.BatchNormalization)
    exact = Backbone.from_keras(model, exact_normalization=True)
    kinds = [type(layer) for unit in exact.units for layer in unit.layers]
    assert kinds.count(BatchNormalization) == 2
    assert set(map(id, exact.variables)) == set(map(id, model.variables))
    for training in (False, True):
        expected = model(images(), training=training)
        np.testing.assert_allclose(exact(images(), training=training), expected, atol=1e-12)
    assert error(exact) < 1e-6
    # What the option is for; without it nothing else is wrong.
    assert error(Backbone.from_keras(model)) > 1e-4


def test_frozen_normalization_stays():
    model = classifier(normalization=keras.layers.BatchNormalization)
    model.get_layer("bn_0").trainable = False
    exact = Backbone.from_keras(model, exact_normalization=True)
    kinds = [type(layer) for unit in exact.units for layer in unit.layers]
    assert kinds.count(BatchNormalization) == kinds.count(keras.layers.BatchNormalization) == 1
    np.testing.assert_allclose(
        exact(images(), training=True), model(images(), training=True), atol=1e-6
    )


def test_refuses_what_cannot_be_normalized_exactly():
    def without_scale(name):
        return keras.layers.BatchNormalization(scale=False, name=name)

    with pytest.raises(UserError, match="layer 'bn_0' cannot be normalized exactly"):
        Backbone.from_keras(classifier(normalization=without_scale), exact_normalization=True)
