"""Small Keras models, data and fits that tests of decoupled models share."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from sedona_tf import Backbone, DecoupledModel, decouple, plans

layers = keras.layers
RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((30, 6, 6, 2)).astype("float32")
LABELS = RNG.integers(0, 5, 30)
LOGITS_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
NET = {"kind": "separable", "depth": 1}


def source(activation: str | None = None, normalized: bool = True, **dense) -> keras.Model:
    """Four convolutions and a dense layer: four units for `from_keras`."""
    inputs = keras.Input((6, 6, 2), name="picture")
    x = inputs
    for number in range(4):
        x = layers.Conv2D(4, 3, padding="same", name=f"conv_{number}")(x)
        x = layers.BatchNormalization(name=f"bn_{number}")(x) if normalized else x
        x = layers.ReLU(name=f"relu_{number}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(5, activation=activation, name="scores", **dense)(x)
    return keras.Model(inputs, outputs, name="source")


def cut(model: keras.Model, blocks: int, schedule: str = "pipelined", **kwargs) -> DecoupledModel:
    """The model as so many blocks."""
    backbone = Backbone.from_keras(model)
    return decouple(backbone, plans.uniform(backbone, blocks, NET), schedule=schedule, **kwargs)


def made(blocks: int, schedule: str = "pipelined", **kwargs) -> DecoupledModel:
    """A compiled model whose step has state of every kind: momentum, decay, a generator, a rate."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 6, 2))
    x = inputs
    for _ in range(4):
        x = layers.Dropout(0.1)(
            layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x)))
        )
    model = cut(
        keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling2D()(x))), blocks, schedule
    )
    rate = keras.optimizers.schedules.CosineDecay(0.05, 40)
    model.compile(keras.optimizers.SGD(rate, 0.9, weight_decay=1e-3), LOGITS_LOSS, **kwargs)
    return model


def state(model: DecoupledModel) -> list[np.ndarray]:
    """All that a step changes: weights, statistics, generators, optimizers."""
    return [each.numpy() for each in [*model.variables, *model.optimizer.variables]]


def batches(size: int = 4) -> tf.data.Dataset:
    """The images in batches, the last one smaller."""
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(size)
