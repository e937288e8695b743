r"""What is predicted where nothing here can measure: the paper's plans, many devices.

Usage: python benchmarks/predict.py published [--device GPU:0 --width 64]
       python benchmarks/predict.py scaling [--output docs/images/scaling.png]
       python benchmarks/predict.py trade [--turns 5]

published: speed-up of the published decouplings of ResNet-101 and ResNet-152 for K = 2 and 4, one
    device a block, over end-to-end training, and of the decoupling that balances best; the paper
    reports about 2 at K = 4.
scaling: ResNet-152 on up to 64 devices, 8 a host; DGL's nets, cuts where they balance best, against
    data parallel training at the same batch in all; links as `LINKS` says.
trade: the README's table of score against speed, for the Fashion-MNIST plan of ResNet-18 at K = 4;
    writes the costs that all of it comes from, and the two decouplings in saved_plans/. Each part
    takes the least of its times in all turns, which other work on the machine disturbs least.
    `--turns 0` takes the costs as they were written before.

Costs are measured here, for the first two at 32x32 pixels, by default at width 16 and one core a
device; the rest is predicted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from decoupled import allowed_cores, keep_to  # which also chooses TensorFlow's kernels

from sedona_tf.files import make_folder

ROOT = Path(__file__).parents[1]
TRADED = "fashion_mnist_resnet18"
SLOWDOWNS = {"balanced": 1.1, "fastest": 1.0}
"""Of the saved decouplings: times the least that the slowest block may take."""
HOST_SIZE = 8
LINKS = {
    "10 Gb/s, 50 us": (1.25e9, 50e-6),
    "1 Gb/s, 200 us": (1.25e8, 200e-6),
}
"""Between hosts: bytes a second, seconds. Devices of one host: 10 GB/s and 10 us."""


def measure(name: str, candidates, arguments):
    """A network's costs on one core, or on a GPU."""
    from sedona_tf import backbones
    from sedona_tf.profile.cache import CostCache
    from sedona_tf.profile.measure import measure_costs

    make_folder(Path("runs"))
    cache = CostCache("runs/benchmark_part_costs.json")
    backbone = backbones.build(name, (32, 32, 3), 10, width=arguments.width)
    return measure_costs(backbone, candidates, arguments.batch, arguments.device, cache)


def published(arguments) -> dict:
    """Predicted speed-ups of the published decouplings."""
    from sedona_tf.auxiliary import Candidate
    from sedona_tf.plans import Decoupling, Plan
    from sedona_tf.profile import cost_aware
    from sedona_tf.profile.predict import end_to_end, predict
    from sedona_tf.shipped import plan_file

    batch, barrier = arguments.batch, arguments.device == "CPU:0"
    candidates = [Candidate("separable", (("depth", depth),)) for depth in (1, 2, 3, 4)]
    result = {}
    for name in ("resnet101", "resnet152"):
        costs = measure(name, candidates, arguments)
        alone = end_to_end(costs).seconds
        for blocks in (2, 4):
            decoupling = Decoupling.load(plan_file(f"published/{name}_k{blocks}"))
            row: dict = {"cut_after": decoupling.cut_after}
            parts = costs.of(decoupling)
            row["share_of_block"] = [round(part.seconds / alone, 3) for part in parts]
            row["share_of_nets"] = round(sum(p.seconds for p in parts) / alone - 1, 3)
            row["pipelined"] = round(alone / predict(parts, batch, barrier=barrier).step_s, 2)
            lockstep = predict(parts, batch, "lockstep", barrier=barrier)
            row["lockstep"] = round(alone / lockstep.step_s, 2)
            plan = Plan.indifferent(costs.backbone, costs.units, costs.candidates)
            best = cost_aware.decode(plan, blocks, costs, balance=1.0)
            row["balanced_cut_after"] = best.cut_after
            balanced = predict(costs.of(best), batch, barrier=barrier)
            row["balanced_pipelined"] = round(alone / balanced.step_s, 2)
            result[f"{name}, K = {blocks}"] = row
    return result


def scaling(arguments) -> dict:
    """Predicted speed-ups to 64 devices, and their curves."""
    from matplotlib.figure import Figure

    from sedona_tf.auxiliary import Candidate
    from sedona_tf.plans import Plan
    from sedona_tf.profile import cost_aware
    from sedona_tf.profile.predict import Link, end_to_end, predict, predict_data_parallel

    costs = measure("resnet152", [Candidate("mlp_sr")], arguments)
    batch = arguments.batch
    plan = Plan.indifferent(costs.backbone, costs.units, costs.candidates)
    alone = end_to_end(costs).seconds
    inside = Link(1e10, 10e-6)
    result: dict = {"devices": [1, 2, 4, 8, 16, 32, 64]}
    for link_name, (bandwidth, latency) in LINKS.items():
        between = Link(bandwidth, latency)
        decoupled, shared = [], []
        for devices in result["devices"]:
            # Beyond L devices there are no more blocks to make.
            count = min(devices, costs.num_units)
            parts = costs.of(cost_aware.decode(plan, count, costs, balance=1.0))
            links = [
                between if k % HOST_SIZE == HOST_SIZE - 1 else inside for k in range(count - 1)
            ]
            step = predict(parts, batch, link=links).step_s
            decoupled.append(round(alone / step, 2))
            link = inside if devices <= HOST_SIZE else between
            shared.append(round(alone / predict_data_parallel(costs, devices, link).step_s, 2))
        result[link_name] = {"decoupled": decoupled, "data_parallel": shared}
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for (link_name, curves), style in zip(list(result.items())[1:], ("-", "--"), strict=True):
        for name, colour in (("decoupled", "#0072B2"), ("data_parallel", "#E69F00")):
            label = f"{name.replace('_', ' ')}, {link_name} between hosts"
            axes.plot(result["devices"], curves[name], "o" + style, color=colour, label=label)
    axes.plot(result["devices"], result["devices"], ":", color="black", label="ideal")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:.0f}")
    axes.set_xlabel("devices, 8 a host")
    axes.set_ylabel("predicted speed-up")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(arguments.output, dpi=110)
    return result


def trade(arguments) -> dict:
    """Decouplings by how much slower than the fastest they may be, all from one table."""
    from sedona_tf.plans import Plan
    from sedona_tf.profile import cost_aware
    from sedona_tf.profile.costs import Costs
    from sedona_tf.profile.predict import end_to_end, predict
    from sedona_tf.shipped import plan_file

    plan = Plan.load(plan_file(TRADED))
    path = ROOT / f"benchmarks/results/{TRADED}_costs.json"
    if arguments.turns:
        least([measure_traded(plan) for _ in range(arguments.turns)]).save(path)
    costs = Costs.load(path)
    alone = end_to_end(costs).seconds
    result = {}
    for name, slowdown in {"plain": None, **SLOWDOWNS}.items():
        decoupling = cost_aware.decode(plan, 4, costs, max_slowdown=slowdown)
        if slowdown is not None:
            decoupling.save(ROOT / f"saved_plans/{TRADED}_{name}_k4.json")
        parts, batch = costs.of(decoupling), costs.batch_size
        result[name] = {
            "max_slowdown": slowdown,
            "cut_after": decoupling.cut_after,
            "depths": [net["depth"] for net in decoupling.auxiliary],
            "score": round(decoupling.provenance["score"], 3),
            "pipelined": round(alone / predict(parts, batch).step_s, 2),
        }
    return result


def measure_traded(plan):
    """Costs of the recipe's network and of the plan's candidates on one core."""
    import runpy

    from sedona_tf.auxiliary import candidates_from
    from sedona_tf.profile.dry_run import stated_data
    from sedona_tf.profile.measure import measure_costs
    from sedona_tf.shipped import recipe_file
    from sedona_tf.train.build import build_backbone

    recipe = runpy.run_path(recipe_file(TRADED))["get_config"]()
    stated = stated_data(recipe)
    return measure_costs(
        build_backbone(recipe, stated.shape, stated.num_classes),
        candidates_from(plan.candidates),
        recipe.train.batch_size,
    )


def least(tables: list) -> Any:
    """Of tables of the same parts, each part with its least times."""

    def part(given: Sequence) -> Any:
        times = {
            name: min(getattr(each, name) for each in given)
            for name in ("forward_s", "backward_s", "update_s", "spread")
        }
        return msgspec.structs.replace(given[0], **times)

    def row(rows: Iterable) -> tuple:
        return tuple(map(part, zip(*rows, strict=True)))

    return msgspec.structs.replace(
        tables[0],
        unit_costs=row(table.unit_costs for table in tables),
        auxiliary_costs=tuple(map(row, zip(*(t.auxiliary_costs for t in tables), strict=True))),
        head_cost=part([table.head_cost for table in tables]),
    )


def main() -> None:
    """Predicts and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["published", "scaling", "trade"])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--device", default="CPU:0")
    parser.add_argument("--output", default="docs/images/scaling.png")
    arguments = parser.parse_args()
    if arguments.device == "CPU:0":
        keep_to(allowed_cores()[:1])
    result = {"published": published, "scaling": scaling, "trade": trade}[arguments.what](arguments)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
