"""SGD with momentum as a function, and its adjoint."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

__all__ = ["InnerOptimizer"]


@dataclasses.dataclass(frozen=True)
class InnerOptimizer:
    """`v <- momentum * v + g + weight_decay * w;  w <- w - lr * v`, on flat vectors.

    Keras optimizers assign to variables, which a tape cannot differentiate through; this one
    returns the new values. The rule is linear in velocity and gradient, so its adjoint needs
    neither.

    Attributes:
        momentum: in `[0, 1)`.
        weight_decay: per step, on every weight, normalisation included (as in the paper).

    Example:
        >>> rule = InnerOptimizer(momentum=0.5, weight_decay=0.0)
        >>> weights, velocity = tf.constant([1.0]), tf.constant([2.0])
        >>> weights, velocity = rule.step(weights, velocity, tf.constant([1.0]), tf.constant(0.25))
        >>> weights.numpy().tolist(), velocity.numpy().tolist()
        ([0.5], [2.0])
    """

    momentum: float = 0.9
    weight_decay: float = 1e-4

    def step(
        self,
        weights: tf.Tensor,
        velocity: tf.Tensor,
        gradients: tf.Tensor,
        learning_rate: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """One update; all vectors `(W,)`. Returns `(weights, velocity)`."""
        velocity = self.momentum * velocity + gradients + self.weight_decay * weights
        return weights - learning_rate * velocity, velocity

    def adjoint(
        self,
        weights_cotangent: tf.Tensor,
        velocity_cotangent: tf.Tensor,
        learning_rate: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Pulls cotangents of a step's results back to its inputs.

        Args:
            weights_cotangent: `(W,)`, of the new weights.
            velocity_cotangent: `(W,)`, of the new velocity.
            learning_rate: the step's.

        Returns:
            Cotangents `(weights, velocity, gradients)` of the old weights, the old velocity and
            the gradients; the path of the weights through the gradients is the caller's.
        """
        gradients_cotangent = velocity_cotangent - learning_rate * weights_cotangent
        return (
            weights_cotangent + self.weight_decay * gradients_cotangent,
            self.momentum * gradients_cotangent,
            gradients_cotangent,
        )
