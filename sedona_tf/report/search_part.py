"""What the page shows of a search."""

from __future__ import annotations

from typing import Any

from sedona_tf.report import charts
from sedona_tf.report.formats import thousands, times
from sedona_tf.report.network_part import network_part
from sedona_tf.report.read_run import Search
from sedona_tf.report.table import decoupling_rows

__all__ = ["search_part"]

BLOCKS = (2, 4, 8)
"""Numbers of blocks that are shown of every plan, as far as it has units."""
VERSIONS = ("sedona_tf", "TensorFlow", "Keras", "Python")


def search_part(search: Search, trained: set[int]) -> dict[str, Any]:
    """What the template needs of a search.

    Args:
        search: the search.
        trained: numbers of blocks to show beside those of `BLOCKS`.
    """
    plan = search.plan
    numbers = sorted({*BLOCKS, *trained} - {1})
    numbers = [number for number in numbers if number <= plan.num_units] or [1]
    p, shapes = plan.cut_probability, [shape for _, shape in plan.units]
    networks = []
    for number in numbers:
        decoupling = plan.decode(number)
        networks.append(
            network_part(decoupling, shapes, p)
            | {
                "rows": decoupling_rows(plan, decoupling),
                "ties": [str(tie) for tie in decoupling.ties],
            }
        )
    data, history = search.stated("dataset", "name"), search.history
    versions = [(label, search.stated("versions", label.lower())) for label in VERSIONS]
    facts = [
        ("Data set", data),
        ("Training images", _count(search, "dataset", "images")),
        ("Recipe", search.stated("recipe", "name")),
        ("Pretraining steps", _count(search, "recipe", "search", "pretraining_steps")),
        ("Search steps", _count(search, "recipe", "search", "steps")),
        ("Unrolled inner steps", _count(search, "recipe", "search", "inner_steps")),
        ("Seed", search.stated("recipe", "seed")),
        ("Ended", history.date if history else None),
        ("Folder", search.folder),
        ("Versions", ", ".join(f"{name} {v}" for name, v in versions if v is not None) or None),
    ]
    return {
        "title": f"{plan.backbone} on {data}" if data is not None else plan.backbone,
        "facts": facts,
        "tiles": _search_tiles(search),
        "networks": networks,
        "charts": _search_charts(search),
        "units": _unit_rows(search),
    }


def _count(search: Search, *names: str) -> str | None:
    value = search.stated(*names)
    return value if isinstance(value, str | None) else thousands(value)


def _search_tiles(search: Search) -> list[tuple[str, str, str]]:
    plan, history = search.plan, search.history
    tiles = [
        ("Units", str(plan.num_units), f"{plan.num_units - 1} of them can end in a cut"),
        ("Candidates", str(len(plan.candidates)), "auxiliary nets on offer at each cut"),
    ]
    p = plan.cut_probability
    if p:
        best = p.index(max(p)) + 1
        tiles.append(("First choice", f"unit {best}", f"cut probability {max(p):.3f}"))
        tiles.append(("Cut probabilities", f"{min(p):.2f} – {max(p):.2f}", "lowest and highest"))
    if history is not None:
        loss = history.columns["outer_loss"]
        tiles.append(("Outer loss", f"{loss[-1]:.3f}", f"last of {len(loss):,} steps"))
    return tiles


def _search_charts(search: Search) -> list[tuple[charts.Chart | None, str, str]]:
    plan, history = search.plan, search.history
    if plan.num_units == 1:
        return []
    heat = loss = None
    if history is not None:
        steps = history.columns["steps"]
        heat = charts.probability_chart("heat", steps, history.columns["cut_probability"])
        loss = charts.outer_loss_chart("outer", steps, history.columns["outer_loss"])
    weights = charts.weights_chart("weights", plan.candidate_weights, plan.candidate_names)
    drawn = [
        (heat, "Cut probability over the search", "Of every unit but the last, step by step."),
        (
            charts.final_chart("final", plan.cut_probability),
            "Cut probability at the end",
            "The K − 1 highest are cut.",
        ),
        (weights, "Candidate weights at the end", "The largest share of a unit wins there."),
        (loss, "Outer loss", "Validation loss after the unrolled inner steps, in nats."),
    ]
    return sorted(drawn, key=lambda each: each[0] is None)  # what is missing comes last


def _unit_rows(search: Search) -> list[dict[str, Any]]:
    plan = search.plan
    rows = []
    for number, (name, shape) in enumerate(plan.units, 1):
        row = {"number": number, "name": name, "shape": times(shape)}
        row["probability"] = None
        if number < plan.num_units:
            weights = plan.candidate_weights[number - 1]
            best = weights.index(max(weights))
            row["probability"] = plan.cut_probability[number - 1]
            row |= {"candidate": plan.candidate_names[best], "weight": weights[best]}
        rows.append(row)
    return rows
