"""SEDONA on TensorFlow: networks trained as gradient-isolated blocks, cuts found by search."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import wrapt

__version__ = "0.1.0"

_NAMES = {
    "Backbone": "backbones",
    "Plan": "plans",
    "Decoupling": "plans",
    "DecoupledModel": "train",
    "SearchModel": "search",
    "decouple": "train",
    "make_cpu_devices": "train",
}
_PACKAGES = [
    *("auxiliary", "backbones", "cluster", "data", "evaluate", "export", "layers", "plans"),
    *("profile", "report", "search", "train", "tune"),
]
_SAVED = {
    "AdaptiveAveragePool": "auxiliary.mlp_sr",
    "Backbone": "backbones.backbone",
    "BatchNormalization": "layers.batch_normalization",
    "BlockOptimizer": "train.optimizers",
    "CrossEntropy": "auxiliary.losses",
    "DecoupledModel": "train.model",
    "MomentumSGD": "train.momentum_sgd",
    "PointwisePool": "layers.pointwise_pool",
    "ProbabilityLoss": "train.probabilities",
    "ProbabilityMetric": "train.probabilities",
    "SearchModel": "search.search_model",
    "SpatialDeviation": "auxiliary.predsim",
    "WithoutActivation": "layers.without_activation",
}
"""Modules of the classes that saved models name."""

__all__ = [*_NAMES, *_PACKAGES]


def __getattr__(name: str) -> Any:
    # Lazy: a command's --help must not wait for TensorFlow.
    if name in _NAMES:
        return getattr(importlib.import_module(f"sedona_tf.{_NAMES[name]}"), name)
    if name in _PACKAGES:
        return importlib.import_module(f"sedona_tf.{name}")
    raise AttributeError(f"module 'sedona_tf' has no attribute '{name}'")


def _stand_in(name: str, module: str) -> type:
    """Stands for a class until its module is imported, which registers the class itself."""

    def from_config(config: dict[str, Any]) -> Any:
        return getattr(importlib.import_module(module), name).from_config(config)

    return type(name, (), {"from_config": staticmethod(from_config)})


@wrapt.when_imported("keras")
def _register(keras: ModuleType) -> None:
    """Lets Keras load this package's models: a class is imported when a saved model names it."""
    registered = keras.saving.get_custom_objects()
    for name, module in _SAVED.items():
        registered.setdefault(f"sedona_tf>{name}", _stand_in(name, f"sedona_tf.{module}"))
