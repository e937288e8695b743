"""A whole tuning: trials, the best decoupling and a list of all, from one recipe."""

from __future__ import annotations

import json
from pathlib import Path

import keras_tuner
import ml_collections
import msgspec

from sedona_tf.data import DataRecord
from sedona_tf.environment.versions import versions
from sedona_tf.errors import UserError, unknown_name
from sedona_tf.files import remove_partial
from sedona_tf.recipe import check_tune
from sedona_tf.runs.kept_recipe import require_same_recipe, write_recipe
from sedona_tf.runs.run import open_run
from sedona_tf.train.build import build_data, resolve
from sedona_tf.tune.hypermodel import DecouplingHyperModel
from sedona_tf.tune.oracles import TUNERS, make_oracle
from sedona_tf.tune.trials import TrialRecord, require_same_tuning, write_trials
from sedona_tf.tune.tuner import DecouplingTuner

__all__ = ["run_tuning"]


def run_tuning(
    recipe: ml_collections.ConfigDict,
    workdir: Path,
    *,
    num_blocks: int,
    max_trials: int,
    tuner: str = "random",
    epochs: int | None = None,
    max_seconds: float = 0.0,
    resume: bool = False,
) -> list[TrialRecord]:
    """Tries decouplings by training each, until so many trials or all decouplings are done.

    Writes into `workdir`: `recipe.json` (resolved), `data.json` (to know the data again),
    `trials.json` (after each trial), `tuner/` (the tuner's state) and at the end `decoupling.json`,
    that of the best trial. The folder is locked meanwhile. A signal ends the tuning after the
    current step; that trial is lost.

    Args:
        recipe: its sections `data`, `backbone`, `train` and `search.space`.
        workdir: folder of the run; made if need be.
        num_blocks: K, from 2.
        max_trials: how many, those of a resumed run included.
        tuner: one of `TUNERS`.
        epochs: of a trial, for Hyperband of the longest ones; the recipe's if None.
        max_seconds: no trial starts once they have taken so long in all; 0: no limit.
        resume: go on with the folder's trials rather than refuse a folder that holds a run.

    Returns:
        The trials, the best first.

    Raises:
        UserError: for anything wrong with what was given, and for a trial that fails.
        Interrupted: by a signal.
    """
    check_tune(recipe)
    recipe = resolve(recipe, "sedona")
    if epochs is not None:
        recipe.train.epochs = epochs
        recipe = resolve(recipe, "sedona")
    if tuner not in TUNERS:
        raise UserError(unknown_name("tuner", tuner, TUNERS))
    if max_trials < 1:
        raise UserError(f"max_trials must be at least 1. Received: {max_trials}")
    settings = {"tuner": tuner, "num_blocks": num_blocks}
    with open_run("tune", workdir, recipe, resume) as run:
        if run.kept:
            require_same_tuning(workdir, settings)
            require_same_recipe(workdir, run.kept, recipe, "tune")
        for folder in (workdir / "tuner", *(workdir / "tuner").glob("trial_*")):
            remove_partial(folder)
        record = DataRecord.read(workdir) if run.kept else None
        data = build_data(recipe, record=record).load()
        hypermodel = DecouplingHyperModel(recipe, data, num_blocks)
        if not run.kept:
            data.record.write(workdir)
            write_trials(workdir, settings, [])
            write_recipe(workdir, recipe, "tune")
        runner = DecouplingTuner(
            make_oracle(tuner, hypermodel, max_trials),
            hypermodel,
            run,
            max_seconds,
            lambda records: write_trials(workdir, settings, records),
        )
        with run.request.deferred():
            runner.search()
        best = sorted(runner.records(), key=lambda record: (record.val_error, int(record.trial)))
        write_trials(workdir, settings, runner.records())
        decoupling = msgspec.structs.replace(
            best[0].decoupling, provenance=_provenance(recipe, best)
        )
        decoupling.save(workdir / "decoupling.json")
        return best


def _provenance(recipe: ml_collections.ConfigDict, best: list[TrialRecord]) -> dict:
    return {
        "method": "keras-tuner",
        "trial": best[0].to_dict(),
        "trials": len(best),
        "recipe": json.loads(recipe.to_json()),
        "versions": versions() | {"keras-tuner": keras_tuner.__version__},
    }
