"""The search command when it is killed, stopped, run twice, or out of disk space."""

from __future__ import annotations

import random
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
from search_runs import SMALL, Running, existing, refused, scores, search

from sedona_tf.plans import Plan
from sedona_tf.runs.checkpoints import CheckpointStore
from sedona_tf.search.pool import SnapshotPool


def complete(workdir: Path) -> str:
    """Reads the newest checkpoint and its snapshots as a resumed run would; its position."""
    saved = CheckpointStore(workdir / "checkpoints", SnapshotPool(workdir / "snapshots", 3)).read()
    assert saved is not None
    return str(saved[0])


def test_killed_and_stopped_gives_the_uninterrupted_plan(finished, tmp_path, capfd):
    """SIGKILL and SIGTERM, each followed by --resume: alpha and beta bit for bit.

    Before the last, one bit of the newest checkpoint is flipped: its predecessor takes over.
    """
    workdir, rng = tmp_path / "run", random.Random(0)
    with Running(workdir, *SMALL) as run:
        run.wait_for("snapshots/search-*")
        time.sleep(rng.uniform(0, 0.6))
        assert run.end(signal.SIGKILL)[0] == -signal.SIGKILL
    assert not (workdir / "plan.json").exists()

    start, before = time.time(), complete(workdir)
    with Running(workdir, *SMALL, "--resume") as run:
        run.wait_for("recipe.json", newer_than=start)
        time.sleep(1)  # the first step is being traced, which takes longer
        asked = time.monotonic()
        assert run.end(signal.SIGTERM) == (128 + signal.SIGTERM, "stopped by SIGTERM")
        assert time.monotonic() - asked < 10
    assert complete(workdir) == before
    assert "damaged" not in capfd.readouterr().err

    older, newest = sorted(existing(workdir, "checkpoints/*"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 8
    newest.write_bytes(data)
    resumed = search(*SMALL, f"--workdir={workdir}", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    phase, step = older.stem.split("-")
    (line,) = (line for line in resumed.stderr.splitlines() if "damaged" in line)
    assert str(newest) in line and line.endswith(f"Going on from {phase} step {int(step)}.")
    assert scores(workdir) == scores(finished[0])
    assert not list(workdir.rglob("*.partial"))


def test_one_run_a_folder_and_ctrl_c(tmp_path):
    endless = [*SMALL, "--recipe.search.pretraining_steps=1000000"]
    with Running(tmp_path, *endless) as run:
        run.wait_for("checkpoints/*")
        refused(search(*endless, f"--workdir={tmp_path}", "--resume"), "in use by another run")
        code, line = run.end(signal.SIGINT)
    assert code == 128 + signal.SIGINT
    assert line.startswith("stopped: checkpoint saved at pretraining step")
    assert complete(tmp_path) in line
    assert len(existing(tmp_path, "checkpoints/*")) == 2


@pytest.mark.parametrize(
    ("steps", "where"),
    [(6, "checkpoints"), pytest.param(8, "snapshots", marks=pytest.mark.slow)],
)
def test_full_disk_leaves_what_was_complete(finished, tmp_path, steps, where):
    """A limit on the size of files stands for the full disk: both fail in the middle of a write.

    With 6 steps only the last checkpoint is written again; with 8 the search goes on first.
    """
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    before = complete(workdir)
    result = search(
        *SMALL,
        f"--workdir={workdir}",
        "--resume",
        f"--recipe.search.steps={steps}",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
    )
    refused(result, f"cannot write {workdir / where}")
    assert complete(workdir) == before == "search step 6"
    assert Plan.load(workdir / "plan.json") == Plan.load(finished[0] / "plan.json")
    assert not list(workdir.rglob("*.partial"))


def test_refuses_to_resume_from_a_damaged_snapshot_of_both_checkpoints(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    with open(sorted((tmp_path / "snapshots").iterdir())[0], "r+b") as file:
        file.truncate(1000)
    before = (tmp_path / "recipe.json").read_bytes()
    refused(search(*SMALL, f"--workdir={tmp_path}", "--resume"), "no checkpoint can be used")
    assert (tmp_path / "recipe.json").read_bytes() == before
