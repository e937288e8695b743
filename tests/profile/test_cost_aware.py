"""Cost-aware decoding against brute force over all cuts and candidates."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import msgspec
import pytest

from sedona_tf.errors import UserError
from sedona_tf.plans import Decoupling, Plan
from sedona_tf.profile import cost_aware
from sedona_tf.profile.cost_aware import Choice, choose, front
from sedona_tf.profile.costs import Costs, PartCost
from sedona_tf.profile.predict import end_to_end

ROOT = Path(__file__).parents[2]


def random_plan(rng: random.Random, num_units: int, candidates: int, ties: bool) -> Plan:
    """Scores of which many are equal if there are to be ties."""

    def logit() -> float:
        return rng.choice([0.0, 1.0]) if ties else rng.uniform(-3, 3)

    return Plan(
        backbone="toy",
        units=tuple((f"unit{i + 1}", (4,)) for i in range(num_units)),
        candidates=tuple({"kind": "separable", "depth": i + 1} for i in range(candidates)),
        alpha=tuple((logit(), logit()) for _ in range(num_units - 1)),
        beta=tuple(tuple(logit() for _ in range(candidates)) for _ in range(num_units - 1)),
    )


def random_costs(rng: random.Random, plan: Plan) -> Costs:
    """Whole milliseconds, so that sums are exact in any order."""

    def part(most: int) -> PartCost:
        seconds = [rng.randint(1, most) / 1024 for _ in range(3)]
        return PartCost(*seconds, rng.randint(1, 999), rng.randint(1, 99), rng.randint(1, 99))

    return Costs(
        backbone=plan.backbone,
        units=plan.units,
        candidates=plan.candidates,
        batch_size=8,
        device="toy",
        unit_costs=tuple(part(20) for _ in plan.units),
        auxiliary_costs=tuple(tuple(part(8) for _ in plan.candidates) for _ in plan.units[1:]),
        head_cost=part(3),
    )


def every(plan: Plan, costs: Costs, num_blocks: int):
    """Score, slowest block and largest block of all decouplings."""
    for cuts in itertools.combinations(range(1, plan.num_units), num_blocks - 1):
        for chosen in itertools.product(range(len(plan.candidates)), repeat=len(cuts)):
            score = 0.0
            for unit, candidate in zip(cuts, chosen, strict=True):
                row = plan.candidate_weights[unit - 1]
                score += plan.cut_probability[unit - 1] * (row[candidate] / max(row))
            edges = [0, *cuts, plan.num_units]
            seconds, sizes = [], []
            for k, (low, high) in enumerate(itertools.pairwise(edges)):
                parts = list(costs.unit_costs[low:high])
                last = high == plan.num_units
                parts.append(
                    costs.head_cost if last else costs.auxiliary_costs[high - 1][chosen[k]]
                )
                seconds.append(sum(p.forward_s + p.backward_s + p.update_s for p in parts))
                sizes.append(sum(3 * p.parameter_bytes + p.activation_bytes for p in parts))
            yield score, max(seconds), max(sizes)


@pytest.mark.parametrize("seed", range(12))
def test_front_is_brute_force(seed):
    rng = random.Random(seed)
    plan = random_plan(
        rng, rng.randint(2, 12 if seed < 4 else 7), rng.choice([1, 2]), seed % 3 == 0
    )
    costs = random_costs(rng, plan)
    for num_blocks in range(1, min(plan.num_units, 5) + 1):
        options = list(every(plan, costs, num_blocks))
        limit = sorted(size for _, _, size in options)[len(options) // 2]
        for max_memory in (None, limit):
            fit = [o for o in options if max_memory is None or o[2] <= max_memory]
            expected = []
            for time in sorted({time for _, time, _ in fit}):
                best = max(score for score, other, _ in fit if other <= time)
                if not expected or best > expected[-1][0] + 1e-12:
                    expected.append((best, time))
            found = front(plan, costs, num_blocks, max_memory)
            assert [(c.score, c.slowest_s) for c in reversed(found)] == [
                (pytest.approx(score, abs=1e-12), time) for score, time in expected
            ]
            assert all(max_memory is None or c.peak_bytes <= max_memory for c in found)


@pytest.mark.parametrize("balance", [0.0, 0.3, 0.7, 1.0])
def test_balance_is_best_of_all(balance):
    rng = random.Random(5)
    plan = random_plan(rng, 7, 2, ties=False)
    costs = random_costs(rng, plan)
    options = list(every(plan, costs, 3))
    top, least = max(o[0] for o in options), min(o[1] for o in options)
    chosen = choose(front(plan, costs, 3), balance)
    worth = [(1 - balance) * score / top - balance * time / least for score, time, _ in options]
    got = (1 - balance) * chosen.score / top - balance * chosen.slowest_s / least
    assert got == pytest.approx(max(worth), abs=1e-12)


def test_slowdown_bounds_the_slowest_block():
    rng = random.Random(8)
    plan = random_plan(rng, 8, 2, ties=False)
    costs = random_costs(rng, plan)
    options = list(every(plan, costs, 4))
    least = min(time for _, time, _ in options)
    for slowdown in (1.0, 1.2, 1.5, 10.0):
        best = max(score for score, time, _ in options if time <= slowdown * least)
        decoupling = cost_aware.decode(plan, 4, costs, max_slowdown=slowdown)
        assert decoupling.provenance["score"] == pytest.approx(best, abs=1e-3)
        assert max(b.seconds for b in costs.of(decoupling)) <= slowdown * least


def test_saved_decouplings_come_from_one_table_of_costs():
    """A looser limit has a score no worse and a pipeline no faster."""
    name = "fashion_mnist_resnet18"
    costs = Costs.load(ROOT / f"benchmarks/results/{name}_costs.json")
    plan = Plan.load(ROOT / f"saved_plans/{name}.json")
    plain = cost_aware.decode(plan, 4, costs)
    balanced, fastest = (
        Decoupling.load(ROOT / f"saved_plans/{name}_{words}_k4.json")
        for words in ("balanced", "fastest")
    )
    assert plain.cut_after == plan.decode(4).cut_after
    assert balanced == cost_aware.decode(plan, 4, costs, max_slowdown=1.1)
    assert fastest == cost_aware.decode(plan, 4, costs, max_slowdown=1.0)
    order = [plain, balanced, fastest]
    scores = [each.provenance["score"] for each in order]
    slowest = [max(block.seconds for block in costs.of(each)) for each in order]
    assert scores == sorted(scores, reverse=True) and slowest == sorted(slowest, reverse=True)
    assert slowest[1] <= 1.1 * slowest[2]
    readme = (ROOT / "README.md").read_text()
    whole = end_to_end(costs).seconds
    for each, step_s in zip(order, slowest, strict=True):
        nets = ", ".join(str(net["depth"]) for net in each.auxiliary)
        cuts = ", ".join(map(str, each.cut_after))
        score = each.provenance["score"]
        assert f"| {cuts} | {nets} | {score:.3f} | {whole / step_s:.2f} |" in readme


def test_ties_go_to_the_faster_pipeline():
    plan = Plan(
        backbone="toy",
        units=tuple((f"unit{i + 1}", (4,)) for i in range(6)),
        candidates=({"kind": "separable", "depth": 1},),
        alpha=((0.0, 0.0),) * 5,
        beta=((0.0,),) * 5,
    )
    second = PartCost(forward_s=1.0)
    costs = Costs(
        "toy",
        plan.units,
        plan.candidates,
        8,
        "toy",
        (second,) * 6,
        ((PartCost(),),) * 5,
        PartCost(),
    )
    assert plan.decode(2).cut_after == (1,)
    assert cost_aware.decode(plan, 2, costs).cut_after == (3,)
    assert cost_aware.decode(plan, 3, costs).cut_after == (2, 4)


def test_without_trade_decode_is_the_plain_one():
    rng = random.Random(11)
    plan = random_plan(rng, 9, 3, ties=False)
    costs = random_costs(rng, plan)
    for num_blocks in (1, 2, 4, 9):
        plain = plan.decode(num_blocks)
        assert cost_aware.decode(plan, num_blocks, costs).cut_after == plain.cut_after
        assert cost_aware.decode(plan, num_blocks, costs).auxiliary == plain.auxiliary


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"balance": 1.5}, "balance must be from 0 to 1"),
        ({"max_slowdown": 0.5}, "at least 1"),
        ({"max_memory": 1.0}, "no decoupling into 2 blocks"),
    ],
)
def test_refusals(arguments, words):
    rng = random.Random(1)
    plan = random_plan(rng, 4, 1, ties=False)
    with pytest.raises(UserError, match=words):
        cost_aware.decode(plan, 2, random_costs(rng, plan), **arguments)


def test_costs_of_another_network_are_refused():
    rng = random.Random(1)
    plan, other = random_plan(rng, 4, 1, ties=False), random_plan(rng, 5, 1, ties=False)
    with pytest.raises(UserError, match="another network"):
        cost_aware.decode(plan, 2, random_costs(rng, other))
    with pytest.raises(UserError, match="other candidates"):
        cost_aware.decode(plan, 2, random_costs(rng, random_plan(rng, 4, 2, ties=False)))


def test_an_inner_block_needs_a_candidate():
    rng = random.Random(3)
    costs = random_costs(rng, random_plan(rng, 4, 2, ties=False))
    with pytest.raises(UserError, match="unit 2"):
        costs.block(1, 2)
    assert costs.block(3, 4).seconds > 0


def test_costs_read_back_and_refuse_damage(tmp_path):
    rng = random.Random(2)
    costs = random_costs(rng, random_plan(rng, 4, 2, ties=False))
    path = tmp_path / "costs.json"
    costs.save(path)
    assert Costs.load(path) == costs
    data = path.read_bytes()
    for end in range(0, len(data), 64):
        path.write_bytes(data[:end])
        with pytest.raises(UserError, match=r"costs\.json"):
            Costs.load(path)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "1"])
def test_costs_refuse_what_is_no_time(value):
    with pytest.raises(ValueError, match="forward_s"):
        PartCost(forward_s=value)
    part = PartCost()
    with pytest.raises(ValueError, match="flops"):
        msgspec.structs.replace(part, flops=1.5)


def test_choices_are_what_they_say():
    """Score, time and memory of each choice, from its cuts and nets."""
    rng = random.Random(21)
    plan = random_plan(rng, 7, 3, ties=False)
    costs = random_costs(rng, plan)
    found = front(plan, costs, 3)
    assert len(found) > 1
    for choice in found:
        blocks = costs.blocks(choice.cut_after, choice.candidates)
        assert choice.slowest_s == max(each.seconds for each in blocks)
        assert choice.peak_bytes == max(each.resident_bytes for each in blocks)
        score = 0.0
        for unit, candidate in zip(choice.cut_after, choice.candidates, strict=True):
            row = plan.candidate_weights[unit - 1]
            score += plan.cut_probability[unit - 1] * row[candidate] / max(row)
        assert choice.score == pytest.approx(score, abs=1e-12)


def test_what_does_not_fit_is_named_in_mebibytes():
    plan = random_plan(random.Random(4), 3, 1, ties=False)
    big = PartCost(activation_bytes=8 * 2**20)
    costs = Costs(
        *("toy", plan.units, plan.candidates, 8, "toy"),
        *((big,) * 3, ((big,),) * 2, PartCost()),
    )
    with pytest.raises(UserError, match=r"15\.5 MiB"):
        front(plan, costs, 2, 15.5 * 2**20)
    with pytest.raises(UserError, match="0.5 MiB"):
        front(plan, costs, 2, 2**19)
    (fits,) = front(plan, costs, 3, 16 * 2**20)  # the limit itself is allowed
    assert fits.cut_after == (1, 2) and fits.peak_bytes == 16 * 2**20
    with pytest.raises(UserError, match="4 blocks"):
        front(plan, costs, 4)


CHOICES = [
    Choice((1,), (0,), score, slowest, 0) for score, slowest in ((0.8, 4.0), (0.6, 3.0), (0.2, 2.0))
]


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        ({}, 0),
        ({"balance": 0.4}, 1),
        ({"balance": 1}, 2),
        ({"max_slowdown": 2.0}, 0),
        ({"max_slowdown": 1.99}, 1),
        ({"max_slowdown": 1}, 2),
        ({"tolerance": 0.19}, 0),
        ({"tolerance": 0.21}, 1),
        ({"tolerance": 0.61}, 2),
        ({"max_slowdown": 1.5, "tolerance": 0.41}, 2),
    ],
)
def test_choosing_from_a_front(arguments, chosen):
    assert choose(CHOICES, **arguments) == CHOICES[chosen]


def test_fronts_without_score_or_time():
    free = [Choice((), (), 0.0, 0.0, 0)]
    assert choose(free, 0.5, 1.0, 1e-3) == free[0]
    for balance in (-0.01, 1.01):
        with pytest.raises(UserError, match="balance"):
            choose(free, balance)
