"""Kills and stops runs of a command, and resumes them, over and over.

One run goes undisturbed. Then a run is started, struck, resumed, struck, ..., until it finishes
before its blow; its result must be that of the undisturbed one bit for bit. Then the next begins,
until the number of blows is reached and the last run has been finished.

Blows come in three kinds, mixed at random:

- SIGKILL at random moments within the duration of a whole run; that range shrinks when one takes
  less time, as it does where other work that ran beside the first has ended.
- SIGKILL inside operations on the run's files, see tripwire.py: which one is drawn from all kinds
  of operation that the undisturbed run made, rare ones as often as others, and then from all of
  that kind. The rest of a run may not have it any more; then it finishes.
- SIGTERM or SIGINT at random moments, which must end the run within ten seconds and with the
  conventional exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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


LIMIT = 10.0
"""Seconds that a run may go on after SIGTERM or SIGINT."""


class Blow(NamedTuple):
    """What ends a run: a signal after some seconds, or inside the n-th operation of a kind."""

    signal: int = signal.SIGKILL
    seconds: float | None = None
    operation: str = ""
    number: int = 0


NONE = Blow()


@dataclasses.dataclass(frozen=True)
class Target:
    """What is struck.

    Attributes:
        module: of the command, such as `"sedona_tf.search"`.
        arguments: of the command, without the folder.
        result: reads a finished run's folder; compared with `==`.
        moment: words where a struck run stood, from its folder.
    """

    module: str
    arguments: Sequence[str]
    result: Callable[[Path], Any]
    moment: Callable[[Path], str]

    def run(self, workdir: Path, blow: Blow = NONE, count: bool = False) -> tuple[int, float]:
        """Starts or resumes a run.

        Args:
            workdir: folder of the run.
            blow: what ends it, if it does not end before.
            count: leave a count of the operations on files beside the folder.

        Returns:
            The exit code, and the seconds that the run went on after a signal.
        """
        command = ["-m", self.module]
        if blow.operation or count:
            wire = [workdir, blow.operation, blow.number]
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
            return process.wait(blow.seconds), 0.0
        start = time.monotonic()
        process.send_signal(blow.signal)
        return process.wait(), time.monotonic() - start

    def attack(self, folder: Path, waiting: list[str], rng: random.Random) -> dict:
        """Runs everything; returns the figures.

        Args:
            folder: for the runs.
            waiting: the blows: `"moment"`, `"inside"` or `"signal"`.
            rng: decides the rest.
        """
        start = time.monotonic()
        undisturbed = folder / "undisturbed"
        code, _ = self.run(undisturbed, count=True)
        problems = [] if code == 0 else ["the undisturbed run failed"]
        duration = longest = time.monotonic() - start
        expected = None if problems else self.result(undisturbed)
        operations = json.loads(tripwire.counts_of(undisturbed).read_text())
        struck: dict[str, Counter[str]] = {kind: Counter() for kind in sorted(set(waiting))}
        stops: dict[str, float] = {}
        runs = partial = 0
        while waiting and not problems:
            runs += 1
            workdir, going = folder / f"run_{runs}", True
            before, start = len(waiting), time.monotonic()
            while going:
                kind = waiting[-1] if waiting else "none"
                blow = draw(kind, longest, operations, rng)
                code, seconds = self.run(workdir, blow)
                going = kind != "none" and code in (-blow.signal, 128 + blow.signal)
                where = self.moment(workdir)
                if blow.signal != signal.SIGKILL and seconds:
                    stops[f"{runs}.{before - len(waiting)} {where}"] = round(seconds, 2)
                    if seconds > LIMIT:
                        problems.append(f"run {runs} went on for {seconds:.1f} s, {where}")
                if going:
                    waiting.pop()
                    struck[kind][blow.operation or where] += 1
                    partial += len(list(workdir.rglob("*.partial")))
                    print(f"run {runs}: {where}, {blow}, {seconds:.2f} s", flush=True)
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
            "blows": {kind: counts.total() for kind, counts in struck.items()},
            "where": {kind: dict(sorted(counts.items())) for kind, counts in struck.items()},
            "operations_never_hit": sorted(set(operations) - set(struck.get("inside", ()))),
            "longest_stops_s": dict(sorted(stops.items(), key=lambda item: -item[1])[:5]),
            "runs_finished": runs,
            "partial_files_left_by_kills": partial,
            "problems": problems,
        }


def draw(kind: str, longest: float, operations: Mapping[str, int], rng: random.Random) -> Blow:
    """A blow of a kind, `"none"` included; the arguments as in `Target.attack`."""
    if kind == "inside":
        operation = rng.choice(list(operations))
        return Blow(operation=operation, number=rng.randint(1, operations[operation]))
    if kind == "moment":
        return Blow(seconds=rng.uniform(0, longest))
    if kind == "signal":
        return Blow(rng.choice([signal.SIGTERM, signal.SIGINT]), rng.uniform(0, longest))
    return NONE


def checkpoints(workdir: Path) -> list[Path]:
    """A run's checkpoints, oldest first."""
    return sorted((workdir / "checkpoints").glob("*.npz"))


def main(target: Target, usage: str) -> int:
    """Attacks, prints one JSON object; returns 1 if anything went wrong, else 0."""
    parser = argparse.ArgumentParser(description=usage.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="at random moments")
    parser.add_argument("--inside", type=int, default=20, help="kills inside operations on files")
    parser.add_argument("--signals", type=int, default=0, help="SIGTERM and SIGINT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the runs; a temporary one if none")
    arguments = parser.parse_args()
    # A shell starts what runs in the background deaf to SIGINT, and the runs would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rng = random.Random(arguments.seed)
    blows = ["moment"] * arguments.kills + ["inside"] * arguments.inside
    blows += ["signal"] * arguments.signals
    rng.shuffle(blows)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        result = target.attack(folder, blows, rng)
    print(json.dumps(result, indent=2))
    return 1 if result["problems"] else 0
