"""The course of a finished run as a file: what its pictures are drawn from."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from sedona_tf import json_file
from sedona_tf.errors import UserError, first_line

__all__ = ["History", "load_history", "save_history"]

Run = Literal["search", "training"]
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

    run: Run
    date: str
    columns: dict[str, np.ndarray]


class _File(json_file.Typed, frozen=True, tag_field="format", tag="sedona_tf.history"):
    run: Run
    date: datetime.date
    columns: dict[str, list[Any]]


def save_history(
    path: str | os.PathLike[str], run: Run, columns: Mapping[str, Sequence[Any]]
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
    plain = {name: _plain(values) for name, values in columns.items()}
    json_file.save(path, _File(run, datetime.date.today(), plain), indent=None)


def load_history(path: str | os.PathLike[str]) -> History:
    """Reads what `save_history` wrote.

    Args:
        path: the file.

    Raises:
        UserError: naming the file, if it is missing or damaged.
    """
    file = json_file.load(path, _File, max_bytes=MAX_BYTES)
    try:
        columns = {name: np.asarray(values, np.float64) for name, values in file.columns.items()}
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"history '{path}' does not hold numbers: {first_line(error)}") from error
    return History(file.run, file.date.isoformat(), columns)


def _plain(values: Sequence[Any]) -> list[Any]:
    """Nested lists of numbers; None where they are not finite, which JSON has no word for."""
    array = np.asarray(values, np.float64)
    plain = array.astype(object)
    plain[~np.isfinite(array)] = None
    return plain.tolist()
