"""Times every unit, every candidate and the head of a backbone on a device."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from sedona_tf.auxiliary import Candidate, build_auxiliary, cross_entropy
from sedona_tf.backbones import Backbone
from sedona_tf.environment.kernels import processor, usable_cores
from sedona_tf.plans import Plan
from sedona_tf.profile.cache import CostCache
from sedona_tf.profile.costs import Costs, PartCost
from sedona_tf.profile.counts import count, function_graph, reached
from sedona_tf.runs.progress import progress_bar
from sedona_tf.train.momentum_sgd import MomentumSGD
from sedona_tf.train.placement import device_spec

__all__ = ["measure_costs"]

TIMINGS = 7
"""Of each call, for the median and the quartiles."""
SECONDS_OF_A_TIMING = 0.05
"""A timing repeats its work until it takes about so long."""


class _Part(NamedTuple):
    """What is measured.

    Attributes:
        model: a unit, an auxiliary net or the head.
        loss: of its outputs; None for a unit.
        by_input: whether the backward pass includes the gradient of the input.
    """

    model: keras.Model
    loss: Callable | None
    by_input: bool


def measure_costs(
    backbone: Backbone,
    candidates: Sequence[Candidate],
    batch_size: int,
    device: str = "CPU:0",
    cache: CostCache | None = None,
) -> Costs:
    """Measures the parts one by one: warm-up, then medians of several timings.

    Parts that compute the same on equal shapes, operation by operation, are measured once. The
    backward pass is that of the part alone and includes the gradient of its input. The first unit
    has none, since its input is images. The time of an empty call is measured and taken off. The
    backbone is not changed.

    Args:
        backbone: to be measured, in the precision it was built in, which must be Keras' own now.
        candidates: the M auxiliary nets on offer at each unit but the last.
        batch_size: images.
        device: TensorFlow's name of the device.
        cache: timings of earlier profiles on the same hardware.

    Returns:
        The table, for this batch.
    """
    cache = cache or CostCache(None)
    device_description = f"{device}, {_hardware(device)}"
    where = f"{device_description}, batch {batch_size}, TensorFlow {tf.__version__}"
    last = len(backbone.units) - 1
    parts = [_Part(unit, None, index > 0) for index, unit in enumerate(backbone.units)]
    for index in range(last):
        for number, candidate in enumerate(candidates):
            net = build_auxiliary(candidate, backbone, index, f"aux_{index + 1}_{number}")
            parts.append(_Part(net, candidate.resolved_kind.loss, True))
    parts.append(_Part(backbone.head, cross_entropy, True))
    idle_s = None
    costs = []
    with contextlib.closing(progress_bar("measuring parts", len(parts), "part")) as bar:
        for part in parts:
            key = _key(part, batch_size)
            cost = cache.get(where, key)
            if cost is None:
                with tf.device(device), _unchanged(part.model.non_trainable_variables):
                    idle_s = _idle_seconds() if idle_s is None else idle_s
                    cost = _measure(part, batch_size, backbone.num_classes, idle_s)
                cache.put(where, key, cost)
            costs.append(cost)
            bar.update()
    cache.save()
    count_units, width = last + 1, len(candidates)
    nets = costs[count_units:-1]
    return Costs(
        backbone=backbone.name,
        units=Plan.fingerprint(backbone),
        candidates=tuple(candidate.to_dict() for candidate in candidates),
        batch_size=batch_size,
        device=device_description,
        unit_costs=tuple(costs[:count_units]),
        auxiliary_costs=tuple(
            tuple(nets[index * width : (index + 1) * width]) for index in range(last)
        ),
        head_cost=costs[-1],
    )


def _hardware(device: str) -> str:
    """The product's name of a GPU of this host; for other devices this host's processor."""
    spec = device_spec(device)
    if spec.device_type != "GPU" or spec.job == "worker":
        return f"{usable_cores()} cores of {processor()}"
    physical = tf.config.list_physical_devices("GPU")
    found = physical[min(spec.device_index or 0, len(physical) - 1)]  # there may be logical ones
    return tf.config.experimental.get_device_details(found).get("device_name", "GPU")


@contextlib.contextmanager
def _unchanged(variables: Sequence[keras.Variable]) -> Iterator[None]:
    """Sets variables back: training on noise moves statistics and seeds."""
    values = [variable.numpy() for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _measure(part: _Part, batch_size: int, num_classes: int, idle_s: float) -> PartCost:
    """One part's cost; see `measure_costs`."""
    model = part.model
    inputs = tf.random.stateless_normal((batch_size, *model.input_shape[1:]), (0, 1))
    inputs = tf.cast(inputs, model.compute_dtype)
    labels = tf.random.stateless_uniform((batch_size,), (0, 2), 0, num_classes, tf.int32)
    values = [variable.value for variable in model.trainable_variables]

    forward = _forward(part)

    def forward_backward(x: tf.Tensor, y: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            sources = [x, *values] if part.by_input else list(values)
            tape.watch(sources)
            outputs = forward(x, y)
        return tape.gradient(outputs, sources, unconnected_gradients="zero")

    ahead = _timings(tf.function(forward, autograph=False), (inputs, labels), idle_s)
    both = _timings(tf.function(forward_backward, autograph=False), (inputs, labels), idle_s)
    update = [0.0]
    if values:
        optimizer = MomentumSGD(0.0, 0.9, l2=1e-4)
        optimizer.build(model.trainable_variables)

        def apply(*gradients: tf.Tensor) -> None:
            optimizer.apply(list(gradients), model.trainable_variables)

        zeros = [tf.zeros_like(value) for value in values]
        update = _timings(tf.function(apply, autograph=False), zeros, idle_s)
    quarter, middle, upper = statistics.quantiles(both, n=4)
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in (inputs, labels)]
    counts = count(forward, specs, values)
    median_ahead = statistics.median(ahead)
    size = tf.as_dtype(model.compute_dtype).size
    return PartCost(
        forward_s=median_ahead,
        backward_s=max(middle - median_ahead, 0.0),
        update_s=statistics.median(update),
        activation_bytes=counts.kept_bytes,
        output_bytes=0 if part.loss else batch_size * math.prod(model.output_shape[1:]) * size,
        parameter_bytes=sum(math.prod(v.shape) * v.dtype.size for v in values),
        flops=counts.flops,
        spread=(upper - quarter) / middle if middle else 0.0,
    )


def _forward(part: _Part) -> Callable[..., tf.Tensor]:
    """A part's forward pass, with its loss if it has one, of inputs and labels."""

    def forward(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        outputs = part.model(x, training=True)
        return outputs if part.loss is None else part.loss(outputs, y, 0.0)

    return forward


def _timings(function: Callable, arguments: Sequence[tf.Tensor], idle_s: float) -> list[float]:
    """Seconds of a call, several times, what an idle call takes taken off."""
    function(*arguments)  # traces
    tf.test.experimental.sync_devices()  # accelerators only queue the work
    start = time.perf_counter()
    function(*arguments)
    tf.test.experimental.sync_devices()
    once = time.perf_counter() - start
    repeat = max(1, min(1000, round(SECONDS_OF_A_TIMING / max(once, 1e-6))))
    found = []
    for _ in range(TIMINGS):
        start = time.perf_counter()
        for _ in range(repeat):
            function(*arguments)
        tf.test.experimental.sync_devices()
        found.append(max((time.perf_counter() - start) / repeat - idle_s, 0.0))
    return found


def _idle_seconds() -> float:
    """Seconds that a call that does nothing takes at least: more would make small parts free."""
    nothing = tf.function(lambda x: x + 1.0, autograph=False)
    return min(_timings(nothing, (tf.zeros(()),), 0.0))


def _key(part: _Part, batch_size: int) -> str:
    """The key of parts with equal cost: their computation, its inputs and the trained weights."""
    specs = [
        tf.TensorSpec((batch_size, *part.model.input_shape[1:]), part.model.compute_dtype),
        tf.TensorSpec((batch_size,), tf.int32),
    ]
    traced = tf.function(_forward(part), autograph=False).get_concrete_function(*specs)
    weights = [
        [list(variable.shape), variable.dtype, variable.trainable]
        for variable in part.model.variables
    ]
    # The text itself is kilobytes.
    text = json.dumps([_wiring(traced.graph), weights, part.by_input])
    return hashlib.sha256(text.encode()).hexdigest()


def _wiring(graph: Any) -> list:
    """A function's operations with their settings, and whose outputs they take; without names."""
    numbers: dict[str, int] = {}
    rows = []
    for operation in reached(graph):
        numbers[operation.name] = len(numbers)
        settings: dict[str, Any] = {}
        for name, value in operation.node_def.attr.items():
            if value.WhichOneof("value") == "func":
                settings[name] = _wiring(function_graph(operation, name))
            elif not name.startswith("_") and name not in ("container", "seed", "seed2"):
                settings[name] = value.SerializeToString(deterministic=True).hex()
        rows.append(
            [
                operation.type,
                sorted(settings.items()),
                [(numbers[tensor.op.name], tensor.value_index) for tensor in operation.inputs],
                [str(tensor.shape) for tensor in operation.outputs],
            ]
        )
    return rows
