"""A backbone: a chain of units and a head."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras

from sedona_tf.backbones.effects import refuse_losses, refuse_unseeded, side_effects
from sedona_tf.backbones.from_keras import cut_model
from sedona_tf.errors import UserError

__all__ = ["Backbone"]


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
        input_name: name under which data may be given.
        output_name: name under which losses, metrics and labels may be given.
        removed_activation: `"softmax"` if one was left out at the end of the head, else None.
        dtype_policy: of the auxiliary nets too; Keras' global policy if None.

    Raises:
        UserError: if there is no unit, if neighbouring shapes differ, or naming a layer that adds
            a loss (a regularizer, also of a frozen layer, or `add_loss`).

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
        input_name: str = "images",
        output_name: str = "logits",
        removed_activation: str | None = None,
        dtype_policy: Any = None,
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
        effects = [side_effects(part) for part in parts]
        for part, found in zip(parts, effects, strict=True):
            refuse_losses(part, found)
        first = units[0].inputs[0]
        inputs = keras.Input(first.shape[1:], name=input_name, dtype=first.dtype)
        outputs = inputs
        for part in parts:
            outputs = part(outputs)
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        self.units = list(units)
        self.head = head
        self._effects = effects
        self.narrow_auxiliary = narrow_auxiliary
        self.input_name = input_name
        self.output_name = output_name
        self.removed_activation = removed_activation
        self._source: Callable[[], keras.Model | None] = lambda: None
        if dtype_policy is not None:
            self.dtype_policy = keras.dtype_policies.get(dtype_policy)

    @classmethod
    def from_keras(
        cls,
        model: keras.Model,
        max_units: int | None = None,
        name: str | None = None,
        *,
        narrow_auxiliary: bool = True,
    ) -> Backbone:
        """Makes a backbone of a functional or Sequential image classifier.

        A cut can follow every feature map `(batch, height, width, channels)` through which all
        paths from input to output pass, up to the first global pooling, flattening or dense
        layer; the head begins there, and has at least one layer with weights. Units do not end
        between a convolution and what finishes it: activation, normalisation, pooling, padding
        and dropout belong to the unit before them, and those in front of all weights, such as
        `Rescaling`, to the first. Functional and Sequential models inside the model are opened
        up if they are called once.

        The layers, and so the weights, are the model's own: training one trains the other. Only
        a final softmax is left out, since the losses here take logits: then
        `softmax(backbone(x))` equals `model(x)`; else `backbone(x)` does.

        Args:
            model: with one input `(height, width, channels)`, of known sizes and channels last,
                and one output `(classes,)`: logits, or a softmax.
            max_units: joins neighbouring units until there are at most so many, such that the
                one with the most multiply-adds has as few as possible; None for no limit.
            name: of the backbone, which plans refer to; by default the model's.
            narrow_auxiliary: see the class.

        Returns:
            The `Backbone`; its units are named `unit_1`, `unit_2`, ...

        Raises:
            UserError: for a model with code of its own (such as `call`, `train_step` or
                `compute_loss`), several inputs or outputs, inputs other than images, unknown
                sizes, an activation other than softmax at the end, or fewer than two units. Also
                for a layer that different units share, or that is stateful, has channels first
                or adds a loss (a regularizer); the layer is named.

        Example:
            >>> import keras
            >>> from sedona_tf import Backbone
            >>> model = keras.applications.MobileNetV2(
            ...     (32, 32, 3), alpha=0.35, weights=None, classes=10
            ... )
            >>> backbone = Backbone.from_keras(model, max_units=4)
            >>> [unit.output_shape[1:] for unit in backbone.units]
            [(8, 8, 48), (5, 5, 96), (3, 3, 192), (1, 1, 1280)]
        """
        parts, removed = cut_model(model, max_units)
        backbone = cls(
            parts[:-1],
            parts[-1],
            narrow_auxiliary=narrow_auxiliary,
            name=name or model.name,
            input_name=model.inputs[0]._keras_history.operation.name,
            output_name=model.outputs[0]._keras_history.operation.name,
            removed_activation=removed,
            dtype_policy=model.dtype_policy,
        )
        backbone._source = weakref.ref(model)
        return backbone

    def forget_functions(self) -> None:
        """Makes `fit`, `evaluate` and `predict` trace anew, also those of the source model.

        Functions traced before would use the old variables after a move to a device.
        """
        for model in (self, self._source()):
            if model is not None:
                model.train_function = model.test_function = model.predict_function = None

    def require_seeded(self) -> None:
        """Refuses layers whose random numbers blocks and searches could not repeat.

        Raises:
            UserError: naming the first layer that draws without a `SeedGenerator` of its own.
        """
        for part, effects in zip((*self.units, self.head), self._effects, strict=True):
            refuse_unseeded(part, effects)

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
            "input_name": self.input_name,
            "output_name": self.output_name,
            "removed_activation": self.removed_activation,
            "dtype_policy": keras.dtype_policies.serialize(self.dtype_policy),
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects=None) -> Backbone:
        load = keras.saving.deserialize_keras_object
        config = dict(config)
        units = [load(unit, custom_objects=custom_objects) for unit in config.pop("units")]
        head = load(config.pop("head"), custom_objects=custom_objects)
        return cls(units, head, **config)
