"""Memory that TensorFlow keeps for custom gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tensorflow.python.framework.ops import gradient_registry

__all__ = ["dropped_gradients"]


@contextlib.contextmanager
def dropped_gradients() -> Iterator[None]:
    """Drops, at the end of the `with` block, what `tf.custom_gradient` registered in it.

    TensorFlow registers a gradient for each such call in a graph and never removes it. Each refers
    to its graph, so models that are gone keep their training steps in memory. Functions that were
    traced in the block cannot be differentiated once more after it.
    """
    before = set(gradient_registry.list())
    try:
        yield
    finally:
        for name in set(gradient_registry.list()) - before:
            if name.startswith("CustomGradient-"):
                del gradient_registry._registry[name]
