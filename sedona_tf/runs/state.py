"""The state of a run as arrays: named groups of variables, and a history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from sedona_tf.errors import UserError, first_line
from sedona_tf.runs.arrays import Arrays

__all__ = ["History", "Variables", "capture", "is_history", "restore"]

Variables = Mapping[str, Sequence[keras.Variable]]
"""Name of a group, without a slash, to its variables in a fixed order."""
History = dict[str, list]
"""Name of a column to its numbers, or nested lists of numbers, one for each step or epoch."""
_HISTORY = "history/"


def capture(variables: Variables, history: History | None = None) -> Arrays:
    """Reads the values of variables, and a history.

    Returns:
        `GROUP/NUMBER` to the values of a variable, `history/COLUMN` to a column.
    """
    arrays = {
        f"{group}/{index:05d}": variable.numpy()
        for group, members in variables.items()
        for index, variable in enumerate(members)
    }
    columns = {f"{_HISTORY}{name}": np.array(values) for name, values in (history or {}).items()}
    return arrays | columns


def restore(arrays: Arrays, variables: Variables, history: History | None = None) -> None:
    """Sets what `capture` read.

    Args:
        arrays: the state.
        variables: of a model made alike; those of a pipeline's buffers must exist.
        history: filled in place.

    Raises:
        UserError: if the state is of another model.
    """
    for group, members in variables.items():
        stored = sum(name.startswith(f"{group}/") for name in arrays)
        if stored != len(members):
            raise UserError(
                f"the checkpoint is of another model: it has {stored} tensors of its {group}, "
                f"not {len(members)}."
            )
    try:
        for group, members in variables.items():
            for index, variable in enumerate(members):
                value = arrays[f"{group}/{index:05d}"]
                if value.dtype.kind == "V":  # NumPy's files have no name for bfloat16
                    value = value.view(tf.as_dtype(variable.dtype).as_numpy_dtype)
                variable.assign(value)
    except (KeyError, ValueError, tf.errors.InvalidArgumentError) as error:
        raise UserError(f"the checkpoint is of another model: {first_line(error)}") from error
    if history is not None:
        history.clear()
        for name, array in arrays.items():
            if is_history(name):
                history[name.removeprefix(_HISTORY)] = array.tolist()


def is_history(name: str) -> bool:
    """Whether an array that `capture` gave is a column of the history."""
    return name.startswith(_HISTORY)
