"""SEDONA's candidates: separable-convolution auxiliary networks of depth 1 to 4 (appendix)."""

from __future__ import annotations

from collections import Counter

import keras

from sedona_tf.layers import BatchNormalization, PointwisePool, conv, depthwise_conv

__all__ = ["FEATURES", "separable"]

FEATURES = 512
"""Channels before the classifier."""


def separable(x, *, num_classes: int, depth: int, narrow: bool):
    """Defines a separable auxiliary network.

    A 1x1 convolution and a depthwise one at stride 2, then `depth - 1` inverted residual layers,
    then a 1x1 convolution to 512 channels, global average pooling and a dense classifier.

    Args:
        x: symbolic `(batch, height, width, channels)` features.
        num_classes: number of logits.
        depth: 1 to 4 in the paper; any positive number here.
        narrow: work at a quarter of the channels and expand by 4 inside the inverted residuals
            (bottleneck and VGG backbones) rather than at full width without expansion.

    Returns:
        Symbolic logits `(batch, num_classes)`.
    """
    net = _Separable()
    width = max(x.shape[-1] // 4, 1) if narrow else x.shape[-1]
    expansion, growth = (4, max(width // 2, 1)) if narrow else (1, width)
    x = net.conv(x, width)
    x = net.depthwise(x, 2)
    for layer in range(depth - 1):
        halve = layer % 2 == 1 and min(x.shape[1:3]) >= 2
        y = net.conv(x, x.shape[-1] * expansion) if expansion != 1 else x
        y = net.depthwise(y, 2 if halve else 1)
        if halve:
            x = net.conv(y, x.shape[-1] + growth, activation=False)
        else:
            y = net.conv(y, x.shape[-1], activation=False)
            x = keras.layers.Add(name=f"add_{layer}")([x, y])
    x = PointwisePool(FEATURES, name="features")(x)
    return keras.layers.Dense(num_classes, name="dense_0")(x)


class _Separable:
    """Adds convolutions, each with its normalisation, counting them in order of definition."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def _name(self, kind: str) -> str:
        self.counts[kind] += 1
        return f"{kind}_{self.counts[kind] - 1}"

    def _finish(self, x, activation: bool):
        x = BatchNormalization(name=self._name("bn"))(x)
        return keras.layers.ReLU(name=self._name("relu"))(x) if activation else x

    def conv(self, x, filters: int, activation: bool = True):
        return self._finish(conv(x, filters, 1, name=self._name("conv")), activation)

    def depthwise(self, x, stride: int):
        return self._finish(depthwise_conv(x, stride, name=self._name("dwconv")), True)
