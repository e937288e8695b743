"""The course of a finished run as a file: what its pictures are drawn from."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sedona_tf import document
from sedona_tf.errors import UserError, first_line
from sedona_tf.files import atomic_write

__all__ = ["History", "load_history", "save_history"]

KIND = "history"
RUNS = ("search", "training")
MAX_BYTES = 256 * 2**20
"""2,000 steps of a search over ResNet-152 with four candidates take about 10 MiB."""


@dataclasses.dataclass(frozen=True)
class History:
    """What was recorded of a run.

    Attributes:
        run: `"search"` or `"training"`.
        date: of its end, `YYYY-MM-DD`.
        columns: name to array, the first axis over steps or epochs; NaN where a number was not
            finite. Of a search: `steps`, `cut_probability`, `candidate_weights`, `outer_loss`, as
            `search_report` takes them; of a training: what `training_curves` takes.
    """

    run: str
    date: str
    columns: dict[str, np.ndarray]


def save_history(
    path: str | os.PathLike[str], run: str, columns: Mapping[str, Sequence[Any]]
) -> None:
    """Writes `history.json`, all or nothing, with today's date.

    Args:
        path: the file.
        run: `"search"` or `"training"`.
        columns: name to numbers or arrays, one for each step or epoch.

    Raises:
        UserError: if it cannot be written.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "history.json"
        >>> save_history(path, "training", {"loss": [2.0, float("nan")]})
        >>> load_history(path).columns
        {'loss': array([ 2., nan])}
    """
    content = {
        "run": run,
        "date": datetime.date.today().isoformat(),
        "columns": {name: _plain(values) for name, values in columns.items()},
    }
    data = document.pack(content, KIND, indent=None)
    with atomic_write(path) as file:
        file.write(data)


def load_history(path: str | os.PathLike[str]) -> History:
    """Reads what `save_history` wrote.

    Args:
        path: the file.

    Raises:
        UserError: naming the file, if it is missing or damaged.
    """
    content = document.unpack(path, {"run", "date", "columns"}, KIND, MAX_BYTES)
    if content["run"] not in RUNS:
        raise UserError(f"history '{path}' is of neither a search nor a training.")
    try:
        datetime.date.fromisoformat(content["date"])
        columns = {
            name: np.asarray(values, np.float64) for name, values in content["columns"].items()
        }
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"history '{path}' does not hold numbers: {first_line(error)}") from error
    return History(content["run"], content["date"], columns)


def _plain(values: Sequence[Any]) -> list[Any]:
    """Nested lists of numbers; None where they are not finite, which JSON has no word for."""
    array = np.asarray(values, np.float64)
    plain = array.astype(object)
    plain[~np.isfinite(array)] = None
    return plain.tolist()
