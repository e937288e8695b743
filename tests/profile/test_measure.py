"""Measured costs: what must be true whatever the machine."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from sedona_tf import backbones, plans
from sedona_tf.auxiliary import Candidate
from sedona_tf.backbones import Backbone
from sedona_tf.errors import UserError
from sedona_tf.profile import measure
from sedona_tf.profile.cache import CostCache
from sedona_tf.profile.costs import PartCost
from sedona_tf.profile.measure import measure_costs

CANDIDATES = (Candidate("mlp_sr"), Candidate("separable", (("depth", 1),)))


@pytest.fixture(scope="module")
def backbone():
    return backbones.build("resnet18", (8, 8, 1), 10, width=4)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache") / "parts.json"


@pytest.fixture(scope="module")
def costs(backbone, cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "SECONDS_OF_A_TIMING", 0.001)  # the figures matter little
        return measure_costs(backbone, CANDIDATES, 8, cache=CostCache(cache))


def test_weights_and_outputs_are_the_networks(backbone, costs):
    for unit, cost in zip(backbone.units, costs.unit_costs, strict=True):
        size = sum(math.prod(v.shape) for v in unit.trainable_variables)
        assert cost.parameter_bytes == 4 * size
        assert cost.output_bytes == 4 * 8 * math.prod(unit.output_shape[1:])
    whole = costs.block(1, len(backbone.units))
    size = sum(math.prod(v.shape) for v in backbone.trainable_variables)
    assert whole.parameter_bytes == 4 * size


def test_every_part_takes_time_and_memory(costs):
    nets = [net for row in costs.auxiliary_costs for net in row]
    for cost in (*costs.unit_costs, *nets, costs.head_cost):
        assert cost.forward_s > 0
        assert cost.flops > 0
        assert cost.activation_bytes > 0
    assert [len(row) for row in costs.auxiliary_costs] == [2] * 7


def test_a_decoupling_costs_what_its_blocks_do(backbone, costs):
    decoupling = plans.baseline("dgl", backbone, 4)
    blocks = costs.of(decoupling)
    expected = sum(u.seconds for u in costs.unit_costs) + costs.head_cost.seconds
    expected += sum(costs.auxiliary_costs[unit - 1][0].seconds for unit in decoupling.cut_after)
    assert sum(block.seconds for block in blocks) == pytest.approx(expected)
    with pytest.raises(UserError, match="no auxiliary net"):
        costs.of(plans.baseline("predsim", backbone, 4))


def test_the_backbone_is_left_as_it_was(monkeypatch):
    """Moving statistics and dropout's seed included."""
    monkeypatch.setattr(measure, "SECONDS_OF_A_TIMING", 0.0)
    keras.utils.set_random_seed(1)
    layers = keras.layers
    backbone = Backbone.from_keras(
        keras.Sequential(
            [
                *(keras.Input((4, 4, 1)), layers.Conv2D(2, 3), layers.BatchNormalization()),
                *(layers.Conv2D(2, 2), layers.Flatten(), layers.Dropout(0.5), layers.Dense(3)),
            ]
        )
    )
    before = [variable.numpy() for variable in backbone.variables]
    assert len(backbone.non_trainable_variables) == 3
    measure_costs(backbone, CANDIDATES[:1], 8)
    for variable, value in zip(backbone.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, variable.path)


def test_nothing_is_timed_twice(backbone, costs, cache, monkeypatch):
    def refuse(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(measure, "_measure", refuse)
    assert measure_costs(backbone, CANDIDATES, 8, cache=CostCache(cache)) == costs
    with pytest.raises(AssertionError, match="again"):
        measure_costs(backbone, CANDIDATES, 9, cache=CostCache(cache))
    monkeypatch.setattr(measure, "processor", lambda: "another processor")
    with pytest.raises(AssertionError, match="again"):
        measure_costs(backbone, CANDIDATES, 8, cache=CostCache(cache))


def test_equal_units_are_measured_once(monkeypatch):
    backbone = backbones.build("resnet50", (8, 8, 1), 10, width=4)
    calls = []
    one = PartCost(forward_s=1.0)

    def record(part, *_):
        calls.append(part.model.name)
        return one

    monkeypatch.setattr(measure, "_measure", record)
    costs = measure_costs(backbone, CANDIDATES[:1], 8)
    assert costs.unit_costs == (one,) * 16
    units = [name for name in calls if name.startswith("unit")]
    assert units == [f"unit_{i}" for i in (1, 2, 4, 5, 8, 9, 14, 15)]  # the first two of a stage


def unit_of(wire, name: str, trainable: bool = True) -> keras.Model:
    """Two convolutions, wired somehow, and a sum."""
    x = keras.Input((8, 8, 4))
    a = keras.layers.Conv2D(4, 3, padding="same", trainable=trainable)
    b = keras.layers.Conv2D(4, 3, padding="same")
    return keras.Model(x, wire(x, a, b), name=name)


def test_units_of_the_same_layers_wired_otherwise_are_other_units():
    class Scaled(keras.layers.Layer):
        """Its config does not say what it does."""

        def __init__(self, power: int) -> None:
            super().__init__()
            self.power = power

        def call(self, x):
            return x**self.power

    def deep(x, a, b):
        return keras.layers.Add()([b(a(x)), x])

    def wide(x, a, b):
        return keras.layers.Add()([a(x), b(x)])

    def key(unit, batch=8):
        return measure._key(measure._Part(unit, None, True), batch)

    same = [key(unit_of(deep, name)) for name in ("one", "two")]
    assert same[0] == same[1]
    others = [
        key(unit_of(wide, "wide")),
        key(unit_of(deep, "frozen", trainable=False)),
        key(unit_of(deep, "one"), batch=4),
        *(key(unit_of(lambda x, a, b, n=n: b(a(Scaled(n)(x))), f"power_{n}")) for n in (2, 3)),
        *(
            key(unit_of(lambda x, a, b, r=r: b(keras.layers.Dropout(r)(a(x))), f"drop_{r}"))
            for r in (0.1, 0.2)
        ),
    ]
    assert len({same[0], *others}) == 8
    drops = [
        key(unit_of(lambda x, a, b, s=s: b(keras.layers.Dropout(0.1, seed=s)(a(x))), f"seed_{s}"))
        for s in (1, 2)
    ]
    assert drops[0] == drops[1] == others[-2]


def test_a_damaged_cache_is_refused(costs, cache, tmp_path):
    data = cache.read_bytes()
    path = tmp_path / "parts.json"
    for end in range(0, len(data) - 1, max(len(data) // 50, 1)):  # the last byte ends the line
        path.write_bytes(data[:end])
        with pytest.raises(UserError, match=r"parts\.json"):
            CostCache(path)
