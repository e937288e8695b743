"""The smallest training that has every part, and what it leaves."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import tensorflow as tf
from search_runs import DIGITS

from sedona_tf.runs.arrays import read_arrays

TRAIN = [
    f"--recipe={DIGITS}",
    "--recipe.train.epochs=3",
    "--recipe.train.batch_size=32",
    "--recipe.train.checkpoint_every=7",
    "--recipe.data.limit=600",
]
METHOD = ["--method=dgl", "--blocks=2"]


def last_state(workdir: Path) -> tuple[dict[str, np.ndarray], dict[str, list]]:
    """The newest checkpoint's arrays; of the history, all that is not a time."""
    arrays = read_arrays(sorted((workdir / "checkpoints").glob("*.npz"))[-1])
    names = [name for name in arrays if name.startswith("history/")]
    history = {name.removeprefix("history/"): arrays.pop(name).tolist() for name in names}
    history.pop("step_seconds", None)
    return arrays, history


def recorded(log_dir: Path) -> dict[str, list]:
    """What TensorBoard gets from the files in a folder: tag to steps and values."""
    found = defaultdict(list)
    for path in sorted(log_dir.iterdir()):
        for record in tf.data.TFRecordDataset([str(path)]).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                found[value.tag].append((event.step, tf.make_ndarray(value.tensor)))
    return found
