"""The smallest training that has every part, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from search_runs import DIGITS

from sedona_tf.arrays import read_arrays

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
    history = json.loads(arrays.pop("history").tobytes())
    history.pop("step_seconds", None)
    return arrays, history
