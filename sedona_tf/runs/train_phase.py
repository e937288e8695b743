"""One phase of a run, from where it stands to its end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from sedona_tf.runs.callbacks import Progress, SaveCheckpoints, Steps
from sedona_tf.runs.run import Run

__all__ = ["train_phase"]


def train_phase(
    run: Run,
    data: Callable[[int, int], tf.data.Dataset],
    before: Sequence[keras.callbacks.Callback] = (),
    after: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Trains from a step of the run's phase to its end; saves every few steps, and then.

    Args:
        run: its position says where to begin.
        data: of the phase, from a step on and so many steps.
        before: callbacks whose work a checkpoint after the same step must hold.
        after: callbacks that come after a checkpoint is written.

    Raises:
        UserError: for numbers that are not finite, and if the folder cannot be written.
        Interrupted: by a signal, saved.
    """
    done = run.position.step
    with run.request.deferred(), contextlib.closing(Progress(run)) as progress:
        if done < run.steps:
            run.model.fit(
                data(done, run.steps - done),
                epochs=1,
                verbose=0,
                shuffle=False,
                callbacks=[Steps(run), *before, progress, SaveCheckpoints(run), *after],
            )
        run.save()
        run.stop_if_asked()
