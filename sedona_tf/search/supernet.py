"""The supernet: a backbone with every candidate auxiliary network at every unit but the last."""

from __future__ import annotations

import json
from collections.abc import Sequence

import keras
import tensorflow as tf

from sedona_tf.auxiliary import Candidate, build_auxiliary, check_candidates, cross_entropy
from sedona_tf.backbones import Backbone
from sedona_tf.backbones.effects import first_layer
from sedona_tf.errors import UserError
from sedona_tf.search.local_classifier import LocalClassifier
from sedona_tf.search.packing import Packing

__all__ = ["Supernet"]


class Supernet:
    """A backbone and its candidates, callable on explicit weights.

    Args:
        backbone: the network to decouple; at least two units.
        candidates: the M auxiliary networks on offer at each unit but the last.
        smoothing: label smoothing of every cross entropy used for training.

    Attributes:
        parts: units, then candidates unit by unit, then the head: the order of every packing.
        weights: packing of the trainable variables.
        statistics: packing of the floating-point non-trainable ones (moving statistics).
        seeds: the other non-trainable variables (states of random generators).

    Raises:
        UserError: if the backbone has fewer than two units, if candidates are equal or have
            different losses, or naming a layer with a weight constraint, or one that draws random
            numbers without a `SeedGenerator` of its own.

    Example:
        >>> conv = keras.layers.Conv2D
        >>> layers = [keras.Input((8, 8, 1)), conv(2, 3), conv(2, 3), keras.layers.Flatten()]
        >>> model = keras.Sequential([*layers, keras.layers.Dense(10)])
        >>> supernet = Supernet(Backbone.from_keras(model), [Candidate("predsim")])
        >>> [part.name for part in supernet.parts]
        ['unit_1', 'unit_2', 'aux_1_1', 'head']
    """

    def __init__(
        self, backbone: Backbone, candidates: Sequence[Candidate], smoothing: float = 0.0
    ) -> None:
        if len(backbone.units) < 2:
            raise UserError(
                f"backbone must have at least two units to cut between. "
                f"Received: {backbone.name} with {len(backbone.units)}"
            )
        backbone.require_seeded()
        self.backbone = backbone
        self.candidates = check_candidates(candidates)
        self.smoothing = smoothing
        self.auxiliaries = [
            [
                build_auxiliary(candidate, backbone, unit, f"aux_{unit + 1}_{index + 1}")
                for index, candidate in enumerate(self.candidates)
            ]
            for unit in range(len(backbone.units) - 1)
        ]
        self.parts: list[keras.Model] = [
            *backbone.units,
            *(auxiliary for row in self.auxiliaries for auxiliary in row),
            backbone.head,
        ]
        for part in self.parts:
            if _constrained(part.trainable_variables):
                name = first_layer(part, lambda call: _constrained(call.weights))
                raise UserError(
                    f"layer '{name}' has a weight constraint, which the search's updates do not "
                    "keep; leave it out for the search."
                )
        built: dict[tuple[str, ...], LocalClassifier] = {}
        self._classifiers = []
        for row in self.auxiliaries:
            key = tuple(_structure(part) for part in row)
            if key not in built:
                built[key] = LocalClassifier(row, self.local_loss)
            self._classifiers.append(built[key])
        self._classifiers.append(LocalClassifier([backbone.head], self.head_loss))
        self.weights = Packing([part.trainable_variables for part in self.parts])
        self.statistics = Packing([self._floating(part) for part in self.parts])
        self.seeds = [
            variable
            for part in self.parts
            for variable in part.non_trainable_variables
            if not _is_floating(variable)
        ]

    @property
    def num_units(self) -> int:
        """L, the number of units."""
        return len(self.backbone.units)

    @staticmethod
    def _floating(part: keras.Model) -> list[keras.Variable]:
        return [variable for variable in part.non_trainable_variables if _is_floating(variable)]

    def classifier(self, unit: int) -> tuple[LocalClassifier, list[int]]:
        """The local classifier at a unit (the head's at the last) and its parts' indices."""
        if unit == self.num_units - 1:
            return self._classifiers[unit], [len(self.parts) - 1]
        first = self.num_units + unit * len(self.candidates)
        return self._classifiers[unit], list(range(first, first + len(self.candidates)))

    def mixture_at(self, unit: int, mixture: tf.Tensor) -> tf.Tensor:
        """The candidate weights at a unit, `(M,)`; `(1,)` at the head."""
        return tf.ones((1,), mixture.dtype) if unit == self.num_units - 1 else mixture[unit]

    def unpack_state(self, statistics: tf.Tensor, seeds: Sequence[tf.Tensor]) -> list[list]:
        """Each part's non-trainable values, in the part's own order."""
        remaining = iter(seeds)
        states = []
        for part, group in zip(self.parts, self.statistics.unpack(statistics), strict=True):
            floating = iter(group)
            states.append(
                [
                    next(floating) if _is_floating(variable) else next(remaining)
                    for variable in part.non_trainable_variables
                ]
            )
        return states

    def pack_state(self, states: list[list]) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        """The inverse of `unpack_state`."""
        pairs = [
            (_is_floating(variable), value)
            for part, state in zip(self.parts, states, strict=True)
            for variable, value in zip(part.non_trainable_variables, state, strict=True)
        ]
        return (
            self.statistics.pack([value for floating, value in pairs if floating]),
            tuple(value for floating, value in pairs if not floating),
        )

    def statistics_in(self, part: int, state: list) -> list:
        """The moving statistics among a part's non-trainable values."""
        variables = self.parts[part].non_trainable_variables
        return [value for v, value in zip(variables, state, strict=True) if _is_floating(v)]

    def local_loss(self, outputs, labels: tf.Tensor) -> tf.Tensor:
        """The local loss of mixed auxiliary outputs; scalar."""
        kind = self.candidates[0].resolved_kind
        return kind.loss(outputs, labels, 0.0 if kind.has_own_loss else self.smoothing)

    def head_loss(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The head's loss of logits `(batch, num_classes)`; scalar."""
        return cross_entropy(logits, labels, self.smoothing)


def _structure(part: keras.Model) -> str:
    """Equal for parts that differ in nothing but their values."""
    return json.dumps({**part.get_config(), "name": None}, sort_keys=True, default=str)


def _constrained(variables: Sequence[keras.Variable]) -> bool:
    return any(getattr(variable, "constraint", None) is not None for variable in variables)


def _is_floating(variable: keras.Variable) -> bool:
    return "float" in keras.backend.standardize_dtype(variable.dtype)
