"""DecoupledModel: K gradient-isolated blocks under Keras' `fit`."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import keras
import tensorflow as tf

from sedona_tf.auxiliary.losses import CrossEntropy
from sedona_tf.backbones import Backbone
from sedona_tf.decoupled.block import Block, build_blocks
from sedona_tf.decoupled.block_optimizer import BlockOptimizer, clone_optimizer
from sedona_tf.decoupled.pipeline import Batch, Buffer, Pipeline
from sedona_tf.decoupled.placement import assign_devices, move
from sedona_tf.errors import UserError, unknown_name
from sedona_tf.plans import Decoupling, Plan
from sedona_tf.process_settings import DECOUPLED, process_settings

__all__ = ["SCHEDULES", "DecoupledModel", "decouple"]

SCHEDULES = ("pipelined", "lockstep")


def decouple(
    backbone: Backbone,
    plan: Plan | Decoupling,
    num_blocks: int | None = None,
    devices: str | Sequence[str] = "auto",
    schedule: str = "pipelined",
) -> DecoupledModel:
    """Cuts a backbone into blocks that train on their own losses.

    Args:
        backbone: the network; the model shares its weights.
        plan: a searched `Plan`, or a `Decoupling`.
        num_blocks: K; needed for a plan, and must agree with a decoupling's if given.
        devices: see `assign_devices`.
        schedule: see `DecoupledModel`.

    Returns:
        The `DecoupledModel`, to be compiled.

    Raises:
        UserError: if plan and backbone do not fit, K, a device or the schedule is wrong, or for
            K > 1 a layer draws random numbers without a `SeedGenerator` of its own.
    """
    if isinstance(plan, Plan):
        if num_blocks is None:
            raise UserError("num_blocks is needed to decode a plan. Received: None")
        plan.require_architecture(backbone)
        decoupling = plan.decode(num_blocks)
    else:
        decoupling = plan
        decoupling.require(backbone, num_blocks)
    return DecoupledModel(backbone, decoupling, devices=devices, schedule=schedule)


@keras.saving.register_keras_serializable(package="sedona_tf")
class DecoupledModel(keras.Model):
    """A backbone cut into K blocks, each with its own loss, optimizer and device (section 2).

    `fit`, `evaluate`, `predict`, callbacks and saving are Keras'. The outputs are the head's
    logits; auxiliary nets serve training only. With one block, everything is plain Keras training.
    `sample_weight` and `class_weight` are of the loss given to `compile`: `fit` refuses them with a
    `UserError` where an auxiliary net's kind has a loss of its own, as PredSim's has.

    Schedules, for K > 1:

    - `"lockstep"`: in one step every block handles the same batch. On one device the activations
      of a block are freed before the next block starts.
    - `"pipelined"`: block k handles what block k-1 made of the batch before, so that blocks on
      different devices never wait for each other. At the end of `fit` the buffers drain, so every
      block has seen every batch once; metrics lag K-1 steps behind.

    Both end with the same weights, bit for bit.

    Args:
        backbone: the network; shared, and moved to the blocks' devices.
        decoupling: where to cut.
        devices: see `assign_devices`.
        schedule: `"pipelined"` or `"lockstep"`.

    Attributes:
        blocks: the K `Block`s.

    Example:
        >>> from sedona_tf import backbones, plans
        >>> backbone = backbones.build("resnet18", (8, 8, 1), 10, width=4)
        >>> model = DecoupledModel(backbone, plans.baseline("dgl", backbone, 2))
        >>> model.compile(keras.optimizers.SGD(0.1, momentum=0.9), metrics=["accuracy"])
        >>> len(model.blocks), len(model.optimizer.optimizers)
        (2, 2)
    """

    def __init__(
        self,
        backbone: Backbone,
        decoupling: Decoupling,
        devices: str | Sequence[str] = "auto",
        schedule: str = "pipelined",
        **kwargs,
    ) -> None:
        if schedule not in SCHEDULES:
            raise UserError(unknown_name("schedule", schedule, SCHEDULES))
        decoupling.require(backbone)
        if decoupling.num_blocks > 1:
            backbone.require_seeded()
        super().__init__(**kwargs)
        self.backbone = backbone
        self.decoupling = decoupling
        self.schedule = schedule
        self._devices = devices if isinstance(devices, str) else list(devices)
        names = assign_devices(devices, decoupling.num_blocks)
        self.blocks: list[Block] = build_blocks(backbone, decoupling, names)
        self.auxiliaries = [block.classifier for block in self.blocks[:-1]]
        for block in self.blocks:
            move(block.variables, block.device)
        self._pipelines: list[Pipeline] = []
        self.built = True

    def compile(
        self,
        optimizer: Any = "sgd",
        loss: Any = None,
        metrics: Any = None,
        **kwargs,
    ) -> None:
        """As `keras.Model.compile`.

        Args:
            optimizer: cloned for every block, with its schedule; or a list with one a block.
            loss: of the head, and of auxiliary nets whose kind has none of its own;
                `CrossEntropy(smoothing=0.1)` (the paper's) if None. Takes logits.
            metrics: of the head.
            **kwargs: passed on. XLA is off unless asked for: it cannot hold several devices.

        Raises:
            UserError: if a list has not K optimizers.
        """
        kwargs.setdefault("jit_compile", False)
        loss = loss or CrossEntropy(0.1)
        if self.decoupling.num_blocks == 1:
            if isinstance(optimizer, list | tuple):
                (optimizer,) = self._one_a_block(list(optimizer))
            super().compile(optimizer, loss, metrics=metrics, **kwargs)
            if not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)
            return
        if not isinstance(optimizer, BlockOptimizer):
            optimizer = BlockOptimizer(self._block_optimizers(optimizer))
        self._one_a_block(optimizer.optimizers)
        for block, each in zip(self.blocks, optimizer.optimizers, strict=True):
            with tf.device(block.device):
                if not each.built:
                    each.build(block.trainable_variables)
            move(each.variables, block.device)
        optimizer.built = True
        kwargs["auto_scale_loss"] = False  # each block's has its own scale
        super().compile(optimizer, loss, metrics=metrics, **kwargs)
        names = [f"block_{index + 1}_loss" for index in range(len(self.blocks) - 1)]
        self.block_losses = [keras.metrics.Mean(name=name) for name in names]
        for pipeline in self._pipelines:
            pipeline.step = None  # it updates with the optimizers of before

    def _block_optimizers(self, optimizer: Any) -> list[keras.optimizers.Optimizer]:
        if isinstance(optimizer, list | tuple):
            each = [keras.optimizers.get(one) for one in optimizer]
        else:
            given = keras.optimizers.get(optimizer)
            each = [clone_optimizer(given) for _ in self.blocks]
        scaled = keras.optimizers.LossScaleOptimizer
        if keras.config.dtype_policy().name == "mixed_float16":
            each = [one if isinstance(one, scaled) else scaled(one) for one in each]
        return each

    def _one_a_block(self, optimizers: list) -> list:
        if len(optimizers) != len(self.blocks):
            raise UserError(
                f"optimizer must hold one for each of the {len(self.blocks)} blocks. "
                f"Received: {len(optimizers)}"
            )
        return optimizers

    def variables_by_part(self) -> dict[str, list[keras.Variable]]:
        """Names for a person to all variables of the parts, from the input up."""
        numbers = itertools.count(1)
        parts: dict[str, list[keras.Variable]] = {}
        for block in self.blocks:
            for unit in block.units:
                parts[f"unit {next(numbers)} ('{unit.name}')"] = unit.variables
            name = f"auxiliary net '{block.classifier.name}'" if block.kind else "the head"
            parts[name] = block.classifier.variables
        return parts

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The head's logits `(batch, num_classes)`; gradients pass all cuts."""
        for block in self.blocks:
            with tf.device(block.device):
                inputs = block.features(inputs, training)
        with tf.device(self.blocks[-1].device):
            return self.blocks[-1].classifier(inputs, training=training)

    def block_logits(self, images: tf.Tensor, training: bool = False) -> list[tf.Tensor]:
        """Every block's class logits, `(batch, num_classes)` each; no gradient passes a cut."""
        result = []
        for block in self.blocks:
            with tf.device(block.device):
                images = block.features(tf.stop_gradient(images), training)
                outputs = block.classifier(images, training=training)
                result.append(block.logits(outputs))
        return result

    @property
    def head_loss(self) -> keras.metrics.Metric:
        """Keras' tracker of the head's loss, the one reported as `loss`."""
        return next(metric for metric in self.metrics if metric.name == "loss")

    def _update_metrics(self, batch: Batch, logits: tf.Tensor) -> None:
        """Updates what `compile` was given as metrics.

        Not by `compute_metrics`, which reads all results too, those of other blocks included: every
        block would wait for the ones below.
        """
        for metric in self.metrics:
            if metric.name == "compile_metrics":
                metric.update_state(batch.labels, logits, batch.sample_weight)

    def _learn(self, index: int, batch: Batch) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """One update of a block on a batch; returns its features and gradients."""
        block = self.blocks[index]
        optimizer = self.optimizer.optimizers[index]
        inputs = tf.stop_gradient(batch.features)
        variables = block.trainable_variables
        with tf.GradientTape() as tape:
            features = block.features(inputs, training=True)
            outputs = block.classifier(features, training=True)
            loss = block.own_loss(outputs, batch.labels)
            if loss is None:
                logits = block.logits(outputs)
                loss = self.compute_loss(inputs, batch.labels, logits, batch.sample_weight)
            scaled = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [variable.value for variable in variables])
        optimizer.apply(gradients, variables)
        count = tf.shape(inputs)[0]
        if index < len(self.blocks) - 1:
            self.block_losses[index].update_state(loss, sample_weight=count)
        else:
            self.head_loss.update_state(loss, sample_weight=count)
            self._update_metrics(batch, outputs)
        return features, gradients

    def train_step(self, data) -> dict[str, tf.Tensor]:
        """One step of the schedule; see the class."""
        if len(self.blocks) == 1:
            return super().train_step(data)
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        own = [block.classifier.name for block in self.blocks if block.has_own_loss]
        if weights is not None and own:
            raise UserError(
                f"sample_weight and class_weight do not reach the own loss of '{own[0]}', an "
                "auxiliary net of a kind like PredSim's; leave them out or take another kind."
            )
        batch = Batch(images, labels, () if weights is None else weights)
        if self.schedule == "lockstep":
            self._lockstep_step(batch)
        else:
            self.prepare(batch).step(batch, tf.constant(True))
        return self.get_metrics_result()

    def test_step(self, data) -> dict[str, tf.Tensor]:
        """Keras' own, of the head alone."""
        logs = super().test_step(data)
        return {name: value for name, value in logs.items() if not name.startswith("block_")}

    def _lockstep_step(self, batch: Batch) -> None:
        for index, block in enumerate(self.blocks):
            with tf.device(block.device):
                features, gradients = self._learn(index, batch)
            if index + 1 < len(self.blocks) and self.blocks[index + 1].device == block.device:
                # On one device, a block's activations go before the next one's come.
                with tf.control_dependencies(tf.nest.flatten(gradients)):
                    features = tf.identity(features)
            batch = batch._replace(features=features)

    def _pipelined_step(self, buffers: list[Buffer], batch: Batch, feed: tf.Tensor) -> None:
        """One step of all blocks; `feed` says whether there is a batch for the first one."""
        work = [(batch, feed), *(buffer.read() for buffer in buffers)]
        for index, (block, (batch, full)) in enumerate(zip(self.blocks, work, strict=True)):
            with tf.device(block.device):
                shape, dtype = block.units[-1].output_shape[1:], block.units[-1].compute_dtype

                def learn(index=index, batch=batch):
                    return self._learn(index, batch)[0]

                def rest(shape=shape, dtype=dtype):
                    return tf.zeros((0, *shape), dtype)

                features = tf.cond(full, learn, rest)
                if index < len(buffers):
                    buffers[index].write(batch._replace(features=features), full)

    @property
    def buffers(self) -> list[Buffer]:
        """Those of all forms of batches that a pipelined model has met, see `prepare`."""
        return [buffer for pipeline in self._pipelines for buffer in pipeline.buffers]

    def prepare(self, batch: Batch) -> Pipeline:
        """A pipeline's buffers and its step's function for a form of batches: shapes and types.

        They are made when the form is first met, after a drain, and stay: what Keras has traced
        refers to them. Forms that alternate without a drain are each delayed on their own.

        Args:
            batch: tensors or specifications of what `fit` will give.

        Returns:
            The same `Pipeline` for the same form.
        """

        def specify(tensor) -> tf.TensorSpec:
            return tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype)

        form = tf.nest.map_structure(specify, batch)
        with tf.init_scope():
            pipeline = next((each for each in self._pipelines if each.form == form), None)
            if pipeline is None:
                self.drain()
                # tf.function lets no thread that traces it again make variables.
                with ThreadPoolExecutor(1) as executor:
                    buffers = executor.submit(self._buffers, form).result()
                pipeline = Pipeline(form, buffers)
                self._pipelines.append(pipeline)
            if pipeline.step is None:
                pipeline.step = tf.function(
                    functools.partial(self._pipelined_step, pipeline.buffers),
                    input_signature=[form, tf.TensorSpec((), tf.bool)],
                    autograph=False,
                )
        return pipeline

    def _buffers(self, form: Batch) -> list[Buffer]:
        """One at each cut, on the device of the block that reads it."""
        buffers = []
        for below, above in itertools.pairwise(self.blocks):
            unit = below.units[-1]
            features = tf.TensorSpec(unit.output_shape, unit.compute_dtype)
            buffers.append(Buffer(form._replace(features=features), above.device))
        return buffers

    def drain(self) -> None:
        """Lets every block handle what is left in the buffers; nothing new comes in."""
        with self._settings():
            for pipeline in self._pipelines:
                while any(bool(buffer.full.numpy()) for buffer in pipeline.buffers):
                    self.prepare(pipeline.form).step(pipeline.empty(), tf.constant(False))

    def fit(self, *args, **kwargs):
        """As `keras.Model.fit`; a pipelined model drains its buffers before `on_train_end`."""
        if len(self.blocks) > 1 and self.schedule == "pipelined":
            bound = inspect.signature(super().fit).bind(*args, **kwargs)
            given = bound.arguments.get("callbacks") or []
            given = [given] if isinstance(given, keras.callbacks.Callback) else list(given)
            bound.arguments["callbacks"] = [_Drain(), *given]
            args, kwargs = bound.args, bound.kwargs
        with self._settings():
            return super().fit(*args, **kwargs)

    def train_on_batch(self, *args, **kwargs):
        """As `keras.Model.train_on_batch`."""
        with self._settings():
            return super().train_on_batch(*args, **kwargs)

    def _settings(self) -> AbstractContextManager[None]:
        """The process's while blocks learn; with one block, those that plain Keras finds."""
        return process_settings(graph_optimizer=DECOUPLED if len(self.blocks) > 1 else {})

    def get_config(self) -> dict:
        decoupling = self.decoupling.to_dict()
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "decoupling": decoupling,
            "devices": self._devices,
            "schedule": self.schedule,
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects=None) -> DecoupledModel:
        config = dict(config)
        backbone = keras.saving.deserialize_keras_object(
            config.pop("backbone"), custom_objects=custom_objects
        )
        return cls(backbone, Decoupling.from_dict(config.pop("decoupling")), **config)

    def compile_from_config(self, config: dict) -> None:
        """Compiles as the saved model was; part of `keras.models.load_model`."""
        self.compile(**keras.saving.deserialize_keras_object(config))


class _Drain(keras.callbacks.Callback):
    """Drains a pipelined model's buffers at the end of training."""

    def on_train_end(self, logs=None) -> None:
        self.model.drain()
