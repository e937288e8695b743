"""The whole state of a training run, flat: what a checkpoint holds and a resumed run starts from.

Weights, moving statistics, random generators, every block's optimizer, what stands in the
pipeline's buffers, metrics and history. The batches are a function of the seed and the step.
"""

from __future__ import annotations

import json

import numpy as np
import tensorflow as tf

from sedona_tf.errors import UserError, first_line
from sedona_tf.runs.arrays import Arrays
from sedona_tf.train.model import DecoupledModel

__all__ = ["capture", "restore"]


def capture(model: DecoupledModel, history: dict[str, list]) -> Arrays:
    """Reads the state.

    Args:
        model: compiled.
        history: name to list of numbers.
    """
    arrays = {
        f"{kind}/{index:05d}": variable.numpy()
        for kind, variables in _variables(model).items()
        for index, variable in enumerate(variables)
    }
    return {
        **arrays,
        "history": np.frombuffer(json.dumps(history).encode(), np.uint8),
    }


def restore(arrays: Arrays, model: DecoupledModel, history: dict[str, list]) -> None:
    """Sets what `capture` read.

    Args:
        arrays: the state.
        model: of the same decoupling, compiled alike; pipelined ones with their buffers made.
        history: filled in place.

    Raises:
        UserError: if the state is of another model.
    """
    wanted = _variables(model)
    for kind, variables in wanted.items():
        stored = sum(name.startswith(f"{kind}/") for name in arrays)
        if stored != len(variables):
            raise UserError(
                f"the checkpoint is of another model: it has {stored} tensors of its {kind}, "
                f"not {len(variables)}."
            )
    try:
        for kind, variables in wanted.items():
            for index, variable in enumerate(variables):
                value = arrays[f"{kind}/{index:05d}"]
                if value.dtype.kind == "V":  # NumPy's files have no name for bfloat16
                    value = value.view(tf.as_dtype(variable.dtype).as_numpy_dtype)
                variable.assign(value)
        history.clear()
        history.update(json.loads(arrays["history"].tobytes()))
    except (KeyError, ValueError, tf.errors.InvalidArgumentError) as error:
        reason = first_line(error)
        raise UserError(f"the checkpoint is of another model: {reason}") from error


def _variables(model: DecoupledModel) -> dict[str, list]:
    return {
        "weights": list(model.variables),
        "optimizer": list(model.optimizer.variables),
        "buffers": [variable for buffer in model.buffers for variable in buffer.variables],
        "metrics": [variable for metric in model.metrics for variable in metric.variables],
    }
