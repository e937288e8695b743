"""One finished trial, and the file that lists them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sedona_tf import document
from sedona_tf.errors import UserError
from sedona_tf.files import atomic_write
from sedona_tf.plans import Decoupling

__all__ = ["TrialRecord", "require_same_tuning", "write_trials"]

NAME = "trials.json"
KIND = "trials"
MAX_BYTES = 256 * 2**20
"""A trial of many blocks takes a few KiB, and some tens in the tuner's state."""


@dataclasses.dataclass(frozen=True)
class TrialRecord:
    """What a trial tried and found.

    Attributes:
        trial: its number, as the tuner writes it.
        decoupling: what was trained.
        val_error: of the head on the validation part, from 0 to 1.
        seconds: that the trial took: building, tracing, training and validation.
        steps: of training, in this trial alone; 0 if its result is an earlier trial's.
        epochs: trained in all, those of the trial that it went on from included.
    """

    trial: str
    decoupling: Decoupling
    val_error: float
    seconds: float
    steps: int
    epochs: int

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON-ready data."""
        return {
            "trial": self.trial,
            "cut_after": list(self.decoupling.cut_after),
            "auxiliary": [dict(options) for options in self.decoupling.auxiliary],
            "val_error": self.val_error,
            "seconds": self.seconds,
            "steps": self.steps,
            "epochs": self.epochs,
        }


def write_trials(workdir: Path, settings: Mapping[str, Any], trials: Sequence[TrialRecord]) -> None:
    """Writes `trials.json`.

    Args:
        workdir: of the run.
        settings: of the run, besides its recipe.
        trials: finished so far.

    Raises:
        UserError: if it cannot be written.
    """
    content = {**settings, KIND: [trial.to_dict() for trial in trials]}
    data = document.pack(content, KIND)
    with atomic_write(workdir / NAME) as file:
        file.write(data)


def require_same_tuning(workdir: Path, settings: Mapping[str, Any]) -> None:
    """Refuses to go on with trials of another kind.

    Args:
        workdir: of the run.
        settings: of the run, as asked for now.

    Raises:
        UserError: naming the first setting that differs, or the file if it is missing or damaged.
    """
    found = document.unpack(workdir / NAME, {*settings, KIND}, KIND, MAX_BYTES)
    for name, value in settings.items():
        if found[name] != value:
            raise UserError(
                f"{workdir} holds trials with {name} {found[name]!r:.80}, not {value!r}; resume "
                "with what they were started with, or take another --workdir."
            )
