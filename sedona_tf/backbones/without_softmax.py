"""Layers that replace others; layers with weights stay the model's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras

from sedona_tf.backbones.operations import Step
from sedona_tf.errors import UserError
from sedona_tf.layers import WithoutActivation

__all__ = ["without_softmax"]

_TRANSPARENT = (keras.layers.Flatten, keras.layers.Identity, keras.layers.Reshape)
_LOGITS = (None, keras.activations.linear, keras.activations.log_softmax)


def without_softmax(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Makes a classifier's last steps give logits.

    A final softmax (a layer, an activation or an operation) becomes the identity; a dense layer
    or convolution with a softmax activation is called without it. Reshaping and linear
    activations may follow. Whatever gives logits stays as it is.

    Raises:
        UserError: naming the layer, if the outputs come from another activation.
    """
    changed = list(steps)
    for i, step in reversed(list(enumerate(steps))):
        operation = step.operation
        activation = _activation(operation)
        if activation is keras.activations.softmax:
            changed[i] = dataclasses.replace(
                step, operation=_linear(operation), args=(step.inputs[0],), kwargs={}
            )
        elif activation not in _LOGITS:
            name = getattr(activation, "__name__", activation)
            raise UserError(
                f"layer '{operation.name}' ends the model with the activation '{name}', and "
                f"logits are needed: end it with none or with softmax."
            )
        elif isinstance(operation, _TRANSPARENT) or (
            isinstance(operation, keras.layers.Activation)
            and activation is keras.activations.linear
        ):
            continue
        break
    return tuple(changed)


def _activation(operation: keras.Operation):
    """The function of `keras.activations` that an operation ends with; None if there is none."""
    if isinstance(operation, keras.layers.Softmax):
        return keras.activations.softmax
    if isinstance(operation, keras.Layer):
        return getattr(operation, "activation", None)
    return getattr(keras.activations, type(operation).__name__.lower(), None)  # of keras.ops


def _linear(operation: keras.Operation) -> keras.Layer:
    """The operation without its softmax."""
    options = {"dtype": operation.dtype_policy} if isinstance(operation, keras.Layer) else {}
    if not isinstance(operation, keras.layers.Dense | keras.layers.Conv2D):
        return keras.layers.Activation("linear", name=operation.name, **options)
    return WithoutActivation(operation, name=operation.name, **options)
