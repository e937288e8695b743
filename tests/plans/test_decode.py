"""Decoding against brute force over all sets of cuts."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sedona_tf.errors import UserError
from sedona_tf.plans import Decoupling, Plan, Tie


def plan_of(probabilities, weights=None) -> Plan:
    """A plan with these cut probabilities and candidate weights."""
    weights = weights or [(0.7, 0.2, 0.1)] * len(probabilities)
    return Plan(
        backbone="toy",
        units=tuple((f"unit{i + 1}", (4,)) for i in range(len(probabilities) + 1)),
        candidates=tuple({"kind": "separable", "depth": i + 1} for i in range(len(weights[0]))),
        alpha=tuple((math.log(p), math.log1p(-p)) for p in probabilities),
        beta=tuple(tuple(math.log(w) for w in row) for row in weights),
        provenance={"seed": 3},
    )


@st.composite
def plans(draw):
    logit = st.floats(-4, 4) | st.sampled_from([0.0, 1.0])  # the latter for exact ties
    num_units = draw(st.integers(1, 8))
    rows = draw(st.lists(st.tuples(logit, logit), min_size=num_units - 1, max_size=num_units - 1))
    num_candidates = draw(st.integers(1, 4))
    row = st.lists(logit, min_size=num_candidates, max_size=num_candidates)
    beta = draw(st.lists(row, min_size=num_units - 1, max_size=num_units - 1))
    return Plan(
        backbone="toy",
        units=tuple((f"unit{i + 1}", (4,)) for i in range(num_units)),
        candidates=tuple({"kind": "separable", "depth": i + 1} for i in range(num_candidates)),
        alpha=rows,
        beta=beta,
    )


@settings(max_examples=100, deadline=None, derandomize=True)
@given(plans())
def test_against_brute_force(plan):
    p = plan.cut_probability
    for num_blocks in range(1, plan.num_units + 1):
        found = plan.decode(num_blocks)
        subsets = itertools.combinations(range(1, plan.num_units), num_blocks - 1)
        # fsum is exact up to one rounding, so the order of the terms does not matter; of equal
        # sums the lexicographically first set is the one with the lower units
        best = max(math.fsum(p[unit - 1] for unit in cuts) for cuts in subsets)
        assert math.fsum(p[unit - 1] for unit in found.cut_after) == best
        for unit, auxiliary in zip(found.cut_after, found.auxiliary, strict=True):
            candidate = plan.candidates.index(auxiliary)
            row = plan.candidate_weights[unit - 1]
            assert row[candidate] == max(row) and max(row) not in row[:candidate]
        covered = [unit for first, last in found.blocks() for unit in range(first, last + 1)]
        assert covered == list(range(1, plan.num_units + 1))
        assert len(found.blocks()) == found.num_blocks == num_blocks
        assert [last for _, last in found.blocks()][:-1] == list(found.cut_after)


def test_known_example():
    plan = plan_of([0.9, 0.1, 0.8, 0.5], [(0.1, 0.9), (0.5, 0.5), (0.6, 0.4), (0.2, 0.8)])
    found = plan.decode(3)
    deep, shallow = {"kind": "separable", "depth": 2}, {"kind": "separable", "depth": 1}
    assert found == Decoupling("toy", 5, (1, 3), (deep, shallow), provenance=plan.provenance)
    assert found.blocks() == [(1, 1), (2, 3), (4, 5)]
    assert plan.decode(1).blocks() == [(1, 5)]
    assert plan.decode(5).blocks() == [(n, n) for n in range(1, 6)]


def test_lower_unit_wins_and_the_tie_is_reported():
    found = plan_of([0.5, 0.9, 0.5, 0.4, 0.5]).decode(3)
    assert found.cut_after == (1, 2)
    assert found.ties == (Tie(None, (1,), (3, 5)),)
    assert str(found.ties[0]) == "cut after unit 1 as good as after 3, 5"


@pytest.mark.parametrize(("gap", "tied"), [(9e-4, True), (1.1e-3, False)])
def test_tolerance_of_cuts(gap, tied):
    found = plan_of([0.5, 0.9, 0.5 + gap]).decode(3)
    assert found.cut_after == (2, 3)
    assert found.ties == ((Tie(None, (3,), (1,)),) if tied else ())


def test_ties_within_the_taken_or_the_left_units_are_none():
    assert plan_of([0.9, 0.9, 0.1, 0.1]).decode(3).ties == ()


@pytest.mark.parametrize(("gap", "tied"), [(9e-4, True), (1.1e-3, False)])
def test_tolerance_of_candidates(gap, tied):
    weights = [(0.4 - gap / 2, 0.4 + gap / 2, 0.2), (1 / 3, 1 / 3, 1 / 3)]
    found = plan_of([0.9, 0.1], weights).decode(2)
    assert found.auxiliary == ({"kind": "separable", "depth": 2},)
    tie = Tie(1, ("separable(depth=2)",), ("separable(depth=1)",))
    assert found.ties == ((tie,) if tied else ())


@pytest.mark.parametrize("num_blocks", [0, -1, 4, True, 2.0, "2"])
def test_out_of_range(num_blocks):
    with pytest.raises(UserError, match="1 and 3"):
        plan_of([0.5, 0.6]).decode(num_blocks)
