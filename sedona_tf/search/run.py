"""A whole search: pretraining, search, plan and report, from one recipe."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import keras
import ml_collections
from absl import logging

from sedona_tf import data as data_lib
from sedona_tf.auxiliary import AuxiliarySpace, Candidate, candidates_from
from sedona_tf.backbones import build
from sedona_tf.environment.process_settings import process_settings
from sedona_tf.environment.versions import versions
from sedona_tf.errors import UserError, dispensable
from sedona_tf.plans import Plan
from sedona_tf.recipe import check_search
from sedona_tf.report.figures import search_report
from sedona_tf.runs.callbacks import TensorBoard
from sedona_tf.runs.history import save_history
from sedona_tf.runs.run import Run, open_run
from sedona_tf.runs.train_phase import train_phase
from sedona_tf.search.callbacks import ArchitectureLog, PoolFiller, PoolSampler, skipped_steps
from sedona_tf.search.inner_optimizer import InnerOptimizer
from sedona_tf.search.pool import SnapshotPool
from sedona_tf.search.search_model import SearchModel

__all__ = ["architecture_optimizer", "run_search"]


def run_search(recipe: ml_collections.ConfigDict, workdir: Path, resume: bool = False) -> Plan:
    """Runs a search.

    Writes into `workdir`: `recipe.json` (resolved), `data.json` (to know the data again),
    `snapshots/`, `checkpoints/` (the newest and its predecessor), `logs/` for TensorBoard, and at
    the end `history.json`, `plan.json` and `report.png`. The folder is locked meanwhile. On the
    main thread, signals are taken over meanwhile: during training they end the search after the
    current step, saved.

    Args:
        recipe: see `recipes/digits.py` for the fields.
        workdir: folder of the run; made if need be.
        resume: go on from the folder's checkpoint rather than refuse a folder that holds a run.

    Returns:
        The plan.

    Raises:
        UserError: for anything wrong with the recipe, the data or the folder, or if no search step
            had a finite outer loss.
        Interrupted: by a signal.
    """
    check_search(recipe)
    settings = recipe.search
    pool = SnapshotPool(workdir / "snapshots", settings.snapshots)
    with open_run("search", workdir, recipe, resume, pool) as run:
        candidates = _candidates(recipe)
        record = data_lib.DataRecord.read(workdir) if run.checkpoint else None
        run.set_phases({"pretraining": settings.pretraining_steps, "search": settings.steps})
        data = _data(recipe, record)
        model = _model(recipe, data, candidates)
        run.start(model)
        # The checkpoint's may be another than the recipe's by now.
        model.optimizer.learning_rate = settings.architecture_learning_rate
        data.record.write(workdir)
        for _ in run.remaining():
            _train(run, model, data, pool)
        return _finish(run, model, data)


def _candidates(recipe: ml_collections.ConfigDict) -> tuple[Candidate, ...]:
    """The recipe's auxiliary nets on offer: all of its space, or a sample."""
    space, count = AuxiliarySpace(**recipe.search.space), recipe.search.candidates
    offered = space.sample(count, recipe.seed) if count else space.enumerate()
    return candidates_from([candidate.to_dict() for candidate in offered])


def _data(
    recipe: ml_collections.ConfigDict, record: data_lib.DataRecord | None
) -> data_lib.SearchData:
    settings = recipe.search
    logging.info("loading data")
    return data_lib.SearchData(
        lambda: data_lib.load_section(recipe.data, "train", limit=recipe.data.limit),
        fraction=recipe.data.validation_fraction,
        seed=recipe.seed,
        batch_size=settings.batch_size,
        validation_batch_size=settings.validation_batch_size,
        inner_steps=settings.inner_steps,
        pad=recipe.data.pad,
        flip=recipe.data.flip,
        record=record,
    )


def _model(
    recipe: ml_collections.ConfigDict, data: data_lib.SearchData, candidates: Sequence[Candidate]
) -> SearchModel:
    settings = recipe.search
    logging.info(f"building the supernet of {recipe.backbone.name}")
    with process_settings(precision="float32"):
        backbone = build(
            input_shape=data.input_shape, num_classes=data.num_classes, **recipe.backbone
        )
        model = SearchModel(
            backbone,
            candidates,
            InnerOptimizer(settings.momentum, settings.weight_decay),
            smoothing=settings.label_smoothing,
        )
        model.compile(architecture_optimizer(settings))
    return model


def architecture_optimizer(settings: ml_collections.ConfigDict) -> keras.optimizers.Optimizer:
    """Adam for alpha and beta, whose gradients are each clipped to a norm.

    Now and then the inner steps diverge, and the gradient is a hundred times the usual. Adam, which
    divides by what it has seen, would follow that step and hardly move for hundreds after it.

    Args:
        settings: a recipe's section `search`.
    """
    return keras.optimizers.Adam(
        settings.architecture_learning_rate,
        beta_1=settings.architecture_beta_1,
        clipnorm=settings.architecture_clip_norm,
    )


def _train(run: Run, model: SearchModel, data: data_lib.SearchData, pool: SnapshotPool) -> None:
    """Trains from where the run stands in a phase to the phase's end."""
    settings = run.recipe.search
    rate = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate,
        run.steps,
        alpha=settings.final_learning_rate / settings.learning_rate,
    )
    model.begin_phase(rate)
    model.step_in_phase.assign(run.position.step)
    board = TensorBoard(run, 10, rate)
    if run.position.phase == "pretraining":
        train_phase(run, data.training, [PoolFiller(run, pool)], [board])
    else:
        before = [PoolSampler(run, pool), ArchitectureLog(run)]
        train_phase(run, data.search, before, [board])


def _finish(run: Run, model: SearchModel, data: data_lib.SearchData) -> Plan:
    """Writes the history, the plan and the picture."""
    recipe, backbone, candidates = run.recipe, model.supernet.backbone, model.supernet.candidates
    skipped = skipped_steps(run.history)
    if skipped == recipe.search.steps:
        raise UserError(
            "no search step had a finite outer loss, so there is no plan; a lower learning rate "
            "usually helps."
        )
    plan = Plan(
        backbone=backbone.name,
        units=Plan.fingerprint(backbone),
        candidates=tuple(candidate.to_dict() for candidate in candidates),
        alpha=tuple(map(tuple, model.alpha.numpy().tolist())),
        beta=tuple(map(tuple, model.beta.numpy().tolist())),
        provenance={
            "recipe": json.loads(recipe.to_json()),
            "held": run.held,
            "skipped_steps": skipped,
            "dataset": {
                "name": recipe.data.source,
                "images": len(data.train_indices) + len(data.validation_indices),
                "sha256": data.record.training,
            },
            "versions": versions(),
        },
    )
    run.lock.require()
    save_history(run.folder / "history.json", "search", run.history)
    plan.save(run.folder / "plan.json")
    with dispensable("report.png"):
        search_report(
            run.folder / "report.png",
            {**run.history, "candidate_names": [str(candidate) for candidate in candidates]},
            f"SEDONA search: {backbone.name} on {recipe.data.source}, {recipe.search.steps} steps",
        )
    return plan
