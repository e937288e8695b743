"""Side effects of a part of a network: added losses and random numbers.

Units are recomputed, delayed and trained apart. That is right only for functions of input, weights
and seeds. Tracing a part, without running it, shows its side effects.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from sedona_tf.backbones.graph import Call, graph_of
from sedona_tf.errors import UserError

__all__ = ["SideEffects", "first_layer", "refuse_losses", "refuse_unseeded", "side_effects"]


@dataclasses.dataclass(frozen=True)
class SideEffects:
    """Side effects of a call in training.

    Attributes:
        adds_loss: by `add_loss` or an activity regularizer.
        draws: random numbers from a state that is not among the operation's variables.
    """

    adds_loss: bool
    draws: bool


def side_effects(part: keras.Model) -> SideEffects:
    """Those of a unit, a head or an auxiliary net; traces it once."""
    return _traced(part, part.inputs, {"training": True})


def refuse_losses(part: keras.Model, effects: SideEffects) -> None:
    """Refuses the loss of a regularizer or of `add_loss`, which belongs to no single block.

    Args:
        part: a unit, a head or an auxiliary net.
        effects: its `side_effects`.

    Raises:
        UserError: naming the first layer that adds one.
    """

    def regularized(variables: Sequence[keras.Variable]) -> bool:
        return any(getattr(v, "regularizer", None) is not None for v in variables)

    if effects.adds_loss or regularized(part.weights):
        name = first_layer(part, lambda c: regularized(c.weights) or _of_call(c).adds_loss)
        raise UserError(
            f"layer '{name}' adds a loss of its own (a regularizer or add_loss), which is no "
            "block's; use weight decay."
        )


def refuse_unseeded(part: keras.Model, effects: SideEffects) -> None:
    """Refuses random numbers that do not follow from the part's own variables.

    A search repeats its inner steps in the backward pass, and pipelined blocks run in another
    order. A state that all layers share, or that TensorFlow's operations hold, would then give
    other numbers.

    Args:
        part: a unit, a head or an auxiliary net.
        effects: its `side_effects`.

    Raises:
        UserError: naming the first layer that draws without a `SeedGenerator` of its own.
    """
    if effects.draws:
        name = first_layer(part, lambda call: _of_call(call).draws)
        raise UserError(
            f"layer '{name}' draws random numbers that cannot be repeated; give it a "
            "keras.random.SeedGenerator of its own as the seed of keras.random's functions."
        )


def first_layer(part: keras.Model, test: Callable[[Call], bool]) -> str:
    """Name of the first operation of a part that passes a test; the part's own if none does."""
    return next((call.operation.name for call in graph_of(part).calls if test(call)), part.name)


def _of_call(call: Call) -> SideEffects:
    layer = call.operation
    takes = (
        isinstance(layer, keras.Layer) and "training" in inspect.signature(layer.call).parameters
    )
    return _traced(layer, call.args, {**call.kwargs, **({"training": True} if takes else {})})


def _traced(operation: keras.Operation, args: Sequence, kwargs: Mapping[str, Any]) -> SideEffects:
    """Traces one call; symbolic tensors among the arguments stand for data."""
    scopes = []

    def call(*tensors):
        given = iter(tensors)
        values = keras.tree.map_structure(
            lambda leaf: next(given) if isinstance(leaf, keras.KerasTensor) else leaf,
            (tuple(args), dict(kwargs)),
        )
        with keras.StatelessScope(collect_losses=True) as scope:
            operation(*values[0], **values[1])
        scopes.append(scope)

    leaves = keras.tree.flatten((tuple(args), dict(kwargs)))
    symbolic = [leaf for leaf in leaves if isinstance(leaf, keras.KerasTensor)]
    function = tf.function(call, autograph=False)
    graph = function.get_concrete_function(
        *(tf.TensorSpec(leaf.shape, leaf.dtype) for leaf in symbolic)
    ).graph.as_graph_def()
    nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
    own = {id(v) for v in operation.variables} if isinstance(operation, keras.Layer) else set()
    foreign = any(variable not in own for variable in scopes[0].state_mapping)
    return SideEffects(bool(scopes[0].losses), foreign or any(map(_is_stateful_random, nodes)))


def _is_stateful_random(node) -> bool:
    """Whether an operation of TensorFlow draws from a state of its own or a `tf.random.Generator`.

    cuDNN's recurrent layers have a seed too, for a dropout that Keras leaves at 0.
    """
    return ("seed2" in node.attr and "Cudnn" not in node.op) or node.op.startswith("Rng")
