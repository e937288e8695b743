"""A whole training run: decoupling, training, evaluation and curves, from one recipe."""

from __future__ import annotations

import dataclasses
import datetime
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import ml_collections
import numpy as np
import tensorflow as tf

from sedona_tf import data as data_lib
from sedona_tf.backbones import Backbone
from sedona_tf.data import DataRecord
from sedona_tf.environment.determinism import make_repeatable
from sedona_tf.environment.kernels import usable_cores
from sedona_tf.errors import UserError, dispensable
from sedona_tf.evaluate.ensemble import Ensemble
from sedona_tf.evaluate.exits import Evaluation
from sedona_tf.plans import Decoupling, Plan
from sedona_tf.report.figures import training_curves
from sedona_tf.runs.callbacks import NanGuard, StepCallback, TensorBoard
from sedona_tf.runs.checkpoints import CheckpointStore, Position
from sedona_tf.runs.event_log import EventLog
from sedona_tf.runs.folder import RunFolder, open_folder
from sedona_tf.runs.history import save_history
from sedona_tf.runs.kept_recipe import read_recipe, require_same_recipe, write_recipe
from sedona_tf.runs.metrics import load_metrics, save_metrics
from sedona_tf.train.build import (
    build_backbone,
    build_data,
    build_decoupling,
    build_learning_rate,
    build_model,
    resolve,
)
from sedona_tf.train.model import DecoupledModel
from sedona_tf.train.resume import require_same_decoupling
from sedona_tf.train.state import capture, restore

__all__ = ["Run", "load_run", "run_training"]

PHASE = "training"


@dataclasses.dataclass
class Run:
    """What a run is made of.

    Attributes:
        recipe: the resolved recipe.
        model: the decoupled model.
        data: its training, validation and test images.
        temperatures: `(K,)`, fitted when the run ended; None if it has not ended.
        history: by epoch: `step`, `epoch`, `loss`, `block_k_loss`, `accuracy`, `val_*`,
            `step_seconds` (a training step's mean, without the process's first, which traces).
        step: steps that the model has been trained for when it was made or loaded.
    """

    recipe: ml_collections.ConfigDict
    model: DecoupledModel
    data: data_lib.TrainingData
    history: dict[str, list]
    step: int = 0
    temperatures: tuple[float, ...] | None = None

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.recipe.train.epochs * self.data.steps_per_epoch

    def ensemble(self, callbacks: Sequence[keras.callbacks.Callback] = ()) -> Ensemble:
        """The ensemble of all blocks, calibrated on the validation part unless it has been."""
        ensemble = Ensemble(self.model, progress=True, callbacks=callbacks)
        if self.temperatures is None:
            return ensemble.calibrate(self.data.validation())
        ensemble.temperatures = self.temperatures
        return ensemble


def run_training(
    recipe: ml_collections.ConfigDict,
    workdir: Path,
    *,
    method: str = "sedona",
    plan: str | None = None,
    num_blocks: int = 4,
    devices: str | Sequence[str] = "auto",
    resume: bool = False,
    extra_callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Evaluation:
    """Trains a decoupled network and measures it.

    Writes into `workdir`: `recipe.json` (resolved), `data.json` (to know the data again),
    `decoupling.json`, `checkpoints/` (the newest and its predecessor), `logs/` for TensorBoard, and
    at the end `history.json`, `metrics.json` and `curves.png`.

    Args:
        recipe: see `recipes/digits.py` for the fields; its sections `data`, `backbone`, `train`.
        workdir: folder of the run; made if need be.
        method: `"sedona"` (needs `plan`), `"backprop"` (one block), `"dgl"` or `"predsim"`.
        plan: file of a `Plan` or a `Decoupling`.
        num_blocks: K; no matter for backprop.
        devices: see `assign_devices`.
        resume: go on from the folder's checkpoint rather than refuse a folder that holds a run.
        extra_callbacks: further Keras callbacks.

    Returns:
        The errors on the test split.

    Raises:
        UserError: for anything wrong with what was given.
        Interrupted: by a signal.
    """
    recipe = resolve(recipe, method)
    with open_folder(workdir, "train", resume) as folder:
        make_repeatable(recipe.seed, recipe.deterministic)
        store = CheckpointStore(workdir / "checkpoints")
        saved = folder.checkpoint(store)
        record = DataRecord.read(workdir) if saved else None
        data = build_data(recipe, test=True, record=record)
        backbone = build_backbone(recipe, data.input_shape, data.num_classes)
        decoupling = build_decoupling(method, plan, backbone, num_blocks)
        steps, start = recipe.train.epochs * data.steps_per_epoch, 0
        if folder.kept and saved:
            require_same_decoupling(workdir, decoupling)
            start = saved[0].step
            ended = start == steps
            require_same_recipe(workdir, folder.kept, recipe, "train", saved[0], ended)
            if start > steps:
                raise UserError(f"the checkpoint is at {saved[0]}, past the recipe's {steps}.")
        data.load()
        run = Run(recipe, _model(recipe, backbone, decoupling, devices, data), data, {})
        if saved:
            restore(saved[1], run.model, run.history)
            del saved  # a copy of the weights
        # First: it makes the folder the run's.
        write_recipe(workdir, recipe, "train", Position(PHASE, start))
        decoupling.save(workdir / "decoupling.json")
        data.record.write(workdir)
        with folder.request.deferred():
            _fit(run, start, steps, folder, store, extra_callbacks)
        return _measure(run, folder, method, extra_callbacks)


def load_run(workdir: Path) -> Run:
    """Rebuilds a run from its folder, with the weights of its newest checkpoint.

    Its data are read when they are used, and must be those of the training.

    Raises:
        UserError: if the folder holds no run, or one of its files is damaged.
    """
    recipe = read_recipe(workdir, "train")
    data = build_data(recipe, test=True, record=DataRecord.read(workdir))
    backbone = build_backbone(recipe, data.input_shape, data.num_classes)
    decoupling = Decoupling.load(workdir / "decoupling.json", backbone)
    saved = CheckpointStore(workdir / "checkpoints").read()
    if saved is None:
        raise UserError(f"{workdir} holds no checkpoint; it has not trained yet.")
    model = _model(recipe, backbone, decoupling, "auto", data)
    run = Run(recipe, model, data, {}, saved[0].step)
    restore(saved[1], run.model, run.history)
    if (workdir / "metrics.json").exists():
        metrics = load_metrics(workdir / "metrics.json")
        if metrics.epochs * data.steps_per_epoch == saved[0].step:  # not resumed since
            run.temperatures = metrics.temperatures
    return run


def _model(
    recipe: ml_collections.ConfigDict,
    backbone: Backbone,
    decoupling: Decoupling,
    devices: str | Sequence[str],
    data: data_lib.TrainingData,
) -> DecoupledModel:
    steps = recipe.train.epochs * data.steps_per_epoch
    batch = (
        tf.TensorSpec((data.batch_size, *data.input_shape)),
        tf.TensorSpec((data.batch_size,), tf.int32),
    )
    return build_model(recipe, backbone, decoupling, devices, batch, steps)


def _fit(
    run: Run,
    start: int,
    steps: int,
    folder: RunFolder,
    store: CheckpointStore,
    extra: Sequence[keras.callbacks.Callback],
) -> None:
    model = run.model
    if start == steps:
        model.drain()  # as `fit` does, before which the run was ended
    board = TensorBoard(
        EventLog(folder.path / "logs" / PHASE),
        PHASE,
        start,
        steps,
        50,
        build_learning_rate(run.recipe, steps),
        run.history,
    )
    folder.train(
        model,
        run.data.training,
        Position(PHASE, start),
        steps,
        store,
        run.recipe.train.checkpoint_every,
        lambda: capture(model, run.history),
        lambda guard: [EpochLog(start, run, guard, extra)],
        [board, *extra],
    )


class EpochLog(StepCallback):
    """At the end of every epoch: notes the metrics, evaluates on the validation part.

    As `fit` does, it hands the other callbacks on to `evaluate`.
    """

    def __init__(
        self,
        start: int,
        run: Run,
        guard: NanGuard,
        extra: Sequence[keras.callbacks.Callback] = (),
    ) -> None:
        super().__init__(PHASE, start)
        self.run = run
        self.guard = guard
        self.extra = extra
        self.validation = run.data.validation()
        self.metrics = [(v, v.numpy()) for m in run.model.metrics for v in m.variables]
        self.seconds = 0.0
        self.timed = 0

    def on_epoch_begin(self, epoch, logs=None) -> None:
        for variable, value in self.metrics:  # `fit` has just reset what a checkpoint had set
            variable.assign(value)

    def on_train_batch_begin(self, batch, logs=None) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None) -> None:
        if batch > 0:  # the first step of a process is tracing
            self.seconds += time.perf_counter() - self.began
            self.timed += 1
        step, steps = self.step(batch), self.run.data.steps_per_epoch
        if step % steps:
            return
        if step == steps * self.run.recipe.train.epochs:
            self.model.drain()  # as `fit` does, so that the last numbers are of the whole training
        validation = self.model.evaluate(
            self.validation, verbose=0, return_dict=True, callbacks=list(self.extra)
        )
        self.guard.check({"val_loss": validation["loss"]}, step)
        row = {"step": step, "epoch": step / steps, **{k: float(v) for k, v in logs.items()}}
        row |= {"val_step": step, "val_epoch": step / steps, "val_loss": validation["loss"]}
        row |= {"val_error": 1.0 - validation["accuracy"]}
        row |= {"step_seconds": self.seconds / self.timed if self.timed else float("nan")}
        for name, value in row.items():
            self.run.history.setdefault(name, []).append(value)
        self.model.reset_metrics()
        self.seconds, self.timed = 0.0, 0


def _measure(
    run: Run,
    folder: RunFolder,
    method: str,
    extra: Sequence[keras.callbacks.Callback],
) -> Evaluation:
    """Writes how the training went, evaluates on the test split, and writes what came out."""
    model, recipe, data, workdir = run.model, run.recipe, run.data, folder.path
    folder.lock.require()
    save_history(workdir / "history.json", "training", run.history)
    title = f"{method}, {recipe.backbone.name}, K = {model.decoupling.num_blocks}"
    with dispensable("curves.png"):
        training_curves(workdir / "curves.png", run.history, title)
    evaluation = run.ensemble(extra).evaluate(data.test())
    step_seconds = [value for value in run.history.get("step_seconds", []) if value == value]
    metrics = {
        "method": method,
        "num_blocks": model.decoupling.num_blocks,
        "data": {
            "name": recipe.data.source,
            "limit": recipe.data.limit,
            "training_images": len(data.train_indices),
            "input_shape": list(data.input_shape),
        },
        "backbone": recipe.backbone.to_dict(),
        "units": Plan.fingerprint(model.backbone),
        "seed": recipe.seed,
        "epochs": recipe.train.epochs,
        "schedule": recipe.train.schedule,
        "devices": [block.device for block in model.blocks],
        "images_per_second": (
            data.batch_size / float(np.median(step_seconds)) if step_seconds else None
        ),
        "validation_error": run.history["val_error"][-1] if run.history.get("val_error") else None,
        "test": evaluation.to_dict(),
        "machine": f"{platform.machine()}, {usable_cores()} cores",
        "tensorflow": tf.__version__,
        "date": datetime.date.today().isoformat(),
    }
    folder.lock.require()
    save_metrics(workdir / "metrics.json", metrics)
    return evaluation
