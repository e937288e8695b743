"""Costs: sums written out, and refusal of what is no table of costs."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from sedona_tf.errors import UserError
from sedona_tf.plans import Decoupling
from sedona_tf.profile.costs import Costs, PartCost, total

NETS = ({"kind": "separable", "depth": 1}, {"kind": "mlp_sr"})
UNITS = (("unit1", (4,)), ("unit2", (4,)), ("unit3", (2,)))
PARTS = (
    PartCost(1.0, 2.0, 4.0, 10, 100, 1000, 10_000, 0.5),
    PartCost(8.0, 16.0, 32.0, 20, 200, 2000, 20_000, 0.25),
    PartCost(64.0, 128.0, 256.0, 40, 400, 4000, 40_000, 0.0),
)


def make(**changes) -> Costs:
    fields = {
        "backbone": "toy",
        "units": UNITS,
        "candidates": NETS,
        "batch_size": 1,
        "device": "toy",
        "unit_costs": PARTS,
        "auxiliary_costs": ((PartCost(0.5), PartCost(0.25)),) * 2,
        "head_cost": PartCost(0.125, output_bytes=3),
    }
    return Costs(**{**fields, **changes})


def test_a_part_by_its_definition():
    assert PARTS[0].seconds == 7.0
    assert PARTS[0].resident_bytes == 3 * 1000 + 10
    with pytest.raises(AttributeError):
        PARTS[0].flops = 1


@pytest.mark.parametrize("field", PartCost.__struct_fields__)
def test_no_part_costs_less_than_nothing(field):
    for value in (-1, True, None):
        with pytest.raises(ValueError, match=field):
            PartCost(**{field: value})
    assert getattr(PartCost(**{field: 0}), field) == getattr(PartCost(**{field: 1}), field) - 1


def test_parts_one_after_the_other_add_up():
    """The spread weighs each part by its forward and backward pass."""
    spread = (0.5 * 3 + 0.25 * 24) / 27
    assert total(PARTS[:2]) == PartCost(9.0, 18.0, 36.0, 30, 200, 3000, 30_000, spread)
    assert total([]) == total([PartCost(spread=0.5)]) == PartCost()


def test_a_block_is_its_units_and_what_closes_it():
    costs = make()
    assert costs.num_units == 3
    first, last = costs.blocks((2,), (1,))
    assert (first, last) == (costs.block(1, 2, 1), costs.block(3, 3))
    assert (first.forward_s, first.output_bytes) == (9.25, 200)  # the unit's, not the net's
    assert (last.forward_s, last.output_bytes) == (64.125, 400)
    assert costs.block(2, 2, 0).forward_s == 8.5
    assert costs.block(1, 3).forward_s == 73.125
    with pytest.raises(ValueError, match="zip"):
        costs.blocks((2,), (0, 1))


def test_costs_of_a_decoupling():
    costs = make()
    found = costs.of(Decoupling("toy", 3, (1, 2), (NETS[1], NETS[0])))
    assert [each.forward_s for each in found] == [1.25, 8.5, 64.125]
    with pytest.raises(UserError, match="toy with 4"):
        costs.of(Decoupling("toy", 4, (1,), (NETS[0],)))
    with pytest.raises(UserError, match="other with 3"):
        costs.of(Decoupling("other", 3, (1,), (NETS[0],)))
    with pytest.raises(UserError, match="predsim"):
        costs.of(Decoupling("toy", 3, (1,), ({"kind": "predsim"},)))


def test_for_one_plan_only():
    costs = make()
    plan = SimpleNamespace(backbone="toy", units=UNITS, candidates=NETS)
    costs.require(plan)
    for field, words in (("units", "another network"), ("candidates", "other candidates")):
        for smaller in (True, False):  # neither a part of it nor more than it
            value = getattr(plan, field)
            other = value[:-1] if smaller else (*value, value[0])
            with pytest.raises(UserError, match=words):
                costs.require(SimpleNamespace(**{**vars(plan), field: other}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backbone": 3}, "backbone"),
        ({"device": None}, "device"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 8.0}, "batch_size"),
        ({"unit_costs": PARTS[:2]}, "unit_costs must have 3 entries"),
        ({"unit_costs": {}}, "unit_costs"),
        ({"unit_costs": [*PARTS[:2], 1.0]}, r"unit_costs\[2\]"),
        ({"unit_costs": [*PARTS[:2], {"flops": -1}]}, r"unit_costs\[2\].flops"),
        ({"auxiliary_costs": ((PARTS[:2]),)}, "auxiliary_costs"),
        ({"auxiliary_costs": (PARTS[:2],) * 3}, "auxiliary_costs"),
        ({"auxiliary_costs": 2}, "auxiliary_costs"),
        ({"auxiliary_costs": (PARTS[:2], PARTS[:1])}, "auxiliary_costs"),
        ({"head_cost": None}, "head_cost"),
        ({"units": ()}, "units"),
    ],
    ids=range(14),
)
def test_refuses_wrong_fields(changes, words):
    with pytest.raises(ValueError, match=words):
        make(**changes)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("batch_size", 0, "batch_size"),
        ("head_cost", {"flops": 1, "more": 1}, "more"),
        ("unit_costs", [1.0] * 3, "unit_costs"),
    ],
)
def test_refuses_wrong_fields_of_a_file(field, value, words, tmp_path):
    path = tmp_path / "costs.json"
    make().save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(UserError, match=words) as caught:
        Costs.load(path)
    assert str(caught.value).startswith(f"costs '{path}' ")


def test_one_unit_and_no_candidates_are_enough(tmp_path):
    costs = make(units=UNITS[:1], candidates=(), unit_costs=PARTS[:1], auxiliary_costs=())
    costs.save(tmp_path / "costs.json")
    assert Costs.load(tmp_path / "costs.json") == costs
    assert [each.forward_s for each in costs.blocks((), ())] == [1.125]
