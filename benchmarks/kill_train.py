"""Kills training runs at random moments and inside writes, and resumes them, over and over.

Usage: python benchmarks/kill_train.py [--kills 20] [--inside 20] [--signals 0] [--seed 0]

See killing.py for how; all of the last checkpoint of every run (weights, moving statistics,
optimizers, buffers, metrics, and the history but for times) must be that of an undisturbed one bit
for bit. Prints one JSON object. Exit code 1 if anything differs or a resumed run fails. The runs
train scikit-learn's digits on ResNet-18 at width 4 in three pipelined blocks of DGL, with one
thread an operation.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from killing import ROOT, Target, checkpoints, main

from sedona_tf.runs.arrays import read_arrays

ARGUMENTS = [
    f"--recipe={ROOT / 'recipes/digits.py'}",
    "--method=dgl",
    "--blocks=3",
    "--recipe.train.epochs=6",
    "--recipe.train.batch_size=16",
    "--recipe.train.checkpoint_every=5",
    "--recipe.data.limit=600",
]


def half(workdir: Path) -> str:
    """Which half of the training the newest checkpoint stands in, or "nothing saved"."""
    found = checkpoints(workdir)
    if not found:
        return "nothing saved"
    step, steps = int(found[-1].stem.rpartition("-")[2]), 6 * round(540 / 16)
    if step == steps:
        return "all trained"
    return "second half" if 2 * step >= steps else "first half"


def state(workdir: Path) -> tuple:
    """All of a finished run but for times."""
    arrays = read_arrays(checkpoints(workdir)[-1])
    history = json.loads(arrays.pop("history").tobytes())
    history.pop("step_seconds")
    return history, {name: (array.shape, array.tobytes()) for name, array in arrays.items()}


if __name__ == "__main__":
    sys.exit(main(Target("sedona_tf.train", ARGUMENTS, state, half), __doc__))
