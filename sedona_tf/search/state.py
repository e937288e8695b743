"""The state of a search, as arrays."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from sedona_tf.errors import UserError, first_line
from sedona_tf.runs.arrays import Arrays
from sedona_tf.search.search_model import SearchModel

__all__ = ["capture", "restore"]


def capture(model: SearchModel, history: dict[str, list]) -> Arrays:
    """All that a search needs to go on exactly as if it had not been interrupted.

    Weights, statistics, velocity, seeds, alpha, beta, the architecture's optimizer, the history.
    What a step reads and draws beyond this is a function of the seed and the step.
    """
    optimizer = {
        f"optimizer_{index}": variable.numpy()
        for index, variable in enumerate(model.optimizer.variables)
    }
    return {
        "alpha": model.alpha.numpy(),
        "beta": model.beta.numpy(),
        **optimizer,
        **{f"model/{name}": value for name, value in model.snapshot().items()},
        **{f"history/{name}": np.array(value) for name, value in history.items()},
    }


def restore(arrays: Arrays, model: SearchModel, history: dict[str, list]) -> None:
    """Sets what `capture` read.

    Raises:
        UserError: if the arrays are of another model.
    """
    try:
        model.alpha.assign(arrays["alpha"])
        model.beta.assign(arrays["beta"])
        for index, variable in enumerate(model.optimizer.variables):
            variable.assign(arrays[f"optimizer_{index}"])
        model.restore(
            {
                name.removeprefix("model/"): value
                for name, value in arrays.items()
                if name.startswith("model/")
            }
        )
        for name in history:
            history[name][:] = list(arrays[f"history/{name}"])
    except (KeyError, ValueError, tf.errors.InvalidArgumentError) as error:
        reason = first_line(error)
        raise UserError(f"the checkpoint is not of the recipe's search: {reason}") from error
