"""Run by test_long_runs.py: a search, a training or `fit` that does not end, in a process.

Usage: long_run.py search|train|fit FOLDER MINUTES

SIGTERM ends it after so many minutes. What the process holds is noted in FOLDER/NAME.jsonl twice a
minute.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
EVERY = 30.0
"""Seconds from note to note."""
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
    "fit": [],
}


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
    saved = sorted((workdir / "checkpoints").glob("*.npz"))
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
    if not RUNS[name]:
        return fit_endlessly()
    sys.argv = [f"sedona_tf.{name}", *RUNS[name], f"--workdir={folder / name}"]
    runpy.run_module(f"sedona_tf.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    live(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
