"""Predictions against figures worked out by hand."""

from __future__ import annotations

import math

import pytest

from sedona_tf.errors import UserError
from sedona_tf.profile.costs import Costs, PartCost
from sedona_tf.profile.predict import (
    Link,
    end_to_end,
    predict,
    predict_data_parallel,
    recomputed,
)
from sedona_tf.train.placement import spread


def block(forward: float, backward: float, **more) -> PartCost:
    return PartCost(forward_s=forward, backward_s=backward, **more)


@pytest.mark.parametrize("barrier", [True, False])
@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_balanced_blocks_pipeline_perfectly(count, barrier):
    found = predict([block(1.0, 2.0)] * count, 30, barrier=barrier)
    assert found.step_s == pytest.approx(3.0)
    assert found.images_per_second == pytest.approx(10.0)
    assert found.utilisation == pytest.approx((1.0,) * count)


@pytest.mark.parametrize("barrier", [True, False])
@pytest.mark.parametrize("slow", [0, 1, 2])
def test_one_slow_block_sets_the_pace(slow, barrier):
    blocks = [block(1.0, 1.0)] * 3
    blocks[slow] = block(3.0, 5.0)
    found = predict(blocks, 8, barrier=barrier)
    assert found.step_s == pytest.approx(8.0)
    assert found.utilisation == pytest.approx([1.0 if k == slow else 0.25 for k in range(3)])


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
@pytest.mark.parametrize(
    ("seconds", "devices", "link_s"),
    [
        ((0.909, 0.936), None, 0.0),
        ((0.9, 0.95, 1.0), None, 0.0),
        ((0.98, 0.97, 0.95, 0.96, 0.94, 0.93, 0.99, 1.0), None, 0.5),
        (tuple(0.9 + 0.005 * k for k in range(16)), None, 0.0),
        ((0.5, 0.4, 0.45, 0.5), [0, 0, 1, 1], 0.0),
        ((0.8, 0.81, 0.82), None, 0.83),
    ],
)
def test_queued_steps_take_as_long_as_the_busiest_device_or_link(
    seconds, devices, link_s, schedule
):
    """However little the slowest block is behind the others, which run ahead of it at first."""
    blocks = [block(each / 3, 2 * each / 3, output_bytes=1) for each in seconds]
    link = Link(latency=link_s)
    found = predict(blocks, 8, schedule, devices, link, barrier=False)
    places = devices or range(len(blocks))
    loads = [
        sum(each for each, place in zip(seconds, places, strict=True) if place == device)
        for device in sorted(set(places))
    ]
    busiest = max(*loads, link_s)
    assert found.step_s == pytest.approx(busiest)
    assert found.utilisation == pytest.approx([load / busiest for load in loads])


def test_a_slow_link_sets_the_pace_of_a_pipeline():
    blocks = [block(1.0, 2.0, output_bytes=600), block(1.0, 2.0)]
    link = Link(bandwidth=100.0, latency=0.5)
    assert predict(blocks, 8, link=link).step_s == pytest.approx(1.0 + 6.5)  # after the forward
    assert predict(blocks, 8, link=link, barrier=False).step_s == pytest.approx(6.5)
    fast = Link(bandwidth=1000.0)
    assert predict(blocks, 8, link=fast).step_s == pytest.approx(3.0)  # behind the backward pass


def test_each_cut_may_have_a_link_of_its_own():
    blocks = [block(1.0, 2.0, output_bytes=600), block(1.0, 2.0, output_bytes=600), block(1.0, 2.0)]
    links = [Link(bandwidth=1000.0), Link(bandwidth=100.0)]
    assert predict(blocks, 8, link=links).step_s == pytest.approx(7.0)
    assert predict(blocks, 8, link=links[::-1]).step_s == pytest.approx(7.0)
    assert predict(blocks, 8, link=[links[0]] * 2).step_s == pytest.approx(3.0)
    with pytest.raises(UserError, match="each of the 2 cuts"):
        predict(blocks, 8, link=links[:1])


def test_lockstep_waits_for_the_forward_passes_below():
    blocks = [block(1.0, 2.0, output_bytes=100), block(1.5, 3.0, output_bytes=100), block(1.0, 4.0)]
    found = predict(blocks, 8, "lockstep", link=Link(bandwidth=1000.0))
    assert found.step_s == pytest.approx(1.0 + 0.1 + 1.5 + 0.1 + 1.0 + 4.0)
    overlapped = predict(blocks, 8, "lockstep", link=Link(bandwidth=1000.0), barrier=False)
    assert overlapped.step_s == pytest.approx(5.0)  # the busiest device


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
def test_one_device_does_all_the_work(schedule):
    blocks = [block(1.0, 2.0), block(2.0, 3.0), block(1.0, 1.0)]
    found = predict(blocks, 8, schedule, devices=[0, 0, 0])
    assert found.step_s == pytest.approx(10.0)
    assert found.utilisation == pytest.approx((1.0,))


def test_a_block_waits_for_its_last_but_one_output_to_be_sent():
    """Without barriers a quick block would run ahead of its link, and fill memory, for ever."""
    quick = block(1.0, 1.0, output_bytes=500)
    link = Link(bandwidth=100.0)
    found = predict([quick, block(1.0, 1.0)], 8, link=link, barrier=False)
    assert found.step_s == pytest.approx(5.0)
    assert found.utilisation == pytest.approx((0.4, 0.4))


def test_shared_devices_add_up():
    blocks = [block(1.0, 2.0), block(1.0, 1.0), block(2.0, 2.0)]
    assert predict(blocks, 8, devices=[0, 0, 1]).step_s == pytest.approx(5.0)


def test_memory_of_one_device_is_that_of_one_block_in_lockstep():
    blocks = [
        block(1.0, 2.0, activation_bytes=size, parameter_bytes=10, output_bytes=7)
        for size in (500, 300, 400)
    ]
    lockstep = predict(blocks, 8, "lockstep", devices=[0, 0, 0])
    assert lockstep.peak_bytes == (500 + 3 * 30,)
    pipelined = predict(blocks, 8, "pipelined", devices=[0, 0, 0])
    assert pipelined.peak_bytes == (500 + 300 + 400 + 3 * 30 + 2 * 7,)
    apart = predict(blocks, 8, "pipelined")
    assert apart.peak_bytes == (530, 300 + 30 + 7, 400 + 30 + 7)


def costs(num_units: int = 4) -> Costs:
    unit = PartCost(1.0, 2.0, 0.5, activation_bytes=100, output_bytes=20, parameter_bytes=40)
    head = PartCost(0.5, 0.5, 0.0, activation_bytes=10, output_bytes=1, parameter_bytes=4)
    units = tuple((f"unit{i + 1}", (4,)) for i in range(num_units))
    net = {"kind": "separable", "depth": 1}
    row = ((PartCost(0.25, 0.25),),) * (num_units - 1)
    return Costs("toy", units, (net,), 16, "toy", (unit,) * num_units, row, head)


def test_recomputation_adds_a_forward_pass_and_keeps_outputs():
    whole, again = end_to_end(costs()), recomputed(costs())
    assert whole.seconds == pytest.approx(4 * 3.5 + 1.0)
    assert again.seconds == pytest.approx(whole.seconds + 4.0)
    assert whole.activation_bytes == 410
    assert again.activation_bytes == 4 * 20 + 100


def test_data_parallel_shares_the_batch_and_pays_for_the_ring():
    link = Link(bandwidth=41.0, latency=0.1)
    found = predict_data_parallel(costs(), 4, link)
    ring = 2 * 3 * (0.1 + 164 / 4 / 41.0)
    assert found.step_s == pytest.approx(13.0 / 4 + 2.0 + ring)
    assert predict_data_parallel(costs(), 1).step_s == pytest.approx(15.0)


def test_is_deterministic():
    blocks = [block(0.3, 0.7), block(0.2, 0.8), block(0.6, 0.4)]
    link = Link(bandwidth=10.0, latency=0.01)
    first = predict(blocks, 8, devices=[0, 1, 1], link=link, barrier=False)
    assert first == predict(blocks, 8, devices=[0, 1, 1], link=link, barrier=False)


@pytest.mark.parametrize(
    "arguments",
    [
        {"blocks": [], "batch_size": 8},
        {"blocks": [block(1.0, 1.0)], "batch_size": 8, "devices": [0, 1]},
        {"blocks": [block(1.0, 1.0)] * 2, "batch_size": 8, "devices": [0, -1]},
        {"blocks": [block(1.0, 1.0)], "batch_size": 8, "schedule": "backwards"},
    ],
)
def test_refusals(arguments):
    with pytest.raises(UserError):
        predict(**arguments)


@pytest.mark.parametrize(
    ("bandwidth", "latency"),
    [(0.0, 0.0), (-1.0, 0.0), (math.nan, 0.0), (1.0, -0.1), (1.0, math.inf)],
)
def test_links_must_be_possible(bandwidth, latency):
    with pytest.raises(UserError, match="link"):
        Link(bandwidth, latency)


def test_free_parts_take_no_time():
    found = predict([PartCost()] * 2, 8)
    assert (found.step_s, found.images_per_second) == (0.0, math.inf)
    assert found.utilisation == (0.0, 0.0) and found.peak_bytes == (0, 0)
    free = Costs("toy", (("a", (1,)),), (), 8, "toy", (PartCost(),), (), PartCost())
    alone = predict_data_parallel(free, 2)
    assert (alone.step_s, alone.images_per_second) == (0.0, math.inf)
    assert alone.utilisation == (0.0, 0.0)


def test_data_parallel_figures():
    found = predict_data_parallel(costs(), 4, Link(bandwidth=41.0))
    assert found.step_s == pytest.approx(5.25 + 6.0)
    assert found.images_per_second == pytest.approx(16 / 11.25)
    assert found.utilisation == pytest.approx((5.25 / 11.25,) * 4)
    assert found.peak_bytes == (3 * 164 + 102,) * 4  # a quarter of 410 bytes of activations
    slow = Link(latency=9.0)
    assert predict_data_parallel(costs(), 1, slow).step_s == pytest.approx(15.0)
    assert predict_data_parallel(costs(), 2, slow).step_s == pytest.approx(8.5 + 2 * 9.0)


def test_a_device_without_blocks_is_idle():
    found = predict([block(1.0, 2.0, activation_bytes=5)] * 2, 8, devices=[0, 2])
    assert found.utilisation == pytest.approx((1.0, 0.0, 1.0))
    assert found.peak_bytes == (5, 0, 5)


def test_updates_count_as_work():
    found = predict([PartCost(1.0, 2.0, 4.0)], 8, "lockstep")
    assert found.step_s == pytest.approx(7.0)


def test_blocks_are_spread_by_neighbours():
    assert spread(5, 3) == [0, 0, 1, 1, 2]
    assert spread(3, 1) == [0, 0, 0] and spread(1, 8) == [0]


def test_one_output_may_be_under_way():
    """A block computes on while its last output travels, and then waits."""
    blocks = [block(1.0, 1.0, output_bytes=5), block(1.0, 1.0)]
    link = Link(bandwidth=1.0)
    found = predict(blocks, 8, link=link, barrier=False)
    assert found.step_s == pytest.approx(5.0)
    assert found.utilisation == pytest.approx((2 / 5, 2 / 5))


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
@pytest.mark.parametrize("barrier", [True, False])
def test_numbers_of_devices_do_not_matter(schedule, barrier):
    blocks = [block(1.0, 2.0, output_bytes=1), block(1.5, 3.0, output_bytes=2), block(1.0, 4.0)]
    link = Link(bandwidth=8.0)
    found, turned = (
        predict(blocks, 8, schedule, devices, link, barrier) for devices in ([0, 1, 2], [2, 1, 0])
    )
    assert turned.step_s == pytest.approx(found.step_s)
    assert turned.utilisation == pytest.approx(found.utilisation[::-1])
    assert turned.peak_bytes == found.peak_bytes[::-1]
