r"""SEDONA's search against random search over decouplings in the same time.

Usage: python benchmarks/random_plans.py [--recipe recipes/digits.py] [--blocks 2] [--epochs 3] \
    [--seeds 3]

1. Runs `python -m sedona_tf.search` and measures its wall time, pretraining, start of TensorFlow
   and all.
2. Runs `python -m sedona_tf.tune --tuner random`: trainings of `--epochs` epochs of random cuts and
   auxiliary nets, out of the same space, until they have used that time or tried all that there
   are. The last one may run over, and the start of TensorFlow is not counted, both in favour of
   random search. What SEDONA's plan has over these trials, that it serves any number of blocks,
   does not count here either.
3. Trains SEDONA's decoupling and the best random one with the recipe's full training, once for each
   seed.

Plan, trials and metrics go to benchmarks/results/random_plans_NAME/ with table.md; what is there is
not run again. Trials and trainings that were cut off are resumed. A search that was cut off starts
anew, for the sake of its time; nothing else should run on the machine meanwhile. All commands use
the same kernels, without oneDNN's, as the tune command does by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from sedona_tf.runs.metrics import load_metrics

HERE = Path(__file__).parent
ORDER = ["sedona", "random"]
FILES = {"sedona": "plan.json", "random": "decoupling.json"}


def command(name: str, recipe: str, workdir: Path, *arguments: str) -> list[str]:
    """Runs a command of the package, its progress shown; returns what was run."""
    run = ["-m", f"sedona_tf.{name}", "--recipe", recipe, f"--workdir={workdir}", *arguments]
    run += ["--resume"] if (workdir / "recipe.json").exists() else []
    done = subprocess.run([sys.executable, *run], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise SystemExit(f"{workdir.name} failed: {lines[-1]}")
    return ["python", *run]


def write(path: Path, content: dict) -> None:
    """Writes a result, all or nothing."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)


def search(recipe: str, results: Path, runs: Path) -> float:
    """SEDONA's plan; returns the seconds that it took."""
    target, workdir = results / "search.json", runs / "search"
    if not target.exists():
        shutil.rmtree(workdir, ignore_errors=True)
        began = time.monotonic()
        ran = command("search", recipe, workdir)
        seconds = time.monotonic() - began
        shutil.copy(workdir / "plan.json", results / FILES["sedona"])
        write(target, {"seconds": seconds, "command": " ".join(ran)})
        shutil.rmtree(workdir)
    return json.loads(target.read_text())["seconds"]


def tune(arguments, seconds: float, results: Path, runs: Path) -> list[dict]:
    """Random trials for so long; returns them, as `trials.json` has them."""
    target, workdir = results / "trials.json", runs / "tune"
    if not target.exists():
        command(
            "tune",
            arguments.recipe,
            workdir,
            f"--blocks={arguments.blocks}",
            "--tuner=random",
            "--max_trials=1000000",
            f"--epochs={arguments.epochs}",
            f"--max_seconds={seconds}",
        )
        shutil.copy(workdir / "decoupling.json", results / FILES["random"])
        write(target, json.loads((workdir / "trials.json").read_text()))
        shutil.rmtree(workdir)
    return json.loads(target.read_text())["trials"]


def train(arguments, results: Path, runs: Path, source: str, seed: int) -> None:
    """The recipe's full training of one decoupling, unless its metrics are there."""
    target, workdir = results / f"{source}_seed{seed}.json", runs / f"{source}_seed{seed}"
    if target.exists():
        return
    ran = command(
        "train",
        arguments.recipe,
        workdir,
        f"--recipe.seed={seed}",
        f"--plan={os.path.relpath(results / FILES[source])}",
        f"--blocks={arguments.blocks}",
    )
    metrics = load_metrics(workdir / "metrics.json").to_dict()
    write(target, {**metrics, "source": source, "command": " ".join(ran)})
    shutil.rmtree(workdir)


def table(results: Path, seconds: float, trials: list[dict]) -> str:
    """Both decouplings in Markdown, with the mean and standard deviation over seeds."""
    spent = {"sedona": seconds, "random": sum(trial["seconds"] for trial in trials)}
    lines = ["| decoupling | found in, s | trials | K | cut after | seeds | test error, % |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    for source in ORDER:
        runs = [json.loads(p.read_text()) for p in sorted(results.glob(f"{source}_seed*.json"))]
        errors = [100 * run["test"]["errors"]["head"] for run in runs]
        spread = f" ± {statistics.stdev(errors):.2f}" if len(errors) > 1 else ""
        cuts = ", ".join(map(str, runs[0]["test"]["cut_after"]))
        tried = str(len(trials)) if source == "random" else ""
        lines.append(
            f"| {source} | {spent[source]:.0f} | {tried} | {runs[0]['num_blocks']} | {cuts} "
            f"| {len(runs)} | {statistics.mean(errors):.2f}{spread} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs what is missing, then writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="recipes/digits.py", help="FILE or FILE:VARIANT")
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3, help="of a random trial")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    name = "_".join([Path(arguments.recipe.split(":")[0]).stem, *arguments.recipe.split(":")[1:]])
    results, runs = HERE / "results" / f"random_plans_{name}", Path("runs/random_plans") / name
    results.mkdir(parents=True, exist_ok=True)
    runs.mkdir(parents=True, exist_ok=True)
    seconds = search(arguments.recipe, results, runs)
    trials = tune(arguments, seconds, results, runs)
    for seed in range(arguments.seeds):
        for source in ORDER:
            train(arguments, results, runs, source, seed)
    text = table(results, seconds, trials)
    (results / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
