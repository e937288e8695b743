"""Alternatives and advice on costs made up for the purpose."""

from __future__ import annotations

import math

import pytest

from sedona_tf.plans import Costs, PartCost, Plan
from sedona_tf.plans.simulator import Link
from sedona_tf.profiling.weigh import Devices, alternatives, front_table, fronts, weigh_table

MIB = 2**20


def made_up(parameter_bytes: int = 0, net_s: float = 0.0, cuts=(3.0, 0.0, 0.0)):
    units = tuple((f"unit{i + 1}", (4,)) for i in range(4))
    net = {"kind": "separable", "depth": 1}
    plan = Plan("toy", units, (net,), tuple((a, 0.0) for a in cuts), ((0.0,),) * 3)
    unit = PartCost(
        1.0,
        2.0,
        activation_bytes=100 * MIB,
        output_bytes=10 * MIB,
        parameter_bytes=parameter_bytes,
    )
    row = ((PartCost(forward_s=net_s),),) * 3
    return plan, Costs("toy", units, (net,), 12, "toy device", (unit,) * 4, row, PartCost())


def test_speeds_are_those_worked_out_by_hand():
    found = {a.name: a for a in alternatives(*made_up(), [2, 4], Devices(4))}
    speeds = {name: each.prediction.images_per_second for name, each in found.items()}
    assert speeds == pytest.approx(
        {
            "backprop, one device": 12 / 12,
            "backprop, recomputing": 12 / 16,
            "data parallel on 4": 12 / 3,
            "decoupled, K = 2": 12 / 9,  # the plan's cut: 1 unit and 3
            "decoupled, K = 2, balanced": 12 / 6,
            "decoupled, K = 4": 12 / 3,
        }
    )
    assert found["decoupled, K = 2"].cut_after == (1,)
    assert found["decoupled, K = 2, balanced"].cut_after == (2,)


def test_a_slow_link_speaks_for_cutting():
    link = Link(bandwidth=1e9)
    found = alternatives(*made_up(parameter_bytes=500 * MIB), [4], Devices(4, link))
    assert "decoupled, K = 4" in weigh_table(found).splitlines()[-1]


def test_memory_speaks_for_cutting_on_one_device():
    found = alternatives(*made_up(), [4], Devices(1))
    assert found[0].prediction.peak_bytes == (400 * MIB,)
    assert found[-1].prediction.peak_bytes == (100 * MIB,)
    advice = weigh_table(found).splitlines()[-1]
    assert advice.endswith("for memory decoupled, K = 4, 0.25 of backprop's.")


def test_costly_nets_speak_against_cutting():
    found = alternatives(*made_up(net_s=50.0), [2], Devices(2))
    assert "cutting gains nothing here" in weigh_table(found)


def test_fronts_fall_in_score_and_rise_in_speed():
    points = fronts(*made_up(), [2, 4], Devices(4))
    mine = [p for p in points if p.num_blocks == 2]
    assert [p.choice.cut_after for p in mine] == [(1,), (2,)]
    assert [p.speedup for p in mine] == pytest.approx([12 / 9, 12 / 6])
    score = 1 / (1 + math.exp(-3.0))
    assert f"2  1          {score:.3f}" in front_table(points)
