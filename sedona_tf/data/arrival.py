"""Makes the operations of a training step wait for its batch."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

__all__ = ["after_batch", "arrived"]


@contextlib.contextmanager
def after_batch(data: Any) -> Iterator[Any]:
    """Makes every operation of the `with` block wait until all of the batch is there.

    At the end of data whose length is not known, Keras runs a step once more, and its batch never
    comes. Operations that do not depend on the batch would run all the same: counters of steps,
    random generators, weight decay, blocks that read from a buffer.

    Args:
        data: the batch, any nest of tensors and None.

    Yields:
        The same batch, to be used in its place.
    """

    def there(tensor):
        return tensor if tensor is None else tf.identity(tensor)

    data = tf.nest.map_structure(there, data)
    tensors = [each for each in tf.nest.flatten(data, expand_composites=True) if each is not None]
    with tf.control_dependencies(tensors), tf.control_dependencies([tf.no_op("batch_is_there")]):
        yield data


def arrived(*tensors: tf.Tensor) -> tf.Tensor:
    """True, computed from a batch's values.

    TensorFlow may run operations inside a function before the control inputs of its call are there.
    An operation that depends on this value waits for the batch even there.

    Args:
        *tensors: numbers of the batch, `(batch, ...)`.
    """
    firsts = [tf.cast(tf.reshape(each, [-1])[:1], tf.float32) for each in tensors]
    return tf.reduce_all(tf.not_equal(tf.concat(firsts, 0), math.nan))
