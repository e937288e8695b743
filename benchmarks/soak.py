"""Lets a search, a pipelined training and `fit` run for hours and watches what they hold.

Usage: python benchmarks/soak.py [--minutes 120] [--warm_up 15] [--only search,train,fit]
    [--keep DIR]

All run side by side until SIGTERM ends them: search and training as the commands would, on
scikit-learn's digits; `fit` in Python, on data of unknown length whose pictures fail now and then.
Each notes twice a minute its resident memory, open files, threads, the functions that TensorFlow
has traced, and the newest checkpoint. Targets, from the end of the warm-up on: resident
memory grows by less than 2 per cent (medians of the first and the last tenth of the notes), no
function is traced, the number of open files stays. Prints one JSON object; exit code 1 if a target
is missed. The notes stay in DIR as JSON lines.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import runpy
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from killing import ENVIRONMENT, ROOT, checkpoints

EVERY = 30.0
"""Seconds from note to note."""
GROWTH = 0.02
ENDLESS = str(10**7)
RECIPE = f"--recipe={ROOT / 'recipes/digits.py'}"
RUNS = {
    "search": [
        RECIPE,
        "--recipe.search.pretraining_steps=200",
        f"--recipe.search.steps={ENDLESS}",
        "--recipe.search.learning_rate=0.02",
    ],
    "train": [
        RECIPE,
        "--method=dgl",
        "--blocks=3",
        f"--recipe.train.epochs={ENDLESS}",
        "--recipe.train.learning_rate=0.02",
        "--recipe.train.schedule=pipelined",
    ],
}
FIT = "fit"


def fit_endlessly() -> None:
    """Fits a pipelined model on data of unknown length; every other time a picture fails."""
    import keras
    import numpy as np
    import tensorflow as tf

    from sedona_tf import Backbone, decouple, plans

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((60, 8, 8, 1)).astype("float32"), rng.integers(0, 5, 60)
    bad = images.copy()
    bad[41] = np.nan

    def read(image, label):
        return tf.debugging.check_numerics(image, "picture"), label

    def dataset(pictures) -> tf.data.Dataset:
        pairs = tf.data.Dataset.from_tensor_slices((pictures, labels)).map(read)
        return pairs.filter(lambda *_: True).batch(8)

    conv, layers = keras.layers.Conv2D, [keras.Input((8, 8, 1))]
    layers += [conv(4, 3, padding="same", activation="relu") for _ in range(4)]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5)]
    backbone = Backbone.from_keras(keras.Sequential(layers))
    model = decouple(backbone, plans.baseline("dgl", backbone, 3))
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    good, failing = dataset(images), dataset(bad)
    for count in itertools.count():
        before = int(model.optimizer.iterations)
        try:
            model.fit(failing if count % 2 else good, verbose=0)
        except tf.errors.InvalidArgumentError:
            assert count % 2
        steps = [int(each.iterations) - before for each in model.optimizer.of_blocks]
        if steps != 3 * [5 if count % 2 else 8] or any(b.full.numpy() for b in model.buffers):
            raise RuntimeError(f"fit {count}: updates of the blocks {steps}")


def note(workdir: Path) -> dict:
    """What this process holds now."""
    import tensorflow as tf

    gc.collect()
    traced = sum(
        isinstance(held, tf.types.experimental.ConcreteFunction) for held in gc.get_objects()
    )
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    saved = checkpoints(workdir)
    return {
        "minute": round(time.monotonic() / 60, 2),
        "rss_mib": round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "traced": traced,
        "saved": saved[-1].stem if saved else None,
    }


def live(name: str, folder: Path, minutes: float) -> None:
    """Runs a command in this process, taking notes between steps, until its time is over."""
    import keras

    end = time.monotonic() + 60 * minutes
    file = open(folder / f"{name}.jsonl", "a")  # noqa: SIM115 (for as long as the process)

    class Notes(keras.callbacks.Callback):
        due = 0.0

        def on_train_batch_end(self, batch, logs=None) -> None:
            if time.monotonic() >= Notes.due:
                print(json.dumps(note(folder / name)), file=file, flush=True)
                Notes.due = time.monotonic() + EVERY
            if time.monotonic() >= end:
                os.kill(os.getpid(), signal.SIGTERM)

    plain = keras.Model.fit

    def fit(self, *arguments, callbacks=(), **options):
        return plain(self, *arguments, callbacks=[*callbacks, Notes()], **options)

    keras.Model.fit = fit
    if name == FIT:
        return fit_endlessly()
    sys.argv = [f"sedona_tf.{name}", *RUNS[name], f"--workdir={folder / name}"]
    runpy.run_module(f"sedona_tf.{name}", run_name="__main__", alter_sys=True)


def judge(notes: list[dict], warm_up: float) -> dict:
    """Compares the notes after the warm-up with the targets."""
    start = notes[0]["minute"] - EVERY / 60
    warm = [each for each in notes if each["minute"] - start >= warm_up]
    tenth = max(1, len(warm) // 10)

    def ends(field: str) -> tuple[float, float]:
        return tuple(
            statistics.median(each[field] for each in part)
            for part in (warm[:tenth], warm[-tenth:])
        )

    first, last = ends("rss_mib")
    met = {
        "memory": last <= first * (1 + GROWTH),
        "tracing": warm[0]["traced"] == warm[-1]["traced"],
        "files": ends("files")[0] == ends("files")[1],
    }
    return {
        "minutes_after_warm_up": round(warm[-1]["minute"] - warm[0]["minute"], 1),
        "saved": [warm[0]["saved"], warm[-1]["saved"]],
        "rss_mib": [first, last],
        "growth": round(last / first - 1, 4),
        "most_rss_mib": max(each["rss_mib"] for each in warm),
        "traced": [warm[0]["traced"], warm[-1]["traced"]],
        "files": ends("files"),
        "threads": ends("threads"),
        "missed": [name for name, good in met.items() if not good],
    }


def main() -> int:
    """Runs all, prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--warm_up", type=float, default=15, help="minutes")
    parser.add_argument("--only", default=",".join([*RUNS, FIT]))
    parser.add_argument("--keep", type=Path, help="folder for the runs; a temporary one if none")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        live(arguments.child, arguments.keep, arguments.minutes)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        children, results = {}, {}
        for name in arguments.only.split(","):
            command = [sys.executable, __file__, f"--child={name}", f"--keep={folder}"]
            with open(folder / f"{name}.log", "wb") as log:
                children[name] = subprocess.Popen(
                    [*command, f"--minutes={arguments.minutes}"],
                    stdout=log,
                    stderr=log,
                    env=ENVIRONMENT,
                    cwd=ROOT,
                )
        for name, child in children.items():
            code = child.wait()
            lines = (folder / f"{name}.jsonl").read_text().splitlines()
            results[name] = judge([json.loads(line) for line in lines], arguments.warm_up)
            if code != 128 + signal.SIGTERM:
                results[name]["missed"].append(f"ended with exit code {code}")
    print(json.dumps(results, indent=2))
    return 1 if any(result["missed"] for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
