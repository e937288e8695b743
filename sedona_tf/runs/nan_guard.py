"""NanGuard: ends a run whose numbers are no longer finite, and says where that began."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NoReturn

import keras
import numpy as np

from sedona_tf.errors import UserError
from sedona_tf.runs.arrays import Arrays
from sedona_tf.runs.checkpoints import CheckpointStore, Position
from sedona_tf.runs.state import Variables, is_history

__all__ = ["NanGuard", "first_not_finite"]

MAY_BE_NAN = ("outer_loss",)
"""Metrics that may be NaN: a search skips a step with such an outer loss."""


class NanGuard:
    """Refuses numbers that are not finite, naming them, the step and the part at fault.

    Args:
        parts: name of a part of the network to all its variables, from the input up, as
            `variables_by_part` of the models gives them.
        store: of the run's checkpoints, whose newest the message names; None if there are none.
    """

    def __init__(self, parts: Variables, store: CheckpointStore | None = None) -> None:
        self.parts = parts
        self.store = store

    def check(self, metrics: Mapping[str, float], at: Position) -> None:
        """Looks at the metrics of a step.

        Raises:
            UserError: if one is not finite.
        """
        for name, value in metrics.items():
            if name not in MAY_BE_NAN and not math.isfinite(value):
                self._stop(f"{name} is {value} at {at}")

    def check_arrays(self, arrays: Arrays, at: Position) -> None:
        """Looks at variables that are to be saved: a step may spoil them after its last metric.

        Raises:
            UserError: if anything in them is not finite.
        """
        for name, array in arrays.items():
            floating = array.dtype.kind in "fV" and not is_history(name)  # V: bfloat16
            if floating and not np.isfinite(array).all():
                self._stop(f"{name.partition('/')[0]} not finite after {at}")

    def _stop(self, problem: str) -> NoReturn:
        part = first_not_finite(self.parts)
        where = f"the first part with such numbers is {part}; " if part else ""
        newest = self.store.newest if self.store else None
        left = f"the last checkpoint ({newest}) is kept" if newest else "nothing of it is kept"
        raise UserError(f"{problem}; {where}{left}. A lower learning rate usually helps.")


def first_not_finite(parts: Variables) -> str | None:
    """The lowest part of a network that computed something that is not finite.

    The weights do not tell: the gradient of a bad loss spoils all of them on its way down, within
    the same step. Moving statistics do, which are made on the way up, and so do the weights of a
    part that has none while all below it computed well.

    Args:
        parts: name of a part to its variables, from the input up.

    Returns:
        The name; None if all variables are finite.

    Example: the first unit's weights were spoilt from above.
        >>> def part(weight, *statistics):
        ...     variables = [keras.Variable(weight)]
        ...     return [*variables, *(keras.Variable(s, trainable=False) for s in statistics)]
        >>> first_not_finite({"unit 1": part(np.nan, 1.0), "unit 2": part(np.nan, np.inf)})
        'unit 2'
    """
    found: list[tuple[int, str]] = []
    for name, group in parts.items():
        floating = [v for v in group if "float" in keras.backend.standardize_dtype(v.dtype)]
        statistics = [v for v in floating if not v.trainable]
        if _spoilt(statistics):
            found.append((0, name))
        elif _spoilt(floating):
            found.append((2 if statistics else 1, name))
    return min(found, key=lambda each: each[0])[1] if found else None


def _spoilt(variables: Sequence[keras.Variable]) -> bool:
    return not all(np.isfinite(variable.numpy()).all() for variable in variables)
