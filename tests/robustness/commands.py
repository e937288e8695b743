"""Small runs of the commands that are disturbed, and what of their results must stay equal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from search_runs import DIGITS, ROOT, scores
from train_runs import last_state

RECIPE = f"--recipe={ROOT / 'recipes/digits.py'}"
SEARCH = (
    RECIPE,
    "--recipe.search.space.depth=(1,)",
    "--recipe.search.inner_steps=1",
    "--recipe.search.snapshots=5",
    "--recipe.search.checkpoint_every=3",
    "--recipe.search.batch_size=16",
    "--recipe.search.validation_batch_size=16",
)
TRAIN = (
    RECIPE,
    "--method=dgl",
    "--recipe.train.batch_size=16",
    "--recipe.train.checkpoint_every=5",
    "--recipe.data.limit=600",
)
TUNE = (
    f"--recipe={DIGITS}",
    "--recipe.data.limit=300",
    "--recipe.train.epochs=10",
    "--blocks=2",
    "--max_trials=1",
)


class Disturbed(NamedTuple):
    """A command that is disturbed.

    Attributes:
        name: of the command.
        arguments: without the folder.
        result: reads a finished run's folder; compared with `==`.
        started: pattern of a file that shows that the run is under way.
    """

    name: str
    arguments: tuple[str, ...]
    result: Callable[[Path], Any]
    started: str = "checkpoints/*.npz"


def state(workdir: Path) -> tuple:
    """The last checkpoint of a training but for times: all that it would go on from."""
    arrays, history = last_state(workdir)
    return history, {name: (array.shape, array.tobytes()) for name, array in arrays.items()}


def trials(workdir: Path) -> list[dict]:
    """What a finished tuning found, but for times."""
    found = json.loads((workdir / "trials.json").read_text())["trials"]
    return [{**trial, "seconds": None} for trial in found]


SHORT = [
    Disturbed(
        "search",
        (*SEARCH, "--recipe.search.pretraining_steps=12", "--recipe.search.steps=8"),
        scores,
    ),
    Disturbed("train", (*TRAIN, "--blocks=2", "--recipe.train.epochs=2"), state),
    Disturbed("tune", TUNE, trials, started="tuner/tuner0.json"),
]
LONG = [
    Disturbed(
        "search",
        (*SEARCH, "--recipe.search.pretraining_steps=60", "--recipe.search.steps=25"),
        scores,
    ),
    Disturbed("train", (*TRAIN, "--blocks=3", "--recipe.train.epochs=6"), state),
]
