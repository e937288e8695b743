"""A layer without the activation at its end."""

from __future__ import annotations

import keras

__all__ = ["WithoutActivation"]


@keras.saving.register_keras_serializable(package="sedona_tf")
class WithoutActivation(keras.layers.Wrapper):
    """Calls a layer without its activation; the layer itself stays as it is.

    So a classifier gives probabilities when its owner calls it, and logits here. Both share one
    set of weights. Later changes to the layer (freezing, LoRA) hold here too.

    The arguments are those of `keras.layers.Wrapper`. The layer must have an attribute
    `activation`, as `keras.layers.Dense` has.

    Example:
        >>> dense = keras.layers.Dense(3, activation="softmax")
        >>> logits = WithoutActivation(dense)
        >>> x = keras.ops.ones((2, 4))
        >>> difference = keras.ops.softmax(logits(x)) - dense(x)
        >>> bool(keras.ops.max(keras.ops.abs(difference)) < 1e-6)
        True
    """

    def call(self, inputs):
        activation = self.layer.activation
        self.layer.activation = keras.activations.linear
        try:
            return self.layer(inputs)
        finally:
            self.layer.activation = activation

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)
