"""Side effects of a part of a network: added losses and random numbers.

Units are recomputed, delayed and trained apart. That is right only for functions of input, weights
and seeds. This module traces a part once, without running it, to find its side effects.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from sedona_tf.backbones.operations import Step, trace
from sedona_tf.errors import UserError

__all__ = ["check_effects", "first_layer"]


@dataclasses.dataclass(frozen=True)
class Effects:
    """Side effects of a call in training.

    Attributes:
        adds_loss: by `add_loss` or an activity regularizer.
        draws: random numbers from a state that is not among the operation's variables.
    """

    adds_loss: bool
    draws: bool


def check_effects(part: keras.Model, *, seeded: bool) -> None:
    """Refuses side effects that a part must not have.

    The loss of a regularizer or of `add_loss` belongs to no single block. Random numbers must
    follow from the part's own variables. A search repeats its inner steps in the backward pass, and
    pipelined blocks run in another order. A state that all layers share, or that TensorFlow's
    operations hold, would then give other numbers.

    Args:
        part: a unit, a head or an auxiliary net.
        seeded: refuse random numbers, too, unless a `SeedGenerator` of the layer's own gives them.

    Raises:
        UserError: naming the first such layer.
    """

    def regularized(variables: Sequence[keras.Variable]) -> bool:
        return any(getattr(v, "regularizer", None) is not None for v in variables)

    found = _effects(part, part.inputs, {"training": True})
    if found.adds_loss or regularized(part.weights):
        name = first_layer(part, lambda s: regularized(s.weights) or _of_step(s).adds_loss)
        raise UserError(
            f"layer '{name}' adds a loss of its own (a regularizer or add_loss), which is no "
            "block's; use weight decay."
        )
    if seeded and found.draws:
        name = first_layer(part, lambda step: _of_step(step).draws)
        raise UserError(
            f"layer '{name}' draws random numbers that cannot be repeated; give it a "
            "keras.random.SeedGenerator of its own as the seed of keras.random's functions."
        )


def first_layer(part: keras.Model, test: Callable[[Step], bool]) -> str:
    """Name of the first operation of a part that passes a test; the part's own if none does."""
    return next((step.operation.name for step in trace(part).steps if test(step)), part.name)


def _of_step(step: Step) -> Effects:
    layer = step.operation
    takes = (
        isinstance(layer, keras.Layer) and "training" in inspect.signature(layer.call).parameters
    )
    return _effects(layer, step.args, {**step.kwargs, **({"training": True} if takes else {})})


def _effects(operation: keras.Operation, args: Sequence, kwargs: Mapping[str, Any]) -> Effects:
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
    return Effects(bool(scopes[0].losses), foreign or any(map(_is_stateful_random, nodes)))


def _is_stateful_random(node) -> bool:
    """Whether an operation of TensorFlow draws from a state of its own or a `tf.random.Generator`.

    cuDNN's recurrent layers have a seed too, for a dropout that Keras leaves at 0.
    """
    return ("seed2" in node.attr and "Cudnn" not in node.op) or node.op.startswith("Rng")
