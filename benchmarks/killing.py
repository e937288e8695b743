"""Kills runs of a command with SIGKILL at random moments and resumes them, over and over.

One run goes undisturbed; its duration is the range of the moments. Then a run is started, killed,
resumed, killed, ..., until it finishes before its kill; its result must be that of the undisturbed
one bit for bit. Then the next begins, until the number of kills is reached and the last has been
finished. The range shrinks when a whole run takes less time, as it does where other work that ran
beside the first has ended.
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
from typing import Any

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {
    **os.environ,
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # as the commands do
    "TF_NUM_INTRAOP_THREADS": "1",
}


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

    def run(self, workdir: Path, kill_after: float | None) -> int:
        """Starts or resumes a run; returns its exit code, -9 if it was killed."""
        resume = ["--resume"] if (workdir / "recipe.json").exists() else []
        with open(workdir.with_suffix(".log"), "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", self.module, *self.arguments, f"--workdir={workdir}"]
                + resume,
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
                cwd=ROOT,
            )
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(kill_after)
        process.kill()
        return process.wait()

    def attack(self, folder: Path, kills: int, rng: random.Random) -> dict:
        """Runs everything; returns the figures."""
        start = time.monotonic()
        undisturbed = folder / "undisturbed"
        problems = [] if self.run(undisturbed, None) == 0 else ["the undisturbed run failed"]
        duration = longest = time.monotonic() - start
        expected = None if problems else self.result(undisturbed)
        killed: Counter[str] = Counter()
        runs = partial = 0
        while killed.total() < kills and not problems:
            runs += 1
            workdir, code = folder / f"run_{runs}", -9
            before, start = killed.total(), time.monotonic()
            while code == -9:
                last = killed.total() >= kills
                code = self.run(workdir, None if last else rng.uniform(0, longest))
                if code == -9:
                    killed[self.moment(workdir)] += 1
                    partial += len(list(workdir.rglob("*.partial")))
                    print(f"kill {killed.total()}: run {runs}, {self.moment(workdir)}", flush=True)
            if killed.total() == before:
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
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the runs; a temporary one if none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = target.attack(folder, arguments.kills, random.Random(arguments.seed))
    print(json.dumps(result, indent=2))
    return 1 if result["problems"] else 0
