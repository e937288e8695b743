"""Kills and stops runs of a command, and resumes them, over and over.

One run goes undisturbed. Then a run is started, interrupted, resumed, interrupted, and so on,
until it finishes before its interruption. Its result must be that of the undisturbed one bit for
bit. Then the next begins, until all kills were made and the last run has finished.

Kills come in three kinds, mixed at random; `KILLS` of each (10) come from `SEED` (0):

- SIGKILL at random moments within the duration of a whole run.
- SIGKILL inside operations on the run's files, see tripwire.py: which one is drawn from all kinds
  of operation that the undisturbed run made, rare ones as often as others, and then from all of
  that kind. The rest of a run may not have it any more; then it finishes.
- SIGTERM or SIGINT at random moments, which must end the run within ten seconds and with the
  conventional exit code.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from robustness import tripwire
from robustness.commands import LONG, Disturbed
from search_runs import ENVIRONMENT, ROOT

pytestmark = pytest.mark.robustness
KILLS, SEED = int(os.environ.get("KILLS", 10)), int(os.environ.get("SEED", 0))
LIMIT = 10.0
"""Seconds that a run may go on after SIGTERM or SIGINT."""


class Interruption(NamedTuple):
    """What ends a run: a signal after some seconds, or inside the n-th operation of a kind."""

    signal: int = signal.SIGKILL
    seconds: float | None = None
    operation: str = ""
    number: int = 0


def draw(
    kind: str, longest: float, operations: Mapping[str, int], rng: random.Random
) -> Interruption:
    """An interruption of a kind.

    Args:
        kind: `"moment"`, `"inside"` or `"signal"`.
        longest: seconds that a whole run takes.
        operations: on files, of a whole run, and how often each came.
        rng: decides the rest.
    """
    if kind == "inside":
        operation = rng.choice(list(operations))
        return Interruption(operation=operation, number=rng.randint(1, operations[operation]))
    sent = signal.SIGKILL if kind == "moment" else rng.choice([signal.SIGTERM, signal.SIGINT])
    return Interruption(sent, rng.uniform(0, longest))


def run(command: Disturbed, workdir: Path, interruption: Interruption) -> tuple[int, float]:
    """Starts or resumes a run; returns its exit code and how long it went on after a signal."""
    wire = [tripwire.__file__, workdir, interruption.operation, interruption.number]
    module = [*wire, f"sedona_tf.{command.name}"]
    resume = ["--resume"] if (workdir / "recipe.json").exists() else []
    with open(workdir.with_suffix(".log"), "ab") as log:
        process = subprocess.Popen(
            [sys.executable, *map(str, module), *command.arguments, f"--workdir={workdir}"]
            + resume,
            stdout=log,
            stderr=log,
            env=ENVIRONMENT,
            cwd=ROOT,
        )
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(interruption.seconds), 0.0
    start = time.monotonic()
    process.send_signal(interruption.signal)
    return process.wait(), time.monotonic() - start


@pytest.mark.parametrize("command", LONG, ids=lambda command: command.name)
def test_a_run_that_is_struck_and_resumed_ends_with_the_bits_of_an_undisturbed_one(
    command, tmp_path
):
    undisturbed, start = tmp_path / "undisturbed", time.monotonic()
    assert run(command, undisturbed, Interruption())[0] == 0
    longest = time.monotonic() - start
    expected = command.result(undisturbed)
    operations = json.loads(tripwire.counts_of(undisturbed).read_text())
    rng = random.Random(SEED)
    waiting = ["moment", "inside", "signal"] * KILLS
    rng.shuffle(waiting)
    finished = 0
    while waiting:
        workdir, code = tmp_path / f"run_{finished}", -1
        while code != 0:
            interruption = (
                draw(waiting[-1], longest, operations, rng) if waiting else Interruption()
            )
            code, seconds = run(command, workdir, interruption)
            print(f"run {finished}: {interruption}, exit code {code} after {seconds:.2f} s")
            if code != 0:
                assert code in (-interruption.signal, 128 + interruption.signal) and waiting
                assert interruption.signal == signal.SIGKILL or seconds <= LIMIT
                waiting.pop()
        assert command.result(workdir) == expected
        assert not list(workdir.rglob("*.partial"))
        assert "damaged" not in workdir.with_suffix(".log").read_text()
        finished += 1
