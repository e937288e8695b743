"""Losses of classifiers, local or at the head."""

from __future__ import annotations

import tensorflow as tf

__all__ = ["cross_entropy"]


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
    classes = logits.shape[-1]
    targets = tf.one_hot(
        labels, classes, 1.0 - smoothing, smoothing / (classes - 1), dtype=logits.dtype
    )
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))
