"""A classifier's logits in place of its probabilities; its weights stay the model's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras

from sedona_tf.backbones.graph import Call
from sedona_tf.errors import UserError
from sedona_tf.layers import WithoutActivation

__all__ = ["without_softmax"]

_VALUES_UNCHANGED = (keras.layers.Flatten, keras.layers.Identity, keras.layers.Reshape)
_LOGIT_ACTIVATIONS = (None, keras.activations.linear, keras.activations.log_softmax)


def without_softmax(calls: Sequence[Call]) -> tuple[Call, ...]:
    """Makes a classifier's last calls give logits.

    A final softmax (a layer, an activation or an operation) becomes the identity; a dense layer
    or convolution with a softmax activation is called without it. Reshaping and linear
    activations may follow. Whatever gives logits stays as it is.

    Raises:
        UserError: naming the layer, if the outputs come from another activation.
    """
    changed = list(calls)
    for i, call in reversed(list(enumerate(calls))):
        operation = call.operation
        activation = _activation(operation)
        if activation is keras.activations.softmax:
            changed[i] = dataclasses.replace(
                call, operation=_linear(operation), args=(call.inputs[0],), kwargs={}
            )
        elif activation not in _LOGIT_ACTIVATIONS:
            name = getattr(activation, "__name__", activation)
            raise UserError(
                f"layer '{operation.name}' ends the model with the activation '{name}', and "
                f"logits are needed: end it with none or with softmax."
            )
        elif isinstance(operation, _VALUES_UNCHANGED) or (
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
