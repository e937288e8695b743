"""Kills runs of a command with SIGKILL and resumes them, over and over.

One run goes undisturbed. Then a run is started, killed, resumed, killed, ..., until it finishes
before its kill; its result must be that of the undisturbed one bit for bit. Then the next begins,
until the number of kills is reached and the last has been finished.

Kills come in two kinds, mixed at random. Some are at random moments within the duration of a whole
run; that range shrinks when one takes less time, as it does where other work that ran beside the
first has ended. The others are inside operations on the run's files, see tripwire.py: which one
is drawn from all kinds of operation that the undisturbed run made, rare ones as often as others,
and then from all of that kind. The rest of a run may not have it any more; then it finishes.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tripwire

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    **os.environ,
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # as the commands do
    "TF_NUM_INTRAOP_THREADS": "1",
}


class Kill(NamedTuple):
    """When a run is to die: after some seconds, or inside the n-th operation of a kind."""

    seconds: float | None = None
    operation: str = ""
    number: int = 0


NEVER = Kill()


@dataclasses.dataclass(frozen=True)
class Target:
    """What is killed.

    Attributes:
        module: of the command, such as `"sedona_tf.search"`.
        arguments: of the command, without the folder.
        result: reads a finished run's folder; compared with `==`.
        moment: words where a killed run stood, from its folder.
    """

    module: str
    arguments: Sequence[str]
    result: Callable[[Path], Any]
    moment: Callable[[Path], str]

    def run(self, workdir: Path, kill: Kill = NEVER, count: bool = False) -> int:
        """Starts or resumes a run; returns its exit code, -9 if it was killed.

        Args:
            workdir: folder of the run.
            kill: when.
            count: leave a count of the operations on files beside the folder.
        """
        command = ["-m", self.module]
        if kill.operation or count:
            wire = [workdir, kill.operation, kill.number]
            command = [tripwire.__file__, *map(str, wire), self.module]
        resume = ["--resume"] if (workdir / "recipe.json").exists() else []
        with open(workdir.with_suffix(".log"), "ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command, *self.arguments, f"--workdir={workdir}", *resume],
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
                cwd=ROOT,
            )
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(kill.seconds)
        process.kill()
        return process.wait()

    def attack(self, folder: Path, kills: int, inside: int, rng: random.Random) -> dict:
        """Runs everything; returns the figures."""
        start = time.monotonic()
        undisturbed = folder / "undisturbed"
        code = self.run(undisturbed, count=True)
        problems = [] if code == 0 else ["the undisturbed run failed"]
        duration = longest = time.monotonic() - start
        expected = None if problems else self.result(undisturbed)
        operations = json.loads(tripwire.counts_of(undisturbed).read_text())
        waiting = [False] * kills + [True] * inside  # whether inside an operation
        rng.shuffle(waiting)
        killed: Counter[str] = Counter()
        hit: Counter[str] = Counter()
        runs = partial = 0
        while waiting and not problems:
            runs += 1
            workdir, code = folder / f"run_{runs}", -9
            before, start = len(waiting), time.monotonic()
            while code == -9:
                kill = NEVER
                if waiting and waiting[-1]:
                    operation = rng.choice(list(operations))
                    kill = Kill(None, operation, rng.randint(1, operations[operation]))
                elif waiting:
                    kill = Kill(rng.uniform(0, longest))
                code = self.run(workdir, kill)
                if code == -9:
                    waiting.pop()
                    where = self.moment(workdir)
                    killed[where] += 1
                    if kill.operation:
                        hit[kill.operation] += 1
                        where += f", {kill.operation} {kill.number}"
                    partial += len(list(workdir.rglob("*.partial")))
                    print(f"kill {killed.total()}: run {runs}, {where}", flush=True)
            if len(waiting) == before:
                longest = min(longest, time.monotonic() - start)
            if code != 0:
                problems.append(f"run {runs} ended with exit code {code}")
            elif self.result(workdir) != expected:
                problems.append(f"run {runs} has another result")
            elif list(workdir.rglob("*.partial")):
                problems.append(f"run {runs} left partial files")
            if b"damaged" in workdir.with_suffix(".log").read_bytes():
                problems.append(f"run {runs} met a damaged file")
        return {
            "undisturbed_s": round(duration, 1),
            "kills": killed.total(),
            "kills_by_newest_checkpoint": dict(killed),
            "kills_inside": hit.total(),
            "kills_inside_by_operation": dict(sorted(hit.items())),
            "operations_never_hit": sorted(set(operations) - set(hit)),
            "runs_finished": runs,
            "partial_files_left_by_kills": partial,
            "problems": problems,
        }


def checkpoints(workdir: Path) -> list[Path]:
    """A run's checkpoints, oldest first."""
    return sorted((workdir / "checkpoints").glob("*.npz"))


def main(target: Target, usage: str) -> int:
    """Attacks, prints one JSON object; returns 1 if anything went wrong, else 0."""
    parser = argparse.ArgumentParser(description=usage.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="at random moments")
    parser.add_argument("--inside", type=int, default=20, help="kills inside file operations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the runs; a temporary one if none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rng = random.Random(arguments.seed)
        result = target.attack(folder.resolve(), arguments.kills, arguments.inside, rng)
    print(json.dumps(result, indent=2))
    return 1 if result["problems"] else 0
