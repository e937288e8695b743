"""Ways to train a network on some devices, side by side, with their predicted speed and memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from sedona_tf.errors import UserError
from sedona_tf.plans import Plan
from sedona_tf.profile import cost_aware
from sedona_tf.profile.cost_aware import Choice, front
from sedona_tf.profile.costs import Costs, PartCost
from sedona_tf.profile.predict import (
    LOCAL,
    Link,
    Prediction,
    end_to_end,
    predict,
    predict_data_parallel,
    recomputed,
)
from sedona_tf.report.tables import aligned
from sedona_tf.train.placement import spread

__all__ = [
    "Devices",
    "FrontPoint",
    "WayToTrain",
    "comparison_table",
    "front_table",
    "fronts",
    "ways_to_train",
]

SMALLEST_SPEEDUP = 1.05
"""By which cutting is recommended for speed; predictions are not exact enough for less."""
LARGEST_MEMORY_SHARE = 0.75
"""Of backpropagation's memory, with which cutting is recommended for memory."""


@dataclasses.dataclass(frozen=True)
class WayToTrain:
    """A way to train, and what is predicted of it.

    Attributes:
        name: as tables show it.
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
        barrier: see `sedona_tf.profile.predict`.
    """

    count: int
    link: Link = LOCAL
    barrier: bool = True

    def predict(self, blocks: Sequence[PartCost], batch_size: int) -> Prediction:
        """Predicts blocks on these devices: pipelined, in lockstep on a single one."""
        places = spread(len(blocks), self.count)
        schedule = "pipelined" if places[-1] > 0 else "lockstep"
        return predict(blocks, batch_size, schedule, places, self.link, self.barrier)


def fronts(plan: Plan, costs: Costs, blocks: Sequence[int], devices: Devices) -> list[FrontPoint]:
    """For every K, the choices of `cost_aware.front` that no other beats in score and speed.

    The slowest block alone decides the speed only if each block has a device and links are fast.
    So a choice is left out if it is predicted to be no faster than one of a better score.

    Returns:
        For every K from the best score to the fastest; scores fall and speeds rise strictly.
    """
    alone = end_to_end(costs).seconds
    points: list[FrontPoint] = []
    for num_blocks in blocks:
        fastest = 0.0
        for choice in front(plan, costs, num_blocks):
            cut = costs.blocks(choice.cut_after, choice.candidates)
            step_s = devices.predict(cut, costs.batch_size).step_s
            speedup = alone / step_s if step_s else math.inf
            if speedup > fastest:
                points.append(FrontPoint(num_blocks, choice, speedup))
                fastest = speedup
    return points


def ways_to_train(
    plan: Plan, costs: Costs, blocks: Sequence[int], devices: Devices
) -> list[WayToTrain]:
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
        WayToTrain("backprop, one device", (), predict([end_to_end(costs)], size), False),
        WayToTrain("backprop, recomputing", (), predict([recomputed(costs)], size), False),
    ]
    if devices.count > 1:
        shared = predict_data_parallel(costs, devices.count, devices.link)
        found.append(WayToTrain(f"data parallel on {devices.count}", (), shared, False))
    fastest = {point.num_blocks: point.choice for point in fronts(plan, costs, blocks, devices)}
    for num_blocks in blocks:
        plain, best = cost_aware.decode(plan, num_blocks, costs), fastest[num_blocks]
        own = devices.predict(costs.of(plain), size)
        found.append(WayToTrain(f"decoupled, K = {num_blocks}", plain.cut_after, own, True))
        faster = devices.predict(costs.blocks(best.cut_after, best.candidates), size)
        if faster.step_s < own.step_s:
            name = f"decoupled, K = {num_blocks}, fastest"
            found.append(WayToTrain(name, best.cut_after, faster, True))
    return found


def comparison_table(ways: Sequence[WayToTrain]) -> str:
    """The ways as a table, and one line with a recommendation.

    Raises:
        UserError: if there is none.
    """
    if not ways:
        raise UserError("there is no way to train to compare.")
    base = ways[0].prediction
    rows = []
    for way in ways:
        prediction = way.prediction
        rows.append(
            (
                way.name,
                ", ".join(map(str, way.cut_after)) or "-",
                f"{prediction.images_per_second:.0f}",
                f"{prediction.images_per_second / base.images_per_second:.2f}",
                f"{max(prediction.peak_bytes) / 2**20:.1f}",
                f"{min(prediction.utilisation):.0%}",
            )
        )
    headings = (
        *("predicted", "cut after", "images/s", "speed-up"),
        *("MiB, largest device", "least used device"),
    )
    return "\n".join([*aligned(headings, rows), "", _recommendation(ways)])


def _recommendation(ways: Sequence[WayToTrain]) -> str:
    """The fastest way; if cutting is not the fastest, it may still save memory."""
    base = ways[0].prediction

    def speedup(way: WayToTrain) -> float:
        return way.prediction.images_per_second / base.images_per_second

    def memory(way: WayToTrain) -> float:
        return max(way.prediction.peak_bytes) / max(base.peak_bytes)

    uncut = max((way for way in ways if not way.isolated), key=speedup)
    cut = [way for way in ways if way.isolated]
    fastest, smallest = max(cut, key=speedup, default=uncut), min(cut, key=memory, default=uncut)
    if speedup(fastest) >= SMALLEST_SPEEDUP * speedup(uncut):
        return (
            f"Recommendation (predicted): {fastest.name}, {speedup(fastest):.2f} times the speed "
            "of backprop on one device."
        )
    if cut and memory(smallest) < LARGEST_MEMORY_SHARE:
        return (
            f"Recommendation (predicted): for speed {uncut.name}; for memory "
            f"{smallest.name}, {memory(smallest):.2f} of backprop's."
        )
    return (
        f"Recommendation (predicted): {uncut.name}, {speedup(uncut):.2f} times the "
        "speed of backprop on one device; cutting gains nothing here."
    )


def front_table(points: Sequence[FrontPoint], nets: Sequence[str]) -> str:
    """The fronts as a table, auxiliary nets by number.

    Args:
        points: from `fronts`.
        nets: names of the plan's candidates.
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
