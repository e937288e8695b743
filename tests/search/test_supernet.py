"""The supernet's order of parts, and what belongs to which."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import tiny_backbone

from sedona_tf.auxiliary import Candidate, Kind, candidates_from, kinds, register
from sedona_tf.backbones.backbone import Backbone
from sedona_tf.backbones.part import build_part
from sedona_tf.errors import UserError
from sedona_tf.search.supernet import Supernet

CANDIDATES = candidates_from([{"kind": "separable", "depth": m} for m in (1, 2)])


@pytest.fixture(scope="module")
def net() -> Supernet:
    return Supernet(tiny_backbone(dropout=0.3), CANDIDATES, smoothing=0.1)


def test_parts_and_their_classifiers(net):
    names = [part.name for part in net.parts]
    units, rows = ["unit_1", "unit_2", "unit_3"], [["aux_1_1", "aux_1_2"], ["aux_2_1", "aux_2_2"]]
    assert names == [*units, *rows[0], *rows[1], "head"]
    classifiers = [net.classifier(unit) for unit in range(3)]
    assert [[names[part] for part in parts] for _, parts in classifiers] == [*rows, ["head"]]
    assert classifiers[0][0] is classifiers[1][0]  # built alike, so traced once
    assert classifiers[2][0] is not classifiers[0][0]


def test_the_mixture_at_each_unit(net):
    mixture = tf.constant([[0.25, 0.75], [0.5, 0.5]])
    found = [net.mixture_at(unit, mixture).numpy().tolist() for unit in range(3)]
    assert found == [[0.25, 0.75], [0.5, 0.5], [1.0]]


def test_state_is_unpacked_part_by_part(net):
    """Statistics and seeds come apart and together in each part's own order."""
    statistics = tf.range(float(net.statistics.size))
    seeds = tuple(tf.fill(seed.shape, 100 + index) for index, seed in enumerate(net.seeds))
    assert len(seeds) == 1  # the dropout's
    states = net.unpack_state(statistics, seeds)
    for index, (part, values) in enumerate(zip(net.parts, states, strict=True)):
        shapes = [tuple(variable.shape) for variable in part.non_trainable_variables]
        assert [tuple(value.shape) for value in values] == shapes
        of_seeds = part.name == "head"
        assert len(net.statistics_in(index, values)) == len(values) - of_seeds
    assert states[-1][-1].numpy().tolist() == [100, 100]
    packed, again = net.pack_state(states)
    np.testing.assert_array_equal(packed, statistics)
    np.testing.assert_array_equal(again, seeds)


def test_the_losses_are_smoothed(net):
    """Cross-entropy against 0.9 at the label and 0.05 at each of the two others."""
    logits = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = np.where(np.eye(3)[[2, 0]], 0.9, 0.05)
    expected = -(targets * logs).sum(axis=1).mean()
    for loss in (net.head_loss, net.local_loss):
        assert float(loss(tf.constant(logits), tf.constant([2, 0]))) == pytest.approx(expected)


def test_own_losses_are_not_smoothed():
    """As in training, which hands a kind's own loss a smoothing of 0."""

    def own(outputs, labels, smoothing):
        return tf.reduce_mean(outputs) + smoothing

    register("own", Kind(linear, own, lambda outputs: outputs))
    try:
        net = Supernet(tiny_backbone(), [Candidate("own")], smoothing=0.1)
        assert float(net.local_loss(tf.fill((2, 3), 4.0), tf.constant([0, 1]))) == 4.0
        with pytest.raises(UserError, match="share one"):
            Supernet(tiny_backbone(), [Candidate("mlp_sr"), Candidate("own")])
    finally:
        del kinds["own"]
    with pytest.raises(UserError, match="differ"):
        Supernet(tiny_backbone(), [Candidate("mlp_sr"), Candidate("mlp_sr")])


def linear(x, *, num_classes, narrow):
    return keras.layers.Dense(num_classes)(keras.layers.Flatten()(x))


def test_two_units_are_needed():
    unit = tiny_backbone().units[0]
    head = build_part("head", unit.output_shape[1:], keras.layers.Flatten())
    with pytest.raises(UserError, match="two units"):
        Supernet(Backbone([unit], head, name="one"), CANDIDATES)
