"""The exact gradient of the validation loss through T unrolled inner steps (paper, section 3).

The inner steps are `w_{t+1} = step(w_t, F(w_t; p, b))` with F the relaxed field; the outer loss is
the validation loss at the last state. Of each step only its weights and what passed between the
units are kept. Going back, the field's adjoint recomputes the step unit by unit and pulls the
cotangent through it; the field's Jacobian is not symmetric, so Hessian-vector shortcuts do not
apply. Both directions are traced once and looped, so the graph does not grow with T.

At the first step nothing below the architecture is wanted, so the second derivative with respect
to the weights is never formed there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from sedona_tf.errors import UserError
from sedona_tf.search.field import (
    FieldCotangents,
    State,
    Sweep,
    adjoint,
    relaxed_field,
    validation_loss,
)
from sedona_tf.search.inner_optimizer import InnerOptimizer
from sedona_tf.search.supernet import Supernet

__all__ = ["Hypergradient", "hypergradient"]


class Hypergradient(NamedTuple):
    """What one hypergradient computation gives.

    Attributes:
        cut_probability: `(L - 1,)`, gradient of the outer loss with respect to p.
        mixture: `(L - 1, M)`, with respect to the candidate weights b.
        loss: scalar, the outer loss after the inner steps.
        logits: `(validation batch, num_classes)` after the inner steps.
        weights: `(W,)`, the weights after the inner steps.

    Example: one inner step; a network of two units has one p.
        >>> import keras
        >>> from sedona_tf import Backbone
        >>> from sedona_tf.auxiliary import Candidate
        >>> conv = keras.layers.Conv2D
        >>> layers = [keras.Input((8, 8, 1)), conv(2, 3), conv(2, 3), keras.layers.Flatten()]
        >>> model = keras.Sequential([*layers, keras.layers.Dense(10)])
        >>> supernet = Supernet(Backbone.from_keras(model), [Candidate("predsim")])
        >>> state = State(supernet.weights.read(), supernet.statistics.read(), ())
        >>> images, labels = tf.random.normal((4, 8, 8, 1)), tf.range(4)
        >>> found = hypergradient(
        ...     supernet, InnerOptimizer(), state, tf.zeros_like(state.weights), tf.ones((1,)) / 2,
        ...     tf.ones((1, 1)), (images[None], labels[None]), (images, labels), tf.constant(0.1)
        ... )
        >>> found.cut_probability.shape, bool(found.cut_probability[0] != 0)
        (TensorShape([1]), True)
    """

    cut_probability: tf.Tensor
    mixture: tf.Tensor
    loss: tf.Tensor
    logits: tf.Tensor
    weights: tf.Tensor


def hypergradient(
    supernet: Supernet,
    optimizer: InnerOptimizer,
    state: State,
    velocity: tf.Tensor,
    cut_probability: tf.Tensor,
    mixture: tf.Tensor,
    train: tuple[tf.Tensor, tf.Tensor],
    validation: tuple[tf.Tensor, tf.Tensor],
    learning_rate: tf.Tensor,
    *,
    through_statistics: bool = True,
    unrolled: bool = False,
    reduce_mean: Callable[[list[tf.Tensor]], list[tf.Tensor]] = list,
) -> Hypergradient:
    """Differentiates the outer loss with respect to the architecture.

    Args:
        supernet: the network.
        optimizer: the inner rule.
        state: values at which the inner steps start.
        velocity: `(W,)`, the inner optimizer's at that point.
        cut_probability: `(L - 1,)`, p.
        mixture: `(L - 1, M)`, b.
        train: images `(T, batch, height, width, channels)` and labels `(T, batch)`; T may differ
            from call to call of a traced function, unless `unrolled`.
        validation: images `(batch, height, width, channels)` and labels `(batch,)`.
        learning_rate: scalar, of all T steps.
        through_statistics: differentiate through the moving statistics, as the outer loss uses
            them; otherwise treat them as constants, which is about 1 % off.
        unrolled: repeat the steps in the graph instead of looping: needed where a loop's body may
            not communicate, that is, with several replicas.
        reduce_mean: averages tensors over replicas, each of which has its share of the batches.

    Returns:
        The `Hypergradient`, exact up to rounding.

    Raises:
        UserError: if T is not known although `unrolled` is set.
    """
    images, labels = train
    steps = images.shape[0] if images.shape[0] is not None else tf.shape(images)[0]
    if unrolled and not isinstance(steps, int):
        raise UserError("train must have a known number of steps T, to be repeated in the graph.")
    learning_rate = tf.cast(learning_rate, state.weights.dtype)

    def repeat(count: int | tf.Tensor, body, carry):
        if unrolled:
            for index in range(count):
                carry = body(index, *carry)
            return carry
        return tf.while_loop(
            lambda index, *_: index < count,
            lambda index, *carry: (index + 1, *body(index, *carry)),
            (tf.constant(0), *carry),
            parallel_iterations=1,
        )[1:]

    def store(shape, dtype) -> tf.TensorArray:
        return tf.TensorArray(dtype, steps, clear_after_read=False, element_shape=shape)

    batch, dtype = images.shape[1], state.weights.dtype
    shapes = [(batch, *unit.output_shape[1:]) for unit in supernet.backbone.units]
    arrays = (
        store(state.weights.shape, dtype),
        tuple(store(seed.shape, seed.dtype) for seed in state.seeds),
        Sweep(
            *(
                tuple(store(shape, dtype) for shape in each)
                for each in (shapes, shapes, shapes[:-1])
            )
        ),
    )

    # Forward: T inner steps, keeping where each one started and what passed between its units.
    def inner_step(step, weights, velocity, statistics, seeds, kept):
        field = relaxed_field(
            supernet,
            State(weights, statistics, seeds),
            cut_probability,
            mixture,
            images[step],
            labels[step],
        )
        kept = tf.nest.map_structure(
            lambda array, value: array.write(step, value), kept, (weights, seeds, field.sweep)
        )
        gradients, statistics = reduce_mean([field.gradients, field.statistics])
        weights, velocity = optimizer.step(weights, velocity, gradients, learning_rate)
        return weights, velocity, statistics, field.seeds, kept

    weights, _, statistics, seeds, kept = repeat(
        steps, inner_step, (state.weights, velocity, state.statistics, state.seeds, arrays)
    )

    with tf.GradientTape() as tape:
        tape.watch([weights, statistics])
        loss, logits = validation_loss(supernet, State(weights, statistics, seeds), *validation)
    weights_cotangent, statistics_cotangent = tape.gradient(
        loss, [weights, statistics], unconnected_gradients="zero"
    )
    loss, weights_cotangent, statistics_cotangent = reduce_mean(
        [loss, weights_cotangent, statistics_cotangent]
    )
    if not through_statistics:
        statistics_cotangent = tf.zeros_like(statistics_cotangent)

    # Back: pull the cotangents through one step after the other.
    def field_adjoint(step, gradients_cotangent, statistics_cotangent, through_weights):
        weights, seeds, sweep = tf.nest.map_structure(lambda array: array.read(step), kept)
        return adjoint(
            supernet,
            # Training replaces a part of the moving statistics and never reads their values.
            State(weights, state.statistics, seeds),
            cut_probability,
            mixture,
            images[step],
            labels[step],
            sweep,
            gradients_cotangent,
            statistics_cotangent,
            through_weights,
        )

    def step_adjoint(index, of_weights, of_velocity, of_statistics, of_p, of_mixture):
        of_weights, of_velocity, of_gradients = optimizer.adjoint(
            of_weights, of_velocity, learning_rate
        )
        found = FieldCotangents(
            *reduce_mean(list(field_adjoint(steps - 1 - index, of_gradients, of_statistics, True)))
        )
        return (
            of_weights + found.weights,
            of_velocity,
            found.statistics,
            of_p + found.cut_probability,
            of_mixture + found.mixture,
        )

    cotangents = (
        weights_cotangent,
        tf.zeros_like(weights_cotangent),
        statistics_cotangent,
        tf.zeros_like(cut_probability),
        tf.zeros_like(mixture),
    )
    if not isinstance(steps, int) or steps > 1:
        cotangents = repeat(steps - 1, step_adjoint, cotangents)
    of_weights, of_velocity, of_statistics, of_p, of_mixture = cotangents
    _, _, of_gradients = optimizer.adjoint(of_weights, of_velocity, learning_rate)
    first = field_adjoint(0, of_gradients, of_statistics, False)
    first_p, first_mixture = reduce_mean([first.cut_probability, first.mixture])
    return Hypergradient(of_p + first_p, of_mixture + first_mixture, loss, logits, weights)
