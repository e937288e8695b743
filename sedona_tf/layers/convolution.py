"""Convolutions padded symmetrically, as the reference networks define them."""

from __future__ import annotations

import keras

__all__ = ["conv", "depthwise_conv"]


def _pad(x, kernel_size: int, stride: int, name: str):
    """Pads by `kernel_size // 2` on every side where Keras' own `same` would pad unevenly."""
    if stride == 1 or kernel_size == 1:
        return x, "same"
    pad = keras.layers.ZeroPadding2D(
        kernel_size // 2, data_format="channels_last", name=f"{name}_pad"
    )
    return pad(x), "valid"


def conv(x, filters: int, kernel_size: int, stride: int = 1, *, name: str):
    """A bias-free convolution padded by `kernel_size // 2` on every side, also at stride 2.

    Args:
        x: symbolic `(batch, height, width, channels)` tensor.
        filters: output channels.
        kernel_size: side of the square kernel, in pixels; odd.
        stride: step between outputs, in pixels.
        name: name of the layer.

    Returns:
        Symbolic `(batch, ceil(height / stride), ceil(width / stride), filters)` tensor.
    """
    x, padding = _pad(x, kernel_size, stride, name)
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        padding=padding,
        data_format="channels_last",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def depthwise_conv(x, kernel_size: int = 3, stride: int = 1, *, name: str):
    """A bias-free depthwise convolution, one filter a channel, padded as `conv` is."""
    x, padding = _pad(x, kernel_size, stride, name)
    return keras.layers.DepthwiseConv2D(
        kernel_size,
        strides=stride,
        padding=padding,
        data_format="channels_last",
        use_bias=False,
        # Fan-in of a depthwise kernel is its window; Keras would count the channels too.
        depthwise_initializer=keras.initializers.RandomNormal(stddev=(2.0 / kernel_size**2) ** 0.5),
        name=name,
    )(x)
