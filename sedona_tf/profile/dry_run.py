"""A training run without its data: everything is built and a few steps are taken on noise.

A minute shows whether recipe, plan, number of blocks and devices are right, and what each block
costs. The data are taken to be as `data.dry_run` in the recipe says.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Sequence
from typing import NamedTuple

import keras
import ml_collections
import numpy as np
import tensorflow as tf
from absl import logging

from sedona_tf.backbones.registry import KERAS_PREFIX
from sedona_tf.environment.process_settings import process_settings
from sedona_tf.errors import UserError
from sedona_tf.plans import candidate_name
from sedona_tf.profile.counts import Counts, count
from sedona_tf.report.tables import aligned
from sedona_tf.runs.progress import progress_bar
from sedona_tf.train.block import Block
from sedona_tf.train.build import build_backbone, build_decoupling, build_model, resolve
from sedona_tf.train.model import DecoupledModel

__all__ = ["BlockCost", "DryRun", "block_counts", "StatedData", "dry_run", "stated_data"]


class StatedData(NamedTuple):
    """What a recipe says of its data.

    Attributes:
        shape: of an image, `(height, width, channels)`.
        num_classes: of the task.
        images: of an epoch.
    """

    shape: tuple[int, int, int]
    num_classes: int
    images: int


@dataclasses.dataclass(frozen=True)
class BlockCost:
    """What a block costs.

    Attributes:
        units: its first and last unit, from 1.
        classifier: name of the auxiliary net, or `"(head)"`.
        device: where it lives.
        parameters: trainable ones, of units and classifier.
        flops: of the forward pass of the recipe's batch through both.
        activation_bytes: that the batch's backward pass reads; see `profile.counts`.
    """

    units: tuple[int, int]
    classifier: str
    device: str
    parameters: int
    flops: int
    activation_bytes: int


@dataclasses.dataclass(frozen=True)
class DryRun:
    """What a dry run found.

    Attributes:
        title: method, network, images and classes.
        blocks: their costs.
        images: of one epoch.
        batch_size: the recipe's.
        tried_batch_size: of the step that was timed.
        step_seconds: that the last of the steps took, with every block at work.
        loss: the head's in these steps.
    """

    title: str
    blocks: tuple[BlockCost, ...]
    images: int
    batch_size: int
    tried_batch_size: int
    step_seconds: float
    loss: float

    @property
    def epoch_hours(self) -> float:
        """Estimate: as many steps as measured as an epoch's images need."""
        return self.images / self.tried_batch_size * self.step_seconds / 3600

    def __str__(self) -> str:
        """A table, and what was measured apart from what is estimated."""
        rows = [
            (
                str(index),
                f"{block.units[0]}-{block.units[1]}",
                block.classifier,
                block.device,
                f"{block.parameters / 1e6:.3f}",
                f"{block.flops / self.batch_size / 1e6:.2f}",
                f"{block.activation_bytes / 2**20:.1f}",
            )
            for index, block in enumerate(self.blocks, 1)
        ]
        headings = (
            *("block", "units", "classifier", "device"),
            *("parameters (M)", "forward MFLOP/image", "activations (MiB)"),
        )
        devices = ", ".join(sorted({block.device for block in self.blocks}))
        return "\n".join(
            [
                self.title,
                "",
                *aligned(headings, rows),
                "",
                "FLOPs: of convolutions and products, a multiplication and an addition are two.",
                f"Activations: what the backward pass reads, at batch {self.batch_size}; kernels' "
                "buffers are not in it.",
                f"Measured: {self.step_seconds:.3f} s a warm training step at batch "
                f"{self.tried_batch_size}, loss {self.loss:.3f} on noise.",
                f"Estimate: {self.epoch_hours:.3g} hours an epoch of {self.images:,} images on "
                f"{devices}, from that step; larger batches are usually faster an image.",
            ]
        )


def dry_run(
    recipe: ml_collections.ConfigDict,
    *,
    method: str = "sedona",
    plan: str | None = None,
    num_blocks: int = 4,
    devices: str | Sequence[str] = "auto",
    batch_size: int = 8,
) -> DryRun:
    """Builds a run and takes its first steps on noise; reads no data and writes no file.

    Args:
        recipe, method, plan, num_blocks, devices: see `run_training`.
        batch_size: of the steps; at most the recipe's is used.

    Raises:
        UserError: for anything wrong with what was given, or if the loss is not finite.
    """
    recipe = resolve(recipe, method)
    shape, classes, images = stated_data(recipe)
    if batch_size < 1:
        raise UserError(f"the dry run's batch must be at least 1. Received: {batch_size}")
    batch_size = min(batch_size, recipe.train.batch_size)
    keras.utils.set_random_seed(recipe.seed)
    logging.info(f"building {recipe.backbone.name}")
    backbone = build_backbone(recipe, shape, classes)
    decoupling = build_decoupling(method, plan, backbone, num_blocks)
    noise = np.random.default_rng(recipe.seed)
    batch = (
        tf.constant(noise.standard_normal((batch_size, *shape)), tf.float32),
        tf.constant(noise.integers(0, classes, batch_size), tf.int32),
    )
    specs = tf.nest.map_structure(
        lambda each: tf.TensorSpec((None, *each.shape[1:]), each.dtype), batch
    )
    steps = max(round(images / recipe.train.batch_size), 1) * recipe.train.epochs
    model = build_model(recipe, backbone, decoupling, devices, specs, steps)
    classifiers = [*map(candidate_name, decoupling.auxiliary), "(head)"]
    costs = tuple(
        BlockCost(
            units,
            classifier,
            block.device,
            sum(math.prod(variable.shape) for variable in block.trainable_variables),
            *block_counts(block, recipe.train.batch_size),
        )
        for block, units, classifier in zip(
            model.blocks, decoupling.blocks(), classifiers, strict=True
        )
    )
    with process_settings(deterministic=recipe.deterministic):
        seconds, loss = _steps(model, batch)
    own_width = recipe.backbone.name.startswith(KERAS_PREFIX)
    title = (
        f"{method}: {backbone.name}"
        f"{'' if own_width else f' at width {recipe.backbone.width}'}, "
        f"{' x '.join(map(str, shape))} pixels, {classes:,} classes, "
        f"{recipe.train.precision}, {recipe.train.schedule if len(costs) > 1 else 'one block'}"
    )
    return DryRun(title, costs, images, recipe.train.batch_size, batch_size, seconds, loss)


def block_counts(block: Block, batch_size: int) -> Counts:
    """FLOPs and kept bytes of a batch's way through a block and its classifier; see `count`."""

    def forward(inputs: tf.Tensor):
        return block.classifier(block.features(inputs, training=True), training=True)

    first = block.units[0]
    spec = tf.TensorSpec((batch_size, *first.input_shape[1:]), first.compute_dtype)
    return count(forward, [spec], [variable.value for variable in block.trainable_variables])


def stated_data(recipe: ml_collections.ConfigDict) -> StatedData:
    """What a recipe says of its data, which are not looked at.

    Raises:
        UserError: if `data.dry_run` is out of range.
    """
    settings, stated = recipe.data, recipe.data.dry_run
    shape = tuple(stated.shape)
    if len(shape) != 3 or min(shape) < 1 or stated.images < 1 or stated.classes < 2:
        raise UserError(
            "data.dry_run must have images from 1, a shape (height, width, channels) and classes "
            f"from 2. Received: {stated.images}, {shape}, {stated.classes}"
        )
    if settings.image_size:
        shape = (settings.image_size, settings.image_size, shape[2])
    images = min(stated.images, settings.limit or stated.images)
    held_out = recipe.train.validation_fraction
    return StatedData(shape, stated.classes, max(round(images * (1 - held_out)), 1))


def _steps(model: DecoupledModel, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[float, float]:
    """Seconds of one step in which every block has work and nothing is traced; the head's loss."""
    logs: dict[str, float] = {}
    count = len(model.blocks) + 1  # a pipeline's last block waits K - 1 steps
    with contextlib.closing(progress_bar("steps on noise", count, "step")) as bar:
        for _ in range(count):
            start = time.perf_counter()
            logs = model.train_on_batch(*batch, return_dict=True)
            seconds = time.perf_counter() - start
            bar.update()
    for name, value in logs.items():
        if not math.isfinite(value):
            raise UserError(f"{name} is {value} after {count} steps on noise.")
    return seconds, float(logs["loss"])
