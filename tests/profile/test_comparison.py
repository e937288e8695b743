"""Ways to train and the recommendation, on costs made up for the purpose."""

from __future__ import annotations

import itertools
import math

import pytest

from sedona_tf.plans import Plan
from sedona_tf.profile.comparison import (
    Devices,
    FrontPoint,
    comparison_table,
    front_table,
    fronts,
    ways_to_train,
)
from sedona_tf.profile.cost_aware import Choice, front
from sedona_tf.profile.costs import Costs, PartCost
from sedona_tf.profile.predict import Link

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
    found = {a.name: a for a in ways_to_train(*made_up(), [2, 4], Devices(4))}
    speeds = {name: each.prediction.images_per_second for name, each in found.items()}
    assert speeds == pytest.approx(
        {
            "backprop, one device": 12 / 12,
            "backprop, recomputing": 12 / 16,
            "data parallel on 4": 12 / 3,
            "decoupled, K = 2": 12 / 9,  # the plan's cut: 1 unit and 3
            "decoupled, K = 2, fastest": 12 / 6,
            "decoupled, K = 4": 12 / 3,
        }
    )
    assert found["decoupled, K = 2"].cut_after == (1,)
    assert found["decoupled, K = 2, fastest"].cut_after == (2,)


def test_a_slow_link_speaks_for_cutting():
    link = Link(bandwidth=1e9)
    found = ways_to_train(*made_up(parameter_bytes=500 * MIB), [4], Devices(4, link))
    assert "decoupled, K = 4" in comparison_table(found).splitlines()[-1]


def test_memory_speaks_for_cutting_on_one_device():
    found = ways_to_train(*made_up(), [4], Devices(1))
    assert found[0].prediction.peak_bytes == (400 * MIB,)
    assert found[-1].prediction.peak_bytes == (100 * MIB,)
    recommendation = comparison_table(found).splitlines()[-1]
    assert recommendation.endswith("for memory decoupled, K = 4, 0.25 of backprop's.")


def test_costly_nets_speak_against_cutting():
    found = ways_to_train(*made_up(net_s=50.0), [2], Devices(2))
    assert "cutting gains nothing here" in comparison_table(found)


def test_fronts_fall_in_score_and_rise_in_speed():
    points = fronts(*made_up(), [2, 4], Devices(4))
    mine = [p for p in points if p.num_blocks == 2]
    assert [p.choice.cut_after for p in mine] == [(1,), (2,)]
    assert [p.speedup for p in mine] == pytest.approx([12 / 9, 12 / 6])
    score = 1 / (1 + math.exp(-3.0))
    assert f"2  1          1        {score:.3f}" in front_table(points, ["separable(depth=1)"])


def test_no_point_of_a_front_is_beaten_where_blocks_share_devices():
    units = tuple((f"unit{i + 1}", (4,)) for i in range(6))
    nets = tuple({"kind": "separable", "depth": depth} for depth in (1, 2))
    alpha = ((0.0, 0.0), (4.0, 0.0), (4.0, 0.0), (4.0, 0.0), (2.0, 0.0))
    plan = Plan("toy", units, nets, alpha, ((0.0, 1.0),) * 5)
    parts = tuple(PartCost(forward_s=float(each)) for each in (3, 3, 2, 1, 1, 8))
    row = ((PartCost(), PartCost(forward_s=0.5)),) * 5
    costs = Costs("toy", units, nets, 12, "toy device", parts, row, PartCost())
    for devices in (Devices(2), Devices(1)):
        points = fronts(plan, costs, [4], devices)
        for better, faster in itertools.pairwise(points):
            assert better.choice.score > faster.choice.score and better.speedup < faster.speedup
        found = ways_to_train(plan, costs, [4], devices)
        own, *rest = [each.prediction.step_s for each in found if each.isolated]
        assert all(step_s < own for step_s in rest) and len(rest) <= 1
        every = [costs.blocks(c.cut_after, c.candidates) for c in front(plan, costs, 4)]
        assert len(every) > len(points)
        least = min(devices.predict(blocks, 12).step_s for blocks in every)
        assert min([own, *rest]) <= least


def test_rows_of_equal_cuts_say_how_they_differ():
    choices = [Choice((1, 4), nets, 1.0, 2.0, 0) for nets in ((0, 1), (1, 1))]
    points = [FrontPoint(3, choice, 1.5) for choice in choices]
    lines = front_table(points, ["separable(depth=1)", "mlp_sr()"]).splitlines()
    rows = [line.split() for line in lines if line.startswith("3 ")]
    assert [row[1:5] for row in rows] == [["1,", "4", "1,", "2"], ["1,", "4", "2,", "2"]]
    assert lines[-1] == "Nets: 1 separable(depth=1), 2 mlp_sr()."
