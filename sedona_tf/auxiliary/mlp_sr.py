"""DGL's auxiliary network: pooled, pointwise convolutions and a small MLP.

"MLP-SR-aux" of Belilovsky et al., "Decoupled Greedy Learning of CNNs" (ICML 2020), which reduces
the map to a sixteenth of its positions before it does anything else.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from sedona_tf.layers import BatchNormalization, conv

__all__ = ["AdaptiveAveragePool", "mlp_sr"]

NUM_LAYERS = 3
"""Pointwise convolutions, and as many hidden dense layers."""


def mlp_sr(x, *, num_classes: int, narrow: bool):
    """Defines DGL's auxiliary network.

    Average pooling to a quarter of each side, three times (1x1 convolution, normalisation, ReLU),
    average pooling to at most 2x2, flattening in channel-major order, three times (dense of the
    same width, normalisation, ReLU) and a dense classifier.

    Args:
        x: symbolic `(batch, height, width, channels)` features.
        num_classes: number of logits.
        narrow: without effect; this network has one width for all backbones.

    Returns:
        Symbolic logits `(batch, num_classes)`.
    """
    del narrow
    quarter = tuple(-(-side // 4) for side in x.shape[1:3])
    x = _pool(x, quarter, name="pool_0")
    for layer in range(NUM_LAYERS):
        x = conv(x, x.shape[-1], 1, name=f"conv_{layer}")
        x = _finish(x, layer)
    x = _pool(x, tuple(min(side, 2) for side in quarter), name="pool_1")
    x = keras.layers.Permute((3, 1, 2), name="permute")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for layer in range(NUM_LAYERS):
        dense = keras.layers.Dense(
            x.shape[-1], kernel_initializer="he_normal", name=f"dense_{layer}"
        )
        x = _finish(dense(x), NUM_LAYERS + layer)
    return keras.layers.Dense(num_classes, name=f"dense_{NUM_LAYERS}")(x)


def _finish(x, index: int):
    x = BatchNormalization(name=f"bn_{index}")(x)
    return keras.layers.ReLU(name=f"relu_{index}")(x)


def _pool(x, sides: tuple[int, int], name: str):
    """Average pooling to a map of these sides: one kernel where they divide the input's."""
    height, width = x.shape[1:3]
    if height % sides[0] or width % sides[1]:
        return AdaptiveAveragePool(sides, name=name)(x)
    if (height, width) == sides:
        return x
    windows = (height // sides[0], width // sides[1])
    return keras.layers.AveragePooling2D(windows, name=name)(x)


@keras.saving.register_keras_serializable(package="sedona_tf")
class AdaptiveAveragePool(keras.layers.Layer):
    """Average pooling to a given size, whatever the input's.

    Output row i is the mean of the rows from `floor(i height / rows)` to before
    `ceil((i + 1) height / rows)`, and so for columns: windows may overlap. The map is linear and
    computed as two products, hence exact in any precision and to any derivative. (Keras has such a
    layer from version 3.13 on, later than what we ask for.)

    Args:
        sides: `(rows, columns)` of the output, each positive.

    Input `(batch, height, width, channels)`, output `(batch, rows, columns, channels)`.
    """

    def __init__(self, sides: tuple[int, int], **kwargs) -> None:
        super().__init__(**kwargs)
        self.sides = tuple(sides)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        rows, columns = (
            tf.constant(_averages(size, side), inputs.dtype)
            for size, side in zip(inputs.shape[1:3], self.sides, strict=True)
        )
        x = tf.einsum("rh,bhwc->brwc", rows, inputs)
        return tf.einsum("sw,brwc->brsc", columns, x)

    def compute_output_shape(self, input_shape) -> tuple:
        return (input_shape[0], *self.sides, input_shape[-1])

    def get_config(self) -> dict:
        return {**super().get_config(), "sides": self.sides}


def _averages(size: int, side: int) -> np.ndarray:
    """The matrix `(side, size)` that averages over the windows along one side."""
    result = np.zeros((side, size))
    for i in range(side):
        window = slice(i * size // side, -(-(i + 1) * size // side))
        result[i, window] = 1.0 / (window.stop - window.start)
    return result
