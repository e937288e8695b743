"""What the page shows of a search and of a training, as its templates take it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from sedona_tf.plans import Decoupling, Units, candidate_name
from sedona_tf.report import figures
from sedona_tf.report.read_run import Search, Training
from sedona_tf.report.tables import classifier_rows, decoupling_rows, ensemble_rows

__all__ = ["comparable", "search_section", "training_section"]

SHOWN_BLOCKS = (2, 4, 8)
"""Numbers of blocks that are shown of every plan, as far as it has units."""
WIDE_UNITS = 20
"""From so many units, a picture with a bar a unit takes the whole width of the page."""


class Picture(NamedTuple):
    """A picture of the page.

    Attributes:
        title, words: its caption.
        svg: one `svg` element; None if what it shows was not recorded.
        wide: whether it takes the whole width of the page.
    """

    title: str
    words: str
    svg: str | None
    wide: bool = False


def search_section(search: Search, trained: set[int]) -> dict[str, Any]:
    """What the template needs of a search.

    Args:
        search: the search.
        trained: numbers of blocks to show beside those of `SHOWN_BLOCKS`.
    """
    plan = search.plan
    numbers = sorted({*SHOWN_BLOCKS, *trained} - {1})
    decouplings = [plan.decode(k) for k in numbers if k <= plan.num_units] or [plan.decode(1)]
    data = search.stated("dataset", "name")
    programs = ("sedona_tf", "TensorFlow", "Keras", "Python")
    versions = [(name, search.stated("versions", name.lower())) for name in programs]
    return {
        "title": f"{plan.backbone} on {data}" if data is not None else plan.backbone,
        "facts": [
            ("Data set", data),
            ("Training images", _count(search, "dataset", "images")),
            ("Recipe", search.stated("recipe", "name")),
            ("Pretraining steps", _count(search, "recipe", "search", "pretraining_steps")),
            ("Search steps", _count(search, "recipe", "search", "steps")),
            ("Unrolled inner steps", _count(search, "recipe", "search", "inner_steps")),
            ("Seed", search.stated("recipe", "seed")),
            ("Ended", search.date),
            ("Folder", search.folder),
            ("Versions", ", ".join(f"{name} {v}" for name, v in versions if v is not None) or None),
        ],
        "tiles": _tiles(search),
        "networks": [
            _network(each, plan.units, plan.cut_probability)
            | {"rows": decoupling_rows(plan, each), "ties": each.ties}
            for each in decouplings
        ],
        "pictures": _search_pictures(search) if plan.num_units > 1 else [],
        "units": _unit_rows(search),
    }


def training_section(training: Training, identifier: str) -> dict[str, Any]:
    """What the template needs of a training.

    Args:
        training: the training.
        identifier: of its section, unlike any other's.
    """
    metrics, data, test = training.metrics, training.metrics.data, training.metrics.test
    images = f"{data.training_images:,}" + (f" (limit {data.limit:,})" if data.limit else "")
    heading = f"{metrics.method}, K = {metrics.num_blocks}"
    errors, calibrated = test.errors, test.errors.calibrated_ensembles
    head, validation = _percent(errors.head), _percent(metrics.validation_error)
    ensemble = _percent(calibrated[-1] if calibrated else None)
    ensemble_tile = ("Test error of the ensemble", f"{ensemble} %", "all exits")
    speed = metrics.images_per_second
    shown_speed = "-" if speed is None else f"{speed:,.{0 if speed >= 100 else 1}f}"
    where = (metrics.machine, metrics.date)
    return {
        "id": identifier,
        "title": f"{metrics.decoupling.backbone}: {heading}",
        "heading": heading,
        "task": metrics.task,
        "task_words": (
            f"{metrics.decoupling.backbone} (last unit {_size(metrics.units[-1][1])}) on "
            f"{data.name} ({_size(data.input_shape)}), {images} training images, "
            f"{metrics.epochs} epoch{'s' * (metrics.epochs != 1)}"
        ),
        "folder": training.folder,
        "compared": (
            *(metrics.method, *where, metrics.num_blocks, metrics.seed),
            *(head, ensemble, validation, shown_speed),
        ),
        "facts": [
            ("Method", metrics.method),
            ("Data set", data.name),
            ("Training images", images),
            ("Epochs", metrics.epochs),
            ("Seed", metrics.seed),
            ("Schedule", metrics.schedule),
            ("Devices", ", ".join(dict.fromkeys(metrics.devices))),
            ("Machine", metrics.machine),
            ("TensorFlow", metrics.tensorflow),
            ("Date", metrics.date),
            ("Folder", training.folder),
        ],
        "tiles": [
            ("Test error of the head", f"{head} %", f"{test.num_images:,} images"),
            *([ensemble_tile] if calibrated else []),
            ("Validation error", f"{validation} %", "of the head, at the end"),
            ("Images per second", shown_speed, f"in training; {', '.join(where)}"),
        ],
        "network": _network(metrics.decoupling, metrics.units),
        "pictures": _training_pictures(training, identifier),
        "classifiers": classifier_rows(
            metrics.decoupling, (*errors.exits, errors.head), test.temperatures
        ),
        "ensembles": ensemble_rows(errors.ensembles, calibrated),
    }


def comparable(sections: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Groups what `training_section` made: one group for each data set, length and network."""
    groups: dict[Hashable, list[dict[str, Any]]] = {}
    for section in sections:
        groups.setdefault(section["task"], []).append(section)
    return list(groups.values())


def _network(
    decoupling: Decoupling, units: Units, probability: Sequence[float] | None = None
) -> dict[str, Any]:
    """A network's blocks of units, as they are drawn.

    Args:
        decoupling: of L units into K blocks.
        units: `(L,)` names and shapes.
        probability: `(L-1,)` cut probabilities, to be shown at the cuts.
    """
    cuts = ", ".join(map(str, decoupling.cut_after))
    shapes = [_size(shape) for _, shape in units]
    nets = [*map(candidate_name, decoupling.auxiliary), "head"]
    blocks = []
    for (first, last), net, colour in zip(
        decoupling.blocks(), nets, figures.block_colours(decoupling.num_blocks), strict=True
    ):
        p = f"p = {probability[last - 1]:.3f}" if probability and last < len(units) else ""
        numbered = list(enumerate(shapes[first - 1 : last], first))
        blocks.append({"units": numbered, "net": net.replace("(", " ("), "p": p, "colour": colour})
    return {
        "words": f"Cut after unit{'s' * (len(blocks) > 2)} {cuts}." if cuts else "No cut.",
        "blocks": blocks,
    }


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _percent(error: float | None) -> str:
    return "-" if error is None else f"{100 * error:.2f}"


def _count(search: Search, *names: str) -> str | None:
    value = search.stated(*names)
    return value if isinstance(value, str | None) else f"{value:,}"


def _tiles(search: Search) -> list[tuple[str, str, str]]:
    plan, p = search.plan, search.plan.cut_probability
    tiles = [
        ("Units", str(plan.num_units), f"{plan.num_units - 1} of them can end in a cut"),
        ("Candidates", str(len(plan.candidates)), "auxiliary nets on offer at each cut"),
    ]
    if p:
        best = p.index(max(p)) + 1
        tiles.append(("First choice", f"unit {best}", f"cut probability {max(p):.3f}"))
        tiles.append(("Cut probabilities", f"{min(p):.2f} – {max(p):.2f}", "lowest and highest"))
    if search.columns:
        loss = search.columns.outer_loss
        tiles.append(("Outer loss", f"{loss[-1]:.3f}", f"last of {len(loss):,} steps"))
    return tiles


def _search_pictures(search: Search) -> list[Picture]:
    plan, columns = search.plan, search.columns
    p, weights = plan.cut_probability, np.array(plan.candidate_weights)
    wide = plan.num_units > WIDE_UNITS
    width = 11.4 if wide else 4.4
    heat = loss = None
    if columns:
        steps, shown, known = len(columns.steps), columns.cut_probability, columns.outer_loss
        known = known[np.isfinite(known)]
        heat = figures.svg_element(
            lambda axes: figures.draw_cut_probability(axes, columns.steps, shown),
            "heat",
            f"Heat map of the cut probability: {len(p)} units by {steps} search steps, "
            f"from {shown.min():.2f} to {shown.max():.2f}.",
            height=4.4 if wide else 3.0,
        )
        loss = figures.svg_element(
            lambda axes: figures.draw_outer_loss(axes, columns.steps, columns.outer_loss),
            "loss",
            f"Curve of the outer loss over {steps} search steps, "
            + (f"from {known[0]:.3f} to {known[-1]:.3f}." if known.size else "none finite."),
            height=4.4 if wide else 3.0,
        )
    final = figures.svg_element(
        lambda axes: figures.draw_final_probability(axes, p),
        "final",
        f"Bars of the cut probability at the end. The highest is unit {p.index(max(p)) + 1}, "
        f"{max(p):.3f}; the lowest is {min(p):.3f}.",
        width=width,
    )
    nets = figures.svg_element(
        lambda axes: figures.draw_candidate_weights(axes, weights, plan.candidate_names),
        "weights",
        f"Stacked bars of the weights of {weights.shape[1]} candidates for each of {len(p)} units.",
        width=width,
    )
    best = "The largest share of a unit wins there."
    return [
        Picture("Cut probability over the search", "Of every unit but the last.", heat),
        Picture("Outer loss", "Validation loss after the unrolled inner steps.", loss),
        Picture("Cut probability at the end", "The K − 1 highest are cut.", final, wide),
        Picture("Candidate weights at the end", best, nets, wide),
    ]


def _training_pictures(training: Training, identifier: str) -> list[Picture]:
    num_blocks, columns = training.metrics.num_blocks, training.columns
    loss = error = None
    if columns:
        loss = figures.svg_element(
            lambda axes: figures.draw_losses(axes, columns),
            f"{identifier}-loss",
            f"Curves of the loss of {num_blocks} block{'s' * (num_blocks > 1)} over epochs.",
        )
        error = figures.svg_element(
            lambda axes: figures.draw_errors(axes, columns),
            f"{identifier}-error",
            "Curves of the head's error in per cent over epochs, in training and validation.",
        )
    words = "Training: mean of the epoch. Validation: at its end."
    return [
        Picture("Loss of each block", words, loss),
        Picture("Error of the head", words, error),
    ]


def _unit_rows(search: Search) -> list[dict[str, Any]]:
    """Number, name and shape of each unit, and but for the last its scores."""
    plan = search.plan
    rows = [
        {"number": number, "name": name, "shape": _size(shape)}
        for number, (name, shape) in enumerate(plan.units, 1)
    ]
    for row, p, weights in zip(rows, plan.cut_probability, plan.candidate_weights, strict=False):
        best = weights.index(max(weights))
        row |= {"p": p, "candidate": plan.candidate_names[best], "weight": weights[best]}
    return rows
