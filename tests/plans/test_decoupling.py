"""Decoupling files: round trip, refusal of everything else, use by one architecture and K only."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sedona_tf.errors import UserError
from sedona_tf.plans import Decoupling, Plan, Tie, candidate_name, find_ties, load_decoupling

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
    """A decoupling's file with changed fields; None removes one."""
    content = {"format": "sedona_tf.decoupling", "version": 1, **make().to_dict(), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


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
    assert written == {
        "format": "sedona_tf.decoupling",
        "version": 1,
        "backbone": "toy",
        "num_units": 7,
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
    assert "sedona_tf.plan" in refusal(path)
    make().save(path)
    with pytest.raises(UserError, match="is a decoupling"):
        Plan.load(path)
    assert "does not exist" in refusal(tmp_path / "none.json")


def test_an_edited_decoupling_loads(tmp_path):
    """Other cuts, another net and one cut less; ties and provenance may be left out."""
    path = tmp_path / "decoupling.json"
    make().save(path)
    text = path.read_text()
    path.write_text(text.replace('"depth": 4', '"depth": 3').replace("  5\n", "  6\n"))
    found = Decoupling.load(path, toy(), 3)
    assert found.cut_after == (2, 6) and found.auxiliary[0] == {"kind": "separable", "depth": 3}
    assert found.provenance == make().provenance
    write(path, cut_after=[4], auxiliary=[NETS[1]], ties=None, provenance=None)
    assert load_decoupling(path, toy(), 2) == Decoupling("toy", 7, (4,), (NETS[1],))


def test_files_of_earlier_versions_load(tmp_path):
    """They state the number of blocks, which follows from the cuts, and a checksum."""
    path = tmp_path / "decoupling.json"
    write(path, num_blocks=3, checksum="0" * 64)
    assert Decoupling.load(path) == load_decoupling(path, toy(), 3) == make()
    assert Decoupling.from_dict({**make().to_dict(), "num_blocks": 3}) == make()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cut_after": None}, "cut_after"),
        ({"extra": 1}, "extra"),
        ({"backbone": "two\nlines"}, "backbone"),
        ({"num_units": 0}, "num_units"),
        ({"num_units": 7.0}, "num_units"),
        ({"num_units": 2**31}, "num_units"),
        ({"cut_after": {"2": 5}}, "cut_after"),
        ({"cut_after": [2, "5"]}, "cut_after[1]"),
        ({"cut_after": [0, 5]}, "cut_after[0]"),
        ({"cut_after": [5, 2]}, "cut_after must rise"),
        ({"cut_after": [2, 2]}, "cut_after must rise"),
        ({"cut_after": [2, 7]}, "stay below num_units, 7"),
        ({"cut_after": [2]}, "one net for each of the 1 cuts. Received: 2"),
        ({"auxiliary": [NETS[0], {"depth": 1}]}, "number 2"),
        ({"auxiliary": [NETS[0], {"kind": "a", "b": [1]}]}, "auxiliary[1]"),
        ({"auxiliary": 3}, "auxiliary"),
        ({"ties": {}}, "ties"),
        ({"ties": [1]}, "ties[0]"),
        ({"ties": [{"unit": 0, "chosen": ["a"], "rivals": ["b"]}]}, "ties[0].unit"),
        ({"ties": [{"unit": None, "chosen": ["a"], "rivals": [1]}]}, "ties"),
        ({"ties": [{"unit": 1, "chosen": [1], "rivals": ["b"]}]}, "ties"),
        ({"ties": [{"unit": 1, "chosen": [], "rivals": [], "more": 1}]}, "more"),
        ({"provenance": []}, "provenance"),
    ],
    ids=range(23),
)
def test_wrong_fields(tmp_path, changes, words):
    path = tmp_path / "decoupling.json"
    write(path, **changes)
    assert words in refusal(path)
    content = {k: v for k, v in {**make().to_dict(), **changes}.items() if v is not None}
    with pytest.raises(ValueError):
        Decoupling.from_dict(content)


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
    with pytest.raises(ValueError, match="num_units"):
        make(num_units=most + 1)
    one = make(num_units=1, cut_after=(), auxiliary=())
    assert one.blocks() == [(1, 1)] and one.num_blocks == 1


def test_ties_in_words_and_back():
    cuts, nets = make().ties
    assert str(cuts) == "cut after unit 2 as good as after 1, 3"
    assert str(nets) == "after unit 2, separable(depth=4) as good as mlp_sr"
    for tie in (cuts, nets):
        assert Tie(**tie.to_dict()) == tie


def test_nets_in_words():
    assert candidate_name({"kind": "mlp_sr"}) == "mlp_sr"
    assert candidate_name({"kind": "a", "b": 1, "c": "d"}) == "a(b=1, c=d)"
