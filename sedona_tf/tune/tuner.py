"""A keras-tuner `Tuner` whose trials are trainings that repeat, and whose failures are errors."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path

import keras
import keras_tuner
from absl import logging
from keras_tuner.engine.trial import Trial, TrialStatus
from tensorflow.python.framework.ops import gradient_registry

from sedona_tf import document
from sedona_tf.environment.determinism import make_repeatable
from sedona_tf.errors import UserError, first_line
from sedona_tf.files import Lock, atomic_write, make_folder
from sedona_tf.runs.arrays import read_arrays, write_arrays
from sedona_tf.runs.callbacks import FolderGuard, Progress
from sedona_tf.runs.signals import StopRequest
from sedona_tf.train.state import capture, restore
from sedona_tf.tune.hypermodel import DecouplingHyperModel
from sedona_tf.tune.trials import MAX_BYTES, TrialRecord

__all__ = ["DecouplingTuner", "FailedTrial"]

KIND = "tuner"
STATE = "tuner0.json"
"""Name of the file of the tuner's state, that of keras-tuner's own."""


class FailedTrial(UserError, keras_tuner.errors.FatalError):
    """A trial ended in an error of the user's, which ends the tuning."""


class DecouplingTuner(keras_tuner.Tuner):
    """Runs a `DecouplingHyperModel`'s trials.

    Each starts from the recipe's seed, so that trials differ in their decoupling alone and one that
    was cut off can be run again. keras-tuner takes note of a failed trial and goes on; here a
    failure ends the tuning and the trial is run again when the tuning is resumed. A trial that
    Hyperband promotes goes on from all that the earlier one ended with, under the learning rate's
    schedule of the full length.

    A decoupling that was trained in full is not trained again: it would give the same weights. A
    later trial of it takes over the result, and the tuning ends once all have been tried.

    keras-tuner writes its state in place, in a file for each trial and one more, without checksums,
    and makes a deleted folder anew. Here all of it is in one file with a checksum, written all or
    nothing when a trial begins and when it ends; keras-tuner itself writes nothing.

    Args:
        oracle: decides what to try; its objective is `val_error`.
        hypermodel: what to train.
        folder: for the state; goes on from what it holds.
        request: asked after each training step whether to stop.
        lock: on the run's folder, which must be there still after each training step.
        max_seconds: no trial starts once they have taken so long in all; 0: no limit.
        on_record: called after each trial with all that are finished.

    Raises:
        UserError: if the state is damaged.
    """

    def __init__(
        self,
        oracle: keras_tuner.Oracle,
        hypermodel: DecouplingHyperModel,
        folder: Path,
        request: StopRequest,
        lock: Lock,
        max_seconds: float = 0.0,
        on_record: Callable[[list[TrialRecord]], None] = lambda records: None,
    ) -> None:
        make_folder(folder)
        # Without a hypermodel yet: the constructor would build it only to see its hyperparameters.
        super().__init__(oracle, directory=str(folder.parent), project_name=folder.name)
        oracle.save = oracle._save_trial = lambda *_: None  # see `save`
        self.hypermodel = hypermodel
        self._request, self._lock = request, lock
        self._max_seconds, self._on_record = max_seconds, on_record
        oracle.verbose = 0

    @property
    def project_dir(self) -> str:
        """The state's folder; keras-tuner's own property makes it if it is not there."""
        return str(Path(self.directory) / self.project_name)

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
        full = self.hypermodel.recipe.train.epochs
        found: dict[Hashable, Trial] = {}
        for trial in self._finished().values():
            if self._epochs(trial)[1] == full:
                found.setdefault(self.hypermodel.point(trial.hyperparameters), trial)
        return found

    def save(self) -> None:
        """Keeps the state of the oracle and of all trials.

        Raises:
            UserError: if it cannot be written.
        """
        trials = [trial.get_state() for trial in self.oracle.trials.values()]
        content = {"oracle": self.oracle.get_state(), "trials": trials}
        data = document.pack(content, KIND, indent=None)
        with atomic_write(Path(self.project_dir) / STATE) as file:
            file.write(data)

    def reload(self) -> None:
        """Goes on from what `save` kept; a trial that had begun is the next to run.

        Raises:
            UserError: naming the file, if it is damaged.
        """
        path = Path(self.project_dir) / STATE
        content = document.unpack(path, {"oracle", "trials"}, KIND, MAX_BYTES)
        try:
            trials = map(Trial.from_state, content["trials"])
            self.oracle.trials = {trial.trial_id: trial for trial in trials}
            self.oracle.set_state(content["oracle"])
        except Exception as error:  # keras-tuner's have many types
            raise UserError(f"{KIND} '{path}' is damaged: {first_line(error)}") from error

    def pre_create_trial(self) -> None:
        """Ends the search if a signal has come, the time is spent or all has been tried."""
        self._lock.require()
        self._request.stop("stopped between two trials; --resume goes on.")
        spent = sum(record.seconds for record in self.records())
        if self._max_seconds and spent >= self._max_seconds:
            self.oracle.max_trials = len(self.oracle.trials)
        if len(self._trained()) == self.hypermodel.num_points:
            logging.info(f"all {self.hypermodel.num_points} decouplings were tried")
            self.oracle.max_trials = len(self.oracle.trials)

    def on_trial_begin(self, trial: Trial) -> None:
        """Keeps the state, so that this very trial is run again if it is cut off."""
        self._lock.require()
        self.save()

    def run_trial(self, trial: Trial, *args, **kwargs) -> dict[str, float]:
        """Trains one decoupling.

        Returns:
            What `DecouplingHyperModel.fit` does, and the `seconds` that all of it took.

        Raises:
            FailedTrial: for an error of the user's.
            keras_tuner.errors.FatalRuntimeError: for any other; its cause tells.
        """
        try:
            with _dropped_gradients():
                return self._train(trial)
        except (UserError, OSError) as error:
            raise FailedTrial(f"trial {trial.trial_id} failed: {error}") from error
        except Exception as error:
            message = f"trial {trial.trial_id} failed: {type(error).__name__}: {error}"
            raise keras_tuner.errors.FatalRuntimeError(message) from error

    def on_trial_end(self, trial: Trial) -> None:
        """Keeps the oracle's state and tells of the trial.

        Raises:
            FailedTrial: if its result could not be kept.
        """
        self._lock.require()
        if trial.status != TrialStatus.COMPLETED:
            reason = str(trial.message).strip().splitlines()[-1]
            raise FailedTrial(f"trial {trial.trial_id} failed: {reason}")
        super().on_trial_end(trial)
        self._on_record(self.records())

    def _train(self, trial: Trial) -> dict[str, float]:
        recipe, hp = self.hypermodel.recipe, trial.hyperparameters
        keras.utils.clear_session()
        make_repeatable(recipe.seed, recipe.deterministic)
        began = time.perf_counter()
        first, last = self._epochs(trial)
        known = self._trained().get(self.hypermodel.point(hp))
        if known and (first, last) == (0, recipe.train.epochs):
            found = {name: known.metrics.get_last_value(name) for name in ("val_error", "val_loss")}
            return {**found, "steps": 0, "seconds": time.perf_counter() - began}
        model = self.hypermodel.build(hp)
        if first:
            restore(read_arrays(self._state(hp.values["tuner/trial_id"])), model, {})
        steps = self.hypermodel.data.steps_per_epoch
        progress = Progress(f"trial {trial.trial_id}", first * steps, last * steps)
        stop = _Stop(self._request, trial)
        try:
            results = self.hypermodel.fit(
                hp,
                model,
                epochs=last,
                initial_epoch=first,
                callbacks=[FolderGuard(self._lock), progress, stop],
            )
        finally:
            progress.close()
        if last < recipe.train.epochs:
            self._lock.require()
            state = self._state(trial.trial_id)
            state.parent.mkdir(exist_ok=True)
            write_arrays(state, capture(model, {}))
        return {**results, "seconds": time.perf_counter() - began}

    def _epochs(self, trial: Trial) -> tuple[int, int]:
        """The epochs, from 0, that the trial starts before and ends after; Hyperband's differ."""
        values = trial.hyperparameters.values
        full = self.hypermodel.recipe.train.epochs
        return values.get("tuner/initial_epoch", 0), values.get("tuner/epochs", full)

    def _state(self, trial_id: str) -> Path:
        return Path(self.project_dir) / f"trial_{trial_id}" / "state.npz"


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


class _Stop(keras.callbacks.Callback):
    """Ends the tuning after a step if a signal has come."""

    def __init__(self, request: StopRequest, trial: Trial) -> None:
        super().__init__()
        self.request, self.trial = request, trial

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.request.stop(
            f"stopped in trial {self.trial.trial_id}; --resume runs it again and goes on."
        )
