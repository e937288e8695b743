"""Losses of classifiers, local or at the head."""

from __future__ import annotations

import keras
import tensorflow as tf

from sedona_tf.errors import UserError

__all__ = ["CrossEntropy", "cross_entropy", "labels_in_range"]


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor, smoothing: float = 0.0) -> tf.Tensor:
    """Mean cross entropy; the smoothed mass goes to the other classes only.

    The class gets `1 - smoothing` and each of the others `smoothing / (classes - 1)`. Keras
    spreads the mass over all classes, the true one included, which is another number.

    Args:
        logits: `(batch, classes)`.
        labels: `(batch,)` integers in `[0, classes)`.
        smoothing: in `[0, 1)`.

    Returns:
        Scalar, in nats.

    Example:
        >>> float(cross_entropy(tf.zeros((1, 4)), tf.constant([2]), smoothing=0.1))  # log 4
        1.38629...
    """
    return tf.reduce_mean(_cross_entropies(logits, labels, smoothing))


def _cross_entropies(logits: tf.Tensor, labels: tf.Tensor, smoothing: float) -> tf.Tensor:
    classes = logits.shape[-1]
    targets = tf.one_hot(
        labels, classes, 1.0 - smoothing, smoothing / (classes - 1), dtype=logits.dtype
    )
    return tf.nn.softmax_cross_entropy_with_logits(targets, logits)


def labels_in_range(labels: tf.Tensor, classes: int) -> tf.Tensor:
    """Returns the labels; a label that is no class fails the step before it changes anything.

    Args:
        labels: integers or whole numbers of any shape.
        classes: number of classes.

    Raises:
        tf.errors.InvalidArgumentError: when the step runs, if a label is not in `[0, classes)`.
    """
    whole = tf.cast(labels, tf.int64)
    right = tf.reduce_all((whole >= 0) & (whole < classes))
    wrong = f"labels must be in [0, {classes}). Received:"
    with tf.control_dependencies([tf.debugging.Assert(right, [wrong, labels], summarize=100)]):
        return tf.identity(labels)


@keras.saving.register_keras_serializable(package="sedona_tf")
class CrossEntropy(keras.losses.Loss):
    """`cross_entropy` as a Keras loss, with sample weights and reductions.

    Args:
        smoothing: in `[0, 1)`, spread over the other classes.
        **kwargs: see `keras.losses.Loss`.

    Raises:
        ValueError: if `smoothing` is out of range.

    Example:
        >>> loss = CrossEntropy(smoothing=0.1)
        >>> float(loss(tf.constant([2, 0]), tf.zeros((2, 4))))  # log 4
        1.38629...
    """

    def __init__(self, smoothing: float = 0.0, name: str = "cross_entropy", **kwargs) -> None:
        if not 0 <= smoothing < 1:
            raise UserError(f"smoothing must be in [0, 1). Received: {smoothing}")
        super().__init__(name=name, **kwargs)
        self.smoothing = smoothing

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Cross entropies `(batch,)` of logits and labels `(batch,)`, `(batch, 1)` or one-hot."""
        if y_true.shape.rank == 2 and y_true.shape[-1] == y_pred.shape[-1] > 1:
            rest = self.smoothing / (y_pred.shape[-1] - 1)
            targets = rest + (1.0 - self.smoothing - rest) * tf.cast(y_true, y_pred.dtype)
            return tf.nn.softmax_cross_entropy_with_logits(targets, y_pred)
        labels = tf.reshape(tf.cast(y_true, tf.int32), tf.shape(y_pred)[:-1])
        return _cross_entropies(y_pred, labels, self.smoothing)

    def get_config(self) -> dict:
        return {**super().get_config(), "smoothing": self.smoothing}
