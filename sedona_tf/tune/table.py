"""The trials of a tuning as a plain-text table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sedona_tf.plans import candidate_name
from sedona_tf.report.tables import aligned

if TYPE_CHECKING:  # importing it starts TensorFlow
    from sedona_tf.tune.trials import TrialRecord

__all__ = ["trial_table"]

HEADINGS = ("trial", "epochs", "val error (%)", "seconds", "cut after", "auxiliary nets")


def trial_table(trials: Sequence[TrialRecord]) -> str:
    """Words trials, one line each, in the order given.

    Returns:
        Lines without a newline at the end.
    """
    rows = [
        (
            trial.trial,
            str(trial.epochs),
            f"{100 * trial.val_error:.2f}",
            f"{trial.seconds:.1f}",
            ", ".join(map(str, trial.decoupling.cut_after)),
            ", ".join(map(candidate_name, trial.decoupling.auxiliary)),
        )
        for trial in trials
    ]
    return "\n".join(aligned(HEADINGS, rows))
