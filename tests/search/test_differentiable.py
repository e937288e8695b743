"""The check of layers' derivatives, and the normalisations that a search takes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from sedona_tf.auxiliary import Candidate
from sedona_tf.backbones.backbone import Backbone
from sedona_tf.backbones.graph import graph_of
from sedona_tf.backbones.part import build_part
from sedona_tf.errors import UserError
from sedona_tf.search.differentiable import _Alone, _measure, check_derivatives
from sedona_tf.search.field import State
from sedona_tf.search.hypergradient import hypergradient
from sedona_tf.search.inner_optimizer import InnerOptimizer
from sedona_tf.search.search_model import SearchModel
from sedona_tf.search.supernet import Supernet

layers = keras.layers
_tensorflow_moments = tf.nn.moments


class Subclass(layers.BatchNormalization):
    pass


class Attention(layers.Layer):
    """Attention over positions, normalised before and after."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.attention = layers.MultiHeadAttention(1, 3)
        self.before, self.after = layers.LayerNormalization(), layers.RMSNormalization()

    def build(self, input_shape):
        tokens = (None, 36, input_shape[-1])
        self.before.build(tokens)
        self.after.build(tokens)
        self.attention.build(tokens, tokens)

    def call(self, inputs):
        tokens = keras.ops.reshape(inputs, (-1, 36, inputs.shape[-1]))
        normal = self.before(tokens)
        return keras.ops.reshape(
            self.after(tokens + self.attention(normal, normal)), keras.ops.shape(inputs)
        )

    def compute_output_shape(self, input_shape):
        return input_shape


NORMALIZATIONS = {
    "batch": layers.BatchNormalization,
    "batch, no scale": lambda: layers.BatchNormalization(scale=False, center=False),
    "batch, synchronized": lambda: layers.BatchNormalization(synchronized=True),
    "batch, subclass": Subclass,
    "layer": layers.LayerNormalization,
    "layer, all axes": lambda: layers.LayerNormalization([1, 2, 3]),
    "group": lambda: layers.GroupNormalization(2),
    "instance": lambda: layers.GroupNormalization(-1),
    "rms": layers.RMSNormalization,
    "unit": layers.UnitNormalization,
    "attention": Attention,
}


@pytest.mark.parametrize("kind", NORMALIZATIONS)
def test_normalizations_have_exact_derivatives(float64, kind):
    keras.utils.set_random_seed(1)
    (call,) = graph_of(keras.Sequential([keras.Input((6, 6, 4)), NORMALIZATIONS[kind]()])).calls
    assert _measure(_Alone(call))[0] < 1e-8


def backbone(*units) -> Backbone:
    """Each unit is a convolution and the given layers."""
    parts, channels = [], 2
    for number, made in enumerate(units, 1):

        def define(x, made=made):
            x = layers.Conv2D(4, 3, padding="same")(x)
            for make in made:
                x = make()(x)
            return layers.Activation("tanh")(x)

        parts.append(build_part(f"unit_{number}", (6, 6, channels), define))
        channels = 4
    head = build_part(
        "head", (6, 6, 4), lambda x: layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
    )
    return Backbone(parts, head)


def check_hypergradient(network: Backbone, steps: int) -> None:
    """Against central differences of the whole outer objective."""
    # Small ones: the candidates' ReLU have gradients that jump, and so does the objective.
    net = Supernet(network, [Candidate("separable", (("depth", depth),)) for depth in (1, 2)])
    rng, cuts = np.random.default_rng(2), net.num_units - 1
    images = tf.constant(rng.standard_normal((steps, 5, 6, 6, 2)))
    labels = tf.constant(rng.integers(0, 3, (steps, 5)))
    state = State(net.weights.read(), net.statistics.read(), ())

    @tf.function(autograph=False)
    def solve(point):
        result = hypergradient(
            net,
            InnerOptimizer(),
            state,
            tf.zeros_like(state.weights),
            point[:, 0],
            point[:, 1:],
            (images, labels),
            (images[0] + 0.3, labels[1]),
            tf.constant(0.1, tf.float64),
        )
        return result.loss, tf.concat(
            [result.cut_probability[:, tf.newaxis], result.mixture], axis=1
        )

    point = np.tile([0.4, 0.6, 0.4], (cuts, 1))
    gradient = solve(tf.constant(point))[1]
    expected = np.zeros_like(point)
    for index in np.ndindex(*point.shape):
        shift = np.zeros_like(point)
        shift[index] = 1e-6
        up, down = (solve(tf.constant(point + s))[0] for s in (shift, -shift))
        expected[index] = (up - down) / 2e-6
    for columns in (slice(1), slice(1, None)):  # alpha's and beta's
        scale = np.max(np.abs(expected[:, columns]))
        assert np.max(np.abs(gradient[:, columns] - expected[:, columns])) < 1e-5 * scale


MADE = NORMALIZATIONS
SEARCHED = {
    "batch": (2, [MADE["batch"]], [MADE["batch, subclass"]]),
    "layer": (5, [MADE["layer"]], [MADE["layer"]]),
    "group": (2, [MADE["group"], MADE["unit"]], [MADE["instance"]]),
    "attention": (2, [MADE["attention"]], []),
}


@pytest.mark.parametrize("kind", SEARCHED)
def test_hypergradients_through_normalizations(float64, kind):
    """Off by 4e-4 and more of their size with the moments that TensorFlow differentiates."""
    keras.utils.set_random_seed(3)
    steps, *units = SEARCHED[kind]
    check_hypergradient(backbone(*units), steps)


def test_hypergradient_with_a_frozen_unit(float64):
    keras.utils.set_random_seed(1)
    network = backbone(*[[layers.BatchNormalization]] * 3)
    network.units[1].trainable = False
    check_hypergradient(network, 2)


@tf.custom_gradient
def gate(x):
    return tf.identity(x), lambda cotangent: 0.5 * cotangent


@tf.custom_gradient
def half_square(x):
    return 0.5 * x * x, lambda cotangent: cotangent * x


def stopped_moments(x):
    mean, variance = _tensorflow_moments(x, [-1], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-3)


class Running(layers.Layer):
    """Subtracts a running mean in training too."""

    def build(self, input_shape):
        self.mean = self.add_weight(shape=(input_shape[-1],), trainable=False)

    def call(self, inputs):
        self.mean.assign(0.9 * self.mean + 0.1 * keras.ops.mean(inputs, (0, 1, 2)))
        return inputs - self.mean


REFUSED = {
    "spectral": lambda: layers.SpectralNormalization(layers.Conv2D(4, 3), name="bad"),
    "renorm": lambda: layers.BatchNormalization(renorm=True, name="bad"),
    "stopped moments": lambda: layers.Lambda(stopped_moments, name="bad"),
    "gate": lambda: layers.Lambda(gate, name="bad"),
    "straight-through": lambda: layers.Lambda(
        lambda x: x + keras.ops.stop_gradient(keras.ops.round(x) - x), name="bad"
    ),
    "within": lambda: keras.Sequential([layers.ReLU(), layers.Lambda(gate)], name="bad"),
}
ALLOWED = {
    "silu": lambda: layers.Activation("silu"),
    "own gradient": lambda: layers.Lambda(half_square),
    "log-sum-exp": lambda: layers.Lambda(lambda x: x - tf.reduce_logsumexp(x, -1, keepdims=True)),
    "dropout": lambda: layers.Dropout(0.5),
    "integers": lambda: layers.Lambda(lambda x: x * tf.stop_gradient(tf.cast(x > 0, x.dtype))),
}


@pytest.mark.parametrize("kind", [*REFUSED, *ALLOWED])
def test_check(kind):
    keras.utils.set_random_seed(1)
    made = {**REFUSED, **ALLOWED}[kind]
    part = keras.Sequential([keras.Input((6, 6, 4)), layers.Conv2D(4, 3), made()], name="unit_9")
    if kind in REFUSED:
        with pytest.raises(UserError, match="'(bad|lambda.*)' of 'unit_9'"):
            check_derivatives([part])
    else:
        check_derivatives([part])


def test_a_search_refuses_what_reads_its_running_values():
    network = backbone([], [lambda: Running(name="running")])
    with pytest.raises(UserError, match="'running' of 'unit_2'"):
        SearchModel(network, [Candidate("predsim")])
