"""TrainedRun: the model and the data of a training run, rebuilt from its folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import ml_collections

from sedona_tf.data import DataRecord, TrainingData
from sedona_tf.errors import UserError
from sedona_tf.evaluate.ensemble import Ensemble
from sedona_tf.plans import Decoupling
from sedona_tf.runs.checkpoints import CheckpointStore
from sedona_tf.runs.kept_recipe import read_recipe
from sedona_tf.runs.metrics import load_metrics
from sedona_tf.runs.state import History, restore
from sedona_tf.train.build import batch_spec, build_backbone, build_data, build_model
from sedona_tf.train.model import DecoupledModel

__all__ = ["TrainedRun", "load_run"]


@dataclasses.dataclass
class TrainedRun:
    """What a training run has come to.

    Attributes:
        recipe: the resolved recipe.
        model: the decoupled model, as the newest checkpoint has it.
        data: its training, validation and test images.
        history: see `sedona_tf.train.epoch_log.EpochLog`.
        step: steps that the model has been trained for.
        steps: of the whole training.
        temperatures: `(K,)`, fitted when the run ended; None if it has not ended.
    """

    recipe: ml_collections.ConfigDict
    model: DecoupledModel
    data: TrainingData
    history: History
    step: int
    steps: int
    temperatures: tuple[float, ...] | None = None

    def ensemble(self) -> Ensemble:
        """The ensemble of all blocks, calibrated on the validation part unless it has been."""
        ensemble = Ensemble(self.model, progress=True)
        if self.temperatures is None:
            return ensemble.calibrate(self.data.validation())
        ensemble.temperatures = self.temperatures
        return ensemble


def load_run(workdir: Path) -> TrainedRun:
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
    step, steps = saved.position.step, recipe.train.epochs * data.steps_per_epoch
    model = build_model(recipe, backbone, decoupling, "auto", batch_spec(data), steps)
    run = TrainedRun(recipe, model, data, {}, step, steps)
    restore(saved.arrays, model.state_variables(), run.history)
    if (workdir / "metrics.json").exists():
        metrics = load_metrics(workdir / "metrics.json")
        if metrics.epochs * data.steps_per_epoch == step:  # not resumed since
            run.temperatures = metrics.test.temperatures
    return run
