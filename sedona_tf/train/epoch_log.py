"""EpochLog: what a training notes at the end of every epoch."""

from __future__ import annotations

import time
from collections.abc import Sequence

import keras

from sedona_tf.data import TrainingData
from sedona_tf.runs.callbacks import RunCallback
from sedona_tf.runs.run import Run
from sedona_tf.train.model import DecoupledModel

__all__ = ["EpochLog"]


class EpochLog(RunCallback):
    """At the end of every epoch: evaluates on the validation part, and adds to the run's history.

    The columns are `step`, `epoch`, `loss`, `block_k_loss`, `accuracy`, `val_*` and `step_seconds`
    (a training step's mean, without the process's first, which traces).

    Args:
        run: the run, with its model as a checkpoint has it.
        data: what is trained on.
        extra: callbacks that `evaluate` gets too, as from `fit`.
    """

    model: DecoupledModel

    def __init__(
        self, run: Run, data: TrainingData, extra: Sequence[keras.callbacks.Callback] = ()
    ) -> None:
        super().__init__(run)
        self.steps_per_epoch, self.validation = data.steps_per_epoch, data.validation()
        self.extra = list(extra)
        metrics = run.model.state_variables()["metrics"]
        self.metrics = [(variable, variable.numpy()) for variable in metrics]
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch, logs=None) -> None:
        for variable, value in self.metrics:  # `fit` has just reset what a checkpoint had set
            variable.assign(value)

    def on_train_batch_begin(self, batch, logs=None) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None) -> None:
        if batch > 0:  # the first step of a process is tracing
            self.seconds.append(time.perf_counter() - self.began)
        step = self.run.position.step
        if step % self.steps_per_epoch:
            return
        if step == self.run.steps:
            self.model.drain()  # as `fit` does, so that the last numbers are of the whole training
        validation = self.model.evaluate(
            self.validation, verbose=0, return_dict=True, callbacks=self.extra
        )
        self.run.guard.check({"val_loss": validation["loss"]}, self.run.position)
        epoch = step / self.steps_per_epoch
        seconds = sum(self.seconds) / len(self.seconds) if self.seconds else float("nan")
        row = {"step": step, "epoch": epoch, **{k: float(v) for k, v in logs.items()}}
        row |= {"val_step": step, "val_epoch": epoch, "val_loss": validation["loss"]}
        row |= {"val_error": 1.0 - validation["accuracy"], "step_seconds": seconds}
        for name, value in row.items():
            self.run.history.setdefault(name, []).append(value)
        self.model.reset_metrics()
        self.seconds.clear()
