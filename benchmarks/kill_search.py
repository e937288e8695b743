"""Kills searches with SIGKILL at random moments and resumes them, over and over.

Usage: python benchmarks/kill_search.py [--kills 20] [--seed 0] [--keep FOLDER]

One search runs undisturbed; its duration is the range of the moments. Then a search is started,
killed, resumed, killed, ..., until it finishes before its kill; its alpha and beta must be those
of the undisturbed one bit for bit. Then the next begins, until the number of kills is reached and
the last has been finished. The range shrinks when a whole search takes less time, as it does where
other work that ran beside the first has ended. Prints one JSON object. Exit code 1 if anything
differs or a resumed search fails. The searches are those of scikit-learn's digits on ResNet-18 at
width 4, with one thread an operation.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
ARGUMENTS = [
    f"--recipe={ROOT / 'recipes/digits.py'}",
    "--recipe.search.candidate_depths=(1,)",
    "--recipe.search.inner_steps=1",
    "--recipe.search.pretraining_steps=60",
    "--recipe.search.steps=25",
    "--recipe.search.snapshots=5",
    "--recipe.search.checkpoint_every=3",
    "--recipe.search.batch_size=16",
    "--recipe.search.validation_batch_size=16",
]
ENVIRONMENT = {
    **os.environ,
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # its kernels crashed with one thread
    "TF_NUM_INTRAOP_THREADS": "1",
}


def run(workdir: Path, kill_after: float | None) -> int:
    """Starts or resumes a search; returns its exit code, -9 if it was killed."""
    resume = ["--resume"] if (workdir / "recipe.json").exists() else []
    with open(workdir.with_suffix(".log"), "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sedona_tf.search", *ARGUMENTS, f"--workdir={workdir}", *resume],
            stdout=log,
            stderr=log,
            env=ENVIRONMENT,
            cwd=ROOT,
        )
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(kill_after)
    process.kill()
    return process.wait()


def position(workdir: Path) -> str:
    """The newest checkpoint's phase, or "nothing saved"."""
    names = sorted(path.name for path in (workdir / "checkpoints").glob("*.npz"))
    return names[-1].partition("-")[0] if names else "nothing saved"


def scores(workdir: Path) -> tuple:
    """Alpha and beta of a finished search."""
    plan = json.loads((workdir / "plan.json").read_text())
    return plan["alpha"], plan["beta"]


def attack(folder: Path, kills: int, rng: random.Random) -> dict:
    """Runs everything; returns the figures."""
    start = time.monotonic()
    problems = [] if run(folder / "undisturbed", None) == 0 else ["the undisturbed search failed"]
    duration = longest = time.monotonic() - start
    expected = None if problems else scores(folder / "undisturbed")
    killed: Counter[str] = Counter()
    searches = partial = 0
    while killed.total() < kills and not problems:
        searches += 1
        workdir, code = folder / f"search_{searches}", -9
        before, start = killed.total(), time.monotonic()
        while code == -9:
            last = killed.total() >= kills
            code = run(workdir, None if last else rng.uniform(0, longest))
            if code == -9:
                killed[position(workdir)] += 1
                partial += len(list(workdir.rglob("*.partial")))
                print(f"kill {killed.total()}: search {searches}, {position(workdir)}", flush=True)
        if killed.total() == before:
            longest = min(longest, time.monotonic() - start)
        if code != 0:
            problems.append(f"search {searches} ended with exit code {code}")
        elif scores(workdir) != expected:
            problems.append(f"search {searches} has other scores")
        elif list(workdir.rglob("*.partial")):
            problems.append(f"search {searches} left partial files")
        if b"damaged" in workdir.with_suffix(".log").read_bytes():
            problems.append(f"search {searches} met a damaged file")
    return {
        "undisturbed_s": round(duration, 1),
        "kills": killed.total(),
        "kills_by_newest_checkpoint": dict(killed),
        "searches_finished": searches,
        "partial_files_left_by_kills": partial,
        "problems": problems,
    }


def main() -> int:
    """Attacks and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the runs; a temporary one if none")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = attack(folder, arguments.kills, random.Random(arguments.seed))
    print(json.dumps(result, indent=2))
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
