"""A whole training run: decoupling, training, evaluation and curves, from one recipe."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import ml_collections
import numpy as np
import tensorflow as tf

from sedona_tf.data import DataRecord, TrainingData
from sedona_tf.environment.kernels import usable_cores
from sedona_tf.errors import dispensable
from sedona_tf.evaluate.ensemble import Ensemble
from sedona_tf.evaluate.exits import Evaluation
from sedona_tf.plans import Plan
from sedona_tf.report.figures import training_curves
from sedona_tf.runs.callbacks import TensorBoard
from sedona_tf.runs.history import save_history
from sedona_tf.runs.metrics import save_metrics
from sedona_tf.runs.run import Run, open_run
from sedona_tf.runs.train_phase import train_phase
from sedona_tf.train.build import (
    TRAINED_AS,
    batch_spec,
    build_backbone,
    build_data,
    build_decoupling,
    build_learning_rate,
    build_model,
    resolve,
)
from sedona_tf.train.epoch_log import EpochLog
from sedona_tf.train.model import DecoupledModel
from sedona_tf.train.resume import require_same_decoupling

__all__ = ["run_training"]


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
    with open_run("train", workdir, recipe, resume) as run:
        record = DataRecord.read(workdir) if run.checkpoint else None
        data = build_data(recipe, test=True, record=record)
        backbone = build_backbone(recipe, data.input_shape, data.num_classes)
        decoupling = build_decoupling(method, plan, backbone, num_blocks)
        if run.checkpoint:
            require_same_decoupling(workdir, decoupling)
        run.set_phases({"training": recipe.train.epochs * data.steps_per_epoch})
        data.load()
        model = build_model(recipe, backbone, decoupling, devices, batch_spec(data), run.steps)
        run.start(model)
        decoupling.save(workdir / "decoupling.json")
        data.record.write(workdir)
        if run.position.step == run.steps:
            model.drain()  # as `fit` does, before which the run was ended
        board = TensorBoard(run, 50, build_learning_rate(recipe, run.steps))
        before, after = [EpochLog(run, data, extra_callbacks)], [board, *extra_callbacks]
        train_phase(run, data.training, before, after)
        return _finish(run, model, data, extra_callbacks)


def _finish(
    run: Run,
    model: DecoupledModel,
    data: TrainingData,
    extra: Sequence[keras.callbacks.Callback],
) -> Evaluation:
    """Writes how the training went, evaluates on the test split, and writes what came out."""
    method, num_blocks = model.decoupling.provenance[TRAINED_AS], model.decoupling.num_blocks
    run.lock.require()
    save_history(run.folder / "history.json", "training", run.history)
    with dispensable("curves.png"):
        training_curves(
            run.folder / "curves.png",
            run.history,
            f"{method}, {run.recipe.backbone.name}, K = {num_blocks}",
        )
    ensemble = Ensemble(model, progress=True, callbacks=extra).calibrate(data.validation())
    evaluation = ensemble.evaluate(data.test())
    run.lock.require()
    metrics = {"method": method, **_metrics(run, model, data), "test": evaluation.to_dict()}
    save_metrics(run.folder / "metrics.json", metrics)
    return evaluation


def _metrics(run: Run, model: DecoupledModel, data: TrainingData) -> dict[str, Any]:
    """What `metrics.json` says of the run, besides its method and its errors."""
    recipe, history = run.recipe, run.history
    step_seconds = [value for value in history.get("step_seconds", []) if value == value]
    return {
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
        "validation_error": history["val_error"][-1] if history.get("val_error") else None,
        "machine": f"{platform.machine()}, {usable_cores()} cores",
        "tensorflow": tf.__version__,
        "date": datetime.date.today().isoformat(),
    }
