"""The errors of a decoupled model as plain-text tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sedona_tf.report.tables import aligned, classifier_rows, ensemble_rows

if TYPE_CHECKING:  # importing it starts TensorFlow
    from sedona_tf.evaluate.exits import Evaluation

__all__ = ["evaluation_table"]


def evaluation_table(
    evaluation: Evaluation, split: str = "", trained: tuple[int, int] | None = None
) -> str:
    """Describes an evaluation: one line for each classifier, then one for each ensemble.

    Args:
        evaluation: the errors; shown in per cent.
        split: what the images are, for example `"test"`.
        trained: steps that the model has been trained for, and those of the whole training. They
            are shown if the training has not ended.

    Returns:
        Lines without a newline at the end. No ensembles are shown for one block, and dashes
        stand for what was not calibrated.
    """
    decoupling, (step, steps) = evaluation.decoupling, trained or (0, 0)
    num_blocks = decoupling.num_blocks
    errors = (*evaluation.exits, evaluation.head)
    lines = [
        f"{decoupling.backbone}: {decoupling.num_units} units, "
        f"{num_blocks} block{'s' * (num_blocks > 1)}; "
        f"{evaluation.num_images:,} {split} images".replace("  ", " ")
        + (f"; not whole: step {step:,} of {steps:,}" if step < steps else ""),
        "",
        *aligned(
            ("block", "units", "classifier", "error (%)", "temperature"),
            classifier_rows(decoupling, errors, evaluation.temperatures),
        ),
    ]
    if rows := ensemble_rows(evaluation.ensembles, evaluation.calibrated_ensembles):
        lines += ["", *aligned(("ensemble", "error (%)", "calibrated (%)"), rows)]
    return "\n".join(lines)
