"""SGD with momentum and weight decay in the gradient."""

from __future__ import annotations

import keras

__all__ = ["MomentumSGD"]


@keras.saving.register_keras_serializable(package="sedona_tf")
class MomentumSGD(keras.optimizers.SGD):
    """`v <- momentum * v - lr * (g + l2 * w);  w <- w + v` on every weight.

    The `weight_decay` of Keras' optimizers is applied to the weights beside the gradient, outside
    of momentum, which is another rule.

    The search's `InnerOptimizer` multiplies by the learning rate outside of the velocity. With a
    constant rate that is the same rule; when the rate falls, the steps that momentum repeats fall
    with it there, and here, as in Keras, keep the rate that they were first taken with.

    Args:
        learning_rate: number or schedule.
        momentum: in `[0, 1)`.
        l2: weight decay, per step, on every weight, normalisation included.
        **kwargs: see `keras.optimizers.SGD`.
    """

    def __init__(
        self, learning_rate=0.1, momentum: float = 0.9, l2: float = 0.0, name="sgd", **kwargs
    ) -> None:
        super().__init__(learning_rate=learning_rate, momentum=momentum, name=name, **kwargs)
        self.l2 = l2

    def update_step(self, gradient, variable, learning_rate) -> None:
        """One variable's update."""
        if self.l2:
            gradient = gradient + self.l2 * keras.ops.cast(variable, gradient.dtype)
        super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict:
        return {**super().get_config(), "l2": self.l2}
