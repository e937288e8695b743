"""ResNet-18/34/50/101/152 (He et al., 2016); one residual block is one unit."""

from __future__ import annotations

import keras

from sedona_tf.backbones.backbone import Backbone
from sedona_tf.backbones.part import build_part
from sedona_tf.layers import BatchNormalization, conv

__all__ = ["STAGES", "resnet"]

# depth: (residual blocks of each stage, whether the blocks are bottlenecks)
STAGES: dict[int, tuple[tuple[int, ...], bool]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


def resnet(depth: int, input_shape, num_classes: int, width: int, stem: str) -> Backbone:
    """Builds a ResNet.

    Args:
        depth: a key of `STAGES`.
        input_shape: `(height, width, channels)`.
        num_classes: number of logits.
        width: channels of the first stage (16 on CIFAR in the paper, 64 on ImageNet).
        stem: `"small"`: 3x3 convolution; `"imagenet"`: 7x7 at stride 2 and a 3x3 max-pool at 2.
    """
    blocks, bottleneck = STAGES[depth]
    units: list[keras.Model] = []
    shape = tuple(input_shape)
    for stage, count in enumerate(blocks):
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            unit = build_part(
                f"unit_{len(units) + 1}",
                shape,
                _Unit(width * 2**stage, stride, bottleneck, width, None if units else stem),
            )
            units.append(unit)
            shape = unit.output_shape[1:]

    def head(x):
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
        return keras.layers.Dense(num_classes, name="dense_0")(x)

    return Backbone(
        units,
        build_part("head", shape, head),
        narrow_auxiliary=bottleneck,
        name=f"resnet{depth}",
    )


class _Unit:
    """Defines one unit; counts its layers in the order in which they are defined."""

    def __init__(self, filters: int, stride: int, bottleneck: bool, width: int, stem: str | None):
        self.filters, self.stride, self.bottleneck = filters, stride, bottleneck
        self.width, self.stem = width, stem
        self.count = 0

    def conv_bn(self, x, filters: int, kernel_size: int, stride: int = 1):
        x = conv(x, filters, kernel_size, stride, name=f"conv_{self.count}")
        x = BatchNormalization(name=f"bn_{self.count}")(x)
        self.count += 1
        return x

    def __call__(self, x):
        if self.stem is not None:
            x = self._stem(x)
        outputs = self.filters * (4 if self.bottleneck else 1)
        if self.bottleneck:
            kernels = [(self.filters, 1, 1), (self.filters, 3, self.stride), (outputs, 1, 1)]
        else:
            kernels = [(outputs, 3, self.stride), (outputs, 3, 1)]
        y = x
        for index, (filters, kernel_size, stride) in enumerate(kernels):
            y = self.conv_bn(y, filters, kernel_size, stride)
            if index < len(kernels) - 1:
                y = keras.layers.ReLU(name=f"relu_{self.count}")(y)
        if self.stride != 1 or x.shape[-1] != outputs:
            x = self.conv_bn(x, outputs, 1, self.stride)
        return keras.layers.ReLU(name="relu")(keras.layers.Add(name="add")([x, y]))

    def _stem(self, x):
        if self.stem == "small":
            return keras.layers.ReLU(name="stem_relu")(self.conv_bn(x, self.width, 3))
        x = keras.layers.ReLU(name="stem_relu")(self.conv_bn(x, self.width, 7, 2))
        # After a ReLU zero padding and the customary minus infinity give the same maximum.
        x = keras.layers.ZeroPadding2D(1, name="stem_pad")(x)
        return keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)
