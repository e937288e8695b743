"""The page: strict HTML that needs nothing from elsewhere, true numbers, nothing unescaped."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest
from report_runs import RESNET152, Read, a_plan, a_training, search_folder, training_folder

from sedona_tf.plans import Plan
from sedona_tf.report.page import render_page
from sedona_tf.report.read_run import read_folder, read_training

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</svg></style><script>alert(1)</script>\"'&$\\frac"


def page_of(workdir, *trainings) -> str:
    search, training = read_folder(workdir)
    return render_page(search, ([training] if training else []) + [*map(read_training, trainings)])


def drawings(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def networks(page: str) -> list[list[ElementTree.Element]]:
    """The blocks of each network that is drawn."""
    lists = re.findall(
        r'<ol class="network.*?</ol>(?=\n(?:<p class="note"|</figure))', page, re.DOTALL
    )
    return [list(ElementTree.fromstring(text)) for text in lists]


@pytest.fixture
def both(tmp_path) -> tuple[Plan, dict, str]:
    """A search, two trainings of it, and their page."""
    plan, metrics = a_plan(), a_training(3)
    page = page_of(
        search_folder(tmp_path / "search", plan),
        training_folder(tmp_path / "k3", metrics),
        training_folder(tmp_path / "k1", a_training(1, method="backprop")),
    )
    return plan, metrics, page


def test_strict_and_self_contained(both):
    page = both[2]
    read = Read(page)
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(read.tags)
    for name, value in read.attributes:
        assert not name.startswith("on")
        if name in ("href", "xlink:href", "src"):
            assert value.startswith("#") or value.startswith("data:image/png;base64,")
        assert name.startswith("xmlns") or "://" not in str(value)
    assert "@import" not in page and not re.search(r"url\((?!#)", page)
    assert len(re.findall("https?://", page)) == len(re.findall('xmlns[:a-z]*="http', page))
    anchors = {f"#{value}" for name, value in read.attributes if name == "id"}
    for name, value in read.attributes:
        assert name not in ("href", "xlink:href") or value[0] != "#" or value in anchors
    for reference in re.findall(r"url\((#[^)]+)\)", page):
        assert reference in anchors


def test_pictures_say_what_they_show_and_follow_the_theme(both):
    page = both[2]
    pictures = drawings(page)
    assert len(pictures) == 4 + 2 * 2  # of the search, of each training
    for svg in pictures:
        assert svg.get("role") == "img" and len(svg.get("aria-label")) > 20
    assert page.count('class="picture"><svg') == len(pictures)  # the class that the dark inverts
    defined = set(re.findall(r"(--\w+):", page))
    assert set(re.findall(r"var\((--\w+)", page)) <= defined


@pytest.mark.parametrize("num_units", [2, 8, 50])
def test_networks_show_every_unit_and_what_trains_each_block(tmp_path, num_units):
    plan = a_plan(num_units)
    page = page_of(search_folder(tmp_path / "search", plan))
    numbers = [number for number in (2, 4, 8) if number <= num_units]
    for number, blocks in zip(numbers, networks(page), strict=True):
        decoupling, units = plan.decode(number), []
        for block, (first, last) in zip(blocks, decoupling.blocks(), strict=True):
            shown = [tuple(text.strip() for text in unit.itertext()) for unit in block.find("ol")]
            assert len(shown) == last - first + 1
            units += [[text for text in unit if text] for unit in shown]
        sizes = ["×".join(map(str, shape)) for _, shape in RESNET152[-num_units:]]
        assert units == [[str(unit), size] for unit, size in enumerate(sizes, 1)]
        words = ["".join(block.find("p").itertext()) for block in blocks]
        nets = [f"separable (depth={net['depth']})" for net in decoupling.auxiliary]
        p = [f"p = {plan.cut_probability[cut - 1]:.3f}" for cut in decoupling.cut_after]
        assert words == [*map(" ".join, zip(nets, p, strict=True)), "head"]


def test_pictures_show_the_plans_numbers(both):
    plan, _, page = both
    final = next(svg for svg in drawings(page) if "at the end" in svg.get("aria-label"))
    texts = [text.text for text in final.iter(f"{SVG}text")]
    assert texts[-7:] == [f"{p:.2f}" for p in plan.cut_probability]
    assert f"{max(plan.cut_probability):.3f}" in final.get("aria-label")


def test_tables_have_the_plans_numbers(both):
    plan, _, page = both
    rows = Read(page).tables["Decouplings"][1:]
    expected = []
    for number in (2, 3, 4, 8):
        decoupling = plan.decode(number)
        for index, (first, last) in enumerate(decoupling.blocks()):
            row = [str(number) if index == 0 else ""]
            row += [str(index + 1), str(first) if first == last else f"{first}-{last}"]
            if last < 8:
                best = plan.candidates.index(decoupling.auxiliary[index])
                row += [
                    plan.candidate_names[best],
                    f"{plan.candidate_weights[last - 1][best]:.3f}",
                    f"{plan.cut_probability[last - 1]:.4f}",
                ]
            else:
                row += ["(head)", "-", "-"]
            expected.append(row)
    assert rows == expected
    units = Read(page).tables["Units"][1:]
    assert [row[1] for row in units] == [name for name, _ in plan.units]
    assert [row[3] for row in units[:-1]] == [f"{p:.4f}" for p in plan.cut_probability]


def test_ties_are_named(tmp_path):
    plan = a_plan(4, alpha=[(0.0, 0.0)] * 3)
    read = Read(page_of(search_folder(tmp_path / "search", plan)))
    assert ["", "Tie: cut after unit 1 as good as after 2, 3."] in read.tables["Decouplings"]
    assert read.text.count("Tie: cut after unit 1 as good as after 2, 3.") == 2


def test_tables_have_the_trainings_numbers(both):
    _, metrics, page = both
    tables = Read(page).tables
    test = metrics["test"]
    errors = test["errors"]
    rows = tables["Errors of every classifier"]
    alone = [f"{100 * error:.2f}" for error in (*errors["exits"], errors["head"])]
    assert [row[3] for row in rows[1:4]] == alone
    assert [row[4] for row in rows[1:4]] == [f"{t:.3f}" for t in test["temperatures"]]
    assert [row[1:] for row in tables["Errors of ensembles"][1:]] == [
        [f"{100 * plain:.2f}", f"{100 * scaled:.2f}"]
        for plain, scaled in zip(errors["ensembles"], errors["calibrated_ensembles"], strict=True)
    ]
    (task,), sedona, backprop = tables["Trainings compared"][1:]
    assert task == ("toy (last unit 7×7×2048) on noise (8×8×1), 50,000 training images, 3 epochs")
    last = f"{100 * errors['calibrated_ensembles'][-1]:.2f}"
    where, end = ["x86_64, 2 cores", "2026-11-24"], ["10.05", "2,258"]
    assert sedona[1:] == ["sedona", *where, "3", "0", "12.34", last, *end]
    assert backprop[1:] == ["backprop", *where, "1", "0", "12.34", "-", *end]


def test_only_what_can_be_compared_stands_together(tmp_path):
    """Another data set, limit, length or network is another group; K, method and seed are not."""
    data = a_training(2)["data"]
    trainings = {
        "a": a_training(2),
        "digits": a_training(2, data=data | {"name": "digits"}),
        "short": a_training(2, epochs=1),
        "few": a_training(2, data=data | {"limit": 500, "training_images": 450}),
        "deep": a_training(2, num_units=9),
        "b": a_training(3, method="dgl", seed=4),
    }
    folders = [training_folder(tmp_path / name, each) for name, each in trainings.items()]
    page = render_page(None, [read_training(folder) for folder in folders])
    rows = Read(page).tables["Trainings compared"][1:]
    names = [row[0].rpartition("/")[2] if len(row) > 1 else None for row in rows]
    assert names == [None, "a", "b", None, "digits", None, "short", None, "few", None, "deep"]
    assert "450 (limit 500) training images, 3 epochs" in rows[7][0]
    assert "1 epoch" in rows[5][0] and "digits" in rows[3][0]


def test_what_files_say_is_escaped(tmp_path):
    candidates = [{"kind": HOSTILE, HOSTILE: HOSTILE}, {"kind": "fine"}]
    plan = a_plan(
        3,
        backbone=HOSTILE,
        units=[(HOSTILE, (4,))] * 3,
        candidates=candidates,
        beta=[(9.0, 0.0)] * 2,
        provenance={"dataset": {"name": HOSTILE}, "versions": {"keras": HOSTILE}},
    )
    metrics = a_training(2) | {name: HOSTILE for name in ("method", "machine", "date", "schedule")}
    metrics["data"]["name"] = HOSTILE
    metrics["test"]["auxiliary"] = [candidates[0]]
    search = search_folder(tmp_path / "a<b>&\"'", plan)
    page = page_of(search, training_folder(tmp_path / "<i>", metrics))
    read = Read(page)
    assert not {"script", "i"} & set(read.tags)
    assert "<script" not in page and "<i>" not in page
    assert read.text.count(HOSTILE) > 10 and str(search) in read.text
    assert len(drawings(page)) == len(re.findall("<svg", page))


def test_a_provenance_can_be_anything(tmp_path):
    strange = {"dataset": [1], "recipe": {"search": {"steps": {}}, "seed": "a\nb"}, "versions": 3}
    page = page_of(search_folder(tmp_path / "search", a_plan(2, provenance=strange)))
    assert Read(page).text.count("not recorded") >= 6


def test_folders_without_a_history_say_what_was_not_recorded(tmp_path):
    search = search_folder(tmp_path / "search", a_plan())
    training = training_folder(tmp_path / "training", a_training(2))
    for folder in (search, training):
        (folder / "history.json").unlink()
    read = Read(page_of(search, training))
    assert read.text.count("Not recorded: this folder has no history.json of the run.") == 4


def test_equal_folders_give_equal_pages(tmp_path):
    folder = search_folder(tmp_path / "search", a_plan())
    assert page_of(folder) == page_of(folder)


def test_one_unit_and_half_measured(tmp_path):
    plan = a_plan(1, alpha=[], beta=[])
    (tmp_path / "one").mkdir()
    plan.save(tmp_path / "one" / "plan.json")
    short = a_training(2, images_per_second=None, validation_error=None)
    short["test"] |= {"temperatures": None}
    short["test"]["errors"] |= {"calibrated_ensembles": None}
    page = page_of(tmp_path / "one", training_folder(tmp_path / "short", short))
    read = Read(page)
    assert read.tables["Errors of ensembles"][1][2] == "-"
    assert json.dumps(short["test"]["errors"]["head"]) == "0.1234" and "12.34" in read.text
