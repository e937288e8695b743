"""Keras' own layers in the place of the package's, to compare with."""

from __future__ import annotations

import keras


def keras_normalization(name: str):
    """Keras' own normalisation with our constants."""
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)


def keras_pointwise_pool(filters: int, name: str):
    """The four Keras layers that `PointwisePool` stands for."""
    return keras.Sequential(
        [
            keras.layers.Conv2D(filters, 1, use_bias=False),
            keras_normalization("bn"),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
        ],
        name=name,
    )
