"""A Keras model as a flat list of operations, in an order in which they can run."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from typing import Any

import keras

from sedona_tf.errors import UserError

__all__ = ["Call", "Graph", "graph_of", "is_graph", "replay"]


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of an operation (a layer, or an operation of `keras.ops`).

    Attributes:
        operation: what is called; the model's own, so its weights are the model's.
        args, kwargs: what it was called with; symbolic tensors stand for data.
        outputs: symbolic tensors that it gave.
    """

    operation: keras.Operation
    args: tuple
    kwargs: dict[str, Any]
    outputs: tuple[keras.KerasTensor, ...]

    @property
    def inputs(self) -> list[keras.KerasTensor]:
        """Symbolic tensors among the arguments."""
        leaves = keras.tree.flatten((self.args, self.kwargs))
        return [leaf for leaf in leaves if isinstance(leaf, keras.KerasTensor)]

    @property
    def weights(self) -> list[keras.Variable]:
        """The operation's weights; states of random generators are none."""
        return self.operation.weights if isinstance(self.operation, keras.Layer) else []

    @property
    def variables(self) -> list[keras.Variable]:
        """All that the operation keeps, states of random generators included."""
        return self.operation.variables if isinstance(self.operation, keras.Layer) else []

    def __call__(self, values: dict[int, Any]) -> None:
        """Calls the operation again.

        Args:
            values: tensors by the `id` of those that they stand for; the outputs are added.
        """

        def fill(leaf):
            return values[id(leaf)] if isinstance(leaf, keras.KerasTensor) else leaf

        args, kwargs = keras.tree.map_structure(fill, (self.args, self.kwargs))
        results = keras.tree.flatten(self.operation(*args, **kwargs))
        values.update(zip(map(id, self.outputs), results, strict=True))


@dataclasses.dataclass(frozen=True)
class Graph:
    """A model's operations.

    Attributes:
        calls: in an order in which they can run; each one leads to the output.
        input: `(batch, height, width, channels)`, symbolic.
        output: `(batch, classes)`, symbolic.
    """

    calls: tuple[Call, ...]
    input: keras.KerasTensor
    output: keras.KerasTensor


def replay(calls: Iterable[Call], first: keras.KerasTensor, last: keras.KerasTensor, x):
    """Runs calls on another tensor: `x` in the place of `first`; returns what `last` becomes."""
    values = {id(first): x}
    for call in calls:
        call(values)
    return values[id(last)]


def is_graph(model: Any) -> bool:
    """Whether a model is nothing but the graph of its operations: functional or Sequential.

    Raises:
        UserError: for a Sequential model that does not know its input's shape yet.
    """
    if not isinstance(model, keras.Sequential | keras.Function):
        return False
    if isinstance(model, keras.Sequential) and not model.built:
        raise UserError(f"'{model.name}' does not know its input: begin it with keras.Input.")
    functional = type(keras.Model(model.inputs, model.outputs))
    return type(model).call in (keras.Sequential.call, functional.call)


def graph_of(model: keras.Model) -> Graph:
    """Lists a model's operations.

    Functional and Sequential models inside the model are opened up, unless they are called more
    than once or with anything but one tensor; such a one stays one operation.

    Args:
        model: one that `is_graph`, with one input and one output.
    """
    calls: list[Call] = []
    stands_for: dict[int, keras.KerasTensor] = {}  # tensors at the borders of opened models

    def resolve(leaf):
        return stands_for.get(id(leaf), leaf) if isinstance(leaf, keras.KerasTensor) else leaf

    def run(inner: keras.Model) -> keras.KerasTensor:
        for node in _nodes(inner):
            args, kwargs = keras.tree.map_structure(
                resolve, (node.arguments.args, node.arguments.kwargs)
            )
            call = Call(node.operation, args, kwargs, tuple(node.output_tensors))
            if counts[id(node.operation)] == 1 and _opens(call):
                stands_for[id(node.operation.inputs[0])] = args[0]
                stands_for[id(call.outputs[0])] = run(node.operation)
            else:
                calls.append(call)
        return resolve(inner.outputs[0])

    counts = Counter(map(id, _called(model)))
    last = run(model)
    return Graph(tuple(calls), model.inputs[0], last)


def _opens(call: Call) -> bool:
    # `training=False` is no obstacle: Keras overrides it by what the outer model is called with.
    return (
        isinstance(call.operation, keras.Model)
        and is_graph(call.operation)
        and len(call.operation.inputs) == len(call.outputs) == len(call.args) == 1
        and isinstance(call.args[0], keras.KerasTensor)
        and all(value is None or value is False for value in call.kwargs.values())
    )


def _nodes(model: keras.Model) -> list:
    """Keras' record of each call that the output depends on, in an order in which they can run."""
    found: list = []
    seen = {id(tensor) for tensor in model.inputs}
    pending = [(tensor, False) for tensor in model.outputs]
    while pending:
        tensor, ready = pending.pop()
        operation, index, _ = tensor._keras_history
        node = operation._inbound_nodes[index]
        if ready:
            found.append(node)
        elif id(tensor) not in seen:
            seen.update(map(id, node.output_tensors))
            pending.append((tensor, True))
            pending.extend((argument, False) for argument in node.input_tensors)
    return found


def _called(model: keras.Model) -> list[keras.Operation]:
    """Operations, one entry a call, those of models inside included."""
    called = []
    for node in _nodes(model):
        called.append(node.operation)
        if isinstance(node.operation, keras.Model) and is_graph(node.operation):
            called.extend(_called(node.operation))
    return called
