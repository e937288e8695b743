"""Cuts and auxiliary nets as a keras-tuner hypermodel."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import keras
import keras_tuner
import ml_collections

from sedona_tf.auxiliary import AuxiliarySpace
from sedona_tf.data import TrainingData
from sedona_tf.errors import UserError
from sedona_tf.plans import Decoupling, Plan
from sedona_tf.runs.checkpoints import Position
from sedona_tf.runs.nan_guard import NanGuard
from sedona_tf.train.build import batch_spec, build_backbone, build_model
from sedona_tf.train.model import DecoupledModel

__all__ = ["DecouplingHyperModel"]


class DecouplingHyperModel(keras_tuner.HyperModel):
    """A decoupled network whose cuts and auxiliary nets are hyperparameters.

    Every unit but the last, numbered from 1, has a score, `unit_l/score` in [0, 1], and a
    candidate, declared as `AuxiliarySpace.declare` does under `unit_l/`. They are decoded as a
    plan is whose scores and candidates these are: cuts after the K-1 highest scores.

    The objective is `val_error`, the head's on the validation part; the test split is not read.

    Args:
        recipe: resolved, see `sedona_tf.train.build.resolve`. `train.epochs` is the length of
            a full training and of its learning rate's schedule; `search.space` that of candidates.
        data: the recipe's, see `build_data`.
        num_blocks: K, from 2.
        devices: see `assign_devices`.

    Raises:
        UserError: if K is out of range or the space is wrong.

    Example:
        >>> from sedona_tf.data import TrainingData, load
        >>> from sedona_tf.recipe import paper
        >>> recipe = paper()
        >>> recipe.backbone.name, recipe.backbone.width = "vgg11", 4
        >>> data = TrainingData(load("digits", "train", limit=100, image_size=32))
        >>> hypermodel = DecouplingHyperModel(recipe, data, num_blocks=2)
        >>> hp = keras_tuner.HyperParameters()
        >>> hypermodel.decoupling(hp).cut_after  # all scores are 0 by default: a tie
        (1,)
        >>> hp.values["unit_3/score"] = 0.5
        >>> hypermodel.decoupling(hp).cut_after
        (3,)
    """

    def __init__(
        self,
        recipe: ml_collections.ConfigDict,
        data: TrainingData,
        num_blocks: int,
        devices: str | Sequence[str] = "auto",
    ) -> None:
        super().__init__(name="decoupling")
        self.recipe, self.data, self.num_blocks, self.devices = recipe, data, num_blocks, devices
        self.space = AuxiliarySpace(**recipe.search.space)
        backbone = self._build_backbone()
        self._backbone, self._units = backbone.name, Plan.fingerprint(backbone)
        if type(num_blocks) is not int or not 2 <= num_blocks <= len(self._units):
            raise UserError(
                f"the number of blocks must be between 2 and {len(self._units)}, the number of "
                f"units of {self._backbone}. Received: {num_blocks}"
            )

    def _build_backbone(self):
        return build_backbone(self.recipe, self.data.input_shape, self.data.num_classes)

    def decoupling(self, hp: keras_tuner.HyperParameters) -> Decoupling:
        """Declares the hyperparameters and decodes their values.

        Args:
            hp: gets those that it lacks, at their defaults.

        Returns:
            The decoupling that they stand for.
        """
        units = range(1, len(self._units))
        scores = [hp.Float(f"unit_{unit}/score", 0.0, 1.0) for unit in units]
        nets = [self.space.declare(hp, f"unit_{unit}/") for unit in units]
        candidates = list(dict.fromkeys(nets))
        plan = Plan(
            backbone=self._backbone,
            units=self._units,
            candidates=tuple(candidate.to_dict() for candidate in candidates),
            alpha=tuple((score, 0.0) for score in scores),
            beta=tuple(tuple(float(net == each) for each in candidates) for net in nets),
            provenance={"method": "keras-tuner"},
        )
        return plan.decode(self.num_blocks)

    def point(self, hp: keras_tuner.HyperParameters) -> Hashable:
        """A key that is equal for two sets of hyperparameters of one decoupling."""
        decoupling = self.decoupling(hp)
        nets = (tuple(sorted(options.items())) for options in decoupling.auxiliary)
        return decoupling.cut_after, *nets

    @property
    def num_points(self) -> int:
        """How many decouplings there are: ways to cut, times candidates at each cut."""
        cuts = self.num_blocks - 1
        return math.comb(len(self._units) - 1, cuts) * len(self.space.enumerate()) ** cuts

    def build(self, hp: keras_tuner.HyperParameters) -> DecoupledModel:
        """The compiled model, as `python -m sedona_tf.train` would build it."""
        return build_model(
            self.recipe,
            self._build_backbone(),
            self.decoupling(hp),
            self.devices,
            batch_spec(self.data),
            self.recipe.train.epochs * self.data.steps_per_epoch,
        )

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: DecoupledModel,
        *,
        epochs: int | None = None,
        initial_epoch: int = 0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        verbose: int | str = 0,
    ) -> dict[str, float]:
        """Trains the model on the batches that `python -m sedona_tf.train` would.

        Args:
            hp: not looked at; the model has been built from it.
            model: built by `build`, and trained up to `initial_epoch`.
            epochs: the epoch to end with; the recipe's if None.
            initial_epoch: the epoch to start from, counted from 0.
            callbacks: of Keras.
            verbose: as for `keras.Model.fit`.

        Returns:
            `val_error` and `val_loss` of the trained head on the validation part, and the number
            of `steps` taken.

        Raises:
            UserError: if it has diverged.
        """
        start = initial_epoch * self.data.steps_per_epoch
        end = (epochs or self.recipe.train.epochs) * self.data.steps_per_epoch
        model.fit(
            self.data.training(start, end - start),
            epochs=1,
            verbose=verbose,
            shuffle=False,
            callbacks=list(callbacks),
        )
        validation = model.evaluate(self.data.validation(), verbose=0, return_dict=True)
        guard = NanGuard(model.variables_by_part())
        guard.check({"val_loss": validation["loss"]}, Position("training", end))
        return {
            "val_error": 1.0 - validation["accuracy"],
            "val_loss": validation["loss"],
            "steps": end - start,
        }
