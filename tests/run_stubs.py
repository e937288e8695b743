"""As much of a run as its callbacks look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras

from sedona_tf.runs.checkpoints import Position


def stub_run(phase: str = "search", done: int = 0, steps: int = 100, **given: Any):
    """A run in a phase of so many steps; any other attribute may be given."""
    return SimpleNamespace(
        **{"folder": Path("nowhere"), "history": {}, **given},
        position=Position(phase, done),
        steps=steps,
    )


def take_step(run: Any, logs: Mapping[str, float], *callbacks: keras.callbacks.Callback) -> None:
    """Ends a step as `fit` would: the position first, then the callbacks in their order."""
    run.position = run.position.next()
    for callback in callbacks:
        callback.on_train_batch_end(None, logs)
