"""The relaxed gradient field: what every weight of the supernet is trained on (paper, section 3).

Unit l is trained on `p_l * g_l + (1 - p_l) * u_l`: g_l is the gradient that its local loss sends
into its output, u_l the one that arrives from the unit above, p_l the cut probability. Candidates
and head are trained on their own losses. Because the mixture is on gradients, the field is not the
gradient of any scalar, so it is computed by an explicit sweep from the head down, with one tape a
unit and one a local classifier, whose cotangents are mixed by hand. An identity "gate" with a
scaled backward pass would give the same values and a wrong derivative: an outer tape would
differentiate the forward pass through it. The sweep is made of ordinary operations, so an outer
tape differentiates it exactly, and it is exact at p = 0 (backpropagation) and p = 1 (isolated
blocks).
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from sedona_tf.bilevel.supernet import Supernet

__all__ = ["Field", "State", "relaxed_field", "validation_loss"]


class State(NamedTuple):
    """Values of all of a supernet's variables but the architecture.

    Attributes:
        weights: `(W,)`, see `Supernet.weights`.
        statistics: `(S,)`, moving statistics, see `Supernet.statistics`.
        seeds: states of random generators, see `Supernet.seeds`.
    """

    weights: tf.Tensor
    statistics: tf.Tensor
    seeds: tuple[tf.Tensor, ...]


class Field(NamedTuple):
    """The field at one state on one batch.

    Attributes:
        gradients: `(W,)`, what the weights are trained on.
        statistics: `(S,)`, moving statistics after the batch.
        seeds: generator states after the batch.
        losses: `(L,)`, the local losses and, last, the head's.
        logits: `(batch, num_classes)` of the head.
    """

    gradients: tf.Tensor
    statistics: tf.Tensor
    seeds: tuple[tf.Tensor, ...]
    losses: tf.Tensor
    logits: tf.Tensor


def relaxed_field(
    supernet: Supernet,
    state: State,
    cut_probability: tf.Tensor,
    mixture: tf.Tensor,
    images: tf.Tensor,
    labels: tf.Tensor,
) -> Field:
    """Computes the field; differentiable with respect to every tensor argument but the labels.

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
    net = supernet.bind(
        supernet.weights.unpack(state.weights),
        supernet.statistics.unpack(state.statistics),
        state.seeds,
    )
    units, head = supernet.backbone.units, supernet.backbone.head

    # Up: every unit and every local classifier on a tape of its own.
    inputs, outputs, unit_tapes = [images], [], []
    local_losses, local_gradients, gradients = [], [], {}
    for index, unit in enumerate(units):
        with tf.GradientTape() as tape:
            tape.watch([inputs[index], net.weights_of(unit)])
            outputs.append(net(unit, inputs[index], training=True))
        unit_tapes.append(tape)
        features = outputs[index]
        inputs.append(features)
        classifiers = [head] if unit is units[-1] else supernet.auxiliaries[index]
        with tf.GradientTape() as tape:
            tape.watch([features, net.weights_of(*classifiers)])
            if unit is units[-1]:
                logits = net(head, features, training=True)
                loss = supernet.head_loss(logits, labels)
            else:
                loss = supernet.local_loss(
                    _mix(net, classifiers, features, mixture[index]), labels
                )
        local, *of_weights = tape.gradient(loss, [features, *net.weights_of(*classifiers)])
        local_losses.append(loss)
        local_gradients.append(local)
        for classifier in classifiers:
            count = len(classifier.trainable_variables)
            gradients[id(classifier)], of_weights = of_weights[:count], of_weights[count:]

    # Down: mix the local gradient with the one from above, pull it back through the unit.
    above = None
    for index in reversed(range(len(units))):
        cotangent = local_gradients[index]
        if above is not None:
            p = cut_probability[index]
            cotangent = p * cotangent + (1.0 - p) * above
        sources = [inputs[index]] if index > 0 else []
        pulled = unit_tapes[index].gradient(
            outputs[index],
            [*sources, *net.weights_of(units[index])],
            output_gradients=cotangent,
        )
        above = pulled[0] if sources else None
        gradients[id(units[index])] = pulled[len(sources) :]

    return Field(
        supernet.weights.pack([g for part in supernet.parts for g in gradients[id(part)]]),
        supernet.statistics.pack([value for group in net.statistics for value in group]),
        tuple(net.seeds),
        tf.stack(local_losses),
        logits,
    )


def _mix(net, classifiers, features: tf.Tensor, weights: tf.Tensor):
    """Weighted sum of the candidates' outputs, leaf by leaf."""
    outputs = [net(classifier, features, training=True) for classifier in classifiers]
    return tf.nest.map_structure(
        lambda *leaves: tf.add_n([weights[m] * leaf for m, leaf in enumerate(leaves)]), *outputs
    )


def validation_loss(
    supernet: Supernet, state: State, images: tf.Tensor, labels: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The outer loss: the head's, with the moving statistics, no dropout and no auxiliary network.

    Returns:
        `(loss, logits)`: a scalar and `(batch, num_classes)`.
    """
    net = supernet.bind(
        supernet.weights.unpack(state.weights),
        supernet.statistics.unpack(state.statistics),
        state.seeds,
    )
    features = images
    for unit in supernet.backbone.units:
        features = net(unit, features, training=False)
    logits = net(supernet.backbone.head, features, training=False)
    return supernet.head_loss(logits, labels), logits
