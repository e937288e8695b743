"""A whole search: pretraining, search, plan and report, from one recipe."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import ml_collections
from absl import logging

from sedona_tf import data as data_lib
from sedona_tf.auxiliary import AuxiliarySpace, candidates_from
from sedona_tf.backbones import build
from sedona_tf.environment.determinism import make_repeatable
from sedona_tf.environment.process_settings import process_settings
from sedona_tf.environment.versions import versions
from sedona_tf.errors import UserError, dispensable
from sedona_tf.plans import Plan
from sedona_tf.recipe import check_search
from sedona_tf.report.figures import search_report
from sedona_tf.runs.callbacks import NanGuard, TensorBoard
from sedona_tf.runs.checkpoints import CheckpointStore, Position
from sedona_tf.runs.event_log import EventLog
from sedona_tf.runs.folder import RunFolder, open_folder
from sedona_tf.runs.history import save_history
from sedona_tf.runs.kept_recipe import require_same_recipe, write_recipe
from sedona_tf.search.callbacks import ArchitectureLog, PoolFiller, PoolSampler, skipped_steps
from sedona_tf.search.inner_optimizer import InnerOptimizer
from sedona_tf.search.pool import SnapshotPool
from sedona_tf.search.search_model import SearchModel
from sedona_tf.search.state import capture, restore

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
    with open_folder(workdir, "search", resume) as folder:
        return _search(recipe, folder)


def _search(recipe: ml_collections.ConfigDict, folder: RunFolder) -> Plan:
    workdir, kept, settings = folder.path, folder.kept, recipe.search
    space = AuxiliarySpace(**settings.space)
    offered = (
        space.sample(settings.candidates, recipe.seed) if settings.candidates else space.enumerate()
    )
    candidates = candidates_from([candidate.to_dict() for candidate in offered])
    make_repeatable(recipe.seed, recipe.deterministic)
    pool = SnapshotPool(workdir / "snapshots", settings.snapshots)
    store = CheckpointStore(workdir / "checkpoints", pool)
    saved = folder.checkpoint(store)
    start = saved[0] if saved else Position("pretraining", 0)
    record = None
    if kept and saved:
        record = data_lib.DataRecord.read(workdir)
        ended = start == Position("search", settings.steps)
        require_same_recipe(workdir, kept, recipe, "search", start, ended)
    phases = {"pretraining": settings.pretraining_steps, "search": settings.steps}
    if start.step > phases[start.phase]:
        raise UserError(f"the checkpoint is at {start}, past the recipe's {phases[start.phase]}.")

    logging.info("loading data")
    data = data_lib.SearchData(
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

    history: dict[str, list] = {
        name: [] for name in ("steps", "cut_probability", "candidate_weights", "outer_loss")
    }
    if saved:
        restore(saved[1], model, history)
        model.optimizer.learning_rate = settings.architecture_learning_rate  # may be another now
        del saved  # a copy of the weights
    held = write_recipe(workdir, recipe, "search", start)
    data.record.write(workdir)

    with folder.request.deferred():
        for phase in list(phases)[list(phases).index(start.phase) :]:
            done = start.step if phase == start.phase else 0
            _run_phase(Position(phase, done), recipe, data, model, store, pool, history, folder)

    skipped = skipped_steps(history)
    if skipped == settings.steps:
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
            "held": held,
            "skipped_steps": skipped,
            "dataset": {
                "name": recipe.data.source,
                "images": len(data.train_indices) + len(data.validation_indices),
                "sha256": data.record.training,
            },
            "versions": versions(),
        },
    )
    folder.lock.require()
    save_history(workdir / "history.json", "search", history)
    plan.save(workdir / "plan.json")
    with dispensable("report.png"):
        search_report(
            workdir / "report.png",
            {**history, "candidate_names": [str(candidate) for candidate in candidates]},
            f"SEDONA search: {backbone.name} on {recipe.data.source}, {settings.steps} steps",
        )
    return plan


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


def _run_phase(
    start: Position,
    recipe: ml_collections.ConfigDict,
    data: data_lib.SearchData,
    model: SearchModel,
    store: CheckpointStore,
    pool: SnapshotPool,
    history: dict[str, list],
    folder: RunFolder,
) -> None:
    """Trains from a step of a phase to its end, and saves."""
    settings, (phase, done) = recipe.search, start
    pretraining = phase == "pretraining"
    steps = settings.pretraining_steps if pretraining else settings.steps
    rate = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate,
        steps,
        alpha=settings.final_learning_rate / settings.learning_rate,
    )
    model.begin_phase(rate)
    model.step_in_phase.assign(done)
    logs = folder.path / "logs"

    def before(guard: NanGuard) -> list[keras.callbacks.Callback]:
        if pretraining:
            return [PoolFiller(pool, done, steps, guard)]
        return [
            PoolSampler(pool, done, recipe.seed, guard),
            ArchitectureLog(done, steps, EventLog(logs / "architecture"), history),
        ]

    folder.train(
        model,
        data.training if pretraining else data.search,
        start,
        steps,
        store,
        settings.checkpoint_every,
        lambda: capture(model, history),
        before,
        [TensorBoard(EventLog(logs / phase), phase, done, steps, 10, rate)],
    )
