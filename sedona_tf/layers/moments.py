"""Mean and variance with a right second derivative, in place of `tf.nn.moments`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import tensorflow as tf

__all__ = ["exact_moments"]

_lock = threading.Lock()
_depth = 0
_tensorflow_moments = tf.nn.moments


@contextlib.contextmanager
def exact_moments() -> Iterator[None]:
    """Replaces `tf.nn.moments` by an exact function while a computation is traced.

    TensorFlow's function stops the gradient of the mean inside the variance. The first derivative
    is right all the same, since that gradient is zero. The second derivative is a few per cent off,
    and so is the hypergradient of a search. Keras' BatchNormalization, LayerNormalization and
    GroupNormalization call the function by this name. So they stay in the network as they are.

    Values stay equal bit for bit. Nested and concurrent uses are counted, and the last one to end
    puts TensorFlow's function back.

    Example: the second derivative of the variance of two numbers.
        >>> x = tf.constant([0.0, 2.0])
        >>> with exact_moments(), tf.GradientTape() as outer:
        ...     outer.watch(x)
        ...     with tf.GradientTape() as inner:
        ...         inner.watch(x)
        ...         variance = tf.nn.moments(x, [0])[1]
        ...     first = inner.gradient(variance, x)
        >>> outer.jacobian(first, x).numpy().tolist()
        [[0.5, -0.5], [-0.5, 0.5]]
    """
    global _depth
    with _lock:
        _depth += 1
        tf.nn.moments = _moments
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if not _depth:
                tf.nn.moments = _tensorflow_moments


def _moments(x, axes, shift=None, keepdims: bool = False, name: str | None = None):
    """As `tf.nn.moments`, without the stopped gradient; `shift` is ignored there too."""
    with tf.name_scope(name or "moments"):
        x = tf.convert_to_tensor(x)
        wide = tf.cast(x, tf.float32) if x.dtype == tf.float16 else x
        mean = tf.reduce_mean(wide, axes, keepdims=True)
        variance = tf.reduce_mean(tf.math.squared_difference(wide, mean), axes, keepdims=True)
        if not keepdims:
            mean, variance = (tf.squeeze(tensor, axes) for tensor in (mean, variance))
        return tf.cast(mean, x.dtype), tf.cast(variance, x.dtype)
