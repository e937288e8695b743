"""SEDONA on TensorFlow: networks trained as gradient-isolated blocks, cuts found by search."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "Backbone": "backbones",
    "Plan": "plans",
    "Decoupling": "plans",
    "DecoupledModel": "decoupled",
    "decouple": "decoupled",
}
_PACKAGES = ["auxiliary", "backbones", "bilevel", "data", "decoupled", "layers", "plans", "tuning"]

__all__ = [*_NAMES, *_PACKAGES]


def __getattr__(name: str) -> Any:
    # Lazy: a command's --help must not wait for TensorFlow.
    if name in _NAMES:
        return getattr(importlib.import_module(f"sedona_tf.{_NAMES[name]}"), name)
    if name in _PACKAGES:
        return importlib.import_module(f"sedona_tf.{name}")
    raise AttributeError(f"module 'sedona_tf' has no attribute '{name}'")
