"""Where a graph of operations can be cut: tensors through which everything passes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import keras

from sedona_tf.backbones.graph import Call, Graph
from sedona_tf.layers import BatchNormalization

__all__ = ["group", "multiply_adds", "single_tensors", "unit_ends"]

_FINISHING = (
    BatchNormalization,
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.PReLU,
    keras.layers.RMSNormalization,
)
"""Layers that have weights and yet belong to what stands before them."""

_POOLING = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)


def single_tensors(graph: Graph) -> list[tuple[int, keras.KerasTensor]]:
    """Tensors through which every path from input to output passes.

    They are those that alone are still needed when a call is done: what leads to such a tensor
    has run before it, whatever the order, and what it leads to has not. One pass over the calls.

    Args:
        graph: the operations.

    Returns:
        Index of the call that makes it and tensor, in order; the input is not among them, the
        output is the last.
    """
    last_use = {id(tensor): i for i, call in enumerate(graph.calls) for tensor in call.inputs}
    last_use[id(graph.output)] = len(graph.calls)
    needed = {id(graph.input)}
    found = []
    for i, call in enumerate(graph.calls):
        needed.difference_update(id(tensor) for tensor in call.inputs if last_use[id(tensor)] == i)
        made = [tensor for tensor in call.outputs if id(tensor) in last_use]
        needed.update(map(id, made))
        if len(needed) == 1:
            found.append((i, made[0]))
    return found


def _learns(calls: Sequence[Call]) -> bool:
    """Whether calls begin something new, rather than finish what stands before them."""
    return any(call.weights and not isinstance(call.operation, _FINISHING) for call in calls)


def unit_ends(graph: Graph) -> list[tuple[int, keras.KerasTensor]]:
    """Where units end.

    Of the single tensors, feature maps `(batch, height, width, channels)` count, up to the first
    global pooling or tensor `(batch, features)`. A unit ends right before the next weights other
    than a normalisation's: activation, normalisation, pooling, padding and dropout belong to the
    unit that they finish, those in front of all weights to the first. The last unit ends where
    the head begins; if the head had no weights then, the last unit is part of it.

    Args:
        graph: the operations.

    Returns:
        Index of the last call and output of every unit.
    """
    maps: list[tuple[int, keras.KerasTensor]] = []
    before = -1
    for i, tensor in single_tensors(graph):
        pooled = i == before + 1 and isinstance(graph.calls[i].operation, _POOLING)
        if pooled or len(tensor.shape) <= 2:
            break
        if len(tensor.shape) == 4:
            maps.append((i, tensor))
        before = i

    stops = [i for i, _ in maps]
    begins = [_learns(graph.calls[a + 1 : b + 1]) for a, b in itertools.pairwise([-1, *stops])]
    ends = [
        end
        for k, end in enumerate(maps)
        if any(begins[: k + 1]) and (k + 1 == len(maps) or begins[k + 1])
    ]
    while ends and not any(call.weights for call in graph.calls[ends[-1][0] + 1 :]):
        ends.pop()
    return ends


def multiply_adds(calls: Sequence[Call]) -> int:
    """Multiply-adds of one image, forward: each kernel's size times the positions of the output.

    Exact for convolutions, also depthwise, and dense layers; biases, normalisation and operations
    without weights count nothing.
    """
    return sum(
        math.prod(weight.shape) * math.prod(size or 1 for size in call.outputs[0].shape[1:-1])
        for call in calls
        for weight in call.weights
        if len(weight.shape) > 1
    )


def group(costs: Sequence[int], count: int) -> list[int]:
    """Splits costs into runs of neighbours so that the dearest run is as cheap as possible.

    Args:
        costs: of each item, in order.
        count: number of runs; at least 1.

    Returns:
        For each run the index of its last item; as many runs as items if `count` is larger. Of
        equally good ways the one whose last run begins first, then the last but one, and so on.

    Example:
        >>> group([1, 1, 1, 3, 2, 2], 3)
        [2, 3, 5]
    """
    count = min(count, len(costs))
    sums = [0, *itertools.accumulate(costs)]
    # best[i]: (cost of the dearest run, ends) of the first i items in the present number of runs
    best = {i: (sums[i], [i - 1]) for i in range(1, len(costs) + 1)}
    for runs in range(2, count + 1):
        best = {
            i: min(
                ((max(best[j][0], sums[i] - sums[j]), [*best[j][1], i - 1]) for j in best if j < i),
                key=lambda found: found[0],
            )
            for i in range(runs, len(costs) + 1)
        }
    return best[len(costs)][1]
