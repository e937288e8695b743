"""What the page shows of a training."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from sedona_tf.plans.fields import candidate_name
from sedona_tf.report import charts
from sedona_tf.report.curves import checked_curves
from sedona_tf.report.formats import percent, thousands, times
from sedona_tf.report.network_part import network_part
from sedona_tf.report.read_run import Training

__all__ = ["comparison_part", "training_part"]


def training_part(training: Training, identifier: str) -> dict[str, Any]:
    """What the template needs of a training.

    Args:
        training: the training.
        identifier: of its section, unlike any other's.
    """
    metrics, history = training.metrics, training.history
    decoupling = metrics.decoupling
    shapes = [shape for _, shape in metrics.units]
    heading = f"{metrics.method}, K = {metrics.num_blocks}"
    loss = error = None
    if history is not None:
        curves = (
            *checked_curves(history.columns, ""),
            *checked_curves(history.columns, "val_"),
        )
        loss = charts.loss_chart(f"{identifier}-loss", metrics.num_blocks, curves)
        error = charts.error_chart(f"{identifier}-error", metrics.num_blocks, curves)
    facts = [
        ("Method", metrics.method),
        ("Data set", metrics.data),
        ("Training images", _images(training)),
        ("Epochs", metrics.epochs),
        ("Seed", metrics.seed),
        ("Schedule", metrics.schedule),
        ("Devices", ", ".join(dict.fromkeys(metrics.devices))),
        ("Machine", metrics.machine),
        ("TensorFlow", metrics.tensorflow),
        ("Date", metrics.date),
        ("Folder", training.folder),
    ]
    tiles = [
        ("Test error of the head", f"{percent(metrics.head)} %", f"{metrics.num_images:,} images")
    ]
    if metrics.calibrated:
        tiles.append(
            ("Test error of the ensemble", f"{percent(metrics.calibrated[-1])} %", "all exits")
        )
    tiles += [
        ("Validation error", f"{percent(metrics.validation_error)} %", "of the head, at the end"),
        (
            "Images per second",
            thousands(metrics.images_per_second),
            f"in training; {metrics.machine}, {metrics.date}",
        ),
    ]
    return {
        "id": identifier,
        "title": f"{decoupling.backbone}: {heading}",
        "heading": heading,
        "task": (
            f"{decoupling.backbone} (last unit {times(shapes[-1])}) on {metrics.data} "
            f"({times(metrics.input_shape)}), {_images(training)} training images, "
            f"{metrics.epochs} epoch{'s' * (metrics.epochs != 1)}"
        ),
        "folder": training.folder,
        "metrics": metrics,
        "facts": facts,
        "tiles": tiles,
        "network": network_part(decoupling, shapes),
        "charts": [
            (loss, "Loss of each block", "Training: mean of the epoch. Validation: at its end."),
            (
                error,
                "Error of the head, %",
                "Training: mean of the epoch. Validation: at its end.",
            ),
        ],
        "classifiers": _classifier_rows(training),
        "ensembles": _ensemble_rows(training),
    }


def comparison_part(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups trainings for comparison: one group for each data set, length and network.

    Args:
        parts: what `training_part` made.

    Returns:
        `words` and `trainings` of every group, in the order of their first trainings.
    """
    groups: dict[Hashable, list[dict[str, Any]]] = {}
    for part in parts:
        groups.setdefault(part["metrics"].task, []).append(part)
    return [{"words": each[0]["task"], "trainings": each} for each in groups.values()]


def _images(training: Training) -> str:
    metrics = training.metrics
    limited = f" (limit {thousands(metrics.limit)})" if metrics.limit else ""
    return f"{thousands(metrics.training_images)}{limited}"


def _classifier_rows(training: Training) -> list[dict[str, Any]]:
    metrics = training.metrics
    names = [*map(candidate_name, metrics.decoupling.auxiliary), "head"]
    temperatures = metrics.temperatures or (None,) * metrics.num_blocks
    return [
        {
            "block": block,
            "units": str(first) if first == last else f"{first}–{last}",
            "name": name,
            "error": error,
            "temperature": temperature,
        }
        for block, ((first, last), name, error, temperature) in enumerate(
            zip(
                metrics.decoupling.blocks(),
                names,
                (*metrics.exits, metrics.head),
                temperatures,
                strict=True,
            ),
            1,
        )
    ]


def _ensemble_rows(training: Training) -> list[dict[str, Any]]:
    metrics = training.metrics
    calibrated = metrics.calibrated or (None,) * len(metrics.ensembles)
    return [
        {
            "name": f"the last {f'{count} auxiliary nets' if count > 1 else 'auxiliary net'}",
            "plain": plain,
            "calibrated": scaled,
        }
        for count, (plain, scaled) in enumerate(zip(metrics.ensembles, calibrated, strict=True), 1)
    ]
