"""From a recipe to measured costs, predictions and their pictures in a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import ml_collections
from absl import logging

from sedona_tf.auxiliary import candidates_from
from sedona_tf.environment.process_settings import process_settings
from sedona_tf.errors import UserError, dispensable
from sedona_tf.files import atomic_write, make_folder
from sedona_tf.plans import BASELINES, Plan
from sedona_tf.profile.cache import CostCache
from sedona_tf.profile.comparison import (
    Devices,
    FrontPoint,
    comparison_table,
    front_table,
    fronts,
    ways_to_train,
)
from sedona_tf.profile.costs import COSTS_FILE, require_no_costs
from sedona_tf.profile.dry_run import stated_data
from sedona_tf.profile.measure import measure_costs
from sedona_tf.profile.predict import LOCAL, Link
from sedona_tf.profile.table import cost_table
from sedona_tf.recipe import check_train
from sedona_tf.report.figures import COLOURS, own_style
from sedona_tf.train.build import build_backbone
from sedona_tf.train.placement import assign_devices, device_spec

__all__ = ["draw_fronts", "profile"]


def profile(
    recipe: ml_collections.ConfigDict,
    workdir: Path,
    *,
    plan: str | None = None,
    blocks: Sequence[int] = (2, 4, 8),
    devices: str | Sequence[str] = "auto",
    batch_size: int | None = None,
    link: Link = LOCAL,
    cache: str | os.PathLike[str] | None = None,
) -> str:
    """Measures a network's parts on the first device and predicts ways to train on all of them.

    Writes `costs.json` and `front.png` into `workdir`. Reads no data.

    Args:
        recipe: names the network, its images (`data.dry_run`) and the batch.
        workdir: folder; made if need be. One that holds a profile is refused.
        plan: file of a plan; without one, every cut and DGL's net count as equally good.
        blocks: numbers of blocks K; those above the number of units are left out.
        devices: as for `assign_devices`; taken to be all alike.
        batch_size: images; the recipe's if None.
        link: between neighbouring devices.
        cache: file of measured parts, its folder made if need be; None: nothing is kept.

    Returns:
        Tables: the parts' costs, fronts of score and speed, and ways to train with a
        recommendation.

    Raises:
        UserError: for anything wrong with what was given.
    """
    check_train(recipe)
    require_no_costs(workdir)
    store = CostCache(cache)
    stated = stated_data(recipe)
    batch_size = recipe.train.batch_size if batch_size is None else batch_size
    if batch_size < 1 or min(blocks) < 1:
        raise UserError("the batch and the numbers of blocks must be from 1.")
    for folder in (workdir, Path(cache or workdir).parent):  # before minutes of measuring
        make_folder(folder)
    logging.info(f"building {recipe.backbone.name}")
    backbone = build_backbone(recipe, stated.shape, stated.num_classes)
    if plan is None:
        scores = Plan.indifferent(backbone.name, Plan.fingerprint(backbone), [BASELINES["dgl"]])
    else:
        scores = Plan.load(plan, backbone)
    names = list(dict.fromkeys(assign_devices(devices, num_blocks=64)))
    with process_settings(precision=recipe.train.precision):
        costs = measure_costs(
            backbone, candidates_from(scores.candidates), batch_size, names[0], store
        )
    costs.save(workdir / COSTS_FILE)
    wanted = [number for number in blocks if number <= len(backbone.units)]
    on_cpus = all(device_spec(name).device_type == "CPU" for name in names)
    settings = (scores, costs, wanted, Devices(len(names), link, barrier=on_cpus))
    points = fronts(*settings)
    with dispensable("front.png"), atomic_write(workdir / "front.png") as file:
        draw_fronts(file, points, f"{backbone.name} on {len(names)} devices")
    return "\n".join(
        [
            cost_table(costs),
            "",
            f"Fronts on {len(names)} devices such as {costs.device}, batch {batch_size}:",
            "",
            front_table(points, scores.candidate_names),
            "",
            comparison_table(ways_to_train(*settings)),
        ]
    )


@own_style()
def draw_fronts(file, points: Sequence[FrontPoint], title: str) -> None:
    """Score against predicted speed-up, one line for every K, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    numbers = list(dict.fromkeys(point.num_blocks for point in points))
    for colour, number in zip(COLOURS * len(numbers), numbers, strict=False):
        mine = [point for point in points if point.num_blocks == number]
        best = mine[0].choice.score or 1.0
        axes.plot(
            [point.speedup for point in mine],
            [point.choice.score / best for point in mine],
            "o-",
            color=colour,
            label=f"K = {number}",
        )
    axes.set_xlabel("predicted speed-up over backprop on one device")
    axes.set_ylabel("score, of the best for this K")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    if numbers:
        axes.legend()
    figure.savefig(file, format="png", dpi=110)
