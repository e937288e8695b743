"""A whole training run: decoupling, training, evaluation and curves, from one recipe."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import ml_collections
import numpy as np
import tensorflow as tf

from sedona_tf import data as data_lib
from sedona_tf.auxiliary import CrossEntropy
from sedona_tf.backbones import Backbone, build
from sedona_tf.callbacks import Checkpoint, NanGuard, Progress, StepCallback, log_errors
from sedona_tf.checkpoints import CheckpointStore, Position
from sedona_tf.decoupled.ensemble import Ensemble
from sedona_tf.decoupled.evaluation import Evaluation
from sedona_tf.decoupled.model import DecoupledModel, decouple
from sedona_tf.decoupled.momentum_sgd import MomentumSGD
from sedona_tf.decoupled.pipeline import Batch
from sedona_tf.decoupled.state import capture, restore
from sedona_tf.errors import UserError, unknown_name
from sedona_tf.files import atomic_write, locked, remove_partial
from sedona_tf.interruption import StopRequest
from sedona_tf.plans import Decoupling, baseline, load_decoupling, uniform
from sedona_tf.recipe import check_train
from sedona_tf.reporting.curves import training_curves

__all__ = ["METHODS", "Run", "load_run", "run_training"]

METHODS = ("sedona", "backprop", "dgl", "predsim")
PHASE = "training"


@dataclasses.dataclass
class Run:
    """What a run is made of.

    Attributes:
        recipe: the resolved recipe.
        model: the decoupled model.
        data: its training, validation and test images.
        history: by epoch: `step`, `epoch`, `loss`, `block_k_loss`, `accuracy`, `val_*`,
            `seconds` (of training, without validation).
    """

    recipe: ml_collections.ConfigDict
    model: DecoupledModel
    data: data_lib.TrainingData
    history: dict[str, list]


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

    Writes into `workdir`: `recipe.json` (resolved), `decoupling.json`, `checkpoints/` (the newest
    and its predecessor), `logs/` for TensorBoard, and at the end `metrics.json` and `curves.png`.

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
    check_train(recipe.train)
    if method not in METHODS:
        raise UserError(unknown_name("method", method, METHODS))
    if resume and not (workdir / "recipe.json").exists():
        raise UserError(f"{workdir} does not hold a run; there is nothing to resume.")
    with StopRequest() as request, locked(workdir):
        if (workdir / "recipe.json").exists() and not resume:
            raise UserError(f"{workdir} holds a run already; pass --resume or another --workdir.")
        _start(recipe)
        data = _data(recipe)
        backbone = _backbone(recipe, data)
        decoupling = _decoupling(method, plan, backbone, num_blocks)
        if resume and (workdir / "decoupling.json").exists():
            _require_same(decoupling, Decoupling.load(workdir / "decoupling.json"), workdir)
        smoothing = 0.0 if method == "predsim" else recipe.train.label_smoothing
        run = Run(recipe, _model(recipe, backbone, decoupling, devices, data, smoothing), data, {})
        store = CheckpointStore(workdir / "checkpoints")
        for folder in (workdir, store.folder):
            remove_partial(folder)
        saved = store.read() if resume else None
        if resume and saved is None:
            print("there is no checkpoint yet: starting from the beginning", flush=True)
        start = 0
        if saved:
            restore(saved[1], run.model, run.history)
            start = saved[0].step
        with atomic_write(workdir / "recipe.json") as file:
            file.write(recipe.to_json(indent=2).encode())
        decoupling.save(workdir / "decoupling.json")
        with request.deferred(), log_errors(workdir / "logs"):
            _fit(run, start, workdir, store, request, extra_callbacks)
        return _measure(run, workdir, method)


def load_run(workdir: Path) -> Run:
    """Rebuilds a run from its folder, with the weights of its newest checkpoint.

    Raises:
        UserError: if the folder holds no run, or one of its files is damaged.
    """
    try:
        text = (workdir / "recipe.json").read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{workdir} does not hold a run: {error.strerror or error}.") from error
    try:
        recipe = ml_collections.ConfigDict(json.loads(text))
        keras.config.set_dtype_policy(recipe.train.precision)
        data = _data(recipe)
        backbone = _backbone(recipe, data)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        reason = str(error).splitlines()[0]
        raise UserError(f"{workdir / 'recipe.json'} is damaged: {reason}") from error
    decoupling = Decoupling.load(workdir / "decoupling.json", backbone)
    model = _model(recipe, backbone, decoupling, "auto", data, recipe.train.label_smoothing)
    saved = CheckpointStore(workdir / "checkpoints").read()
    if saved is None:
        raise UserError(f"{workdir} holds no checkpoint; it has not trained yet.")
    history: dict[str, list] = {}
    restore(saved[1], model, history)
    return Run(recipe, model, data, history)


def _start(recipe: ml_collections.ConfigDict) -> None:
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.train.precision)
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()


def _data(recipe: ml_collections.ConfigDict) -> data_lib.TrainingData:
    settings = recipe.data

    def read(split: str, limit: int) -> data_lib.Source:
        return data_lib.load(
            settings.source,
            split,
            data_dir=settings.data_dir,
            limit=limit,
            image_size=settings.image_size,
        )

    print("loading data", flush=True)
    return data_lib.TrainingData(
        read("train", settings.limit),
        fraction=recipe.train.validation_fraction,
        seed=recipe.seed,
        batch_size=recipe.train.batch_size,
        pad=settings.pad,
        flip=settings.flip,
        test=lambda: read("test", 0),
    )


def _backbone(recipe: ml_collections.ConfigDict, data: data_lib.TrainingData) -> Backbone:
    settings = recipe.backbone
    return build(
        settings.name,
        data.input_shape,
        data.num_classes,
        width=settings.width,
        stem=settings.stem,
    )


def _decoupling(method: str, plan: str | None, backbone: Backbone, num_blocks: int) -> Decoupling:
    if method == "sedona":
        if plan is None:
            raise UserError("method 'sedona' needs a plan: pass --plan.")
        return load_decoupling(plan, backbone, num_blocks)
    if plan is not None:
        raise UserError(f"method '{method}' takes no plan; leave --plan out.")
    if method == "backprop":
        return uniform(backbone, 1, {})
    return baseline(method, backbone, num_blocks)


def _require_same(wanted: Decoupling, found: Decoupling, workdir: Path) -> None:
    """Refuses to resume a run with another decoupling than its own."""
    if (wanted.cut_after, wanted.auxiliary) != (found.cut_after, found.auxiliary):
        raise UserError(
            f"{workdir} holds a run of {found.num_blocks} blocks cut after "
            f"{list(found.cut_after)} with other auxiliary nets or cuts than asked for; resume "
            "with the same method, plan and number of blocks."
        )


def _model(
    recipe: ml_collections.ConfigDict,
    backbone: Backbone,
    decoupling: Decoupling,
    devices: str | Sequence[str],
    data: data_lib.TrainingData,
    smoothing: float,
) -> DecoupledModel:
    settings = recipe.train
    model = decouple(backbone, decoupling, devices=devices, schedule=settings.schedule)
    rate = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate,
        settings.epochs * data.steps_per_epoch,
        alpha=settings.final_learning_rate / settings.learning_rate,
    )
    optimizer = MomentumSGD(rate, settings.momentum, l2=settings.weight_decay)
    model.compile(optimizer, CrossEntropy(smoothing), metrics=["accuracy"])
    # Metrics make their variables on first use; a checkpoint holds them.
    model.compute_metrics(None, tf.zeros((1,), tf.int32), tf.zeros((1, data.num_classes)))
    model.reset_metrics()
    if decoupling.num_blocks == 1:
        model.optimizer.build(model.trainable_variables)
    elif settings.schedule == "pipelined":
        images, labels = data.training(0, 1).element_spec
        model.prepare(Batch(images, labels, ()))
    return model


def _fit(
    run: Run,
    start: int,
    workdir: Path,
    store: CheckpointStore,
    request: StopRequest,
    extra: Sequence[keras.callbacks.Callback],
) -> None:
    model, data, settings = run.model, run.data, run.recipe.train
    steps = settings.epochs * data.steps_per_epoch
    log = EpochLog(start, run)
    saver = Checkpoint(
        PHASE,
        start,
        settings.checkpoint_every,
        store,
        lambda: capture(model, run.history),
        request,
    )
    if start < steps:
        progress = Progress(PHASE, start, steps)
        tensorboard = keras.callbacks.TensorBoard(
            str(workdir / "logs"), write_graph=False, update_freq=50
        )
        guard = NanGuard(PHASE, start)
        try:
            model.fit(
                data.training(start, steps - start),
                epochs=1,
                verbose=0,
                shuffle=False,
                callbacks=[guard, log, progress, saver, tensorboard, *extra],
            )
        finally:
            progress.close()
    store.write(Position(PHASE, steps), capture(model, run.history))
    saver.stop_if_asked(steps)


class EpochLog(StepCallback):
    """At the end of every epoch: notes the metrics, evaluates on the validation part."""

    def __init__(self, start: int, run: Run) -> None:
        super().__init__(PHASE, start)
        self.run = run
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
        validation = self.model.evaluate(self.run.data.validation(), verbose=0, return_dict=True)
        row = {"step": step, "epoch": step / steps, **{k: float(v) for k, v in logs.items()}}
        row |= {"val_step": step, "val_epoch": step / steps, "val_loss": validation["loss"]}
        row |= {"val_error": 1.0 - validation["accuracy"]}
        row |= {"step_seconds": self.seconds / self.timed if self.timed else float("nan")}
        for name, value in row.items():
            self.run.history.setdefault(name, []).append(value)
        self.model.reset_metrics()
        self.seconds, self.timed = 0.0, 0


def _measure(run: Run, workdir: Path, method: str) -> Evaluation:
    """Evaluates on the test split, for the first time, and writes what came out."""
    print("evaluating", flush=True)
    model, recipe, data = run.model, run.recipe, run.data
    evaluation = Ensemble(model).calibrate(data.validation()).evaluate(data.test())
    step_seconds = [value for value in run.history.get("step_seconds", []) if value == value]
    metrics = {
        "method": method,
        "num_blocks": model.decoupling.num_blocks,
        "backbone": recipe.backbone.to_dict(),
        "seed": recipe.seed,
        "epochs": recipe.train.epochs,
        "schedule": recipe.train.schedule,
        "devices": [block.device for block in model.blocks],
        "images_per_second": (
            data.batch_size / float(np.median(step_seconds)) if step_seconds else None
        ),
        "validation_error": run.history["val_error"][-1] if run.history.get("val_error") else None,
        "test": evaluation.to_dict(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "tensorflow": tf.__version__,
        "date": datetime.date.today().isoformat(),
    }
    with atomic_write(workdir / "metrics.json") as file:
        file.write((json.dumps(metrics, indent=1) + "\n").encode())
    title = f"{method}, {recipe.backbone.name}, K = {model.decoupling.num_blocks}"
    training_curves(workdir / "curves.png", run.history, title)
    return evaluation
