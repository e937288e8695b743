"""One finished trial, and the file that lists them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sedona_tf import json_file
from sedona_tf.errors import UserError
from sedona_tf.json_file import Json
from sedona_tf.plans import Decoupling

__all__ = ["TrialRecord", "require_same_tuning", "write_trials"]

TRIALS_FILE = "trials.json"
"""Name of the list of trials in a run's folder."""
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


class _File(json_file.Typed, frozen=True, tag_field="format", tag="sedona_tf.trials"):
    tuner: str
    num_blocks: int
    trials: list[dict[str, Json]]


def write_trials(workdir: Path, settings: Mapping[str, Any], trials: Sequence[TrialRecord]) -> None:
    """Writes `trials.json`.

    Args:
        workdir: of the run.
        settings: `tuner` and `num_blocks` of the run.
        trials: finished so far.

    Raises:
        UserError: if it cannot be written.
    """
    file = _File(**settings, trials=[trial.to_dict() for trial in trials])
    json_file.save(workdir / TRIALS_FILE, file)


def require_same_tuning(workdir: Path, settings: Mapping[str, Any]) -> None:
    """Refuses to go on with trials of another kind.

    Args:
        workdir: of the run.
        settings: of the run, as asked for now.

    Raises:
        UserError: naming the first setting that differs, or the file if it is missing or damaged.
    """
    found = json_file.load(workdir / TRIALS_FILE, _File, max_bytes=MAX_BYTES)
    for name, value in settings.items():
        was = getattr(found, name)
        if was != value:
            raise UserError(
                f"{workdir} holds trials with {name} {was!r:.80}, not {value!r}; resume "
                "with what they were started with, or take another --workdir."
            )
