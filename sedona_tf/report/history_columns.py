"""The columns of a run's history that figures draw, checked, as arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

__all__ = ["SearchColumns", "TrainingColumns", "search_columns", "training_columns"]

BLOCK_LOSS = re.compile(r"block_(\d+)_loss")


class SearchColumns(NamedTuple):
    """What a search recorded over S steps.

    Attributes:
        steps: `(S,)`, rising.
        cut_probability: `(S, L-1)`.
        candidate_weights: `(S, L-1, M)`.
        outer_loss: `(S,)`, in nats; NaN where it was not finite.
    """

    steps: np.ndarray
    cut_probability: np.ndarray
    candidate_weights: np.ndarray
    outer_loss: np.ndarray


class TrainingColumns(NamedTuple):
    """What a training of K blocks recorded over S steps and V validations.

    Attributes:
        epoch: `(S,)`.
        losses: K arrays `(S,)`, the head's last; NaN where a loss was not finite.
        accuracy: `(S,)` of the head, from 0 to 1; None if not recorded.
        learning_rate: `(S,)`; None if not recorded.
        val_epoch: `(V,)`.
        val_loss: `(V,)` of the head; None if not recorded.
        val_error: `(V,)` of the head, from 0 to 1; None without validation.
    """

    epoch: np.ndarray
    losses: list[np.ndarray]
    accuracy: np.ndarray | None
    learning_rate: np.ndarray | None
    val_epoch: np.ndarray
    val_loss: np.ndarray | None
    val_error: np.ndarray | None


def search_columns(history: Mapping[str, Any]) -> SearchColumns:
    """Checks what a search recorded.

    Args:
        history: `steps`, `cut_probability`, `candidate_weights` and `outer_loss`.

    Raises:
        ValueError: if a column is missing or the shapes do not fit together.
    """
    steps = _rising(history, "steps")
    probability = np.asarray(history.get("cut_probability", ()), float)
    num_cuts = probability.shape[1] if probability.ndim == 2 else 0
    weights = np.asarray(history.get("candidate_weights", ()), float)
    num_candidates = weights.shape[2] if weights.ndim == 3 else 0
    return SearchColumns(
        steps,
        _column(history, "cut_probability", (len(steps), max(num_cuts, 1))),
        _column(history, "candidate_weights", (len(steps), num_cuts, max(num_candidates, 1))),
        _column(history, "outer_loss", steps.shape),
    )


def training_columns(history: Mapping[str, Any]) -> TrainingColumns:
    """Checks what a training recorded.

    Args:
        history: `step` (rising), `epoch`, `loss` (the head's) and, for K > 1, `block_1_loss`, ...,
            `block_{K-1}_loss`; if recorded, `accuracy` and `learning_rate`. Of validation, all or
            none: `val_step` (rising), `val_epoch`, `val_error`, and if recorded `val_loss`. Other
            columns are not looked at.

    Raises:
        ValueError: if a column is missing or the shapes do not fit together.
    """
    shape = _rising(history, "step").shape
    blocks = sorted(int(match[1]) for name in history if (match := BLOCK_LOSS.fullmatch(name)))
    names = [*(f"block_{block}_loss" for block in blocks), "loss"]
    validated = any(np.size(history[name]) for name in history if name.startswith("val_"))
    val_shape = _rising(history, "val_step").shape if validated else (0,)

    def optional(name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        return _column(history, name, shape) if name in history else None

    return TrainingColumns(
        epoch=_column(history, "epoch", shape),
        losses=[_column(history, name, shape) for name in names],
        accuracy=optional("accuracy", shape),
        learning_rate=optional("learning_rate", shape),
        val_epoch=_column(history, "val_epoch", val_shape) if validated else np.zeros(0),
        val_loss=optional("val_loss", val_shape) if validated else None,
        val_error=_column(history, "val_error", val_shape) if validated else None,
    )


def _rising(history: Mapping[str, Any], name: str) -> np.ndarray:
    steps = np.asarray(history.get(name, ()), float)
    if steps.ndim != 1 or not steps.size or np.any(np.diff(steps) <= 0):
        raise ValueError(f"history['{name}'] must be at least one rising number.")
    return steps


def _column(history: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in history:
        raise ValueError(f"history['{name}'] is missing.")
    values = np.asarray(history[name], float)
    if values.shape != shape:
        raise ValueError(f"history['{name}'] must have the shape {shape}. Received: {values.shape}")
    return values
