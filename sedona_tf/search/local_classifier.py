"""A unit's local classifier: its candidates, mixed, with their gradients and adjoint.

Each is a function of explicit values, traced once for all classifiers built alike and never
differentiated from outside: what an outer derivative needs of it, `adjoint` gives. So its
activations live only while it runs, and a deep network traces a handful of classifiers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from sedona_tf.layers import exact_moments

__all__ = ["LocalClassifier", "LocalCotangents", "LocalGradients"]

Group = list[list[tf.Tensor]]


class LocalGradients(NamedTuple):
    """Gradients of one local loss.

    Attributes:
        loss: scalar.
        features: like the features; what the loss sends into the unit's output (g in the paper).
        weights: part by part.
        state: the parts' non-trainable values after the batch.
        outputs: the (mixed) outputs.
    """

    loss: tf.Tensor
    features: tf.Tensor
    weights: Group
    state: Group
    outputs: tf.Tensor


class LocalCotangents(NamedTuple):
    """Cotangents of what a local loss's gradients were computed from; None if not asked for.

    Attributes:
        mixture: `(M,)`.
        features: like the features.
        weights: part by part.
        statistics: of the moving statistics before the batch.
    """

    mixture: tf.Tensor
    features: tf.Tensor | None = None
    weights: Group | None = None
    statistics: list[tf.Tensor] | None = None


class LocalClassifier:
    """Candidates at one unit, or the head at the last one.

    Args:
        parts: the candidates; for the head, the head alone.
        loss: `(outputs, labels)` to a scalar.
    """

    def __init__(self, parts: Sequence[keras.Model], loss: Callable) -> None:
        self._parts = list(parts)
        self._loss = loss
        self.gradients = tf.function(
            self._gradients, autograph=False, experimental_attributes={"_noinline": True}
        )
        self.adjoint = tf.function(
            self._adjoint, autograph=False, experimental_attributes={"_noinline": True}
        )

    @exact_moments()
    def _gradients(
        self, weights: Group, state: Group, features, mixture: tf.Tensor, labels
    ) -> LocalGradients:
        """The loss's gradients. `mixture` is `(M,)`, the candidates' weights."""
        with tf.GradientTape() as tape:
            tape.watch([features, weights])
            results = [
                part.stateless_call(*values, features, training=True)
                for part, *values in zip(self._parts, weights, state, strict=True)
            ]
            outputs = tf.nest.map_structure(
                lambda *leaves: tf.add_n([mixture[m] * leaf for m, leaf in enumerate(leaves)]),
                *[output for output, _ in results],
            )
            loss = self._loss(outputs, labels)
        of_features, of_weights = tape.gradient(
            loss, [features, weights], unconnected_gradients="zero"
        )
        return LocalGradients(
            loss, of_features, of_weights, [list(after) for _, after in results], outputs
        )

    def _adjoint(
        self,
        weights: Group,
        state: Group,
        features,
        mixture: tf.Tensor,
        labels,
        features_cotangent,
        weights_cotangent: Group,
        moving_cotangent: list[tf.Tensor],
        through_weights: bool,
    ) -> LocalCotangents:
        """Pulls cotangents of the gradients back to what they were computed from.

        Args:
            weights, state, features, mixture, labels: those of the gradients.
            features_cotangent: of the gradient of the features.
            weights_cotangent: of the gradients of the weights.
            moving_cotangent: of the moving statistics after the batch: the head's. Empty for
                candidates, whose statistics the outer loss does not see.
            through_weights: pull back to more than the mixture.

        Returns:
            The `LocalCotangents`, without all but the mixture unless `through_weights`.
        """
        moving = _moving(state) if moving_cotangent else []
        sources = [mixture, features, weights, moving] if through_weights else [mixture]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            gradients = self._gradients(weights, state, features, mixture, labels)
        after = _moving(gradients.state) if moving_cotangent else []
        pulled = tape.gradient(
            [gradients.features, *tf.nest.flatten(gradients.weights), *after],
            sources,
            output_gradients=[
                features_cotangent,
                *tf.nest.flatten(weights_cotangent),
                *moving_cotangent,
            ],
            unconnected_gradients="zero",
        )
        return LocalCotangents(*pulled)


def _moving(state: Group) -> list[tf.Tensor]:
    """The moving statistics among non-trainable values."""
    return [value for value in tf.nest.flatten(state) if value.dtype.is_floating]
