"""Folders of runs without running anything, and pages read back."""

from __future__ import annotations

import html.parser
from pathlib import Path

import numpy as np

from sedona_tf.plans import Plan
from sedona_tf.runs.history import save_history
from sedona_tf.runs.metrics import save_metrics

NETS = [{"kind": "separable", "depth": depth} for depth in (1, 2, 3, 4)]
RESNET152 = [
    (f"unit_{number}", (size, size, channels))
    for number, (size, channels) in enumerate(
        [(56, 256)] * 3 + [(28, 512)] * 8 + [(14, 1024)] * 36 + [(7, 2048)] * 3, 1
    )
]


def a_plan(num_units: int = 8, **changes) -> Plan:
    """A plan of random scores; the last units of ResNet-152, so 50 are all of it."""
    rng = np.random.default_rng(num_units)
    fields = {
        "backbone": "toy",
        "units": RESNET152[-num_units:],
        "candidates": NETS,
        "alpha": rng.normal(size=(num_units - 1, 2)),
        "beta": rng.normal(size=(num_units - 1, len(NETS))),
        "provenance": {"dataset": {"name": "noise", "images": 60_000}, "recipe": {"seed": 3}},
    }
    return Plan(**fields | changes)


def search_folder(folder: Path, plan: Plan, steps: int = 5) -> Path:
    """Writes the plan and a history that ends with it."""
    folder.mkdir(parents=True)
    plan.save(folder / "plan.json")
    ways = np.linspace(0, 1, steps)
    p, weights = np.array(plan.cut_probability), np.array(plan.candidate_weights)
    columns = {
        "steps": np.arange(1, steps + 1),
        "cut_probability": [0.5 + way * (p - 0.5) for way in ways],
        "candidate_weights": [way * weights + (1 - way) / weights.shape[1] for way in ways],
        "outer_loss": 2 - ways,
    }
    save_history(folder / "history.json", "search", columns)
    return folder


def a_training(num_blocks: int = 4, num_units: int = 8, **changes) -> dict:
    """What `metrics.json` holds."""
    plan = a_plan(num_units)
    decoupling = plan.decode(num_blocks)
    rng = np.random.default_rng(num_blocks)
    test = {
        "backbone": decoupling.backbone,
        "num_units": num_units,
        "cut_after": list(decoupling.cut_after),
        "auxiliary": list(decoupling.auxiliary),
        "num_images": 10_000,
        "errors": {
            "exits": rng.random(num_blocks - 1).tolist(),
            "head": 0.1234,
            "ensembles": rng.random(num_blocks - 1).tolist(),
            "calibrated_ensembles": rng.random(num_blocks - 1).tolist(),
        },
        "temperatures": (1 + rng.random(num_blocks)).tolist(),
    }
    metrics = {
        "method": "sedona",
        "num_blocks": num_blocks,
        "data": {
            "name": "noise",
            "limit": 0,
            "training_images": 50_000,
            "input_shape": [8, 8, 1],
        },
        "backbone": {"name": decoupling.backbone, "width": 4},
        "units": [[name, list(shape)] for name, shape in plan.units],
        "seed": 0,
        "epochs": 3,
        "schedule": "pipelined",
        "devices": ["/device:CPU:0"] * num_blocks,
        "images_per_second": 2257.7,
        "validation_error": 0.1005,
        "test": test,
        "machine": "x86_64, 2 cores",
        "tensorflow": "2.21.0",
        "date": "2026-11-24",
    }
    return metrics | changes


def training_folder(folder: Path, metrics: dict) -> Path:
    """Writes the metrics and a history of three epochs."""
    folder.mkdir(parents=True)
    save_metrics(folder / "metrics.json", metrics)
    columns: dict[str, list] = {
        "step": [10, 20, 30],
        "epoch": [1, 2, 3],
        "loss": [2.0, 1.5, 1.0],
        "accuracy": [0.3, 0.5, 0.7],
        "step_seconds": [float("nan"), 0.1, 0.1],
        "val_step": [10, 20, 30],
        "val_epoch": [1, 2, 3],
        "val_loss": [2.0, 1.6, 1.2],
        "val_error": [0.8, 0.6, 0.4],
    }
    for block in range(1, metrics["num_blocks"]):
        columns[f"block_{block}_loss"] = [2.5, 2.0, 1.5]
    save_history(folder / "history.json", "training", columns)
    return folder


class Read(html.parser.HTMLParser):
    """Reads a page strictly: every element is closed where it must be, ids are unique.

    Attributes:
        tags: names of all elements, in order.
        attributes: `(name, value)` of all of them.
        tables: by caption, or by the label of what holds it: rows of texts.
        text: all of it but that of styles.
    """

    VOID = ("meta", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text, self.label = "", ""
        self.feed(page)
        self.close()
        assert not self.open
        ids = [value for name, value in self.attributes if name == "id"]
        assert len(ids) == len(set(ids))

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)
        self.label = dict(attrs).get("aria-label", self.label)
        if tag == "table":
            self.rows = self.tables.setdefault(self.label, [])
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data
