"""The errors of a decoupled model as plain-text tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sedona_tf.plans.fields import candidate_name
from sedona_tf.report.table import aligned

if TYPE_CHECKING:  # importing it starts TensorFlow
    from sedona_tf.evaluate.exits import Evaluation

__all__ = ["evaluation_table"]


def evaluation_table(
    evaluation: Evaluation, split: str = "", trained: tuple[int, int] | None = None
) -> str:
    """Words an evaluation: one line for each classifier, then one for each ensemble.

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
    temperatures = evaluation.temperatures or (None,) * num_blocks
    nets = [*map(candidate_name, decoupling.auxiliary), "(head)"]
    errors = (*evaluation.exits, evaluation.head)
    rows = [
        (
            str(index + 1),
            str(first) if first == last else f"{first}-{last}",
            nets[index],
            _percent(errors[index]),
            _number(temperatures[index]),
        )
        for index, (first, last) in enumerate(decoupling.blocks())
    ]
    lines = [
        f"{decoupling.backbone}: {decoupling.num_units} units, "
        f"{num_blocks} block{'s' * (num_blocks > 1)}; "
        f"{evaluation.num_images:,} {split} images".replace("  ", " ")
        + (f"; not whole: step {step:,} of {steps:,}" if step < steps else ""),
        "",
        *aligned(("block", "units", "classifier", "error (%)", "temperature"), rows),
    ]
    if evaluation.ensembles:
        calibrated = evaluation.calibrated_ensembles or (None,) * (num_blocks - 1)
        rows_together = [
            (
                f"head and last {f'{count} auxiliary nets' if count > 1 else 'auxiliary net'}",
                _percent(plain),
                _percent(scaled),
            )
            for count, (plain, scaled) in enumerate(
                zip(evaluation.ensembles, calibrated, strict=True), 1
            )
        ]
        lines += ["", *aligned(("ensemble", "error (%)", "calibrated (%)"), rows_together)]
    return "\n".join(lines)


def _percent(fraction: float | None) -> str:
    return f"{'-':>6}" if fraction is None else f"{100 * fraction:6.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
