"""What can be counted in a part's traced graph: operations, and memory kept for later."""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

__all__ = ["Counts", "count"]

ONLY_SHAPES = {"Shape", "ShapeN", "Size", "Rank", "BroadcastGradientArgs"}
"""Operations that look at no value, so keep no tensor."""

NOT_MADE_HERE = {"Placeholder", "ReadVariableOp", "Const"}
"""Operations whose outputs exist anyhow: inputs, weights, constants."""


class Counts:
    """What `count` found, for the batch in its specifications.

    Attributes:
        flops: of the forward pass.
        kept_bytes: forward tensors that the backward pass reads; inputs and weights apart.
    """

    def __init__(self, flops: int, kept_bytes: int) -> None:
        self.flops, self.kept_bytes = flops, kept_bytes


def count(
    forward: Callable[..., tf.Tensor], specs: list[tf.TensorSpec], variables: list[tf.Variable]
) -> Counts:
    """Traces a function and its gradient, and counts; nothing is computed.

    FLOPs are counted by `tf.compat.v1.profiler`: convolutions and products exactly, of the rest
    the operations whose cost TensorFlow has registered; a multiplication and an addition are two.

    Args:
        forward: to be differentiated; its result may have any shape.
        specs: of its arguments, all dimensions known.
        variables: that it is differentiated by, beside its first argument.
    """
    kept: dict[tuple[str, int], int] = {}

    def backward(*arguments):
        graph = tf.compat.v1.get_default_graph()
        with tf.GradientTape() as tape:
            tape.watch(arguments[0])
            output = forward(*arguments)
        made = {operation.name for operation in graph.get_operations()}
        gradients = tape.gradient(output, [arguments[0], *variables])
        for operation in graph.get_operations():
            if operation.name in made or operation.type in ONLY_SHAPES:
                continue
            for tensor in operation.inputs:
                source = tensor.op
                # Of unknown rank is only what kernels keep for themselves, a little a channel.
                known = tensor.shape.rank is not None
                if known and source.name in made and source.type not in NOT_MADE_HERE:
                    size = math.prod(tensor.shape) * tensor.dtype.size
                    kept[source.name, tensor.value_index] = size
        return [gradient for gradient in gradients if gradient is not None]

    tf.function(backward, autograph=False).get_concrete_function(*specs)
    graph = tf.function(forward, autograph=False).get_concrete_function(*specs).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # the profiler calls what TensorFlow has deprecated
    try:
        flops = int(tf.compat.v1.profiler.profile(graph, options=options).total_float_ops)
    finally:
        logger.setLevel(level)
    return Counts(flops, sum(kept.values()))
