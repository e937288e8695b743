"""Layers that do more than give an output are found by name, in whatever way they do it."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf

from sedona_tf import Backbone, decouple, plans
from sedona_tf.auxiliary import Candidate, Kind, cross_entropy, kinds, register
from sedona_tf.backbones.part import build_part
from sedona_tf.errors import UserError
from sedona_tf.search.supernet import Supernet

layers, ops, random = keras.layers, keras.ops, keras.random
CANDIDATES = [Candidate("separable", (("depth", 1),))]


class Adds(layers.Layer):
    def call(self, x):
        self.add_loss(ops.mean(x))
        return x


class Noise(layers.Layer):
    """Draws in training alone."""

    def __init__(self, draw, **kwargs) -> None:
        super().__init__(**kwargs)
        self.draw, self.seeds = draw, random.SeedGenerator(3)

    def call(self, x, training=False):
        return x + self.draw(self, ops.shape(x)) if training else x


class Wrapped(layers.Layer):
    def __init__(self, inner, **kwargs) -> None:
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, x, training=False):
        return self.inner(x, training=training) if isinstance(self.inner, Noise) else self.inner(x)


def backbone(middle: layers.Layer) -> Backbone:
    """By hand, with the layer in the second of two units."""

    def unit(*following):
        return lambda x: [x := layer(x) for layer in (layers.Conv2D(2, 3), *following)][-1]

    units = [build_part("unit_1", (8, 8, 1), unit())]
    units.append(build_part("unit_2", (6, 6, 2), unit(layers.ReLU(), middle)))
    head = build_part("head", (4, 4, 2), lambda x: layers.Dense(3)(layers.Flatten()(x)))
    return Backbone(units, head, name="by_hand")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Adds(name="own"),
        lambda: Wrapped(Adds(), name="own"),
        lambda: layers.ActivityRegularization(l2=1.0, name="own"),
        lambda: layers.Conv2D(2, 1, kernel_regularizer="l2", name="own"),
        lambda: layers.Conv2D(2, 1, bias_regularizer="l2", trainable=False, name="own"),
        lambda: layers.Conv2D(2, 1, activity_regularizer="l2", name="own"),
    ],
)
def test_losses_are_refused_where_the_network_is_made(make):
    with pytest.raises(UserError, match="'own'"):
        backbone(make())


generator = tf.random.Generator.from_seed(1)
UNSEEDED = [
    lambda layer, shape: random.normal(shape),
    lambda layer, shape: tf.random.normal(shape),
    lambda layer, shape: generator.normal(shape),
    lambda layer, shape: ops.map(lambda row: row + tf.random.uniform(()), ops.zeros(shape)),
]


@pytest.mark.parametrize("draw", UNSEEDED)
@pytest.mark.parametrize("wrap", [lambda layer: layer, lambda layer: Wrapped(layer, name="own")])
def test_random_numbers_without_a_seed_are_refused(draw, wrap):
    network = backbone(wrap(Noise(draw, name="own")))
    with pytest.raises(UserError, match="'own'"):
        Supernet(network, CANDIDATES)
    with pytest.raises(UserError, match="'own'"):
        decouple(network, plans.baseline("dgl", network, 2))
    assert len(decouple(network, plans.uniform(network, 1, {})).blocks) == 1  # plain Keras


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Dropout(0.5),
        lambda: layers.BatchNormalization(),
        lambda: Noise(lambda layer, shape: random.normal(shape, seed=layer.seeds)),
        lambda: Noise(lambda layer, shape: random.normal(shape, seed=5)),
        lambda: Noise(lambda layer, shape: tf.random.stateless_normal(shape, (1, 2))),
    ],
)
def test_what_repeats_is_accepted(make):
    network = backbone(make())
    Supernet(network, CANDIDATES)
    assert len(decouple(network, plans.baseline("dgl", network, 2)).blocks) == 2


def test_auxiliary_nets_are_looked_at():
    def define(x, *, num_classes, narrow):
        return layers.Dense(num_classes)(layers.Flatten()(Noise(UNSEEDED[0], name="own")(x)))

    register("noisy", Kind(define, cross_entropy, lambda outputs: outputs))
    try:
        with pytest.raises(UserError, match="'own'"):
            Supernet(backbone(layers.ReLU()), [Candidate("noisy")])
    finally:
        del kinds["noisy"]


def test_a_search_refuses_weight_constraints():
    constrained = layers.Conv2D(2, 1, kernel_constraint="max_norm", name="own")
    network = backbone(constrained)
    with pytest.raises(UserError, match="'own'"):
        Supernet(network, CANDIDATES)
    constrained.trainable = False  # nothing updates it
    assert len(Supernet(network, CANDIDATES).parts) == 4
