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
    *("TensorListElementShape", "TensorListLength", "ZerosLike"),
}
"""Operations that look at no value, so keep no tensor."""

GIVEN_OPERATIONS = {"Placeholder", "ReadVariableOp", "Const"}
"""Operations whose outputs exist anyhow: inputs, weights, constants."""

VIEW_OPERATIONS = {
    *("Bitcast", "CheckNumerics", "EnsureShape", "ExpandDims", "Identity", "IdentityN"),
    *("PreventGradient", "Reshape", "Squeeze", "StopGradient", "TensorListFromTensor"),
}
"""Operations whose output is the memory of their input."""

CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
LOOPS = {"While", "StatelessWhile"}
BRANCHES = {"If": ("then_branch", "else_branch"), "StatelessIf": ("then_branch", "else_branch")}

Calls = tuple[tf.Operation, ...]
"""Calls, loops and branches, from the outermost, in whose graphs a tensor is."""


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

    FLOPs are those of convolutions and matrix products, also in calls and loops. A multiplication
    and an addition are two FLOPs. Kept tensors that share memory count once. A tensor made from
    weights alone (a cast to half precision) does not count. A loop of unknown length counts once,
    an operation of unknown shape not at all. Either gives a warning.

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
        operation = tensor.op
        if tensor.dtype == tf.variant and operation.type in LOOPS:
            body = function_graph(operation, "body")
            pushed, inside = _origin(body.outputs[tensor.value_index], (*calls, operation))
            if pushed.op.type == "TensorListPushBack":
                return self.of(pushed.op.inputs[1], inside)
        if tensor.dtype == tf.variant and operation.type in BRANCHES:
            found = [
                self.of(
                    function_graph(operation, name).outputs[tensor.value_index],
                    (*calls, operation),
                )
                for name in BRANCHES[operation.type]
            ]
            return max(found, key=lambda each: sum(each.values()))
        if operation.type == "OptionalFromValue":
            return self.of(operation.inputs[0], calls)
        inner = bool(calls) and calls[-1].type in LOOPS and operation.type == "Placeholder"
        counter = not tensor.dtype.is_floating and tensor.shape.rank == 0
        # Only small tensors that kernels keep for themselves have an unknown shape.
        if (
            (operation.type in GIVEN_OPERATIONS and not inner)
            or counter
            or tensor.dtype in (tf.variant, tf.resource)
            or not tensor.shape.is_fully_defined()
            or not self._is_of_step(tensor, calls)
        ):
            return {}
        size = math.prod(tensor.shape) * tensor.dtype.size
        times = math.prod(_trips(call) for call in calls if call.type in LOOPS)
        return {_key(tensor, calls): size * times}

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
            # In a loop, a value that changes; counters are integers.
            return not tensor.dtype.is_integer if calls else operation.name in self._arguments
        if operation.type == "ReadVariableOp":
            return not tensor.dtype.is_floating  # a seed
        functional = LOOPS | BRANCHES.keys()
        if operation.op_def.is_stateful and operation.type not in functional:
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
        elif operation.type in CALLS:
            tensor = function_graph(operation, "f").outputs[tensor.value_index]
            calls = (*calls, operation)
        elif operation.type == "Placeholder" and calls and calls[-1].type not in LOOPS:
            names = [each.name for each in tensor.graph.inputs]
            given = calls[-1].inputs[-len(names) :]  # after a branch's predicate
            tensor, calls = given[names.index(tensor.name)], calls[:-1]
        elif operation.type in LOOPS and _passes(operation, tensor.value_index):
            tensor = operation.inputs[tensor.value_index]
        else:
            return tensor, calls


def _passes(loop: tf.Operation, index: int) -> bool:
    """Whether a loop passes a value on unchanged."""
    body = function_graph(loop, "body")
    inside, _ = _origin(body.outputs[index], (loop,))
    return inside.name == body.inputs[index].name


def _trips(loop: tf.Operation) -> int:
    """The most passes of a loop; the loops of Keras and TensorFlow make exactly so many."""
    limit = loop.inputs[1]  # after the counter; -1 if there is none
    waiting, seen = [limit.op], set()
    while waiting:
        operation = waiting.pop()
        if operation.type == "Placeholder" or operation.op_def.is_stateful:
            return _unknown(f"the loop {loop.name} is of unknown length: counted once.", 1)
        if operation.name not in seen:
            seen.add(operation.name)
            waiting += [tensor.op for tensor in operation.inputs]
    with tf.compat.v1.Session(
        graph=limit.graph, config=tf.compat.v1.ConfigProto(device_count={"GPU": 0})
    ) as session:
        found = int(session.run(limit))
    if found < 0:
        return _unknown(f"the loop {loop.name} is of unknown length: counted once.", 1)
    return found


def _unknown(message: str, value: int) -> int:
    warnings.warn(message, stacklevel=2)
    return value


def _flops(graph: Any) -> int:
    """Counts of a function's graph; see `count`."""
    found = 0
    for operation in reached(graph):
        kind = operation.type
        if kind in CALLS:
            found += _flops(function_graph(operation, "f"))
        elif kind in LOOPS:
            once = sum(_flops(function_graph(operation, name)) for name in ("cond", "body"))
            found += once and once * _trips(operation)
        elif kind in BRANCHES:
            found += max(_flops(function_graph(operation, name)) for name in BRANCHES[kind])
        elif kind in PRODUCTS:
            try:
                found += 2 * PRODUCTS[kind](operation)
            except (TypeError, ValueError):  # a dimension or the rank is None
                found += _unknown(f"{operation.name} is of unknown shape: not counted.", 0)
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


def _recurrent(operation: tf.Operation) -> int:
    """cuDNN's: input and state times the gates' weights, one layer and direction, each step."""
    steps, batch, features = operation.inputs[0].shape
    state = operation.inputs[1].shape[-1]
    gates = {b"lstm": 4, b"gru": 3}.get(operation.get_attr("rnn_mode"), 1)
    return steps * batch * gates * state * (features + state)


PRODUCTS: dict[str, Callable[[tf.Operation], int]] = {
    **dict.fromkeys(("Conv", "Conv2D", "Conv3D"), _convolution),
    **dict.fromkeys(("Conv2DBackpropInput", "Conv3DBackpropInputV2"), _transposed),
    "DepthwiseConv2dNative": _depthwise,
    "DepthwiseConv2dNativeBackpropInput": _depthwise_transposed,
    "MatMul": _product("transpose_a"),
    **dict.fromkeys(("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _product("adj_x")),
    "Einsum": _einsum,
    **dict.fromkeys(("CudnnRNN", "CudnnRNNV2", "CudnnRNNV3"), _recurrent),
}
"""Multiplications of an operation, each with an addition."""
