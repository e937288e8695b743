"""The supernet: a backbone with every candidate auxiliary network at every unit but the last."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from sedona_tf.auxiliary import Candidate, build_auxiliary, cross_entropy, kinds
from sedona_tf.backbones import Backbone
from sedona_tf.bilevel.packing import Packing

__all__ = ["Supernet"]


class Supernet:
    """A backbone and its candidates, callable on explicit weights.

    Args:
        backbone: the network to decouple; at least two units.
        candidates: the M auxiliary networks on offer at each unit but the last.
        smoothing: label smoothing of every loss used for training.

    Attributes:
        parts: units, then candidates unit by unit, then the head: the order of every packing.
        weights: packing of the trainable variables.
        statistics: packing of the floating-point non-trainable ones (moving statistics).
        seeds: the other non-trainable variables (states of random generators).

    Raises:
        ValueError: if the backbone has fewer than two units.
    """

    def __init__(
        self, backbone: Backbone, candidates: Sequence[Candidate], smoothing: float = 0.0
    ) -> None:
        if len(backbone.units) < 2:
            raise ValueError(
                f"backbone must have at least two units to cut between. "
                f"Received: {backbone.name} with {len(backbone.units)}"
            )
        self.backbone = backbone
        self.candidates = tuple(candidates)
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

    def bind(
        self,
        weights: list[list[tf.Tensor]],
        statistics: list[list[tf.Tensor]],
        seeds: Sequence[tf.Tensor],
    ) -> Bound:
        """Binds explicit values, group by group as the packings give them, to the parts."""
        return Bound(self, weights, statistics, seeds)

    def local_loss(self, outputs, labels: tf.Tensor) -> tf.Tensor:
        """The local loss of mixed auxiliary outputs; scalar."""
        return kinds[self.candidates[0].kind].loss(outputs, labels, self.smoothing)

    def head_loss(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """The head's loss of logits `(batch, num_classes)`; scalar."""
        return cross_entropy(logits, labels, self.smoothing)


class Bound:
    """A supernet with explicit values for its variables; calling a part updates the state."""

    def __init__(self, supernet: Supernet, weights, statistics, seeds) -> None:
        self._index = {id(part): index for index, part in enumerate(supernet.parts)}
        self._parts = supernet.parts
        self.weights = weights
        self.statistics = [list(group) for group in statistics]
        remaining = iter(seeds)
        self._seeds = [
            [next(remaining) for v in part.non_trainable_variables if not _is_floating(v)]
            for part in supernet.parts
        ]

    @property
    def seeds(self) -> list[tf.Tensor]:
        """Generator states after the calls so far, in the supernet's order."""
        return [seed for group in self._seeds for seed in group]

    def weights_of(self, *parts: keras.Model) -> list[tf.Tensor]:
        """The bound weights of some parts."""
        return [weight for part in parts for weight in self.weights[self._index[id(part)]]]

    def __call__(self, part: keras.Model, inputs: tf.Tensor, training: bool):
        """Calls a part with its bound values and keeps its new moving statistics and seeds."""
        index = self._index[id(part)]
        floating, seeds = iter(self.statistics[index]), iter(self._seeds[index])
        state = [
            next(floating) if _is_floating(variable) else next(seeds)
            for variable in part.non_trainable_variables
        ]
        outputs, state = part.stateless_call(self.weights[index], state, inputs, training=training)
        pairs = list(zip(part.non_trainable_variables, state, strict=True))
        self.statistics[index] = [value for variable, value in pairs if _is_floating(variable)]
        self._seeds[index] = [value for variable, value in pairs if not _is_floating(variable)]
        return outputs


def _is_floating(variable: keras.Variable) -> bool:
    return "float" in keras.backend.standardize_dtype(variable.dtype)
