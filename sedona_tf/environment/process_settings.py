"""Settings that TensorFlow and Keras keep for the whole process, changed for a while only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import keras
import tensorflow as tf
from tensorflow.python.framework import config as tensorflow_config

__all__ = ["DECOUPLED_GRAPH_OPTIONS", "SEARCH_GRAPH_OPTIONS", "process_settings"]

SEARCH_GRAPH_OPTIONS: Mapping[str, bool] = {"disable_meta_optimizer": True}
"""Options of TensorFlow's graph optimizer for a search: all of its passes are off.

One pass must be off, the memory pass (`SchedulingPass`). It assumes 256 MiB for a CPU. If it
expects a step to need more, it adds up sums in temporary variables. In large loops these were seen
to clash (`AlreadyExistsError ... tmp_var`). The pass has no switch of its own.
"""

DECOUPLED_GRAPH_OPTIONS: Mapping[str, bool] = {
    "dependency_optimization": False,
    "constant_folding": False,
}
"""Options of TensorFlow's graph optimizer for decoupled training.

The two passes reorder sums, and fold batch sizes into means, differently inside and outside of a
condition. With them the pipelined and the lockstep schedule would agree to rounding only.
"""


@contextlib.contextmanager
def process_settings(
    *,
    graph_optimizer: Mapping[str, bool] | None = None,
    precision: str | None = None,
    data_format: str | None = None,
    deterministic: bool = False,
) -> Iterator[None]:
    """Changes settings of the process, and puts them back at the end of the `with` block.

    The graph optimizer's options matter whenever a `tf.function` is called, not where it is made:
    TensorFlow optimizes a function at its first call under the options of that call, and again at
    the first call under others. So the calls belong in the block.

    Precision and data format matter where layers are made. Precision also matters where losses,
    metrics and optimizers are made.

    Args:
        graph_optimizer: options of `tf.config.optimizer.set_experimental_options`, for instance
            `SEARCH_GRAPH_OPTIONS` or `DECOUPLED_GRAPH_OPTIONS`; the others stay as they are.
        precision: Keras' dtype policy, such as `"mixed_bfloat16"`, with float32 for losses, metrics
            and optimizers; None changes neither.
        data_format: of layers that state none, such as `"channels_last"`; None does not change it.
        deterministic: whether all operations must repeat bit for bit; False does not change it.

    Example:
        >>> with process_settings(precision="mixed_bfloat16"):
        ...     layer = keras.layers.Dense(1)
        >>> layer.compute_dtype, keras.config.dtype_policy().name
        ('bfloat16', 'float32')
    """
    options = dict(graph_optimizer or {})
    before = tf.config.optimizer.get_experimental_options()
    policy, floatx = keras.config.dtype_policy(), keras.config.floatx()
    image_data_format = keras.config.image_data_format()
    was_deterministic = tensorflow_config.is_op_determinism_enabled()
    try:
        if deterministic:
            tf.config.experimental.enable_op_determinism()
        if options:
            tf.config.optimizer.set_experimental_options(options)
        if precision is not None:
            keras.config.set_floatx("float32")
            keras.config.set_dtype_policy(precision)
        if data_format is not None:
            keras.config.set_image_data_format(data_format)
        yield
    finally:
        if options:
            # None is TensorFlow's own choice, which it does not list.
            tf.config.optimizer.set_experimental_options(
                {name: before.get(name) for name in options}
            )
        if precision is not None:
            keras.config.set_floatx(floatx)
            keras.config.set_dtype_policy(policy)
        if data_format is not None:
            keras.config.set_image_data_format(image_data_format)
        if deterministic and not was_deterministic:
            tensorflow_config.disable_op_determinism()
