r"""Backprop, PredSim, DGL and SEDONA on the same data, budget and augmentation.

Usage: python benchmarks/compare_methods.py [--recipe fashion_mnist_resnet18] \
    [--plan fashion_mnist_resnet18] [--methods backprop,predsim,dgl,sedona] \
    [--blocks 2,4] [--seeds 3] [--cores 0,1] [--schedule lockstep] [--only_summary] \
    [--name fashion_mnist_resnet18] \
    [--recipe.FIELD=VALUE ...]

Runs `python -m sedona_tf.train` once for every method, K and seed, seed by seed, and keeps each
run's metrics in benchmarks/results/NAME/; what is there is not run again, and a run that was cut
off is resumed, so it can be done in pieces. Then it writes table.md and plot.png beside them from
whatever runs there are. Each run has one core to itself, with as many runs at once as `--cores`
names: the images per second are those of one core, with all blocks on it. Changes of the recipe
are passed on; give such runs a --name of their own.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import queue
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from sedona_tf.runs.history import load_history
from sedona_tf.runs.metrics import load_metrics

HERE = Path(__file__).parent
ORDER = ["backprop", "predsim", "dgl", "sedona"]


def train(
    arguments,
    changes: list[str],
    results: Path,
    cores: queue.Queue,
    method: str,
    blocks: int,
    seed: int,
) -> None:
    """One run on a free core, unless its metrics are there."""
    name = f"{method}_k{blocks}_seed{seed}"
    target, workdir = results / f"{name}.json", Path("runs/compare") / results.name / name
    if target.exists():
        return
    command = [sys.executable, "-m", "sedona_tf.train", "--recipe", arguments.recipe]
    command += [f"--recipe.seed={seed}", f"--method={method}", f"--blocks={blocks}"]
    command += [f"--workdir={workdir}", f"--recipe.train.schedule={arguments.schedule}"]
    command += changes
    command += ["--plan", arguments.plan] if method == "sedona" else []
    command += ["--resume"] if (workdir / "recipe.json").exists() else []
    core = cores.get()
    try:
        done = subprocess.run(
            ["taskset", "--cpu-list", core, *command],
            capture_output=True,
            text=True,
            env=os.environ | {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"},
        )
    finally:
        cores.put(core)
    if done.returncode:
        raise SystemExit(f"{name} failed: {done.stderr.strip().splitlines()[-1]}")
    metrics = load_metrics(workdir / "metrics.json").to_dict()
    accuracy = load_history(workdir / "history.json").columns["accuracy"][-1]
    metrics["training_error"] = round(1 - float(accuracy), 4)  # of the last epoch, augmented images
    metrics["command"] = " ".join(["python", *command[1:]])
    target.write_text(json.dumps(metrics, indent=1) + "\n")
    shutil.rmtree(workdir)
    print(f"{name}: test error {metrics['test']['errors']['head']:.4f}", flush=True)


def summarise(results: Path) -> list[dict]:
    """Mean and standard deviation over seeds of every method and K."""
    runs = [json.loads(path.read_text()) for path in sorted(results.glob("*_seed*.json"))]
    rows = []
    keys = {(run["method"], run["num_blocks"]) for run in runs}
    for method, blocks in sorted(keys, key=lambda key: (key[1], ORDER.index(key[0]))):
        group = [r for r in runs if (r["method"], r["num_blocks"]) == (method, blocks)]
        errors = [100 * run["test"]["errors"]["head"] for run in group]
        row = {"method": method, "K": blocks, "seeds": len(group), "errors": errors}
        row["mean"] = statistics.mean(errors)
        row["sd"] = statistics.stdev(errors) if len(errors) > 1 else None
        if blocks > 1:
            best = [100 * run["test"]["errors"]["calibrated_ensembles"][-1] for run in group]
            row["ensemble"] = statistics.mean(best)
        if all("training_error" in run for run in group):
            row["training"] = statistics.mean(100 * run["training_error"] for run in group)
        row["images_per_second"] = statistics.median(run["images_per_second"] for run in group)
        rows.append(row)
    return rows


def table(rows: list[dict]) -> str:
    """The rows in Markdown."""
    head = "method | K | seeds | test error, % | training error, % | ensemble of all, % | images/s"
    lines = [f"| {head} |", "| --- " * 7 + "|"]
    for row in rows:
        spread = f" ± {row['sd']:.2f}" if row["sd"] is not None else ""
        training, ensemble = (
            f"{row[name]:.2f}" if name in row else "" for name in ("training", "ensemble")
        )
        lines.append(
            f"| {row['method']} | {row['K']} | {row['seeds']} | {row['mean']:.2f}{spread} "
            f"| {training} | {ensemble} | {row['images_per_second']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def plot(rows: list[dict], path: Path) -> None:
    """Every run as a dot, the mean as a bar."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for position, row in enumerate(rows):
        axes.plot([position - 0.25, position + 0.25], [row["mean"]] * 2, color="black", lw=2)
        axes.plot([position] * len(row["errors"]), row["errors"], "o", alpha=0.7)
    axes.set_xticks(range(len(rows)), [f"{row['method']}\nK = {row['K']}" for row in rows])
    axes.set_ylabel("test error, %")
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Runs what is missing, then writes table and plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="fashion_mnist_resnet18")
    parser.add_argument("--plan", default="fashion_mnist_resnet18")
    parser.add_argument("--blocks", default="2,4")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", default=",".join(ORDER))
    parser.add_argument("--cores", default="0,1")
    parser.add_argument("--schedule", default="lockstep")
    parser.add_argument("--name", help="of the results' folder; the recipe's if not given")
    parser.add_argument("--only_summary", action="store_true")
    arguments, changes = parser.parse_known_args()
    if wrong := [each for each in changes if not each.startswith("--recipe.")]:
        parser.error(f"unknown: {' '.join(wrong)}")
    results = HERE / "results" / (arguments.name or Path(arguments.recipe).stem)
    results.mkdir(parents=True, exist_ok=True)
    if not arguments.only_summary:
        methods = arguments.methods.split(",")
        blocks = [int(number) for number in arguments.blocks.split(",")]
        jobs = [
            (method, number, seed)
            for seed in range(arguments.seeds)
            for method in ORDER
            if method in methods
            for number in ([1] if method == "backprop" else blocks)
        ]
        cores: queue.Queue = queue.Queue()
        for core in arguments.cores.split(","):
            cores.put(core)
        with concurrent.futures.ThreadPoolExecutor(cores.qsize()) as pool:
            list(pool.map(lambda job: train(arguments, changes, results, cores, *job), jobs))
    rows = summarise(results)
    (results / "table.md").write_text(table(rows))
    plot(rows, results / "plot.png")
    print(table(rows))


if __name__ == "__main__":
    main()
