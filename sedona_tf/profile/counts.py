"""What can be counted in a part's traced graph: operations, and memory kept for later."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf

__all__ = ["Counts", "count", "function_graph", "reached"]

SHAPE_OPERATIONS = {
    *("BroadcastGradientArgs", "OnesLike", "Rank", "Shape", "ShapeN", "Size", "VariableShape"),
    "ZerosLike",
}
"""Operations that look at no value, so keep no tensor."""

GIVEN_OPERATIONS = {"Placeholder", "ReadVariableOp", "Const"}
"""Operations whose outputs exist anyhow: inputs, weights, constants."""

VIEW_OPERATIONS = {
    *("Bitcast", "CheckNumerics", "EnsureShape", "ExpandDims", "Identity", "IdentityN"),
    *("PreventGradient", "Reshape", "Squeeze", "StopGradient"),
}
"""Operations whose output is the memory of their input."""

CALL_OPERATIONS = {"PartitionedCall", "StatefulPartitionedCall"}

UNCOUNTED_OPERATIONS = {
    *("While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase"),
    *("CudnnRNN", "CudnnRNNV2", "CudnnRNNV3"),
}
"""Loops, branches and cuDNN's recurrence; nothing in them is counted."""

Calls = tuple[tf.Operation, ...]
"""Calls, from the outermost, in whose graphs a tensor is."""


class Counts(NamedTuple):
    """What `count` found, for the batch in its specifications.

    Attributes:
        flops: of the forward pass.
        kept_bytes: forward tensors that the backward pass reads; inputs and weights apart.
    """

    flops: int
    kept_bytes: int


def count(
    forward: Callable[..., tf.Tensor], specs: list[tf.TensorSpec], variables: list[tf.Variable]
) -> Counts:
    """Traces a function and its gradient, and counts; nothing is computed.

    FLOPs are those of convolutions and matrix products. A multiplication and an addition are two
    FLOPs. Kept tensors that share memory count once. A tensor made from weights alone (a cast to
    half precision) does not count. What is inside a loop or a branch is not counted, nor is an
    operation of unknown shape. Either gives a warning.

    Args:
        forward: to be differentiated; its result may have any shape.
        specs: of its arguments, all dimensions known.
        variables: that it is differentiated by, beside its first argument.
    """
    kept: dict[tuple, int] = {}

    def backward(*arguments):
        graph = tf.compat.v1.get_default_graph()
        with tf.GradientTape() as tape:
            tape.watch(arguments[0])
            output = forward(*arguments)
        made = graph.get_operations()
        gradients = tape.gradient(output, [arguments[0], *variables])
        memory = _Memory([argument.op.name for argument in arguments], made)
        names = {operation.name for operation in made}
        for operation in graph.get_operations():
            if operation.name not in names and operation.type not in SHAPE_OPERATIONS:
                for tensor in operation.inputs:
                    if tensor.op.name in names:
                        kept.update(memory.of(tensor))
        return [gradient for gradient in gradients if gradient is not None]

    tf.function(backward, autograph=False).get_concrete_function(*specs)
    graph = tf.function(forward, autograph=False).get_concrete_function(*specs).graph
    return Counts(_flops(graph), sum(kept.values()))


def function_graph(operation: tf.Operation, attribute: str) -> Any:
    """The graph of a function that an operation calls, named by an attribute."""
    name = operation.get_attr(attribute).name
    return operation.graph._get_function(name).graph


def reached(graph: Any) -> list[tf.Operation]:
    """Operations that a function's graph needs for its outputs and effects, in its order."""
    found = {}
    waiting = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
    while waiting:
        operation = waiting.pop()
        if operation.name not in found:
            found[operation.name] = operation
            waiting += [tensor.op for tensor in operation.inputs] + operation.control_inputs
    return [operation for operation in graph.get_operations() if operation.name in found]


class _Memory:
    """The memory of forward tensors: its identity and its size.

    Args:
        arguments: names of the operations of the function's arguments.
        made: the forward pass's operations, in order.
    """

    def __init__(self, arguments: list[str], made: list[tf.Operation]) -> None:
        self._arguments = set(arguments)
        self._of_step: dict[tuple, bool] = {}
        for operation in made:  # in this order the recursion stays shallow
            for tensor in operation.outputs:
                self._is_of_step(tensor, ())

    def of(self, tensor: tf.Tensor, calls: Calls = ()) -> dict[tuple, int]:
        """Bytes by identity of the memory; empty if the backward pass does not keep the tensor."""
        tensor, calls = _origin(tensor, calls)
        # Only small tensors that kernels keep for themselves have an unknown shape.
        if (
            tensor.op.type in GIVEN_OPERATIONS
            or (not tensor.dtype.is_floating and tensor.shape.rank == 0)  # a counter
            or tensor.dtype in (tf.variant, tf.resource)
            or not tensor.shape.is_fully_defined()
            or not self._is_of_step(tensor, calls)
        ):
            return {}
        return {_key(tensor, calls): math.prod(tensor.shape) * tensor.dtype.size}

    def _is_of_step(self, tensor: tf.Tensor, calls: Calls) -> bool:
        """Whether a tensor is made anew in each step, and not from weights and constants alone."""
        tensor, calls = _origin(tensor, calls)
        key = _key(tensor, calls)
        if key not in self._of_step:
            self._of_step[key] = self._find(tensor, calls)
        return self._of_step[key]

    def _find(self, tensor: tf.Tensor, calls: Calls) -> bool:
        operation = tensor.op
        if operation.type in SHAPE_OPERATIONS:
            return False
        if operation.type == "Placeholder":
            return operation.name in self._arguments
        if operation.type == "ReadVariableOp":
            return not tensor.dtype.is_floating  # a seed
        if operation.op_def.is_stateful and operation.type not in UNCOUNTED_OPERATIONS:
            return True  # random
        return any(self._is_of_step(each, calls) for each in operation.inputs)


def _key(tensor: tf.Tensor, calls: Calls) -> tuple:
    return (tensor.name, *(call.name for call in calls))


def _origin(tensor: tf.Tensor, calls: Calls) -> tuple[tf.Tensor, Calls]:
    """The tensor whose memory this one is, through views and calls."""
    while True:
        operation = tensor.op
        if operation.type in VIEW_OPERATIONS:
            index = tensor.value_index if operation.type == "IdentityN" else 0
            tensor = operation.inputs[index]
        elif operation.type in CALL_OPERATIONS:
            tensor = function_graph(operation, "f").outputs[tensor.value_index]
            calls = (*calls, operation)
        elif operation.type == "Placeholder" and calls:
            names = [each.name for each in tensor.graph.inputs]
            tensor, calls = calls[-1].inputs[names.index(tensor.name)], calls[:-1]
        else:
            return tensor, calls


def _flops(graph: Any) -> int:
    """Counts of a function's graph; see `count`."""
    found = 0
    for operation in reached(graph):
        kind = operation.type
        if kind in CALL_OPERATIONS:
            found += _flops(function_graph(operation, "f"))
        elif kind in UNCOUNTED_OPERATIONS:
            warnings.warn(f"what is inside {operation.name} ({kind}) is not counted.", stacklevel=2)
        elif kind in PRODUCTS:
            try:
                found += 2 * PRODUCTS[kind](operation)
            except (TypeError, ValueError):  # a dimension or the rank is None
                warnings.warn(f"{operation.name} is of unknown shape: not counted.", stacklevel=2)
    return found


def _convolution(operation: tf.Operation) -> int:
    """A convolution: each output sums over the kernel and the channels of its group."""
    return math.prod(operation.outputs[0].shape) * math.prod(operation.inputs[1].shape[:-1])


def _transposed(operation: tf.Operation) -> int:
    """Each input goes to as many outputs as the kernel has."""
    return math.prod(operation.inputs[2].shape) * math.prod(operation.inputs[1].shape[:-1])


def _depthwise(operation: tf.Operation) -> int:
    return math.prod(operation.outputs[0].shape) * math.prod(operation.inputs[1].shape[:2])


def _depthwise_transposed(operation: tf.Operation) -> int:
    return math.prod(operation.inputs[2].shape) * math.prod(operation.inputs[1].shape[:2])


def _product(transposed: str) -> Callable[[tf.Operation], int]:
    def multiplications(operation: tf.Operation) -> int:
        summed = operation.inputs[0].shape[-2 if operation.get_attr(transposed) else -1]
        return math.prod((*operation.outputs[0].shape, summed))

    return multiplications


def _einsum(operation: tf.Operation) -> int:
    """One for each combination of all labels; one operand is only summed or transposed."""
    if len(operation.inputs) < 2:
        return 0
    sizes: dict[Any, int] = {}
    terms = operation.get_attr("equation").decode().split("->")[0].split(",")
    for term, tensor in zip(terms, operation.inputs, strict=True):
        for label, size in zip(_labels(term, len(tensor.shape)), tensor.shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    return math.prod(sizes.values())


def _labels(term: str, rank: int) -> Iterator[Any]:
    """A label for each dimension; those of an ellipsis count from the last."""
    before, _, after = term.partition("...")
    yield from before
    yield from range(len(before) + len(after) - rank, 0)
    yield from after


PRODUCTS: dict[str, Callable[[tf.Operation], int]] = {
    **dict.fromkeys(("Conv", "Conv2D", "Conv3D"), _convolution),
    **dict.fromkeys(("Conv2DBackpropInput", "Conv3DBackpropInputV2"), _transposed),
    "DepthwiseConv2dNative": _depthwise,
    "DepthwiseConv2dNativeBackpropInput": _depthwise_transposed,
    "MatMul": _product("transpose_a"),
    **dict.fromkeys(("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _product("adj_x")),
    "Einsum": _einsum,
}
"""Multiplications of an operation, each with an addition."""
