"""Runs that repeat bit for bit on one machine."""

from __future__ import annotations

import keras
import tensorflow as tf

__all__ = ["make_repeatable"]


def make_repeatable(seed: int, deterministic: bool) -> None:
    """Seeds Python, NumPy and TensorFlow, and asks TensorFlow for deterministic operations.

    Args:
        seed: of all random generators of the process.
        deterministic: whether operations must repeat bit for bit. TensorFlow cannot undo this: it
            holds for the rest of the process.
    """
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
