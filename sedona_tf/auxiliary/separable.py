"""Separable-convolution auxiliary networks; SEDONA's candidates are those of depth 1 to 4."""

from __future__ import annotations

from collections import Counter

import keras

from sedona_tf.auxiliary.predsim import similarity_features
from sedona_tf.layers import BatchNormalization, PointwisePool, conv, depthwise_conv

__all__ = ["FEATURES", "separable"]

FEATURES = 512
"""Channels before the classifier, in the paper."""


def separable(
    x,
    *,
    num_classes: int,
    narrow: bool,
    depth: int,
    width_ratio: float,
    features: int,
    kernel: int,
    loss: str,
):
    """Defines a separable auxiliary network.

    A 1x1 convolution and a depthwise one at stride 2, then `depth - 1` inverted residual layers,
    then a 1x1 convolution to `features` channels, global average pooling and a dense classifier.
    It works at a share of the unit's channels and, inside the inverted residuals, at about all of
    them: the expansion is one over the share, rounded.

    Args:
        x: symbolic `(batch, height, width, channels)` features.
        num_classes: number of logits.
        narrow: whether the share is a quarter (the paper's for bottleneck and VGG backbones)
            rather than one.
        depth: 1 to 4 in the paper; any positive number here.
        width_ratio: the share, in place of what `narrow` says; 0: as `narrow` says.
        features: channels before the classifier; `FEATURES` in the paper.
        kernel: side of the depthwise kernels, in pixels; odd, 3 in the paper.
        loss: `"cross_entropy"`, or `"predsim"` for PredSim's loss, which needs features too.

    Returns:
        Symbolic logits `(batch, num_classes)`; for PredSim's loss, what `predsim` returns.
    """
    net = _Separable(kernel)
    ratio = width_ratio or (0.25 if narrow else 1.0)
    width = max(int(ratio * x.shape[-1] + 1e-6), 1)  # 0.29 * 100 is 28.999999999999996
    expansion = max(round(1 / ratio), 1)
    growth = max(width // 2, 1) if expansion > 1 else width
    y = net.conv(x, width)
    y = net.depthwise(y, 2)
    for layer in range(depth - 1):
        halve = layer % 2 == 1 and min(y.shape[1:3]) >= 2
        z = net.conv(y, y.shape[-1] * expansion) if expansion != 1 else y
        z = net.depthwise(z, 2 if halve else 1)
        if halve:
            y = net.conv(z, y.shape[-1] + growth, activation=False)
        else:
            z = net.conv(z, y.shape[-1], activation=False)
            y = keras.layers.Add(name=f"add_{layer}")([y, z])
    y = PointwisePool(features, name="features")(y)
    logits = keras.layers.Dense(num_classes, name="dense_0")(y)
    if loss == "cross_entropy":
        return logits
    return {"features": similarity_features(x, "conv_similarity"), "logits": logits}


class _Separable:
    """Adds convolutions, each with its normalisation, counting them in order of definition."""

    def __init__(self, kernel: int) -> None:
        self.kernel = kernel
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
        x = depthwise_conv(x, self.kernel, stride, name=self._name("dwconv"))
        return self._finish(x, True)
