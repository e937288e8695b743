"""From a recipe to measured costs, predictions and their pictures in a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import ml_collections

from sedona_tf.auxiliary import candidates_from
from sedona_tf.backbones import Backbone
from sedona_tf.environment.process_settings import process_settings
from sedona_tf.errors import UserError, dispensable
from sedona_tf.files import atomic_write, make_folder
from sedona_tf.plans import BASELINES, Plan
from sedona_tf.profile.cache import CostCache
from sedona_tf.profile.costs import COSTS_FILE, Costs, require_no_costs
from sedona_tf.profile.dry_run import data_like
from sedona_tf.profile.measure import hardware, measure_costs
from sedona_tf.profile.simulator import LOCAL, Link
from sedona_tf.profile.weigh import (
    Devices,
    FrontPoint,
    alternatives,
    front_table,
    fronts,
    weigh_table,
)
from sedona_tf.recipe import check_train
from sedona_tf.report.figures import COLOURS, own_style
from sedona_tf.report.tables import aligned
from sedona_tf.train.build import build_backbone
from sedona_tf.train.placement import assign_devices, device_spec

__all__ = ["devices_of", "draw_fronts", "profile"]


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
    words: str = "",
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
        words: of a CPU device, for tables and the cache; GPUs have names.

    Returns:
        Tables: fronts of score and speed, and the alternatives with a recommendation.

    Raises:
        UserError: for anything wrong with what was given.
    """
    check_train(recipe)
    require_no_costs(workdir)
    store = CostCache(cache)
    shape, classes, _ = data_like(recipe)
    batch_size = recipe.train.batch_size if batch_size is None else batch_size
    if batch_size < 1 or min(blocks) < 1:
        raise UserError("the batch and the numbers of blocks must be from 1.")
    for folder in (workdir, Path(cache or workdir).parent):  # before minutes of measuring
        make_folder(folder)
    print(f"building {recipe.backbone.name}", flush=True)
    backbone = build_backbone(recipe, shape, classes)
    scores = _scores(plan, backbone)
    names = assign_devices(devices, 64)
    distinct = list(dict.fromkeys(names))
    candidates = candidates_from(scores.candidates)
    if device_spec(distinct[0]).device_type == "GPU":
        words = hardware(distinct[0])
    with process_settings(precision=recipe.train.precision):
        costs = measure_costs(backbone, candidates, batch_size, distinct[0], words, store)
    costs.save(workdir / COSTS_FILE)
    wanted = [number for number in blocks if number <= len(backbone.units)]
    settings = (scores, costs, wanted, devices_of(distinct, link))
    points = fronts(*settings)
    with dispensable("front.png"), atomic_write(workdir / "front.png") as file:
        draw_fronts(file, points, f"{backbone.name} on {len(distinct)} devices")
    return "\n".join(
        [
            cost_table(costs),
            "",
            f"Fronts on {len(distinct)} x {costs.device}, batch {batch_size}:",
            "",
            front_table(points, scores.candidate_names),
            "",
            weigh_table(alternatives(*settings)),
        ]
    )


def devices_of(names: Sequence[str], link: Link = LOCAL) -> Devices:
    """What the simulator has to know of devices.

    Args:
        names: of D different devices.
        link: between neighbours.

    Example:
        >>> devices_of(["GPU:0", "GPU:1"]).barrier, devices_of(["CPU:0", "CPU:1"]).helping
        (False, True)
        >>> devices_of([f"/job:worker/task:{task}/device:CPU:0" for task in range(2)]).helping
        False
    """
    specs = [device_spec(name) for name in names]
    barrier = all(spec.device_type == "CPU" for spec in specs)
    helping = barrier and all(spec.job != "worker" for spec in specs)
    return Devices(len(names), link, barrier, helping)


def cost_table(costs: Costs) -> str:
    """The measured parts: milliseconds, spread, memory, FLOPs; candidates as their range."""
    rows = []
    parts = [*zip((name for name, _ in costs.units), costs.unit_costs, strict=True)]
    for index, (name, part) in enumerate([*parts, ("head", costs.head_cost)]):
        nets = costs.auxiliary_costs[index] if index < len(costs.auxiliary_costs) else ()
        times = sorted(1000 * net.seconds for net in nets)
        rows.append(
            (
                name,
                f"{1000 * part.forward_s:.2f}",
                f"{1000 * part.backward_s:.2f}",
                f"{1000 * part.update_s:.2f}",
                f"{part.spread:.0%}",
                f"{part.activation_bytes / 2**20:.1f}",
                f"{part.parameter_bytes / 2**20:.2f}",
                f"{part.flops / 1e6:.1f}",
                f"{times[0]:.2f} to {times[-1]:.2f}" if times else "-",
            )
        )
    headings = (
        *("measured", "forward (ms)", "backward", "update", "spread"),
        *("kept (MiB)", "weights (MiB)", "MFLOP", "auxiliary nets (ms)"),
    )
    return "\n".join(aligned(headings, rows))


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


def _scores(path: str | None, backbone: Backbone) -> Plan:
    """The plan; or DGL's net, with every cut as good as any other."""
    if path is not None:
        return Plan.load(path, backbone)
    return Plan.indifferent(backbone.name, Plan.fingerprint(backbone), [BASELINES["dgl"]])
