"""A whole search: pretraining, search, plan and report, from one recipe."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path

import keras
import ml_collections
import tensorflow as tf

from sedona_tf import data as data_lib
from sedona_tf.auxiliary import candidates_from
from sedona_tf.backbones import build
from sedona_tf.bilevel.callbacks import (
    ArchitectureLog,
    Checkpoint,
    NanGuard,
    PoolFiller,
    PoolSampler,
    Progress,
)
from sedona_tf.bilevel.inner_optimizer import InnerOptimizer
from sedona_tf.bilevel.search_model import SearchModel
from sedona_tf.bilevel.snapshots import SnapshotPool
from sedona_tf.errors import UserError
from sedona_tf.files import atomic_write
from sedona_tf.plans import Plan
from sedona_tf.reporting.plots import search_report

__all__ = ["run_search"]


def run_search(recipe: ml_collections.ConfigDict, workdir: Path, resume: bool = False) -> Plan:
    """Runs a search.

    Writes into `workdir`: `recipe.json` (resolved), `snapshots/`, `checkpoint.npz`, `logs/` for
    TensorBoard, and at the end `plan.json` and `report.png`.

    Args:
        recipe: see `recipes/digits.py` for the fields.
        workdir: folder of the run; made if need be.
        resume: go on from the folder's checkpoint rather than refuse a folder that holds a run.

    Returns:
        The plan.

    Raises:
        UserError: for anything wrong with the recipe, the data or the folder.
    """
    settings = recipe.search
    _check(settings)
    checkpoint = workdir / "checkpoint.npz"
    if (workdir / "recipe.json").exists() and not resume:
        raise UserError(f"{workdir} already holds a search; pass --resume or another --workdir.")
    if resume and not checkpoint.exists():
        raise UserError(f"{checkpoint} does not exist; there is nothing to resume.")
    keras.utils.set_random_seed(recipe.seed)
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()

    print("loading data", flush=True)
    source = data_lib.load(
        recipe.data.source,
        "train",
        data_dir=recipe.data.data_dir,
        limit=recipe.data.limit,
        image_size=recipe.data.image_size,
    )
    data = data_lib.SearchData(
        source,
        fraction=recipe.data.validation_fraction,
        seed=recipe.seed,
        batch_size=settings.batch_size,
        validation_batch_size=settings.validation_batch_size,
        inner_steps=settings.inner_steps,
        pad=recipe.data.pad,
        flip=recipe.data.flip,
    )
    print(f"building the supernet of {recipe.backbone.name}", flush=True)
    backbone = build(
        recipe.backbone.name,
        data.input_shape,
        data.num_classes,
        width=recipe.backbone.width,
        stem=recipe.backbone.stem,
    )
    candidates = candidates_from(
        [{"kind": "separable", "depth": depth} for depth in settings.candidate_depths]
    )
    model = SearchModel(
        backbone,
        candidates,
        InnerOptimizer(settings.momentum, settings.weight_decay),
        smoothing=settings.label_smoothing,
    )
    model.compile(
        keras.optimizers.Adam(
            settings.architecture_learning_rate, beta_1=settings.architecture_beta_1
        )
    )

    pool = SnapshotPool(workdir / "snapshots", settings.snapshots)
    history: dict[str, list] = {
        name: [] for name in ("steps", "cut_probability", "candidate_weights", "outer_loss")
    }
    with atomic_write(workdir / "recipe.json") as file:
        file.write(recipe.to_json(indent=2).encode())
    phase, done = "pretraining", 0
    if resume:
        phase, done = Checkpoint.load(checkpoint, model, pool, history)

    phases = [
        ("pretraining", settings.pretraining_steps, data.pretraining),
        ("search", settings.steps, data.search),
    ]
    for name, steps, dataset in phases[["pretraining", "search"].index(phase) :]:
        start, done = done, 0
        model.begin_phase(
            keras.optimizers.schedules.CosineDecay(
                settings.learning_rate,
                max(steps, 1),
                alpha=settings.final_learning_rate / settings.learning_rate,
            )
        )
        model.step_in_phase.assign(start)
        saver = Checkpoint(name, start, checkpoint, settings.checkpoint_every, pool, history)
        specific = (
            [PoolFiller(pool, start, steps)]
            if name == "pretraining"
            else [
                PoolSampler(pool, start, recipe.seed),
                ArchitectureLog(start, workdir / "logs", history),
            ]
        )
        if start < steps:
            model.fit(
                dataset(start, steps - start),
                epochs=1,
                verbose=0,
                shuffle=False,
                callbacks=[
                    *specific,
                    NanGuard(name, start),
                    saver,
                    Progress(name, start, steps),
                    keras.callbacks.TensorBoard(
                        str(workdir / "logs" / name), write_graph=False, update_freq=10
                    ),
                ],
            )
        saver.set_model(model)
        saver.save(steps)

    plan = Plan(
        backbone=backbone.name,
        units=Plan.fingerprint(backbone),
        candidates=tuple(candidate.to_dict() for candidate in candidates),
        alpha=tuple(map(tuple, model.alpha.numpy().tolist())),
        beta=tuple(map(tuple, model.beta.numpy().tolist())),
        provenance={
            "recipe": json.loads(recipe.to_json()),
            "dataset": {"name": source.name, "images": len(source.labels)},
            "versions": {name: metadata.version(name) for name in ("sedona_tf", "keras", "numpy")}
            | {"tensorflow": tf.__version__, "python": platform.python_version()},
        },
    )
    plan.save(workdir / "plan.json")
    search_report(
        workdir / "report.png",
        {**history, "candidate_names": [str(candidate) for candidate in candidates]},
        f"SEDONA search: {backbone.name} on {source.name}, {settings.steps} steps",
    )
    return plan


def _check(settings: ml_collections.ConfigDict) -> None:
    """Refuses numbers that no search can use, before anything is built."""
    positive = ("learning_rate", "final_learning_rate", "architecture_learning_rate")
    fractions = ("momentum", "label_smoothing", "architecture_beta_1")
    counts = ("pretraining_steps", "steps", "inner_steps", "checkpoint_every", "snapshots")
    for names, allowed, right in (
        (positive, "positive", lambda value: value > 0),
        (fractions, "in [0, 1)", lambda value: 0 <= value < 1),
        (("weight_decay",), "at least 0", lambda value: value >= 0),
        (counts, "at least 1", lambda value: value >= 1),
    ):
        for name in names:
            if not right(settings[name]):
                raise UserError(f"search.{name} must be {allowed}. Received: {settings[name]}")
