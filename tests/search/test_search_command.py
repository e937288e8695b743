"""The search as a person runs it: outputs, errors."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from search_runs import DIGITS, SMALL, refused, scores, search


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
    ("arguments", "message"),
    [
        ([], "--recipe"),
        (["--recipe=nowhere.py"], "nowhere.py"),
        ([f"--recipe={DIGITS}", "--recipe.search.step=3"], "steps"),
        ([f"--recipe={DIGITS}", "--recipe.search.steps=many"], "steps"),
        ([f"--recipe={DIGITS[:-6]}:smok"], "Allowed: smoke"),
    ],
)
def test_refuses_flags(arguments, message):
    refused(search(*arguments), message)


def test_refuses_settings(tmp_path):
    """The rest of what is refused is in test_run.py, in one process."""
    nowhere = ["--recipe.data.source=idx", "--recipe.data.data_dir=/nowhere"]
    refused(search(f"--recipe={DIGITS}", f"--workdir={tmp_path / 'run'}", *nowhere), "/nowhere")
    assert not (tmp_path / "run" / "recipe.json").exists()


@pytest.mark.slow
def test_joins_the_units_of_a_network_of_keras(tmp_path):
    network = ["--recipe.backbone.name=keras:MobileNet", "--recipe.backbone.width=16"]
    joined = ["--recipe.backbone.max_units=3", "--recipe.data.image_size=32"]
    result = search(*SMALL, *network, *joined, f"--workdir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert len(json.loads((tmp_path / "plan.json").read_text())["units"]) == 3


def test_refuses_a_folder_that_holds_a_run(finished):
    refused(search(*SMALL, f"--workdir={finished[0]}"), "--resume")


def test_refuses_an_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    refused(search(*SMALL, f"--workdir={tmp_path / 'file' / 'run'}"), str(tmp_path))


def test_stops_when_it_diverges(tmp_path):
    result = search(*SMALL, f"--workdir={tmp_path}", "--recipe.search.learning_rate=1e30")
    refused(result, "pretraining step")
    assert "the first part with such numbers is unit 1" in result.stderr


def test_help_answers_without_tensorflow():
    code = (
        "import sys; sys.argv = ['search', '--help']\n"
        "from sedona_tf import command_line\n"
        "from sedona_tf.search import __main__ as search\n"
        "search.define_flags()\n"
        "try: command_line.run(search.main, search.__doc__)\n"
        "except SystemExit as stop: code = stop.code\n"
        "assert 'tensorflow' not in sys.modules and not code\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "--recipe" in result.stdout and "Examples" in result.stdout
