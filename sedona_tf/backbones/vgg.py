"""VGG-11/13/16/19 with batch normalisation (Simonyan and Zisserman, 2015): one layer, one unit."""

from __future__ import annotations

import keras

from sedona_tf.backbones.backbone import Backbone
from sedona_tf.backbones.part import build_part
from sedona_tf.errors import UserError
from sedona_tf.layers import BatchNormalization, conv

__all__ = ["STAGES", "vgg"]

# depth: convolutions of each stage; a max-pool stands between stages and after the last.
STAGES: dict[int, tuple[int, ...]] = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
_MULTIPLES = (1, 2, 4, 8, 8)


def vgg(depth: int, input_shape, num_classes: int, width: int, stem: str) -> Backbone:
    """Builds a VGG.

    Args:
        depth: a key of `STAGES`.
        input_shape: `(height, width, channels)`; at least 32 pixels a side, for five halvings.
        num_classes: number of logits.
        width: channels of the first stage (16 on CIFAR in the paper, 64 on ImageNet).
        stem: taken for uniformity; VGG opens the same way at every size.

    The head's hidden size is `64 * width` (1024 at width 16, the original's 4096 at 64); it drops
    half of the hidden activations while training.

    Raises:
        ValueError: if the input is too small.
    """
    if min(input_shape[:2]) < 2 ** len(STAGES[depth]):
        raise UserError(
            f"input_shape must be at least 32x32 for vgg{depth}, which halves it five times. "
            f"Received: {tuple(input_shape)}"
        )
    units: list[keras.Model] = []
    shape = tuple(input_shape)
    for stage, count in enumerate(STAGES[depth]):
        for index in range(count):
            pool = stage > 0 and index == 0
            filters = width * _MULTIPLES[stage]

            def define(x, pool=pool, filters=filters):
                if pool:
                    x = keras.layers.MaxPooling2D(2, name="pool")(x)
                x = conv(x, filters, 3, name="conv_0")
                return keras.layers.ReLU(name="relu")(BatchNormalization(name="bn_0")(x))

            unit = build_part(f"unit_{len(units) + 1}", shape, define)
            units.append(unit)
            shape = unit.output_shape[1:]

    hidden = 64 * width

    def head(x):
        x = keras.layers.MaxPooling2D(2, name="pool")(x)
        # Channel-major, as the published weights and parameter orders have it.
        x = keras.layers.Permute((3, 1, 2), name="permute")(x)
        x = keras.layers.Flatten(name="flatten")(x)
        for index in range(2):
            x = keras.layers.Dense(hidden, activation="relu", name=f"dense_{index}")(x)
            x = keras.layers.Dropout(0.5, name=f"dropout_{index}")(x)
        return keras.layers.Dense(num_classes, name="dense_2")(x)

    return Backbone(units, build_part("head", shape, head), name=f"vgg{depth}")
