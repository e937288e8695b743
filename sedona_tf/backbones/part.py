"""A part of a network as a Keras model of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from sedona_tf.environment.process_settings import process_settings

__all__ = ["build_part"]


def build_part(
    name: str,
    input_shape: Sequence[int],
    define: Callable[..., Any],
    dtype: str | None = None,
) -> keras.Model:
    """Builds one part (a unit, a head, an auxiliary net) as a functional model.

    Args:
        name: name of the part; the layers' names are unique only within it.
        input_shape: shape of its input without the batch, `(height, width, channels)`.
        define: maps the symbolic input to the symbolic output. Layers are channels last, whatever
            keras.json says, unless they state another format.
        dtype: type of its input; Keras' default type if None.

    Returns:
        The `keras.Model`.
    """
    inputs = keras.Input(tuple(input_shape), name="input", dtype=dtype)
    with process_settings(data_format="channels_last"):
        outputs = define(inputs)
    return keras.Model(inputs, outputs, name=name)
