"""Predicts how fast blocks train on several devices: a deterministic discrete-event simulation.

Devices and links are resources that handle one task at a time, in the order in which tasks become
ready. A step consists of each block's forward pass, its backward pass with the update, and the way
of its output to the next block's device. What depends on what is the schedule's business:

- `lockstep`: a block's forward pass waits for the block below; on one device also for the end of
  the backward pass of the block below, as `DecoupledModel` does to free memory.
- `pipelined`: a block takes what the block below sent in the step before.

On CPUs a step begins when the one before has ended on all devices (`barrier`); accelerators queue
work, so there it begins as soon as its inputs are there.

Devices that are cores of one process share its threads, so an idle one helps (`helping`): of a
backward pass elsewhere it takes what nothing waits for, the gradients of weights, which are half
the work of a convolution's backward pass. How much that gains is fitted to measured training.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
from collections.abc import Sequence

from sedona_tf.errors import UserError, unknown_name
from sedona_tf.profile.costs import Costs, PartCost, total

__all__ = [
    "LOCAL",
    "Link",
    "Prediction",
    "end_to_end",
    "predict_data_parallel",
    "recomputed",
    "simulate",
]

STEPS = 16
"""Steps that a prediction is taken from; before and after them come four a block, since blocks
below run ahead of those above."""
HELPED = {"pipelined": 1.6, "lockstep": 1.2}
"""How fast a backward pass is with an idle core's help. Convolutions, three quarters of it, go two
ways; normalisation and activations do not. In lockstep help with a block delays the one above it.
"""


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


@dataclasses.dataclass
class _Task:
    resource: object
    seconds: float
    after: list[int]
    takes: int = 0  # bytes from its start on
    frees: int = 0  # bytes at its end
    splits: bool = False  # may be helped
    start: float = 0.0
    end: float = 0.0
    speed: float = 1.0


def simulate(
    blocks: Sequence[PartCost],
    batch_size: int,
    schedule: str = "pipelined",
    devices: Sequence[int] | None = None,
    link: Link | Sequence[Link] = LOCAL,
    barrier: bool = True,
    helping: bool = False,
) -> Prediction:
    """Simulates the training of K blocks on D devices.

    Args:
        blocks: `(K,)` costs of the blocks for one batch.
        batch_size: images of a batch.
        schedule: `"pipelined"` or `"lockstep"`; no matter for one block.
        devices: `(K,)` index of each block's device, from 0; None: one device a block.
        link: between neighbours that live on different devices; or `(K-1,)` links, one a cut.
        barrier: see the module.
        helping: see the module.

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
    tasks, ends = _tasks(blocks, devices, links, pipelined, barrier)
    _run(tasks, HELPED[schedule], cores=max(devices) + 1 if helping else 0)
    finished = [max(tasks[index].end for index in step) for step in ends]
    begin = 4 * count
    used = range(max(devices) + 1)
    busy: dict[object, float] = dict.fromkeys(used, 0.0)
    for index in itertools.chain.from_iterable(ends[begin + 1 : begin + STEPS + 1]):
        task = tasks[index]
        busy[task.resource] = busy.get(task.resource, 0.0) + (task.end - task.start) / STEPS
    # Blocks that run ahead end early steps; in the long run the busiest resource sets the pace.
    step_s = max((finished[begin + STEPS] - finished[begin]) / STEPS, *busy.values())
    return Prediction(
        step_s,
        batch_size / step_s if step_s else math.inf,
        tuple(busy[device] / step_s if step_s else 0.0 for device in used),
        tuple(_peak(device, blocks, devices, tasks, pipelined) for device in used),
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
    return dataclasses.replace(
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


def _tasks(
    blocks: Sequence[PartCost],
    devices: list[int],
    links: list[Link],
    pipelined: bool,
    barrier: bool,
) -> tuple[list[_Task], list[list[int]]]:
    """All tasks of all steps, and each step's indices."""
    tasks: list[_Task] = []
    steps: list[list[int]] = []
    forward: dict[tuple[int, int], int] = {}
    sent: dict[tuple[int, int], int] = {}
    learnt: dict[tuple[int, int], int] = {}

    def add(task: _Task) -> int:
        tasks.append(task)
        return len(tasks) - 1

    for step in range(8 * len(blocks) + STEPS + 1):
        mine: list[int] = []
        for k, block in enumerate(blocks):
            if pipelined and step < k:
                continue  # its buffer is empty
            after = list(steps[-1]) if barrier and steps else []
            if (step - 1, k) in learnt:
                after.append(learnt[step - 1, k])
            if k > 0:
                after.append(sent[step - pipelined, k - 1])
                if not pipelined and devices[k] == devices[k - 1]:
                    after.append(learnt[step, k - 1])
            if (step - 2, k) in sent:  # one output may be under way while the next is computed
                after.append(sent[step - 2, k])
            size = block.activation_bytes
            forward[step, k] = add(_Task(devices[k], block.forward_s, after, takes=size))
            after = [forward[step, k]]
            if pipelined and (step - 1, k + 1) in forward:  # one may lie there unread
                after.append(forward[step - 1, k + 1])
            if k + 1 < len(blocks):
                apart = devices[k] != devices[k + 1]
                seconds = links[k].seconds(block.output_bytes) if apart else 0.0
                sent[step, k] = add(_Task(("link", k), seconds, after))
                mine.append(sent[step, k])
            seconds = block.backward_s + block.update_s
            learnt[step, k] = add(
                _Task(devices[k], seconds, [forward[step, k]], frees=size, splits=True)
            )
            mine += [forward[step, k], learnt[step, k]]
        steps.append(mine)
    return tasks, steps


def _run(tasks: list[_Task], helped: float, cores: int) -> None:
    """Gives every task its start and end; so many cores help one another, 0 for none."""
    waits = [len(set(task.after)) for task in tasks]
    follow: list[list[int]] = [[] for _ in tasks]
    for index, task in enumerate(tasks):
        for before in set(task.after):
            follow[before].append(index)
    queues: dict[object, list[tuple[float, int]]] = {}
    running: dict[object, int] = {}  # in the order of their starts

    def begin(resource: object, now: float) -> None:
        if resource not in running and queues[resource]:
            _, index = heapq.heappop(queues[resource])
            tasks[index].start, tasks[index].end = now, now + tasks[index].seconds
            running[resource] = index

    def ready(index: int, now: float) -> object:
        heapq.heappush(queues.setdefault(tasks[index].resource, []), (now, index))
        return tasks[index].resource

    def share_out(now: float) -> None:
        computing = [tasks[index] for name, index in running.items() if isinstance(name, int)]
        idle = cores - len(computing)
        for task in computing:
            speed = helped if task.splits and idle > 0 else 1.0
            idle -= speed > 1.0
            if speed != task.speed:
                task.end = now + (task.end - now) * task.speed / speed
                task.speed = speed

    now = 0.0
    for resource in {ready(index, now): None for index, count in enumerate(waits) if not count}:
        begin(resource, now)
    while running:
        share_out(now)
        now = min(tasks[index].end for index in running.values())
        ended = [(name, index) for name, index in running.items() if tasks[index].end == now]
        touched: dict[object, None] = {}
        for resource, index in ended:
            del running[resource]
            touched[resource] = None
            for other in follow[index]:
                waits[other] -= 1
                if not waits[other]:
                    touched[ready(other, now)] = None
        for resource in touched:
            begin(resource, now)


def _peak(
    device: int,
    blocks: Sequence[PartCost],
    devices: list[int],
    tasks: list[_Task],
    pipelined: bool,
) -> int:
    """The most bytes that a device holds at once."""
    here = [k for k, each in enumerate(devices) if each == device]
    static = sum(3 * blocks[k].parameter_bytes for k in here)
    if pipelined:
        static += sum(blocks[k - 1].output_bytes for k in here if k > 0)
    changes = sorted(
        itertools.chain.from_iterable(
            [(task.start, 1, task.takes), (task.end, 0, -task.frees)]
            for task in tasks
            if task.resource == device
        )
    )
    return static + max(itertools.accumulate(size for _, _, size in changes), default=0)
