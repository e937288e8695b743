"""The parts of a backbone made of any image classifier that is a graph of Keras operations."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import keras
import numpy as np

from sedona_tf.backbones.cuts import group, multiply_adds, unit_ends
from sedona_tf.backbones.graph import Call, graph_of, is_graph, replay
from sedona_tf.backbones.part import build_part
from sedona_tf.backbones.without_softmax import without_softmax
from sedona_tf.errors import UserError

__all__ = ["cut_model"]


def cut_model(model: keras.Model, max_units: int | None) -> tuple[list[keras.Model], str | None]:
    """Cuts a model into units and a head; the arguments are those of `Backbone.from_keras`.

    Returns:
        The units, then the head; and the activation that was left out at the end.
    """
    _check_model(model)
    if max_units is not None and (type(max_units) is not int or max_units < 2):
        raise UserError(f"max_units must be an integer of at least 2. Received: {max_units!r}")
    graph = graph_of(model)
    for call in graph.calls:
        _check_call(call)
    ends = unit_ends(graph)
    if len(ends) < 2:
        raise UserError(
            f"model '{model.name}' cannot be cut: it has {len(ends)} places where one feature map "
            f"(batch, height, width, channels) holds everything, and 2 are needed."
        )
    for end, tensor in ends:
        if None in tensor.shape[1:]:
            raise UserError(
                f"layer '{graph.calls[end].operation.name}' gives {tensor.shape}, and "
                f"sizes must be known."
            )
    if max_units is not None:
        starts = [0, *(end + 1 for end, _ in ends)]
        costs = [multiply_adds(graph.calls[a:b]) for a, b in itertools.pairwise(starts)]
        ends = [ends[last] for last in group(costs, max_units)]

    calls = without_softmax(graph.calls)
    changed = any(new is not old for new, old in zip(calls, graph.calls, strict=True))
    removed = "softmax" if changed else None
    bounds = [(-1, graph.input), *ends, (len(calls) - 1, graph.output)]
    runs = [calls[a + 1 : b + 1] for (a, _), (b, _) in itertools.pairwise(bounds)]
    _check_sharing(runs)
    parts = [
        build_part(
            f"unit_{number}" if number < len(runs) else "head",
            first.shape[1:],
            functools.partial(replay, run, first, last),
            first.dtype,
        )
        for number, (run, (_, first), (_, last)) in enumerate(
            zip(runs, bounds, bounds[1:], strict=False), 1
        )
    ]
    _check_logits(model.name, parts[-1])
    return parts, removed


_UNCALLED_METHODS = ("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics")
"""Methods that would never be called: the blocks train on their own losses."""


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise UserError(f"model must be a keras.Model. Received: {type(model).__name__}")
    if not is_graph(model):
        raise UserError(
            f"model '{model.name}' must be functional or Sequential: a {type(model).__name__} has "
            f"code of its own, whose operations cannot be seen."
        )
    own = [
        name
        for name in _UNCALLED_METHODS
        if getattr(type(model), name) != getattr(keras.Model, name)
    ]
    if own:
        raise UserError(
            f"model '{model.name}' has a {own[0]} of its own, which blocks would never call."
        )
    for kind, tensors, rank, form in (
        ("input", model.inputs, 4, "images (height, width, channels)"),
        ("output", model.outputs, 2, "one score a class, (classes,)"),
    ):
        if len(tensors) != 1:
            raise UserError(
                f"model '{model.name}' must have one {kind}. Received: {len(tensors)} {kind}s"
            )
        shape = tuple(tensors[0].shape[1:])
        if len(shape) != rank - 1:
            raise UserError(f"the {kind} of '{model.name}' must be {form}. Received: {shape}")
        if None in shape:
            raise UserError(
                f"the {kind} of '{model.name}' must have known sizes: give the model a fixed "
                f"input shape. Received: {shape}"
            )


def _check_logits(name: str, head: keras.Model) -> None:
    """Refuses a head that gives probabilities in a hidden way, such as a clipped softmax."""
    features = np.random.default_rng(0).standard_normal((8, *head.input_shape[1:]))
    features = keras.ops.cast(features, head.inputs[0].dtype)
    outputs = keras.ops.convert_to_numpy(keras.ops.cast(head(features, training=False), "float32"))
    if outputs.shape[1] > 1 and np.all(outputs >= 0) and np.allclose(outputs.sum(1), 1, atol=1e-2):
        raise UserError(
            f"the logits of model '{name}' look like probabilities; "
            f"end it with logits or with a softmax."
        )


def _check_call(call: Call) -> None:
    layer = call.operation
    if not isinstance(layer, keras.Layer):
        return
    problem = None
    if isinstance(layer, keras.Model) and not is_graph(layer):
        problem = "is a model with code of its own; put its layers into the model directly"
    elif getattr(layer, "stateful", False):
        problem = "is stateful: it remembers the batch before"
    elif getattr(layer, "data_format", None) == "channels_first":
        problem = "has channels first; build the model with channels last"
    if problem:
        raise UserError(f"layer '{layer.name}' {problem}.")


def _check_sharing(runs: list[tuple[Call, ...]]) -> None:
    """Refuses weights in two parts, and two layers of one name in one part."""
    owner: dict[int, int] = {}
    for part, run in enumerate(runs):
        names: dict[str, keras.Operation] = {}
        for call in run:
            operation = call.operation
            if any(owner.setdefault(id(v), part) != part for v in call.variables):
                raise UserError(
                    f"layer '{operation.name}' is used in several units, which would share its "
                    f"weights; make it two layers, or use fewer units (max_units)."
                )
            if names.setdefault(operation.name, operation) is not operation:
                raise UserError(
                    f"two layers of one unit are named '{operation.name}'; rename one of them."
                )
