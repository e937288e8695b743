"""The relaxed gradient field: what every weight of the supernet is trained on (paper, section 3).

Unit l is trained on `p_l * g_l + (1 - p_l) * u_l`: g_l is the gradient that its local loss sends
into its output, u_l the one that arrives from the unit above, p_l the cut probability. Candidates
and head are trained on their own losses. Because the mixture is on gradients, the field is not the
gradient of any scalar, so it is computed by an explicit sweep from the head down, whose gradients
are mixed by hand: exact at p = 0 (backpropagation) and at p = 1 (isolated blocks). An identity
"gate" with a scaled backward pass would give the same values and a wrong second derivative.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from sedona_tf.layers import exact_moments
from sedona_tf.search.supernet import Supernet

__all__ = [
    "Field",
    "FieldCotangents",
    "State",
    "Sweep",
    "adjoint",
    "relaxed_field",
    "validation_loss",
]


class State(NamedTuple):
    """Values of all of a supernet's variables but the architecture.

    Attributes:
        weights: `(W,)`, see `Supernet.weights`.
        statistics: `(S,)`, moving statistics, see `Supernet.statistics`.
        seeds: states of random generators, see `Supernet.seeds`.

    Example: what a supernet's variables hold.
        >>> import keras
        >>> from sedona_tf import Backbone
        >>> from sedona_tf.auxiliary import Candidate
        >>> conv = keras.layers.Conv2D
        >>> layers = [keras.Input((8, 8, 1)), conv(2, 3), conv(2, 3), keras.layers.Flatten()]
        >>> model = keras.Sequential([*layers, keras.layers.Dense(10)])
        >>> supernet = Supernet(Backbone.from_keras(model), [Candidate("predsim")])
        >>> state = State(supernet.weights.read(), supernet.statistics.read(), ())
        >>> state.weights.shape == (supernet.weights.size,)
        True
    """

    weights: tf.Tensor
    statistics: tf.Tensor
    seeds: tuple[tf.Tensor, ...]


class Sweep(NamedTuple):
    """What passed between the units; all that the adjoint needs of a step beside its weights.

    Attributes:
        features: h_1 ... h_L, the units' outputs.
        local_gradients: g_1 ... g_L, the local losses' gradients there (the last is the head's).
        upper_gradients: u_1 ... u_{L-1}, the gradients that arrive there from the unit above.
    """

    features: tuple[tf.Tensor, ...]
    local_gradients: tuple[tf.Tensor, ...]
    upper_gradients: tuple[tf.Tensor, ...]

    def mixed_gradient(self, index: int, cut_probability: tf.Tensor) -> tf.Tensor:
        """The gradient that a unit is trained on, at its output."""
        local = self.local_gradients[index]
        if index == len(self.upper_gradients):
            return local
        return _mix(cut_probability[index], local, self.upper_gradients[index])


class Field(NamedTuple):
    """The field at one state on one batch.

    Attributes:
        gradients: `(W,)`, what the weights are trained on.
        statistics: `(S,)`, moving statistics after the batch.
        seeds: generator states after the batch.
        losses: `(L,)`, the local losses and, last, the head's.
        logits: `(batch, num_classes)` of the head.
        sweep: what passed between the units.

    Example: no gradient passes a cut at p = 1, and the first unit learns all the same.
        >>> import keras
        >>> from sedona_tf import Backbone
        >>> from sedona_tf.auxiliary import Candidate
        >>> conv = keras.layers.Conv2D
        >>> layers = [keras.Input((8, 8, 1)), conv(2, 3), conv(2, 3), keras.layers.Flatten()]
        >>> model = keras.Sequential([*layers, keras.layers.Dense(10)])
        >>> supernet = Supernet(Backbone.from_keras(model), [Candidate("predsim")])
        >>> state = State(supernet.weights.read(), supernet.statistics.read(), ())
        >>> images, labels = tf.random.normal((4, 8, 8, 1)), tf.range(4)
        >>> p, mixture = tf.ones((1,)), tf.ones((1, 1))
        >>> field = relaxed_field(supernet, state, p, mixture, images, labels)
        >>> field.gradients.shape == state.weights.shape, field.losses.shape
        (True, TensorShape([2]))
    """

    gradients: tf.Tensor
    statistics: tf.Tensor
    seeds: tuple[tf.Tensor, ...]
    losses: tf.Tensor
    logits: tf.Tensor
    sweep: Sweep


class FieldCotangents(NamedTuple):
    """Cotangents of what a field was computed from; see `adjoint`.

    Attributes:
        cut_probability: `(L - 1,)`.
        mixture: `(L - 1, M)`.
        weights: `(W,)`; None if not asked for.
        statistics: `(S,)`; None if not asked for.
    """

    cut_probability: tf.Tensor
    mixture: tf.Tensor
    weights: tf.Tensor | None = None
    statistics: tf.Tensor | None = None


def _mix(p: tf.Tensor, local_gradient: tf.Tensor, upper_gradient: tf.Tensor) -> tf.Tensor:
    return p * local_gradient + (1.0 - p) * upper_gradient


@exact_moments()
def relaxed_field(
    supernet: Supernet,
    state: State,
    cut_probability: tf.Tensor,
    mixture: tf.Tensor,
    images: tf.Tensor,
    labels: tf.Tensor,
) -> Field:
    """Computes the field.

    Args:
        supernet: whose field.
        state: at which values.
        cut_probability: `(L - 1,)`, p, in [0, 1].
        mixture: `(L - 1, M)`, candidate weights; rows add up to 1.
        images: `(batch, height, width, channels)`.
        labels: `(batch,)` integers.

    Returns:
        The `Field`.
    """
    units = supernet.backbone.units
    weights = supernet.weights.unpack(state.weights)
    states = supernet.unpack_state(state.statistics, state.seeds)
    gradients: list = [None] * len(supernet.parts)
    features, local_gradients, tapes = [images], [], []
    losses: list[tf.Tensor] = []

    for index, unit in enumerate(units):
        with tf.GradientTape() as tape:
            tape.watch([features[index], weights[index]])
            output, states[index] = unit.stateless_call(
                weights[index], states[index], features[index], training=True
            )
        tapes.append(tape)
        features.append(output)
        # One local classifier at a time, so that only one's activations exist.
        with tf.control_dependencies(losses[-1:]):
            classifier, parts = supernet.classifier(index)
            result = classifier.gradients(
                [weights[part] for part in parts],
                [states[part] for part in parts],
                tf.identity(output),
                supernet.mixture_at(index, mixture),
                labels,
            )
        losses.append(result.loss)
        local_gradients.append(result.features)
        for part, of_weights, after in zip(parts, result.weights, result.state, strict=True):
            gradients[part], states[part] = of_weights, after

    upper_gradients: list = [None] * (len(units) - 1)
    for index in reversed(range(len(units))):
        gradient = local_gradients[index]
        if index < len(units) - 1:
            gradient = _mix(cut_probability[index], gradient, upper_gradients[index])
        sources = [weights[index], *([features[index]] if index > 0 else [])]
        gradients[index], *below = tapes[index].gradient(
            features[index + 1],
            sources,
            output_gradients=gradient,
            unconnected_gradients="zero",  # a weight may have no part in the output
        )
        if index > 0:
            upper_gradients[index - 1] = below[0]

    statistics, seeds = supernet.pack_state(states)
    return Field(
        supernet.weights.pack([g for group in gradients for g in group]),
        statistics,
        seeds,
        tf.stack(losses),
        result.outputs,
        Sweep(tuple(features[1:]), tuple(local_gradients), tuple(upper_gradients)),
    )


@exact_moments()
def adjoint(
    supernet: Supernet,
    state: State,
    cut_probability: tf.Tensor,
    mixture: tf.Tensor,
    images: tf.Tensor,
    labels: tf.Tensor,
    sweep: Sweep,
    gradients_cotangent: tf.Tensor,
    statistics_cotangent: tf.Tensor,
    through_weights: bool = True,
) -> FieldCotangents:
    """Pulls cotangents of the field back to what it was computed from.

    The field is a sweep up (features) and a sweep down (gradients). Its adjoint runs up first,
    against the sweep down: the cotangent t_l of what unit l was trained on splits into `p_l t_l`
    for the local gradient and `(1 - p_l) t_l` for the one from above. Then it runs down, against
    the sweep up. Given what passed between the units, each one is recomputed on its own.

    Args:
        supernet: the field's.
        state: the field's.
        cut_probability: the field's.
        mixture: the field's.
        images: the field's.
        labels: the field's.
        sweep: the field's.
        gradients_cotangent: `(W,)`, of the field's gradients.
        statistics_cotangent: `(S,)`, of its moving statistics; zero for the candidates', which
            the outer loss does not see.
        through_weights: also pull back to weights and statistics.

    Returns:
        The `FieldCotangents`, without weights and statistics unless `through_weights`.
    """
    units = supernet.backbone.units
    weights = supernet.weights.unpack(state.weights)
    states = supernet.unpack_state(state.statistics, state.seeds)
    field_cotangents = supernet.weights.unpack(gradients_cotangent)
    moving_cotangents = supernet.statistics.unpack(statistics_cotangent)
    inputs = (images, *sweep.features[:-1])
    # By unit; those of weights and moving statistics by part.
    p_cotangents, mixture_cotangents, feature_cotangents = [], [], []
    weight_cotangents: list = [None] * len(supernet.parts)
    old_moving_cotangents: list = [
        tf.nest.map_structure(tf.zeros_like, group) for group in moving_cotangents
    ]
    second_order, tapes = [], []
    upper_cotangent = None  # of the gradient that the unit below got from this one
    done: list = []

    last = len(units) if through_weights else len(units) - 1
    for index, unit in enumerate(units[:last]):
        gradient = sweep.mixed_gradient(index, cut_probability)
        moving = supernet.statistics_in(index, states[index])
        sources = [weights[index], *([inputs[index]] if index > 0 else [])]
        with tf.GradientTape(persistent=True) as outer:
            outer.watch([gradient, *([sources, moving] if through_weights else [])])
            with tf.GradientTape() as inner:
                inner.watch(sources)
                output, after = unit.stateless_call(
                    weights[index],
                    states[index],
                    inputs[index],
                    training=True,
                )
            gradients = inner.gradient(
                output, sources, output_gradients=gradient, unconnected_gradients="zero"
            )
        targets = tf.nest.flatten(gradients)
        target_cotangents = [*field_cotangents[index], *([upper_cotangent] if index > 0 else [])]
        wanted = [gradient]
        if through_weights:
            wanted += [*sources, moving]
            targets += supernet.statistics_in(index, after)
            target_cotangents += moving_cotangents[index]
        gradient_cotangent, *rest = outer.gradient(
            targets, wanted, output_gradients=target_cotangents, unconnected_gradients="zero"
        )
        if through_weights:
            *source_cotangents, old_moving_cotangents[index] = rest
            second_order.append(source_cotangents)
            tapes.append((outer, sources, output))

        local_cotangent = gradient_cotangent
        if index < len(units) - 1:
            p = cut_probability[index]
            local_cotangent = p * gradient_cotangent
            upper_cotangent = (1.0 - p) * gradient_cotangent
            difference = sweep.local_gradients[index] - sweep.upper_gradients[index]
            p_cotangents.append(tf.reduce_sum(gradient_cotangent * difference))
        with tf.control_dependencies(done[-1:]):
            classifier, parts = supernet.classifier(index)
            found = classifier.adjoint(
                [weights[part] for part in parts],
                [states[part] for part in parts],
                tf.identity(sweep.features[index]),
                supernet.mixture_at(index, mixture),
                labels,
                local_cotangent,
                [field_cotangents[part] for part in parts],
                moving_cotangents[-1] if index == len(units) - 1 else [],
                through_weights,
            )
        done.append(found.mixture)
        if index < len(units) - 1:
            mixture_cotangents.append(found.mixture)
        else:
            old_moving_cotangents[-1] = found.statistics
        if through_weights:
            feature_cotangents.append(found.features)
            for part, cotangent in zip(parts, found.weights, strict=True):
                weight_cotangents[part] = cotangent
    architecture = tf.stack(p_cotangents), tf.stack(mixture_cotangents)
    if not through_weights:
        return FieldCotangents(*architecture)

    for index in reversed(range(len(units))):
        outer, sources, output = tapes[index]
        first_order = outer.gradient(
            output,
            sources,
            output_gradients=feature_cotangents[index],
            unconnected_gradients="zero",
        )
        weight_cotangents[index], *below = tf.nest.map_structure(
            tf.add, first_order, second_order[index]
        )
        if index > 0:
            feature_cotangents[index - 1] += below[0]
    return FieldCotangents(
        *architecture,
        supernet.weights.pack([w for group in weight_cotangents for w in group]),
        supernet.statistics.pack([s for group in old_moving_cotangents for s in group]),
    )


@exact_moments()
def validation_loss(
    supernet: Supernet, state: State, images: tf.Tensor, labels: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The outer loss: the head's, with the moving statistics, no dropout and no auxiliary network.

    Returns:
        `(loss, logits)`: a scalar and `(batch, num_classes)`.
    """
    weights = supernet.weights.unpack(state.weights)
    states = supernet.unpack_state(state.statistics, state.seeds)
    outputs = images
    for index in (*range(supernet.num_units), len(supernet.parts) - 1):
        outputs, _ = supernet.parts[index].stateless_call(
            weights[index], states[index], outputs, training=False
        )
    return supernet.head_loss(outputs, labels), outputs
