"""Whether a network's layers have the second derivatives that a search needs.

A hypergradient differentiates gradients. Its value can be wrong if a layer stops a gradient or
defines one of its own. TensorFlow reports no error then. So this module finds such layers in their
graphs and compares their derivatives with finite differences.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from sedona_tf.backbones.graph import Call, graph_of, is_graph
from sedona_tf.errors import UserError
from sedona_tf.layers import exact_moments

__all__ = ["check_derivatives"]

_BATCH_SIZE, _NUM_DIRECTIONS = 4, 5
_MACHINE_EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23}


def check_derivatives(parts: Iterable[keras.Model]) -> None:
    """Refuses layers whose derivatives a search would get wrong.

    Two kinds are refused. The first stops or replaces a gradient, and the derivatives of its
    outputs or of its gradients are measurably wrong. The second reads in training a value that
    training changes, as batch renormalisation does. A search recomputes its steps from the values
    at its start. A layer with its own gradient, a kink and ten thousand outputs or more can be
    refused without need, since finite differences fail at kinks.

    Args:
        parts: units, auxiliary nets and head. Layers of this package are left out, since their
            own tests compare them with closed forms. In half precision nothing is measured:
            rounding hides such errors.

    Raises:
        UserError: naming the part and the layer.

    Example: a straight-through estimator has derivatives of another function.
        >>> def rounded(x):
        ...     return x + keras.ops.stop_gradient(keras.ops.round(x) - x)
        >>> layers = [keras.Input((4,)), keras.layers.Lambda(rounded, name="round")]
        >>> check_derivatives([keras.Sequential(layers, name="unit_1")])
        Traceback (most recent call last):
        sedona_tf.errors.UserError: layer 'round' of 'unit_1' cannot be searched: ...
    """
    seen = set()
    for part in parts:
        whole = Call(part, (part.inputs[0],), {}, tuple(part.outputs))
        for call in graph_of(part).calls if is_graph(part) else (whole,):
            kind = _kind(call)
            if kind in seen or type(call.operation).__module__.startswith("sedona_tf."):
                continue
            seen.add(kind)
            problem = _problem(call)
            if problem:
                raise UserError(
                    f"layer '{call.operation.name}' of '{part.name}' cannot be searched: {problem}"
                )


def _kind(call: Call) -> tuple:
    """Equal for calls of layers that differ in nothing but their values."""
    operation = call.operation
    config: dict = {"itself": id(operation)}
    if isinstance(operation, keras.Layer):
        # A layer of the user's own need not have a config; then it is known by itself only.
        with contextlib.suppress(NotImplementedError):
            config = {**operation.get_config(), "name": None, "trainable": operation.trainable}
    shapes = [tuple(tensor.shape) for tensor in call.inputs]
    return type(operation), json.dumps(config, sort_keys=True, default=str), str(shapes)


def _problem(call: Call) -> str | None:
    alone = _Alone(call)
    replaces, reads = _inspect(alone)
    if reads:
        return "in training it reads a value that training changes."
    if not replaces or not alone.types() <= _MACHINE_EPSILON.keys():
        return None
    error, excess = _measure(alone)
    if excess > 1.0:
        return f"it stops or replaces a gradient, and its derivatives are {error:.2%} off."
    return None


class _Alone(keras.layers.Layer):
    """One operation of a network, on a list of its input tensors."""

    def __init__(self, call: Call) -> None:
        super().__init__(autocast=False, name="alone")
        self.operation = call.operation
        # The arguments of this call replace those that the network's layers were called with.
        kwargs = {name: value for name, value in call.kwargs.items() if name != "training"}
        self._call = dataclasses.replace(call, kwargs=kwargs)
        self._tensors = list({id(tensor): tensor for tensor in call.inputs}.values())
        self.built = True

    def call(self, inputs, training=None):
        values = dict(zip(map(id, self._tensors), inputs, strict=True))
        self._call(values)
        return [values[id(output)] for output in self._call.outputs]

    def in_training(self, weights, state, inputs) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Outputs and the non-trainable values afterwards."""
        variables = [*self.trainable_variables, *self.non_trainable_variables]
        values = zip(variables, [*weights, *state], strict=True)
        # `stateless_call` would not tell the layers inside that this is training.
        with exact_moments(), keras.StatelessScope(list(values)) as scope:
            outputs = self(inputs, training=True)
        return outputs, [scope.get_current_value(v) for v in self.non_trainable_variables]

    def types(self) -> set[str]:
        """Floating-point types that it computes in."""
        types = {tensor.dtype for tensor in (*self._tensors, *self._call.outputs)}
        if isinstance(self.operation, keras.Layer):
            types.add(self.operation.compute_dtype)
        return {name for name in types if "float" in name}

    def draw(self, rng: np.random.Generator) -> list[tf.Tensor]:
        """Random inputs; an unknown size becomes a small one."""
        return [
            tf.cast(
                rng.standard_normal([size or _BATCH_SIZE for size in tensor.shape]), tensor.dtype
            )
            for tensor in self._tensors
        ]


def _values(variables: Iterable[keras.Variable]) -> list[tf.Tensor]:
    return [tf.convert_to_tensor(variable.value) for variable in variables]


def _inspect(alone: _Alone) -> tuple[bool, bool]:
    """Whether a gradient is stopped or replaced, and whether outputs depend on what changes."""
    reads = False

    @tf.function(autograph=False)
    def forward(weights, state, inputs):
        nonlocal reads
        with tf.GradientTape() as tape:
            tape.watch([value for value in state if value.dtype.is_floating])
            outputs, after = alone.in_training(weights, state, inputs)
        changing = [
            old
            for old, new in zip(state, after, strict=True)
            if new is not old and old.dtype.is_floating
        ]
        reads = any(gradient is not None for gradient in tape.gradient(outputs, changing))
        return outputs

    values = (_values(alone.trainable_variables), _values(alone.non_trainable_variables))
    graph = forward.get_concrete_function(*values, alone.draw(np.random.default_rng(0))).graph
    definition = graph.as_graph_def()
    inner = (node for function in definition.library.function for node in function.node_def)
    replaces = any(
        node.op in ("StopGradient", "PreventGradient")
        or node.attr["_gradient_op_type"].s.startswith(b"CustomGradient")
        for node in itertools.chain(definition.node, inner)
    )
    return replaces, reads


def _measure(alone: _Alone) -> tuple[float, float]:
    """Compares derivatives of outputs and of their gradients with central differences.

    Returns:
        The relative error, and the same in units of what rounding allows.
    """
    rng = np.random.default_rng(1)
    inputs, state = alone.draw(rng), _values(alone.non_trainable_variables)
    weights = _values(alone.trainable_variables)
    free = [value for value in inputs if value.dtype.is_floating]
    sources = [*weights, *free]
    sizes = [int(tf.size(source)) for source in sources]
    scales = [float(np.std(weight)) or 1.0 for weight in weights] + [1.0] * len(free)
    scale = np.repeat(scales, sizes)
    # Near the present weights and not at them: many are zero or one.
    point = np.asarray(_flat(sources)) + 0.1 * scale * rng.standard_normal(scale.size)

    def results(vector: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Outputs of the layer, and the gradient of a random sum of them."""
        with tf.GradientTape() as tape:
            tape.watch(vector)
            pieces = iter(
                tf.cast(tf.reshape(piece, source.shape), source.dtype)
                for piece, source in zip(tf.split(vector, sizes), sources, strict=True)
            )
            given = [next(pieces) for _ in weights]
            filled = [next(pieces) if value.dtype.is_floating else value for value in inputs]
            outputs, after = alone.in_training(given, state, filled)
            loss = _random_sum(_flat(outputs), 0)
        gradient = tape.gradient(loss, vector, unconnected_gradients="zero")
        return _flat([*outputs, *after]), gradient

    @tf.function(autograph=False)
    def sums(vector: tf.Tensor, seed: tf.Tensor) -> list[tf.Tensor]:
        return [_random_sum(result, seed) for result in results(vector)]

    @tf.function(autograph=False)
    def slopes(vector: tf.Tensor, seed: tf.Tensor, direction: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(vector)
            both = sums(vector, seed)
        return [
            tf.reduce_sum(tape.gradient(each, vector, unconnected_gradients="zero") * direction)
            for each in both
        ]

    def difference(size: float, seed: tf.Tensor, direction: np.ndarray) -> np.ndarray:
        ahead, behind = (sums(tf.constant(point + s * direction), seed) for s in (size, -size))
        return (np.asarray(ahead) - np.asarray(behind)) / (2.0 * size)

    epsilon = max(_MACHINE_EPSILON[dtype] for dtype in alone.types())
    # The first is extrapolated; rounding and what is left of the curvature are about equal there.
    # Within the others lie fewer kinks, such as a ReLU's. The median forgives one of them.
    steps = epsilon**0.2 / np.array([1.0, 100.0, 1000.0])
    rows = []
    for seed in map(tf.constant, range(_NUM_DIRECTIONS)):
        direction = scale * rng.standard_normal(scale.size)
        actual = np.asarray(slopes(tf.constant(point), seed, tf.constant(direction)))
        size = np.asarray(sums(tf.constant(point), seed))
        first, *others = (difference(step, seed, direction) for step in steps)
        first += (difference(steps[0] / 2.0, seed, direction) - first) * 4.0 / 3.0
        rows.append([actual, size, *(each - actual for each in (first, *others))])
    # Each `(directions, 2)`: of outputs and of gradients.
    actual, size, *misses = np.moveaxis(np.abs(rows), 1, 0)
    actual, size = (np.sqrt(np.mean(np.square(each), axis=0)) for each in (actual, size))
    errors = np.median(misses, axis=1) / np.maximum(actual, 0.01 * size)
    rounding = np.outer(epsilon / steps, size / np.maximum(actual, 0.01 * size))
    excess = np.min(errors / np.maximum(rounding, 1e-3), axis=0)
    return float(np.max(np.min(errors, axis=0))), float(np.max(excess))


def _flat(values: Iterable[tf.Tensor]) -> tf.Tensor:
    """All floating-point values as one vector of doubles."""
    kept = [value for value in values if value.dtype.is_floating]
    return tf.concat([tf.reshape(tf.cast(value, tf.float64), (-1,)) for value in kept], 0)


def _random_sum(values: tf.Tensor, seed) -> tf.Tensor:
    weights = tf.random.stateless_normal(tf.shape(values), (seed, 0), dtype=tf.float64)
    return tf.reduce_sum(weights * values)
