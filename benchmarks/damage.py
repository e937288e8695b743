"""Damages every kind of file that the package reads, and sees what comes of it.

Usage: python benchmarks/damage.py [--seed 0] [--flips 300] [--no-commands]

1. Files of a few hundred bytes to a few kilobytes, so that headers, names and shapes are hit too,
   are written by the package's own writers. Each is cut off at every 64th byte and given flipped
   bits at random places, one case after the other, and read by the function that the commands use.
2. A search, a training and a tuning of a few steps are run by the commands; then a file of each
   kind is cut in half, in another copy has one bit flipped, and the command that reads it is run.

What may come of it: one line that names the file, exit code 2; for checkpoints, the one before and
a line that says so; or the very content that was written (white space of JSON, gzip's time stamp).
models.config is a list that people edit and has no checksum: a name or path in it may differ
unseen. Prints one JSON object. Exit code 1 if anything else came of any damage. Takes about five
minutes on one core, half a minute of it without the commands.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from damage_files import FELL_BACK, REFUSED, attack, kinds, write_idx, write_sums
from killing import ENVIRONMENT, ROOT

from sedona_tf.plans import Plan
from sedona_tf.profile.cache import CostCache
from sedona_tf.profile.costs import Costs, PartCost

STEP = 64
RECIPE = f"--recipe={ROOT / 'recipes/digits.py'}:smoke"
SEARCH = [
    RECIPE,
    "--recipe.search.space.depth=(1,)",
    "--recipe.search.inner_steps=1",
    "--recipe.search.checkpoint_every=2",
    "--recipe.search.batch_size=16",
    "--recipe.search.validation_batch_size=16",
]
SMALL = [RECIPE, "--recipe.data.limit=200", "--recipe.train.batch_size=32"]
TRAIN = [*SMALL, "--method=dgl", "--blocks=2", "--recipe.train.checkpoint_every=3"]
TUNE = [*SMALL, "--blocks=2", "--max_trials=1"]


@dataclasses.dataclass(frozen=True)
class Case:
    """A file of the runs' folder and the command that reads it; paths are below that folder.

    Attributes:
        kind: of the file.
        path: a pattern; of several files, the last is damaged.
        command: its name and arguments.
        outcome: `REFUSED` or `FELL_BACK`.
    """

    kind: str
    path: str
    command: Sequence[str]
    outcome: str = REFUSED


CASES = [
    Case("plan", "search/plan.json", ["decode", "--plan=search/plan.json", "--blocks=2"]),
    Case("plan", "search/plan.json", ["report", "--workdir=search"]),
    Case("history", "search/history.json", ["report", "--workdir=search"]),
    Case("history", "train/history.json", ["report", "--workdir=train"]),
    Case("metrics", "train/metrics.json", ["report", "--workdir=train"]),
    Case(
        "costs",
        "costs.json",
        ["decode", "--plan=search/plan.json", "--blocks=2", "--costs=costs.json"],
    ),
    Case("cost cache", "parts.json", ["profile", *SMALL, "--cache=parts.json", "--workdir=out"]),
    Case("decoupling", "train/decoupling.json", ["evaluate", "--workdir=train"]),
    Case("resolved recipe", "train/recipe.json", ["evaluate", "--workdir=train"]),
    Case("trial records", "tune/trials.json", ["tune", *TUNE, "--workdir=tune", "--resume"]),
    Case("tuner's state", "tune/tuner/tuner0.json", ["tune", *TUNE, "--workdir=tune", "--resume"]),
    Case(
        "IDX, gzip",
        "zipped/train-images*",
        ["search", *SEARCH, "--workdir=new"]
        + ["--recipe.data.source=idx", "--recipe.data.data_dir=zipped"],
    ),
    Case(
        "IDX, listed",
        "plain/train-images*",
        ["search", *SEARCH, "--workdir=new"]
        + ["--recipe.data.source=idx", "--recipe.data.data_dir=plain"],
    ),
    Case(
        "models.config",
        "models/models.config",
        ["export", "--workdir=train", "--output=models/digits"],
    ),
    Case(
        "checkpoint",
        "train/checkpoints/*.npz",
        ["train", *TRAIN, "--workdir=train", "--resume"],
        FELL_BACK,
    ),
    Case("checkpoint", "train/checkpoints/*.npz", ["evaluate", "--workdir=train"], FELL_BACK),
    Case(
        "checkpoint of a search",
        "search/checkpoints/*.npz",
        ["search", *SEARCH, "--workdir=search", "--resume"],
        FELL_BACK,
    ),
    Case(
        "snapshot",
        "search/snapshots/*.npz",
        ["search", *SEARCH, "--workdir=search", "--resume"],
        FELL_BACK,
    ),
]


def run(folder: Path, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Runs a command of the package in a folder, on one thread an operation."""
    name, *arguments = command
    return subprocess.run(
        [sys.executable, "-m", f"sedona_tf.{name}", *arguments],
        cwd=folder,
        env=ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )


def prepare(folder: Path) -> None:
    """Writes the undamaged files, most of them by the commands."""
    for command in (
        ["search", *SEARCH, "--workdir=search"],
        ["train", *TRAIN, "--workdir=train"],
        ["tune", *TUNE, "--workdir=tune"],
    ):
        done = run(folder, command)
        if done.returncode:
            raise SystemExit(f"{command[0]} failed: {done.stderr.strip().splitlines()[-1]}")
    plan, part = Plan.load(folder / "search/plan.json"), PartCost(0.1, 0.2, 0.01, 64, 64, 64, 64)
    rows = ((part,) * len(plan.candidates),) * (plan.num_units - 1)
    units = (part,) * plan.num_units
    costs = Costs(plan.backbone, plan.units, plan.candidates, 8, "CPU", units, rows, part)
    costs.save(folder / "costs.json")
    cache = CostCache(folder / "parts.json")
    cache.put("CPU, batch 8", "dense 4 to 2", part)
    cache.save()
    write_idx(folder / "zipped")
    subprocess.run(["gzip", *(folder / "zipped").iterdir()], check=True)
    write_idx(folder / "plain")
    write_sums(folder / "plain")
    (folder / "models").mkdir()
    (folder / "models/models.config").write_text(
        'model_config_list {\n  config { name: "digits" base_path: "/models/digits" }\n}\n'
    )


def judge(case: Case, path: Path, done: subprocess.CompletedProcess[str]) -> str | None:
    """What is wrong with how a command ended; None if nothing."""
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error:")]
    said = [line for line in lines if "Going on from" in line]
    if "Traceback" in done.stderr:
        return "a traceback"
    if case.outcome == REFUSED:
        right = done.returncode == 2 and len(errors) == 1 and path.name in errors[0]
    else:
        right = done.returncode == 0 and not errors and len(said) == 1 and path.name in said[0]
    return None if right else f"exit code {done.returncode}, {(lines or ['no line'])[-1]}"


def attack_commands(folder: Path) -> tuple[dict[str, Counter[str]], list[str]]:
    """Runs every case twice; returns the outcomes of each kind, and the faults in words."""
    whole, copy = folder / "whole", folder / "copy"
    whole.mkdir()
    prepare(whole)
    counts: dict[str, Counter[str]] = {}
    faults = []
    for case in CASES:
        for damage in ("cut", "flip"):
            shutil.copytree(whole, copy)
            path = sorted(copy.glob(case.path))[-1]
            content = bytearray(path.read_bytes())
            middle = len(content) // 2
            if damage == "cut" or case.kind == "models.config":
                del content[middle if damage == "cut" else middle // 2 :]
            else:
                while chr(content[middle]).isspace():
                    middle += 1
                content[middle] ^= 1
            path.write_bytes(content)
            fault = judge(case, path, run(copy, case.command))
            if fault:
                faults.append(f"{case.command[0]} with {path.relative_to(copy)}, {damage}: {fault}")
            counts.setdefault(case.kind, Counter())["FAULT" if fault else case.outcome] += 1
            shutil.rmtree(copy)
    return counts, faults


def main() -> int:
    """Attacks, prints the outcomes; returns 1 if any is a fault, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--flips", type=int, default=300, help="cases of flipped bits a kind")
    parser.add_argument("--no-commands", action="store_true", help="only read in this process")
    arguments = parser.parse_args()
    start, rng = time.monotonic(), random.Random(arguments.seed)
    files, faults = {}, []
    commands: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        small, runs = Path(temporary, "small"), Path(temporary, "runs")
        small.mkdir()
        runs.mkdir()
        for kind in kinds(small):
            files[kind.name], found = attack(kind, STEP, arguments.flips, rng)
            faults += found
        if not arguments.no_commands:
            commands, found = attack_commands(runs)
            faults += found
    result = {
        "cases": sum(counts.total() for counts in files.values()),
        "outcomes": sum(files.values(), Counter()),
        "by_kind": files,
        "commands": sum(counts.total() for counts in commands.values()),
        "commands_by_kind": commands,
        "faults": faults,
        "seconds": round(time.monotonic() - start),
    }
    print(json.dumps(result, indent=2))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
