"""A recipe of a few steps, its data, and hypermodels that need not train."""

from __future__ import annotations

import functools
import runpy
from pathlib import Path

import keras_tuner
import ml_collections
import pytest

from sedona_tf.backbones import build
from sedona_tf.tune.hypermodel import DecouplingHyperModel

ROOT = Path(__file__).parents[1]


def recipe(**changes) -> ml_collections.ConfigDict:
    """Three steps an epoch; changes with `__` for the dot."""
    config = runpy.run_path(str(ROOT / "recipes/digits.py"))["get_config"]("smoke")
    config.deterministic = False  # could not be switched off for the tests that follow
    config.data.limit = 100
    config.train.batch_size = 32
    for name, value in changes.items():
        config.update_from_flattened_dict({name.replace("__", "."): value})
    return config


@functools.cache
def backbone():
    """The recipe's; never trained."""
    return build("resnet18", (8, 8, 1), 10, width=4)


class Stateless:
    """A model without variables."""

    def variables_by_part(self) -> dict[str, list]:
        return {}

    state_variables = variables_by_part


def replace_training(monkeypatch: pytest.MonkeyPatch, error=lambda values, epochs: 0.5) -> None:
    """Trials that take no time: `error(values, epochs)` is what one finds."""

    def fit(self, hp, model, *, epochs, initial_epoch, callbacks):
        found = error(hp.values, epochs)
        return {"val_error": found, "val_loss": 1.0, "steps": 3 * (epochs - initial_epoch)}

    monkeypatch.setattr(DecouplingHyperModel, "build", lambda self, hp: Stateless())
    monkeypatch.setattr(DecouplingHyperModel, "_build_backbone", lambda self: backbone())
    monkeypatch.setattr(DecouplingHyperModel, "fit", fit)


def values(scores, candidates, options=()) -> keras_tuner.HyperParameters:
    """Hyperparameters with these scores and depths, unit by unit."""
    hp = keras_tuner.HyperParameters()
    for unit, (score, depth) in enumerate(zip(scores, candidates, strict=True), 1):
        hp.values |= {f"unit_{unit}/score": score, f"unit_{unit}/depth": depth}
    hp.values |= dict(options)
    return hp
