"""Ways to train a network on some devices, side by side, as the simulator predicts them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from sedona_tf.errors import UserError
from sedona_tf.plans import Plan
from sedona_tf.profile import cost_aware
from sedona_tf.profile.cost_aware import Choice, front
from sedona_tf.profile.costs import Costs, PartCost
from sedona_tf.profile.simulator import (
    LOCAL,
    Link,
    Prediction,
    end_to_end,
    predict_data_parallel,
    recomputed,
    simulate,
)
from sedona_tf.report.tables import aligned
from sedona_tf.train.placement import spread

__all__ = [
    "Alternative",
    "Devices",
    "FrontPoint",
    "alternatives",
    "front_table",
    "fronts",
    "weigh_table",
]

WORTH = 1.05
"""A gain in speed below five per cent is none: predictions are not that good."""


@dataclasses.dataclass(frozen=True)
class Alternative:
    """A way to train, and what is predicted of it.

    Attributes:
        name: in words.
        cut_after: where it cuts, if it does.
        prediction: speed and memory.
        isolated: whether gradients stay within blocks.
    """

    name: str
    cut_after: tuple[int, ...]
    prediction: Prediction
    isolated: bool


@dataclasses.dataclass(frozen=True)
class FrontPoint:
    """A decoupling on the front of score and speed.

    Attributes:
        num_blocks: K.
        choice: cuts, candidates, score and slowest block.
        speedup: predicted, K blocks on as many of the devices as they need, over backpropagation
            on one.
    """

    num_blocks: int
    choice: Choice
    speedup: float


@dataclasses.dataclass(frozen=True)
class Devices:
    """What to train on; all alike.

    Attributes:
        count: D; blocks share them where K is larger.
        link: between neighbours.
        barrier, helping: see `sedona_tf.profile.simulator`.
    """

    count: int
    link: Link = LOCAL
    barrier: bool = True
    helping: bool = False

    def simulate(self, blocks: Sequence[PartCost], batch_size: int) -> Prediction:
        """Predicts blocks on these devices: pipelined, in lockstep on a single one."""
        places = spread(len(blocks), self.count)
        schedule = "pipelined" if places[-1] > 0 else "lockstep"
        return simulate(blocks, batch_size, schedule, places, self.link, self.barrier, self.helping)


def fronts(plan: Plan, costs: Costs, blocks: Sequence[int], devices: Devices) -> list[FrontPoint]:
    """For every K, the choices of `cost_aware.front` that no other beats in score and speed.

    The slowest block alone decides the speed only if each block has a device and none helps
    another. So a choice is left out if it is predicted to be no faster than one of a better score.

    Returns:
        For every K from the best score to the fastest; scores fall and speeds rise strictly.
    """
    alone = end_to_end(costs).seconds
    points: list[FrontPoint] = []
    for num_blocks in blocks:
        fastest = 0.0
        for choice in front(plan, costs, num_blocks):
            cut = costs.blocks(choice.cut_after, choice.candidates)
            step_s = devices.simulate(cut, costs.batch_size).step_s
            speedup = alone / step_s if step_s else math.inf
            if speedup > fastest:
                points.append(FrontPoint(num_blocks, choice, speedup))
                fastest = speedup
    return points


def alternatives(
    plan: Plan, costs: Costs, blocks: Sequence[int], devices: Devices
) -> list[Alternative]:
    """Backpropagation, with recomputation, data parallel, and decoupled for every K.

    Each K has the plan's own cuts and, if that is faster, the fastest decoupling of its front.

    Args:
        plan: what to decode.
        costs: of the plan's network and candidates, on one of the devices.
        blocks: the numbers of blocks K.
        devices: to train on; the costs are of one of them.

    Raises:
        UserError: if a K is out of range.
    """
    size = costs.batch_size
    found = [
        Alternative("backprop, one device", (), simulate([end_to_end(costs)], size), False),
        Alternative("backprop, recomputing", (), simulate([recomputed(costs)], size), False),
    ]
    if devices.count > 1:
        shared = predict_data_parallel(costs, devices.count, devices.link)
        found.append(Alternative(f"data parallel on {devices.count}", (), shared, False))
    fastest = {point.num_blocks: point.choice for point in fronts(plan, costs, blocks, devices)}
    for num_blocks in blocks:
        plain, best = cost_aware.decode(plan, num_blocks, costs), fastest[num_blocks]
        own = devices.simulate(costs.of(plain), size)
        found.append(Alternative(f"decoupled, K = {num_blocks}", plain.cut_after, own, True))
        faster = devices.simulate(costs.blocks(best.cut_after, best.candidates), size)
        if faster.step_s < own.step_s:
            name = f"decoupled, K = {num_blocks}, fastest"
            found.append(Alternative(name, best.cut_after, faster, True))
    return found


def weigh_table(found: Sequence[Alternative]) -> str:
    """The alternatives as a table, and one line of advice.

    Raises:
        UserError: if there is none.
    """
    if not found:
        raise UserError("there is nothing to weigh.")
    base = found[0].prediction
    rows = []
    for each in found:
        now = each.prediction
        rows.append(
            (
                each.name,
                ", ".join(map(str, each.cut_after)) or "-",
                f"{now.images_per_second:.0f}",
                f"{now.images_per_second / base.images_per_second:.2f}",
                f"{max(now.peak_bytes) / 2**20:.1f}",
                f"{min(now.utilisation):.0%}",
            )
        )
    headings = (
        *("predicted", "cut after", "images/s", "speed-up"),
        *("MiB, largest device", "least used device"),
    )
    return "\n".join([*aligned(headings, rows), "", _advice(found)])


def _advice(found: Sequence[Alternative]) -> str:
    base = found[0].prediction

    def speedup(each: Alternative) -> float:
        return each.prediction.images_per_second / base.images_per_second

    joined = [each for each in found if not each.isolated]
    cut = [each for each in found if each.isolated]
    best_joined = max(joined, key=speedup)
    if cut:
        best = max(cut, key=speedup)
        if speedup(best) >= WORTH * speedup(best_joined):
            return (
                f"Recommendation (predicted): {best.name}, {speedup(best):.2f} times the speed "
                "of backprop on one device."
            )
        least = min(cut, key=lambda each: max(each.prediction.peak_bytes))
        saved = max(least.prediction.peak_bytes) / max(base.peak_bytes)
        if saved < 0.75:
            return (
                f"Recommendation (predicted): for speed {best_joined.name}; for memory "
                f"{least.name}, {saved:.2f} of backprop's."
            )
    return (
        f"Recommendation (predicted): {best_joined.name}, {speedup(best_joined):.2f} times the "
        "speed of backprop on one device; cutting gains nothing here."
    )


def front_table(points: Sequence[FrontPoint], nets: Sequence[str]) -> str:
    """The fronts as a table, auxiliary nets by number.

    Args:
        points: from `fronts`.
        nets: the plan's candidates in words.
    """
    rows = [
        (
            str(point.num_blocks),
            ", ".join(map(str, point.choice.cut_after)) or "-",
            ", ".join(str(index + 1) for index in point.choice.candidates) or "-",
            f"{point.choice.score:.3f}",
            f"{1000 * point.choice.slowest_s:.2f}",
            f"{point.speedup:.2f}",
        )
        for point in points
    ]
    headings = ("K", "cut after", "nets", "score", "slowest block (ms)", "predicted speed-up")
    legend = ", ".join(f"{number} {name}" for number, name in enumerate(nets, 1))
    return "\n".join([*aligned(headings, rows), "", f"Nets: {legend}."])
