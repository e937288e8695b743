"""Decoupling files: round trip, refusal of everything else, use by one architecture and K only."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sedona_tf import document
from sedona_tf.errors import UserError
from sedona_tf.plans import Decoupling, Plan, Tie
from sedona_tf.plans.decode import find_ties

NETS = ({"kind": "separable", "depth": 4}, {"kind": "mlp_sr"})
ROUTINE = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def make(**changes) -> Decoupling:
    fields = {
        "backbone": "toy",
        "num_units": 7,
        "cut_after": (2, 5),
        "auxiliary": NETS,
        "ties": (Tie(None, (2,), (1, 3)), Tie(2, ("separable(depth=4)",), ("mlp_sr",))),
        "provenance": {"seed": 7, "recipe": {"lr": 0.1}},
    }
    return Decoupling(**{**fields, **changes})


def toy(name: str = "toy", num_units: int = 7) -> SimpleNamespace:
    """As much of a backbone as decouplings look at."""
    return SimpleNamespace(name=name, units=range(num_units))


def write(path, **changes) -> None:
    """A file with a right checksum and changed fields; None removes one."""
    content = make().to_dict() | changes
    content = {name: value for name, value in content.items() if value is not None}
    path.write_bytes(document.pack(content, "decoupling"))


def refusal(path, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        Decoupling.load(path, *arguments)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


@st.composite
def decouplings(draw):
    num_units = draw(st.integers(1, 60))
    cuts = draw(st.sets(st.integers(1, num_units - 1))) if num_units > 1 else set()
    nets = draw(st.lists(st.sampled_from(NETS), min_size=len(cuts), max_size=len(cuts)))
    return make(num_units=num_units, cut_after=sorted(cuts), auxiliary=nets)


@ROUTINE
@given(decouplings())
def test_round_trip_and_blocks(tmp_path, decoupling):
    decoupling.save(tmp_path / "decoupling.json")
    loaded = Decoupling.load(
        tmp_path / "decoupling.json", toy(num_units=decoupling.num_units), decoupling.num_blocks
    )
    assert loaded == decoupling and repr(loaded) == repr(decoupling)
    assert Decoupling.from_dict(decoupling.to_dict()) == decoupling
    covered = [unit for first, last in loaded.blocks() for unit in range(first, last + 1)]
    assert covered == list(range(1, decoupling.num_units + 1))
    assert tuple(last for _, last in loaded.blocks()[:-1]) == decoupling.cut_after


def test_the_file_says_it_plainly(tmp_path):
    make(ties=(), provenance={}).save(tmp_path / "decoupling.json")
    written = json.loads((tmp_path / "decoupling.json").read_text())
    del written["checksum"]
    assert written == {
        "format": "sedona_tf.decoupling",
        "version": 1,
        "backbone": "toy",
        "num_units": 7,
        "num_blocks": 3,
        "cut_after": [2, 5],
        "auxiliary": [{"kind": "separable", "depth": 4}, {"kind": "mlp_sr"}],
        "ties": [],
        "provenance": {},
    }


def test_only_for_its_architecture_and_number_of_blocks(tmp_path):
    path = tmp_path / "decoupling.json"
    make().save(path)
    assert Decoupling.load(path, toy(), 3) == Decoupling.load(path) == make()
    assert "is for toy with 7 units. Received: other with 7" in refusal(path, toy("other"))
    assert "is for toy with 7 units. Received: toy with 8" in refusal(path, toy(num_units=8))
    assert "is for 3 blocks. Received: 4" in refusal(path, toy(), 4)


def test_other_files(tmp_path):
    path = tmp_path / "plan.json"
    Plan("toy", (("a", (1,)),), NETS, (), ()).save(path)
    assert "not a decoupling file" in refusal(path)
    make().save(path)
    with pytest.raises(UserError, match="is a decoupling"):
        Plan.load(path)
    path.write_text(path.read_text().replace('"depth": 4', '"depth": 3'))
    assert "checksum" in refusal(path)
    assert "does not exist" in refusal(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cut_after": None}, "lacks field 'cut_after'"),
        ({"extra": 1}, "has the unknown field 'extra'"),
        ({"backbone": "two\nlines"}, "backbone must be"),
        ({"num_units": 0}, "num_units must be"),
        ({"num_units": 7.0}, "num_units must be"),
        ({"num_units": True}, "num_units must be"),
        ({"num_blocks": 2}, "num_blocks must be 3"),
        ({"num_blocks": 3.0}, "num_blocks must be 3"),
        ({"cut_after": {"2": 5}}, "cut_after must be a list"),
        ({"cut_after": [2, "5"]}, "cut_after must be a list"),
        ({"cut_after": [0, 5]}, "cut_after must be a list"),
        ({"cut_after": [5, 2]}, "cut_after must rise"),
        ({"cut_after": [2, 2]}, "cut_after must rise"),
        ({"cut_after": [2, 7]}, "stay below num_units, 7"),
        ({"cut_after": [2]}, "one net for each of the 1 cuts. Received: 2"),
        ({"auxiliary": [NETS[0], {"depth": 1}]}, "auxiliary must be objects with a 'kind'"),
        ({"auxiliary": [NETS[0], {"kind": "a", "b": [1]}]}, "auxiliary must have plain options"),
        ({"auxiliary": 3}, "auxiliary must be a list"),
        ({"ties": {}}, "ties must be a list"),
        ({"ties": [1]}, "ties must be objects"),
        ({"ties": [{"unit": 0, "chosen": ["a"], "rivals": ["b"]}]}, "ties must be objects"),
        ({"ties": [{"unit": None, "chosen": ["a"], "rivals": [1]}]}, "ties must be objects"),
        ({"ties": [{"unit": 1, "chosen": [1], "rivals": ["b"]}]}, "ties must be objects"),
        ({"provenance": []}, "provenance must be"),
    ],
    ids=range(24),
)
def test_wrong_fields_under_a_right_checksum(tmp_path, changes, words):
    path = tmp_path / "decoupling.json"
    write(path, **changes)
    assert words in refusal(path)


def test_data_of_other_fields():
    with pytest.raises(ValueError, match="must have the fields auxiliary, backbone, cut_after"):
        Decoupling.from_dict({"backbone": "toy"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@ROUTINE
@given(value=JSON, field=st.sampled_from(sorted(make().to_dict())))
def test_fuzzed_fields_give_only_user_errors(tmp_path, value, field):
    path = tmp_path / "decoupling.json"
    try:
        write(path, **{field: value})
    except ValueError:  # not even JSON: infinity
        return
    try:
        Decoupling.load(path)
    except UserError as error:
        assert "\n" not in str(error)


FIXTURES = Path(__file__).parents[1] / "fixtures"
PUBLISHED = json.loads((FIXTURES / "published_decouplings.json").read_text())["networks"]
SCORES = json.loads((FIXTURES / "published_scores.json").read_text())["networks"]
SAVED = Path(__file__).parents[2] / "saved_plans" / "published"


def test_every_published_decoupling_is_shipped():
    expected = {f"{name}_k{k}.json" for name in PUBLISHED for k in PUBLISHED[name]["decouplings"]}
    assert {path.name for path in SAVED.iterdir()} == expected and len(expected) == 14


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_decouplings(name):
    num_units = PUBLISHED[name]["units"]
    for blocks, figures in PUBLISHED[name]["decouplings"].items():
        path = SAVED / f"{name}_k{blocks}.json"
        found = Decoupling.load(path, toy(name, num_units), int(blocks))
        assert list(found.cut_after) == figures["cut_after"]
        assert list(found.auxiliary) == [
            {"kind": "separable", "depth": depth} for depth in figures["aux_depth"]
        ]
        # ResNet-34 and -50 and VGG-19 have 16 units each: the number alone says nothing
        assert "Received: resnet34" in refusal(path, toy("resnet34", num_units))
        assert "is for" in refusal(path, toy(name, num_units + 1))
        assert "blocks. Received: 3" in refusal(path, toy(name, num_units), 3)


def test_published_decouplings_follow_from_the_released_scores_and_say_what_is_a_tie():
    nets = tuple({"kind": "separable", "depth": depth} for depth in (1, 2, 3, 4))
    ties = {}
    for path in SAVED.iterdir():
        name, blocks = path.stem.split("_k")
        scores, found = SCORES[name], Decoupling.load(path)
        units = tuple((f"unit_{number + 1}", (1,)) for number in range(scores["units"]))
        plan = Plan(name, units, nets, scores["alpha"], scores["beta"])
        decoded = plan.decode(int(blocks))
        follows = (found.cut_after, found.auxiliary) == (decoded.cut_after, decoded.auxiliary)
        assert follows == (path.stem != "resnet152_k16") == ("note" not in found.provenance)
        chosen = [plan.candidates.index(net) for net in found.auxiliary]
        assert found.ties == find_ties(plan, found.cut_after, chosen), path.stem
        if follows:
            assert found.ties == decoded.ties
        ties[path.stem] = {tie.unit: tie for tie in found.ties}
    assert decoded.backbone in SCORES and len(ties) == 14
    # By the released scores: 0.50011 and 0.50004; 0.00034 and 0.00014; all of 0.50000.
    assert ties["resnet152_k4"].keys() == {None} and ties["resnet152_k4"][None].chosen == (17,)
    assert 19 in ties["resnet152_k4"][None].rivals
    assert ties["vgg19_k8"][None].chosen == (8,) and 9 in ties["vgg19_k8"][None].rivals
    late = ties["resnet152_k16"][None]
    assert late.chosen == (17, 19, 22, 23, 25, 26, 28, 29, 31, 32, 33, 35, 37)
    assert {34, 36, 38} <= set(late.rivals)
    assert not any(
        ties[f"{name}_k{blocks}"]
        for name in SCORES
        for blocks in (2, 4)
        if (name, blocks) != ("resnet152", 4)
    )


def test_counts_end_below_2_to_the_31():
    most = 2**31 - 1
    found = make(num_units=most, cut_after=(1, most - 1))
    assert found.blocks() == [(1, 1), (2, most - 1), (most, most)]
    with pytest.raises(ValueError, match="num_units must be"):
        make(num_units=most + 1)
    one = make(num_units=1, cut_after=(), auxiliary=())
    assert one.blocks() == [(1, 1)] and one.num_blocks == 1


def test_ties_in_words_and_back():
    cuts, nets = make().ties
    assert str(cuts) == "cut after unit 2 as good as after 1, 3"
    assert str(nets) == "after unit 2, separable(depth=4) as good as mlp_sr"
    for tie in (cuts, nets):
        assert Tie.from_dict(tie.to_dict()) == tie
    for changes in ({"chosen": "2"}, {"rivals": {1: 3}}, {"unit": 1.0}, {"more": 1}):
        with pytest.raises(ValueError, match="ties must be objects"):
            Tie.from_dict(cuts.to_dict() | changes)
