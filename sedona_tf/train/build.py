"""From a recipe to data and a compiled model: what training, reloading and tuning share."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import ml_collections
import msgspec
import tensorflow as tf
from absl import logging

from sedona_tf import data as data_lib
from sedona_tf.auxiliary import CrossEntropy
from sedona_tf.backbones import Backbone, build
from sedona_tf.environment.process_settings import process_settings
from sedona_tf.errors import UserError, unknown_name
from sedona_tf.plans import METHODS, Decoupling, baseline, load_decoupling, require_plan, uniform
from sedona_tf.recipe import check_train
from sedona_tf.train.model import DecoupledModel, decouple
from sedona_tf.train.momentum_sgd import MomentumSGD
from sedona_tf.train.schedules import Batch

__all__ = [
    "TRAINED_AS",
    "batch_spec",
    "build_backbone",
    "build_data",
    "build_decoupling",
    "build_learning_rate",
    "build_model",
    "resolve",
]

TRAINED_AS = "trained_as"
"""Key of the method in a decoupling's provenance."""


def resolve(recipe: ml_collections.ConfigDict, method: str) -> ml_collections.ConfigDict:
    """A recipe as a method uses it: PredSim is defined on plain labels, so its smoothing is 0.

    Raises:
        UserError: if the method is unknown, or a number of the section `train` is out of range.
    """
    check_train(recipe)
    if method not in METHODS:
        raise UserError(unknown_name("method", method, METHODS))
    recipe = recipe.copy_and_resolve_references()
    if method == "predsim":
        recipe.train.label_smoothing = 0.0
    return recipe


def build_data(
    recipe: ml_collections.ConfigDict,
    *,
    test: bool = False,
    record: data_lib.DataRecord | None = None,
) -> data_lib.TrainingData:
    """The recipe's data, split as the section `train` says.

    Args:
        recipe: see `recipes/digits.py`.
        test: with the test split.
        record: of a run that is resumed or used, see `TrainingData`; None for a new one.

    Raises:
        UserError: see `TrainingData`.
    """
    settings = recipe.data

    def training() -> data_lib.Source:
        logging.info("loading data")
        return data_lib.load_section(settings, "train", limit=settings.limit)

    def testing() -> data_lib.Source:
        return data_lib.load_section(
            settings, "test", num_classes=record.num_classes if record else None
        )

    return data_lib.TrainingData(
        training,
        fraction=recipe.train.validation_fraction,
        seed=recipe.seed,
        batch_size=recipe.train.batch_size,
        pad=settings.pad,
        flip=settings.flip,
        test=testing if test else None,
        record=record,
    )


def build_backbone(
    recipe: ml_collections.ConfigDict, input_shape: Sequence[int], num_classes: int
) -> Backbone:
    """The recipe's network in its precision, for images `(height, width, channels)`."""
    with process_settings(precision=recipe.train.precision):
        return build(input_shape=input_shape, num_classes=num_classes, **recipe.backbone)


def build_decoupling(
    method: str, plan: str | None, backbone: Backbone, num_blocks: int
) -> Decoupling:
    """A method's decoupling, with the method in its provenance.

    Args:
        method: one of `METHODS`.
        plan: file of a `Plan` or a `Decoupling`; for `"sedona"` alone.
        backbone: to be cut.
        num_blocks: K; no matter for backprop.

    Raises:
        UserError: if the plan is missing, not wanted, or does not fit.
    """
    require_plan(method, plan)
    if plan is not None:
        decoupling = load_decoupling(plan, backbone, num_blocks)
    elif method == "backprop":
        decoupling = uniform(backbone, 1, {})
    else:
        decoupling = baseline(method, backbone, num_blocks)
    return msgspec.structs.replace(
        decoupling, provenance={**decoupling.provenance, TRAINED_AS: method}
    )


def build_learning_rate(
    recipe: ml_collections.ConfigDict, steps: int
) -> keras.optimizers.schedules.CosineDecay:
    """The recipe's cosine of a training of so many steps."""
    settings = recipe.train
    return keras.optimizers.schedules.CosineDecay(
        settings.learning_rate,
        steps,
        alpha=settings.final_learning_rate / settings.learning_rate,
    )


def batch_spec(data: data_lib.TrainingData) -> tuple[tf.TensorSpec, tf.TensorSpec]:
    """Specifications of a training batch's images and labels; reads no data."""
    images = tf.TensorSpec((data.batch_size, *data.input_shape))
    return images, tf.TensorSpec((data.batch_size,), tf.int32)


def build_model(
    recipe: ml_collections.ConfigDict,
    backbone: Backbone,
    decoupling: Decoupling,
    devices: str | Sequence[str],
    batch: tuple[tf.TensorSpec, tf.TensorSpec],
    steps: int,
) -> DecoupledModel:
    """The compiled model, with all the variables that a checkpoint holds.

    Args:
        recipe: resolved, see `resolve`.
        backbone, decoupling: what to cut, and where.
        devices: see `assign_devices`.
        batch: specifications of training images and labels, see `batch_spec`.
        steps: length of the cosine learning rate.

    Raises:
        UserError: if the decoupling is another architecture's or a device does not exist.
    """
    settings = recipe.train
    with process_settings(precision=settings.precision):
        rate = build_learning_rate(recipe, steps)
        optimizer = MomentumSGD(rate, settings.momentum, l2=settings.weight_decay)
        model = decouple(backbone, decoupling, devices=devices, schedule=settings.schedule)
        model.compile(optimizer, CrossEntropy(settings.label_smoothing), metrics=["accuracy"])
        # Optimizers and metrics make their variables on first use; a checkpoint holds them.
        model.optimizer.build(model.trainable_variables)
        model.compute_metrics(None, tf.zeros((1,), tf.int32), tf.zeros((1, backbone.num_classes)))
    model.reset_metrics()
    if decoupling.num_blocks > 1 and settings.schedule == "pipelined":
        model.prepare(Batch(*batch, ()))
    return model
