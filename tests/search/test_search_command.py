"""The search as a person runs it: outputs, errors."""

from __future__ import annotations

import json

import pytest
from search_runs import DIGITS, SMALL, help_of, refused, scores, search


def test_writes_what_it_promises(finished):
    workdir, output = finished
    for name in ("plan.json", "report.png", "recipe.json"):
        assert (workdir / name).stat().st_size > 0
    assert (workdir / "report.png").read_bytes().startswith(b"\x89PNG")
    assert list((workdir / "logs").rglob("events.out.tfevents.*"))
    assert json.loads((workdir / "recipe.json").read_text())["recipe"]["search"]["steps"] == 6
    names = [path.name for path in sorted((workdir / "checkpoints").iterdir())]
    assert names == ["search-00000004.npz", "search-00000006.npz"]
    alpha, _ = scores(workdir)
    assert len(alpha) == 7 and all(abs(local) > 1e-4 for local, _ in alpha)
    for word in ("K", "unit"):
        assert word in output


@pytest.mark.parametrize(
    ("arguments", "message"), [([], "--recipe"), ([f"--recipe={DIGITS[:-6]}:smok"], "smoke")]
)
def test_refuses_flags(arguments, message):
    """More flags are in test_main.py and test_decode_command.py, settings in test_run.py."""
    refused(search(*arguments), message)


@pytest.mark.slow
def test_joins_the_units_of_a_network_of_keras(tmp_path):
    network = ["--recipe.backbone.name=keras:MobileNet", "--recipe.backbone.width=16"]
    joined = ["--recipe.backbone.max_units=3", "--recipe.data.image_size=32"]
    result = search(*SMALL, *network, *joined, f"--workdir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert len(json.loads((tmp_path / "plan.json").read_text())["units"]) == 3


def test_refuses_an_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    refused(search(*SMALL, f"--workdir={tmp_path / 'file' / 'run'}"), str(tmp_path))


def test_stops_when_it_diverges(tmp_path):
    result = search(*SMALL, f"--workdir={tmp_path}", "--recipe.search.learning_rate=1e30")
    refused(result, "pretraining step")
    assert "the first part with such numbers is unit 1" in result.stderr


def test_help_is_quick_and_loads_no_tensorflow():
    text, imported = help_of("search")
    assert not imported & {"tensorflow", "keras", "matplotlib"}
    for words in ("Examples:", "--recipe", "--workdir"):
        assert words in text
