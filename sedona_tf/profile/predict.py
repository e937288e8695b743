"""Predicts how fast blocks train on several devices, from what their parts cost.

Devices and links do one thing at a time. A step consists of each block's forward pass, its backward
pass with the update, and the transfer of its output to the next block's device. Two schedules:

- `lockstep`: a block's forward pass waits for the output of the block below. Blocks of one device
  run one after the other, as `DecoupledModel` does to free memory.
- `pipelined`: a block takes what the block below sent in the step before. A device runs the forward
  passes of its blocks first, then their backward passes.

On CPUs a step begins when the one before has ended on all devices (`barrier`). So a step takes as
long as its longest chain of work. Accelerators queue work, so there a step takes as long as its
busiest device or link.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import msgspec

from sedona_tf.errors import UserError, unknown_name
from sedona_tf.profile.costs import Costs, PartCost, total

__all__ = [
    "LOCAL",
    "Link",
    "Prediction",
    "end_to_end",
    "predict",
    "predict_data_parallel",
    "recomputed",
]


@dataclasses.dataclass(frozen=True)
class Link:
    """What joins two devices.

    Attributes:
        bandwidth: bytes a second.
        latency: seconds that a message takes apart from its bytes.
    """

    bandwidth: float = math.inf
    latency: float = 0.0

    def __post_init__(self) -> None:
        if not self.bandwidth > 0 or not 0 <= self.latency < math.inf:
            raise UserError(
                "a link must have a bandwidth above 0 and a latency from 0. "
                f"Received: {self.bandwidth}, {self.latency}"
            )

    def seconds(self, size: float) -> float:
        """Of a message of so many bytes."""
        return self.latency + size / self.bandwidth


LOCAL = Link()
"""Costs nothing: devices that share their memory."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What training is predicted to take; never a measurement.

    Attributes:
        step_s: seconds between two steps, once the pipeline is full.
        images_per_second: of the batch in this time.
        utilisation: `(D,)`, the part of the time that each device computes.
        peak_bytes: `(D,)`: weights, gradients, momentum, buffers and activations.
    """

    step_s: float
    images_per_second: float
    utilisation: tuple[float, ...]
    peak_bytes: tuple[int, ...]


def predict(
    blocks: Sequence[PartCost],
    batch_size: int,
    schedule: str = "pipelined",
    devices: Sequence[int] | None = None,
    link: Link | Sequence[Link] = LOCAL,
    barrier: bool = True,
) -> Prediction:
    """Predicts the training of K blocks on D devices.

    Args:
        blocks: `(K,)` costs of the blocks for one batch.
        batch_size: images of a batch.
        schedule: `"pipelined"` or `"lockstep"`; no matter for one block.
        devices: `(K,)` index of each block's device, from 0; None: one device a block.
        link: between neighbours that live on different devices; or `(K-1,)` links, one a cut.
        barrier: whether a step begins only when the one before has ended everywhere.

    Raises:
        UserError: for an unknown schedule, no blocks, or devices that do not fit.
    """
    if schedule not in ("pipelined", "lockstep"):
        raise UserError(unknown_name("schedule", schedule, ("pipelined", "lockstep")))
    count = len(blocks)
    devices = list(range(count)) if devices is None else list(devices)
    if not blocks or len(devices) != count or min(devices) < 0:
        raise UserError(f"devices must name one from 0 for each of the {count} blocks.")
    links = [link] * (count - 1) if isinstance(link, Link) else list(link)
    if len(links) != count - 1:
        raise UserError(f"there must be a link for each of the {count - 1} cuts.")
    pipelined = schedule == "pipelined" and count > 1
    transfers = [
        links[k].seconds(blocks[k].output_bytes) if devices[k] != devices[k + 1] else 0.0
        for k in range(count - 1)
    ]
    on_device = [
        [k for k in range(count) if devices[k] == device] for device in range(max(devices) + 1)
    ]
    busy = [sum(blocks[k].seconds for k in here) for here in on_device]
    longest = _last_ends(blocks, devices, transfers, pipelined) if barrier else transfers
    step_s = max([*busy, *longest])
    return Prediction(
        step_s,
        batch_size / step_s if step_s else math.inf,
        tuple(seconds / step_s if step_s else 0.0 for seconds in busy),
        tuple(_peak_bytes(blocks, here, pipelined) for here in on_device),
    )


def end_to_end(costs: Costs) -> PartCost:
    """The whole network as one block: backpropagation."""
    return costs.block(1, costs.num_units)


def recomputed(costs: Costs) -> PartCost:
    """Backpropagation that keeps only the units' outputs and computes each unit again.

    One more forward pass; at the peak, all outputs and one unit's activations.
    """
    whole = end_to_end(costs)
    parts = [*costs.unit_costs, costs.head_cost]
    kept = sum(unit.output_bytes for unit in costs.unit_costs)
    return msgspec.structs.replace(
        whole,
        backward_s=whole.backward_s + total(costs.unit_costs).forward_s,
        activation_bytes=kept + max(part.activation_bytes for part in parts),
    )


def predict_data_parallel(costs: Costs, num_devices: int, link: Link = LOCAL) -> Prediction:
    """Backpropagation with the batch shared out, and a ring all-reduce of the gradients.

    Taken to be ideal: a D-th of the batch takes a D-th of the time, the update excepted, and
    nothing overlaps with the 2 (D - 1) messages of a D-th of the gradients each.
    """
    whole = end_to_end(costs)
    size = whole.parameter_bytes / num_devices
    reduce_s = 2 * (num_devices - 1) * link.seconds(size) if num_devices > 1 else 0.0
    work = (whole.forward_s + whole.backward_s) / num_devices + whole.update_s
    step_s = work + reduce_s
    peak = 3 * whole.parameter_bytes + whole.activation_bytes // num_devices
    return Prediction(
        step_s,
        costs.batch_size / step_s if step_s else math.inf,
        (work / step_s if step_s else 0.0,) * num_devices,
        (peak,) * num_devices,
    )


def _last_ends(
    blocks: Sequence[PartCost], devices: list[int], transfers: list[float], pipelined: bool
) -> list[float]:
    """When the blocks' transfers and, in lockstep, their backward passes end, from a step's start.

    In a pipeline the backward passes end when their device has done all its work.
    """
    free = [0.0] * (max(devices) + 1)  # when each device can begin its next task
    ends = []
    arrival = 0.0
    for block, device, transfer in zip(blocks, devices, [*transfers, 0.0], strict=True):
        begin = free[device] if pipelined else max(free[device], arrival)
        forward_end = begin + block.forward_s
        free[device] = forward_end if pipelined else begin + block.seconds
        arrival = forward_end + transfer
        ends += [arrival, free[device]]
    return ends


def _peak_bytes(blocks: Sequence[PartCost], here: list[int], pipelined: bool) -> int:
    """The most bytes that a device with these blocks holds at once."""
    activations = [blocks[k].activation_bytes for k in here]
    weights = sum(3 * blocks[k].parameter_bytes for k in here)
    if not pipelined:
        return weights + max(activations, default=0)
    buffers = sum(blocks[k - 1].output_bytes for k in here if k > 0)
    return weights + buffers + sum(activations)
