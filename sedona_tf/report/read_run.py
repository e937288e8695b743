"""What a finished run's folder holds for its page: read, checked, without TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from sedona_tf.errors import UserError
from sedona_tf.json_file import Json
from sedona_tf.plans import Plan
from sedona_tf.report.history_columns import (
    SearchColumns,
    TrainingColumns,
    search_columns,
    training_columns,
)
from sedona_tf.runs.history import History, load_history
from sedona_tf.runs.metrics import Metrics, load_metrics

__all__ = ["Search", "Training", "read_folder", "read_training"]


@dataclasses.dataclass(frozen=True)
class Search:
    """A finished search.

    Attributes:
        folder: its name, for people.
        plan: what it found.
        columns: what it recorded; None if that is not in the folder.
        date: of its end; None if there are no columns.
    """

    folder: str
    plan: Plan
    columns: SearchColumns | None = None
    date: str | None = None

    def stated(self, *names: str) -> str | int | float | None:
        """A text or number of the plan's provenance, for example `stated("recipe", "seed")`.

        None for anything else that may be there, since a provenance can be any JSON.
        """
        value: Json = self.plan.provenance
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, str):
            return value if value.isprintable() else None
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclasses.dataclass(frozen=True)
class Training:
    """A finished training.

    Attributes:
        folder: its name, for people.
        metrics: its figures.
        columns: what it recorded; None if that is not in the folder.
    """

    folder: str
    metrics: Metrics
    columns: TrainingColumns | None = None


def read_folder(folder: Path) -> tuple[Search | None, Training | None]:
    """Reads a folder that holds a search, a training or both.

    Args:
        folder: the workdir of a run.

    Raises:
        UserError: if it holds neither, or naming the file that is damaged.
    """
    plan, metrics = folder / "plan.json", folder / "metrics.json"
    if not plan.exists() and not metrics.exists():
        raise UserError(
            f"{folder} holds neither plan.json nor metrics.json; only a finished search or "
            "training has a page."
        )
    training = read_training(folder) if metrics.exists() else None
    return (_search(folder) if plan.exists() else None), training


def read_training(folder: Path) -> Training:
    """Reads a training's folder.

    Raises:
        UserError: if it holds none that is finished, or naming the file that is damaged.
    """
    path = folder / "metrics.json"
    if not path.exists():
        raise UserError(f"{folder} holds no metrics.json; only a finished training has a page.")
    metrics = load_metrics(path)
    history = _history(folder, "training")
    if history is None:
        return Training(_shown(folder), metrics)
    with _named(folder):
        return Training(_shown(folder), metrics, training_columns(history.columns))


def _search(folder: Path) -> Search:
    plan = Plan.load(folder / "plan.json")
    history = _history(folder, "search")
    if history is None:
        return Search(_shown(folder), plan)
    with _named(folder):
        columns = search_columns(history.columns)
        _require_of_plan(columns, plan)
    return Search(_shown(folder), plan, columns, history.date)


def _history(folder: Path, run: str) -> History | None:
    """The folder's history, if it has one and it is of this run."""
    path = folder / "history.json"
    history = load_history(path) if path.exists() else None
    return history if history is not None and history.run == run else None


@contextlib.contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Turns a `ValueError` about a history into a `UserError` that names its file."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"history '{folder / 'history.json'}': {error}") from error


def _require_of_plan(columns: SearchColumns, plan: Plan) -> None:
    for name in ("cut_probability", "candidate_weights"):
        recorded, found = getattr(columns, name), getattr(plan, name)
        if not np.all((recorded >= 0) & (recorded <= 1 + 1e-6)):
            raise ValueError(f"{name} must hold numbers from 0 to 1.")
        if recorded[-1].shape != np.shape(found) or not np.allclose(recorded[-1], found, atol=1e-5):
            raise ValueError(f"its last {name} is not that of the plan beside it.")


def _shown(folder: Path) -> str:
    """The folder's name as text, also where it is not UTF-8."""
    return os.fsencode(folder).decode("utf-8", "replace")
