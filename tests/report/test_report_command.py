"""The report command as a person runs it; no TensorFlow anywhere."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys

import pytest
from report_runs import Read, a_plan, a_training, search_folder, training_folder
from search_runs import help_of, refused

CODE = (
    "import sys\n"
    "sys.modules['tensorflow'] = sys.modules['keras'] = None  # importing either now fails\n"
    "from sedona_tf import command_line\n"
    "from sedona_tf.report import __main__ as report\n"
    "report.define_flags(); command_line.run(report.main, report.__doc__)\n"
)


def report(*arguments, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CODE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.fixture
def folders(tmp_path):
    search = search_folder(tmp_path / "search", a_plan())
    two = training_folder(tmp_path / "two", a_training(2))
    return search, two, training_folder(tmp_path / "four", a_training(4))


def test_search_and_trainings_on_one_page(folders):
    search, two, four = folders
    notebook = {**os.environ, "MPLBACKEND": "module://nowhere"}  # a kernel's, inherited
    done = report("--workdir", search, "--training", f"{two},{four}", env=notebook)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"wrote {search / 'report.html'}\n"
    read = Read((search / "report.html").read_text())
    assert len(read.tables["Trainings compared"]) == 4  # headings, the task, two trainings
    assert "Decouplings" in read.tables


def test_a_training_alone_where_one_says(folders, tmp_path):
    done = report("--workdir", folders[2], "--output", tmp_path / "page.html")
    assert (done.returncode, done.stdout) == (0, f"wrote {tmp_path / 'page.html'}\n")
    read = Read((tmp_path / "page.html").read_text())
    assert "Decouplings" not in read.tables and len(read.tables["Errors of every classifier"]) == 5
    assert not (folders[2] / "report.html").exists()


def test_a_plan_copied_beside_a_training(folders):
    search, two, _ = folders
    (two / "plan.json").write_bytes((search / "plan.json").read_bytes())
    assert report("--workdir", two).returncode == 0
    read = Read((two / "report.html").read_text())
    assert read.text.count("Not recorded: this folder") == 2  # the history is the training's


def test_what_the_commands_wrote(finished, trained, tmp_path):
    done = report(
        "--workdir", finished[0], "--training", trained[0], "--output", tmp_path / "page.html"
    )
    assert done.returncode == 0, done.stderr
    read = Read((tmp_path / "page.html").read_text())
    assert "Not recorded" not in read.text
    metrics = json.loads((trained[0] / "metrics.json").read_text())
    head = metrics["test"]["errors"]["head"]
    assert read.tables["Errors of every classifier"][2][3] == f"{100 * head:.2f}"
    assert f"python -m sedona_tf.report --workdir {finished[0]}" in finished[1].splitlines()[-1]
    assert f"python -m sedona_tf.report --workdir {trained[0]}" in trained[1].splitlines()[-1]


def _cut(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-30])


def _other_plan(folder):
    a_plan(5).save(folder / "plan.json")


def _same_size_plan(folder):
    a_plan(8, alpha=[(0.0, 1.0)] * 7).save(folder / "plan.json")


@pytest.mark.parametrize(
    ("which", "damage", "words"),
    [
        (0, lambda folder: (folder / "plan.json").unlink(), "holds neither plan.json nor metrics"),
        (0, _cut("plan.json"), "plan.json' is damaged"),
        (0, _cut("history.json"), "history.json' is damaged"),
        (0, _other_plan, "history.json': its last cut_probability is not that of the plan"),
        (0, _same_size_plan, "history.json': its last cut_probability is not that of the plan"),
        (1, _cut("metrics.json"), "metrics.json' is damaged"),
        (1, _cut("history.json"), "history.json' is damaged"),
    ],
)
def test_damage_is_one_line_and_leaves_the_old_page(folders, which, damage, words):
    folder = folders[which]
    (folder / "report.html").write_text("old")
    damage(folder)
    refused(report("--workdir", folder), words)
    assert (folder / "report.html").read_text() == "old"
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


def test_a_folder_with_a_comma_in_quotes(folders, tmp_path):
    quoted = shutil.copytree(folders[1], tmp_path / "rate=0.1,seed=2")
    page = tmp_path / "page.html"
    trainings = f'{folders[1]},"{quoted}"'
    done = report("--workdir", folders[0], "--training", trainings, "--output", page)
    assert done.returncode == 0, done.stderr
    assert "rate=0.1,seed=2" in page.read_text()
    assert "double quotes" in report("--help").stdout


def test_missing_folders(folders, tmp_path):
    refused(report("--workdir", tmp_path / "no"), "holds neither plan.json nor metrics.json")
    done = report("--workdir", folders[0], "--training", f"{folders[1]},{tmp_path}")
    refused(done, "holds no metrics.json; only a finished training")
    refused(report("--workdir", folders[0], "--output", tmp_path / "no/a.html"), "cannot write")
    refused(report(), "--workdir is required")


def test_a_full_disk_leaves_the_old_page(folders):
    page = folders[0] / "report.html"
    page.write_text("old")
    limit = (20_000, 20_000)  # bytes; the page has more
    done = report(
        "--workdir",
        folders[0],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    refused(done, "cannot write")
    assert page.read_text() == "old"


def test_help_is_quick_and_loads_nothing_heavy():
    text, imported = help_of("report")
    assert "sedona_tf.command_line" in imported
    assert not imported & {"tensorflow", "keras", "numpy", "scipy", "matplotlib", "jinja2"}
    for words in ("Examples:", "--workdir", "(required)", "--training", "--output"):
        assert words in text
