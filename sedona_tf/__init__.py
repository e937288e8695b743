"""SEDONA on TensorFlow: networks trained as gradient-isolated blocks, cuts found by search."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["Plan", "auxiliary", "backbones", "bilevel", "data", "layers", "plans"]


def __getattr__(name: str) -> Any:
    # Lazy: a command's --help must not wait for TensorFlow.
    if name == "Plan":
        return importlib.import_module("sedona_tf.plans").Plan
    if name in __all__:
        return importlib.import_module(f"sedona_tf.{name}")
    raise AttributeError(f"module 'sedona_tf' has no attribute '{name}'")
