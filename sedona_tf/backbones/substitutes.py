"""Layers in the place of others, with the very same weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras

from sedona_tf.backbones.operations import Step
from sedona_tf.errors import UserError
from sedona_tf.layers import BatchNormalization

__all__ = ["exactly_normalized", "without_softmax"]

_TRANSPARENT = (keras.layers.Flatten, keras.layers.Identity, keras.layers.Reshape)
_LOGITS = (None, keras.activations.linear, keras.activations.log_softmax)


def without_softmax(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Makes a classifier's last steps give logits.

    A final softmax (a layer, an activation or an operation) becomes the identity; a dense layer
    or convolution with a softmax activation becomes one without, with the same weights. Reshaping
    and linear activations may follow. Whatever gives logits stays as it is.

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
    layer = type(operation).from_config({**operation.get_config(), "activation": "linear"})
    layer._kernel, layer.bias = operation._kernel, operation.bias
    return _built(layer, operation)


def exactly_normalized(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Puts `sedona_tf.layers.BatchNormalization` in the place of Keras', with the same weights.

    Frozen layers stay: they only scale and shift, of which Keras' derivatives are exact.

    Raises:
        UserError: naming the layer, if it normalises another axis than the last, lacks scale or
            offset, or averages over replicas.
    """
    made: dict[int, keras.Layer] = {}

    def exact(step: Step) -> Step:
        layer = step.operation
        if not isinstance(layer, keras.layers.BatchNormalization) or not layer.trainable:
            return step
        if id(layer) not in made:
            made[id(layer)] = _exact(layer, len(step.outputs[0].shape))
        # Keras' takes a mask too; images have none.
        kwargs = {name: value for name, value in step.kwargs.items() if name != "mask"}
        return dataclasses.replace(step, operation=made[id(layer)], kwargs=kwargs)

    return tuple(exact(step) for step in steps)


def _exact(layer: keras.layers.BatchNormalization, rank: int) -> BatchNormalization:
    fits = layer.axis in (-1, rank - 1) and layer.scale and layer.center
    if not fits or layer.synchronized or rank not in (2, 4):
        raise UserError(
            f"layer '{layer.name}' cannot be normalized exactly: only the last axis, with scale "
            f"and offset, on one device."
        )
    twin = BatchNormalization(
        layer.momentum, layer.epsilon, name=layer.name, dtype=layer.dtype_policy
    )
    twin.gamma, twin.beta = layer.gamma, layer.beta
    twin.moving_mean, twin.moving_variance = layer.moving_mean, layer.moving_variance
    return _built(twin, layer)


def _built(layer: keras.Layer, original: keras.Layer) -> keras.Layer:
    """Declares a layer built, which has been given the weights of another one.

    Raises:
        UserError: if these were not all of them.
    """
    layer.built = True
    layer.trainable = original.trainable
    if set(map(id, layer.variables)) != set(map(id, original.variables)):
        raise UserError(f"layer '{original.name}' has unusual weights; adapted or quantized?")
    return layer
