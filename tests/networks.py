"""A small backbone with all that makes second derivatives hard."""

from __future__ import annotations

import keras

from sedona_tf.backbones.backbone import Backbone
from sedona_tf.backbones.part import build_part
from sedona_tf.layers import BatchNormalization, conv, depthwise_conv


class Idle(keras.layers.Layer):
    """Has a weight that its output does not use."""

    def build(self, shape) -> None:
        self.idle = self.add_weight(name="idle", shape=(3,), initializer="ones")

    def call(self, x):
        return x


def tiny_backbone(dropout: float = 0.0, hidden: int = 0, idle: bool = False) -> Backbone:
    """Normalisation, a depthwise convolution, a residual and a max-pool, on 6x6x2 images.

    The head may have a normalised hidden layer, as it comes from many Keras models; second unit
    and head may have a weight that nothing uses.
    """

    def first(x):
        return keras.layers.ReLU(name="relu")(
            BatchNormalization(name="bn_0")(conv(x, 4, 3, name="conv_0"))
        )

    def second(x):
        x = Idle(name="idle")(x) if idle else x
        y = BatchNormalization(name="bn_0")(depthwise_conv(x, name="dwconv_0"))
        return keras.layers.ReLU(name="relu")(keras.layers.Add(name="add")([x, y]))

    def third(x):
        x = keras.layers.MaxPooling2D(2, name="pool")(x)
        return keras.layers.ReLU(name="relu")(conv(x, 6, 3, 2, name="conv_0"))

    def head(x):
        x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
        x = keras.layers.Dropout(dropout, name="dropout", seed=3)(x) if dropout else x
        x = Idle(name="idle")(x) if idle else x
        if hidden:
            x = keras.layers.Dense(hidden, use_bias=False, name="dense_hidden")(x)
            x = keras.layers.ReLU(name="relu")(BatchNormalization(name="bn_0")(x))
        return keras.layers.Dense(3, name="dense_0")(x)

    shape, units = (6, 6, 2), []
    for index, define in enumerate((first, second, third), 1):
        units.append(build_part(f"unit_{index}", shape, define))
        shape = units[-1].output_shape[1:]
    return Backbone(units, build_part("head", shape, head), name="tiny")
