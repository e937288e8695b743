"""DecouplingTuner: runs the trials that an oracle of keras-tuner proposes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from absl import logging
from keras_tuner.engine.trial import Trial, TrialStatus
from tensorflow.python.framework.ops import gradient_registry

from sedona_tf import json_file
from sedona_tf.errors import UserError, first_line
from sedona_tf.files import make_folder
from sedona_tf.runs.arrays import read_arrays, write_arrays
from sedona_tf.runs.callbacks import Progress, Steps
from sedona_tf.runs.checkpoints import Position
from sedona_tf.runs.nan_guard import NanGuard
from sedona_tf.runs.run import Run
from sedona_tf.runs.state import capture, restore
from sedona_tf.tune.hypermodel import DecouplingHyperModel
from sedona_tf.tune.trials import MAX_BYTES, TrialRecord

__all__ = ["DecouplingTuner"]

STATE_FILE = "tuner0.json"
WORKER = "tuner0"
"""The oracle's name for who runs its trials."""


class _State(json_file.Typed, frozen=True, tag_field="format", tag="sedona_tf.tuner"):
    """What keras-tuner's `get_state` gives, of the oracle and of each trial."""

    oracle: dict[str, Any]
    trials: list[dict[str, Any]]


class DecouplingTuner:
    """Runs a `DecouplingHyperModel`'s trials.

    Each starts from the recipe's seed, so that trials differ in their decoupling alone and one that
    was cut off can be run again. A failed trial ends the tuning and is run again when the tuning is
    resumed. A trial that Hyperband promotes goes on from all that the earlier one ended with, under
    the learning rate's schedule of the full length.

    A decoupling that was trained in full is not trained again: it would give the same weights. A
    later trial of it takes over the result, and the tuning ends once all have been tried.

    The state of the oracle and of all trials is one file, written all or nothing when a trial
    begins and when it ends. keras-tuner would write a file for each trial and one more in place, so
    its own `Tuner` and the oracles' files are not used.

    Args:
        oracle: decides what to try, see `sedona_tf.tune.oracles`; its objective is `val_error`.
        hypermodel: what to train.
        run: the tuning, whose folder holds the state in `tuner/`; goes on from what is there.
        max_seconds: no trial starts once they have taken so long in all; 0: no limit.
        on_record: called after each trial with all that are finished.

    Raises:
        UserError: if the state is damaged.
    """

    def __init__(
        self,
        oracle: keras_tuner.Oracle,
        hypermodel: DecouplingHyperModel,
        run: Run,
        max_seconds: float = 0.0,
        on_record: Callable[[list[TrialRecord]], None] = lambda records: None,
    ) -> None:
        self.oracle, self.hypermodel, self.run = oracle, hypermodel, run
        self.folder = run.folder / "tuner"
        self._max_seconds, self._on_record = max_seconds, on_record
        make_folder(self.folder)
        if (self.folder / STATE_FILE).exists():
            self._reload()

    def search(self) -> None:
        """Runs trials until there are enough, the time is spent or all has been tried.

        Raises:
            UserError: if a trial fails, or its result cannot be kept.
            Interrupted: by a signal.
        """
        self.save()
        while (trial := self._next_trial()).status != TrialStatus.STOPPED:
            if trial.status == TrialStatus.IDLE:
                continue
            self.save()  # so that this very trial is run again if it is cut off
            try:
                self.oracle.update_trial(trial.trial_id, self.run_trial(trial))
            except (UserError, OSError) as error:
                raise UserError(f"trial {trial.trial_id} failed: {error}") from error
            trial.status = TrialStatus.COMPLETED
            self.oracle.end_trial(trial)
            self.save()
            self._on_record(self.records())

    def _next_trial(self) -> Trial:
        """The one that was cut off, or a new one; has the status STOPPED if there is none."""
        self.run.request.stop("stopped between two trials; --resume goes on.")
        spent = sum(record.seconds for record in self.records())
        if self._max_seconds and spent >= self._max_seconds:
            self.oracle.max_trials = len(self.oracle.trials)
        if len(self._trained()) == self.hypermodel.num_points:
            logging.info(f"all {self.hypermodel.num_points} decouplings were tried")
            self.oracle.max_trials = len(self.oracle.trials)
        return self.oracle.create_trial(WORKER)

    def records(self) -> list[TrialRecord]:
        """The finished trials, in the order in which they began."""
        return [
            TrialRecord(
                trial=name,
                decoupling=self.hypermodel.decoupling(trial.hyperparameters),
                val_error=trial.score,
                seconds=trial.metrics.get_last_value("seconds"),
                steps=int(trial.metrics.get_last_value("steps")),
                epochs=self._epochs(trial)[1],
            )
            for name, trial in self._finished().items()
        ]

    def _finished(self) -> dict[str, Trial]:
        """Finished trials by number: a resumed tuning may write more digits, "2" and then "03"."""
        names = sorted(self.oracle.trials, key=int)
        trials = ((name, self.oracle.trials[name]) for name in names)
        return {name: trial for name, trial in trials if trial.status == TrialStatus.COMPLETED}

    def _trained(self) -> dict[Hashable, Trial]:
        """Decouplings that were trained in full, with the first trial of each."""
        full = self.run.recipe.train.epochs
        found: dict[Hashable, Trial] = {}
        for trial in self._finished().values():
            if self._epochs(trial)[1] == full:
                found.setdefault(self.hypermodel.point(trial.hyperparameters), trial)
        return found

    def save(self) -> None:
        """Keeps the state of the oracle and of all trials.

        Raises:
            UserError: if it cannot be written, or the folder is another run's by now.
        """
        self.run.lock.require()
        trials = [trial.get_state() for trial in self.oracle.trials.values()]
        state = _State(self.oracle.get_state(), trials)
        json_file.save(self.folder / STATE_FILE, state, indent=None)

    def _reload(self) -> None:
        """Goes on from what `save` kept; a trial that had begun is the next to run."""
        path = self.folder / STATE_FILE
        state = json_file.load(path, _State, max_bytes=MAX_BYTES)
        try:
            trials = map(Trial.from_state, state.trials)
            self.oracle.trials = {trial.trial_id: trial for trial in trials}
            self.oracle.set_state(state.oracle)
        except Exception as error:  # keras-tuner's have many types
            raise UserError(f"tuner '{path}' is damaged: {first_line(error)}") from error

    def run_trial(self, trial: Trial) -> dict[str, float]:
        """Trains one decoupling.

        Returns:
            What `DecouplingHyperModel.fit` does, and the `seconds` that all of it took.

        Raises:
            UserError: if it diverges, or the folder is another run's by now.
            Interrupted: by a signal.
        """
        began = time.perf_counter()
        with _dropped_gradients():
            results = self._train(trial)
        return {**results, "seconds": time.perf_counter() - began}

    def _train(self, trial: Trial) -> dict[str, float]:
        run, hp = self.run, trial.hyperparameters
        full, steps_per_epoch = run.recipe.train.epochs, self.hypermodel.data.steps_per_epoch
        first, last = self._epochs(trial)
        known = self._trained().get(self.hypermodel.point(hp))
        if known and (first, last) == (0, full):
            found = {name: known.metrics.get_last_value(name) for name in ("val_error", "val_loss")}
            return {**found, "steps": 0}
        keras.utils.clear_session()
        keras.utils.set_random_seed(run.recipe.seed)
        model = self.hypermodel.build(hp)
        if first:
            saved = read_arrays(self._state(hp.values["tuner/trial_id"]))
            restore(saved, model.state_variables())
        name = f"trial {trial.trial_id}"
        run.phases = {name: last * steps_per_epoch}
        run.position = Position(name, first * steps_per_epoch)
        run.guard = NanGuard(model.variables_by_part())
        stop = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: run.request.stop(
                f"stopped in {name}; --resume runs it again and goes on."
            )
        )
        with contextlib.closing(Progress(run)) as progress:
            results = self.hypermodel.fit(
                hp,
                model,
                epochs=last,
                initial_epoch=first,
                callbacks=[Steps(run), progress, stop],
            )
        del run.guard  # it would keep the model
        if last < full:
            run.lock.require()
            state = self._state(trial.trial_id)
            state.parent.mkdir(exist_ok=True)
            write_arrays(state, capture(model.state_variables()))
        return results

    def _epochs(self, trial: Trial) -> tuple[int, int]:
        """The epochs, from 0, that the trial starts before and ends after; Hyperband's differ."""
        values = trial.hyperparameters.values
        full = self.run.recipe.train.epochs
        return values.get("tuner/initial_epoch", 0), values.get("tuner/epochs", full)

    def _state(self, trial_id: str) -> Path:
        return self.folder / f"trial_{trial_id}" / "state.npz"


@contextlib.contextmanager
def _dropped_gradients() -> Iterator[None]:
    """Drops at the end what `tf.custom_gradient` registered meanwhile.

    TensorFlow registers a gradient for each such call in a graph and never removes it. Each refers
    to its graph, and so keeps a trial's training step in memory after the trial.
    """
    before = set(gradient_registry.list())
    try:
        yield
    finally:
        for name in set(gradient_registry.list()) - before:
            if name.startswith("CustomGradient-"):
                del gradient_registry._registry[name]
