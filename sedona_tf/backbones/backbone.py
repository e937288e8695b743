"""A backbone: a chain of units and a head."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from sedona_tf.errors import UserError

__all__ = ["Backbone", "build_part"]


def build_part(name: str, input_shape: Sequence[int], define) -> keras.Model:
    """Builds one part (a unit, a head, an auxiliary net) as a functional model.

    Args:
        name: name of the part; the layers' names are unique only within it.
        input_shape: shape of its input without the batch, `(height, width, channels)`.
        define: maps the symbolic input to the symbolic output.

    Returns:
        The `keras.Model`.
    """
    inputs = keras.Input(tuple(input_shape), name="input")
    return keras.Model(inputs, define(inputs), name=name)


@keras.saving.register_keras_serializable(package="sedona_tf")
class Backbone(keras.Model):
    """A network as SEDONA sees it: units in a chain, then a head.

    A cut can follow every unit but the last. The stem belongs to the first unit.

    Args:
        units: functional models; each one's output shape is the next one's input shape.
        head: functional model from the last unit's output to logits `(batch, num_classes)`.
        narrow_auxiliary: whether auxiliary nets work at a quarter of the unit's channels: so for
            bottleneck and VGG backbones; at full width for basic-block ones.
        name: name of the architecture, for example `"resnet18"`.

    Raises:
        ValueError: if there is no unit or if neighbouring shapes differ.

    Example:
        >>> from sedona_tf import backbones
        >>> backbone = backbones.build("vgg11", input_shape=(32, 32, 3), num_classes=10, width=16)
        >>> len(backbone.units), backbone.units[-1].output_shape
        (8, (None, 2, 2, 128))
    """

    def __init__(
        self,
        units: Sequence[keras.Model],
        head: keras.Model,
        *,
        narrow_auxiliary: bool = True,
        name: str = "backbone",
        **kwargs,
    ) -> None:
        if not units:
            raise UserError("units must hold at least one unit. Received: none")
        parts = [*units, head]
        for below, above in zip(parts, parts[1:], strict=False):
            if tuple(below.output_shape) != tuple(above.input_shape):
                raise UserError(
                    f"units must form a chain: {below.name} gives {below.output_shape}, "
                    f"{above.name} takes {above.input_shape}."
                )
        inputs = keras.Input(units[0].input_shape[1:], name="images")
        outputs = inputs
        for part in parts:
            outputs = part(outputs)
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        self.units = list(units)
        self.head = head
        self.narrow_auxiliary = narrow_auxiliary

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return int(self.head.output_shape[-1])

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {
            "units": [serialize(unit) for unit in self.units],
            "head": serialize(self.head),
            "narrow_auxiliary": self.narrow_auxiliary,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects=None) -> Backbone:
        load = keras.saving.deserialize_keras_object
        config = dict(config)
        units = [load(unit, custom_objects=custom_objects) for unit in config.pop("units")]
        head = load(config.pop("head"), custom_objects=custom_objects)
        return cls(units, head, **config)
