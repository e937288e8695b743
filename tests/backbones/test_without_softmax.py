"""Layers in the place of others, and that the model's own stay the ones that train."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from sedona_tf import Backbone, backbones
from sedona_tf.auxiliary import Candidate
from sedona_tf.errors import UserError
from sedona_tf.layers import BatchNormalization
from sedona_tf.plans import Decoupling
from sedona_tf.train.model import DecoupledModel


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
    with pytest.raises(UserError, match="sigmo"):
        Backbone.from_keras(model)


def test_what_is_done_to_the_last_layer_after_the_cut_counts():
    """It stays the model's own: low-rank weights put on it later train, and both see them."""
    keras.utils.set_random_seed(1)
    model = classifier(keras.layers.Flatten(), DENSE(3, "softmax", name="last"))
    backbone = Backbone.from_keras(model)
    last = model.get_layer("last")
    last.enable_lora(2)
    adapters = [last.lora_kernel_a, last.lora_kernel_b]
    kept = last._kernel.numpy()
    assert {id(v) for v in adapters} <= {id(v) for v in backbone.trainable_variables}
    before = [variable.numpy() for variable in adapters]
    predsim = Candidate("predsim").to_dict()
    decoupling = Decoupling(backbone.name, len(backbone.units), (1,), (predsim,))
    decoupled = DecoupledModel(backbone, decoupling)
    decoupled.compile(keras.optimizers.SGD(0.5))
    decoupled.fit(images(8), np.arange(8) % 3, batch_size=4, epochs=2, verbose=0)
    assert all(np.any(v.numpy() != old) for v, old in zip(adapters, before, strict=True))
    np.testing.assert_array_equal(last._kernel, kept)
    np.testing.assert_allclose(tf.nn.softmax(backbone(images())), model(images()), atol=1e-6)
    last.trainable = False
    assert not backbone.head.trainable_variables


def test_what_is_frozen_after_the_cut_stays():
    """Moving statistics too; those of the built-in backbones' layers as well."""
    model = classifier(normalization=keras.layers.BatchNormalization)
    for backbone in (Backbone.from_keras(model), backbones.build("vgg11", (32, 32, 2), 3, 4)):
        layers = [
            layer
            for layer in backbone._flatten_layers()
            if isinstance(layer, BatchNormalization | keras.layers.BatchNormalization)
        ]
        for layer in layers:
            layer.trainable = False
        before = [[v.numpy() for v in layer.variables] for layer in layers]
        inputs = np.random.default_rng(0).standard_normal((4, *backbone.input_shape[1:]))
        backbone(inputs, training=True)
        assert layers
        for layer, values in zip(layers, before, strict=True):
            for variable, value in zip(layer.variables, values, strict=True):
                np.testing.assert_array_equal(variable, value)
