"""DecoupledModel: K gradient-isolated blocks under Keras' `fit`."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from sedona_tf.auxiliary.losses import CrossEntropy, labels_in_range
from sedona_tf.backbones import Backbone
from sedona_tf.data.arrival import after_batch, arrived
from sedona_tf.environment.process_settings import DECOUPLED_GRAPH_OPTIONS, process_settings
from sedona_tf.errors import UserError, unknown_name
from sedona_tf.plans import Decoupling, Plan
from sedona_tf.train.block import Block, build_blocks
from sedona_tf.train.optimizers import block_optimizers
from sedona_tf.train.placement import assign_devices, exists, move
from sedona_tf.train.probabilities import adapted_loss, adapted_metrics, link_of
from sedona_tf.train.schedules import SCHEDULES, Batch, Buffer, Form, Pipelined, lockstep_step

__all__ = ["SCHEDULES", "DecoupledModel", "decouple"]


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
    if not isinstance(backbone, Backbone):
        raise UserError(
            "backbone must be a Backbone; Backbone.from_keras(model) makes one of a Keras model. "
            f"Received: {type(backbone).__name__}"
        )
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
      different devices never wait for each other. At the end of every epoch,
      before metrics are read and validation begins, the buffers are emptied, so every block has
      seen every batch once. Within an epoch the head's metrics lag K-1 steps behind. A block's
      metrics are left out of the logs until its first batch has come.

    Both end with the same weights, bit for bit, and the same history.

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
        >>> len(model.blocks), len(model.optimizer.of_blocks)
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
        # As in the backbone, no input is cast before the layer that takes it.
        super().__init__(**{"dtype": backbone.dtype_policy, "autocast": False, **kwargs})
        self.backbone = backbone
        self.decoupling = decoupling
        self.schedule = schedule
        self._devices = devices if isinstance(devices, str) else list(devices)
        names = assign_devices(devices, decoupling.num_blocks)
        self.blocks: list[Block] = build_blocks(backbone, decoupling, names)
        self.auxiliaries = [block.classifier for block in self.blocks[:-1]]
        for block in self.blocks:
            move(block.variables, block.device)
        backbone.forget_functions()
        names = [f"block_{index + 1}_loss" for index in range(len(self.blocks) - 1)]
        self.block_losses = [keras.metrics.Mean(name=name) for name in names]
        self._pipelined = Pipelined(self.blocks, self._learn)
        self._evaluating = False
        self._filling = False
        self.train_function: Any = None
        self.built = True

    @property
    def _is_pipelined(self) -> bool:
        return len(self.blocks) > 1 and self.schedule == "pipelined"

    def compile(
        self,
        optimizer: Any = "sgd",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = False,
        auto_scale_loss: bool = True,
    ) -> None:
        """As `keras.Model.compile`.

        The head gives logits. Losses and metrics of Keras that expect probabilities are adapted.
        They mean the same as for a model that ends in a softmax. Your own losses and metrics get
        logits.

        Args:
            optimizer: the last block's. Each other block has one with the same settings, which
                follows its learning rate. Or a list with one a block.
            loss: of the head, and of auxiliary nets whose kind has none of its own;
                `CrossEntropy(smoothing=0.1)` (the paper's) if None.
            loss_weights: see Keras.
            metrics: of the head.
            weighted_metrics: of the head, with sample weights.
            run_eagerly: see Keras.
            steps_per_execution: see Keras.
            jit_compile: XLA, off by default; it does not work across several devices.
            auto_scale_loss: whether a block that computes in float16 scales its loss.

        Raises:
            UserError: if a list does not have K optimizers, the optimizer cannot be made once more,
                a name is not the output's, or XLA is asked for in the pipelined schedule.
        """
        if jit_compile is True and self._is_pipelined:
            raise UserError("jit_compile=True needs schedule='lockstep': XLA has no pipeline.")
        classes, removed = self.backbone.num_classes, self.backbone.removed_activation
        loss, loss_weights, metrics, weighted_metrics = map(
            self._of_output, (loss, loss_weights, metrics, weighted_metrics)
        )
        if loss is None:
            if classes == 1:
                raise UserError(
                    "the default loss is of classes, and the head has one output; give a loss, "
                    "such as keras.losses.BinaryCrossentropy(from_logits=True)."
                )
            loss = CrossEntropy(0.1)
        loss = adapted_loss(loss, removed)
        link = removed or link_of(loss, classes)
        metrics, weighted_metrics = (
            adapted_metrics(each, link, classes, removed) for each in (metrics, weighted_metrics)
        )
        one = len(self.blocks) == 1
        super().compile(
            block_optimizers(
                optimizer, self.blocks, getattr(self, "optimizer", None), auto_scale_loss
            ),
            loss,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=auto_scale_loss and one,
        )
        self._pipelined.renew(run_eagerly)

    def _of_output(self, given: Any) -> Any:
        """The value given under the output's name, or the value itself."""
        if not isinstance(given, dict):
            return given
        name = self.backbone.output_name
        if list(given) != [name]:
            raise UserError(f"the model's one output is '{name}'. Received: {list(given)}")
        return given[name]

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

    def state_variables(self) -> dict[str, list[keras.Variable]]:
        """All that a training needs to go on as if it had not been interrupted, by kind.

        The batches are a function of the seed and the step.
        """
        return {
            "weights": list(self.variables),
            "optimizer": list(self.optimizer.variables),
            "buffers": [variable for buffer in self.buffers for variable in buffer.variables],
            "metrics": [variable for metric in self.metrics for variable in metric.variables],
        }

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The head's logits `(batch, num_classes)`; gradients pass all cuts."""
        inputs = self._of_input(inputs)
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

    def _of_input(self, inputs: Any) -> tf.Tensor:
        """The one input, which Keras also takes in a list or by its name.

        If the data do not give the input's sizes, the sizes known from the model are set.
        """
        name = self.backbone.input_name
        if isinstance(inputs, dict):
            if list(inputs) != [name]:
                raise UserError(f"the model's one input is '{name}'. Received: {list(inputs)}")
            inputs = inputs[name]
        if isinstance(inputs, list | tuple):
            if len(inputs) != 1:
                raise UserError(f"the model has one input. Received: {len(inputs)}")
            inputs = inputs[0]
        shape = self.blocks[0].units[0].input_shape
        if isinstance(inputs, tf.TensorSpec):
            return tf.TensorSpec(shape, inputs.dtype)
        if isinstance(inputs, tf.Tensor) and not inputs.shape[1:].is_fully_defined():
            return tf.ensure_shape(inputs, shape)
        return inputs

    def _parts(self, data: Any) -> tuple[Any, Any, Any]:
        """Images, labels and sample weights from a step's data, or their specifications."""
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        return self._of_input(images), self._of_output(labels), self._of_output(weights)

    def _unpacked(self, data: Any) -> tuple[tf.Tensor, Any, Any]:
        """As `_parts`. Labels that must be classes are checked for their range before use."""
        images, labels, weights = self._parts(data)
        if labels is None:
            raise UserError("a decoupled model trains on labels; give them to fit as y.")
        sparse = keras.losses.SparseCategoricalCrossentropy
        of_classes = isinstance(self.loss, CrossEntropy) or (
            isinstance(self.loss, sparse) and self.loss.ignore_class is None
        )
        if of_classes and (len(labels.shape) == 1 or labels.shape[-1] == 1):
            labels = labels_in_range(labels, self.backbone.num_classes)
        return images, labels, weights

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
        optimizer = self.optimizer.of_blocks[index]
        inputs = tf.stop_gradient(batch.features)
        variables = block.trainable_variables
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        with tf.GradientTape() as tape:
            features = block.features(inputs, training=True)
            outputs = block.classifier(features, training=True)
            loss = block.own_loss(outputs, batch.labels)
            if loss is None:
                logits = block.logits(outputs)
                loss = self.compute_loss(inputs, batch.labels, logits, batch.sample_weight)
            else:
                loss /= replicas  # as Keras divides: gradients add up over replicas
            scaled = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [variable.value for variable in variables])
        optimizer.apply(gradients, variables)
        count = tf.shape(inputs)[0]
        loss *= replicas
        if index < len(self.blocks) - 1:
            self.block_losses[index].update_state(loss, sample_weight=count)
        else:
            self.head_loss.update_state(loss, sample_weight=count)
            self._update_metrics(batch, outputs)
        return features, gradients

    def train_step(self, data) -> dict[str, tf.Tensor]:
        """One step of the schedule; see the class."""
        with after_batch(self._unpacked(data)) as (images, labels, weights):
            if len(self.blocks) == 1:
                return super().train_step((images, labels, weights))
            self._check_own_losses(labels, weights)
            batch = Batch(images, labels, () if weights is None else weights)
            if self.schedule == "lockstep":
                lockstep_step(self.blocks, self._learn, batch)
            else:
                if tf.distribute.get_strategy().num_replicas_in_sync > 1:
                    raise UserError("under a strategy with replicas use schedule='lockstep'.")
                there = arrived(images, labels)
                self.prepare(batch).step(batch, there, there)
            return self.get_metrics_result()

    def _check_own_losses(self, labels: tf.Tensor, weights: Any) -> None:
        own = [block.classifier.name for block in self.blocks if block.has_own_loss]
        if own and weights is not None:
            raise UserError(
                f"sample_weight and class_weight do not reach the own loss of '{own[0]}', an "
                "auxiliary net of a kind like PredSim's; leave them out or take another kind."
            )
        if own and len(labels.shape) == 2 and labels.shape[-1] != 1:
            raise UserError(
                f"the own loss of '{own[0]}', an auxiliary net of a kind like PredSim's, takes "
                "labels that are integers, not one-hot."
            )

    def test_step(self, data) -> dict[str, tf.Tensor]:
        """Keras' own, of the head alone."""
        logs = super().test_step(self._unpacked(data))
        own = {metric.name for metric in self.block_losses}
        return {name: value for name, value in logs.items() if name not in own}

    @property
    def buffers(self) -> list[Buffer]:
        """Those of all forms of batches that a pipelined model has met, see `prepare`."""
        return [buffer for form in self._pipelined.forms for buffer in form.buffers]

    def prepare(self, batch: Batch) -> Form:
        """A pipelined model's buffers and step for a form of batches, see `Pipelined.prepare`.

        Args:
            batch: tensors or specifications of what `fit` will give.
        """
        # `init_scope` leaves the graph of a step, but would also stop eager steps' tapes.
        with contextlib.nullcontext() if tf.executing_eagerly() else tf.init_scope():
            self._build_optimizer()
            return self._pipelined.prepare(batch)

    def _build_optimizer(self) -> None:
        """Not in a step: what is traced a second time may make no variables."""
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    def drain(self) -> None:
        """Lets every block handle what is left in the buffers; nothing new comes in."""
        if self._pipelined.forms:
            with self._settings():
                self._build_optimizer()
                self._pipelined.drain()

    @functools.wraps(keras.Model.fit)
    def fit(self, *args, **kwargs):
        """As `keras.Model.fit`. A model that fails is left as after the last good batch."""
        try:
            with self._settings():
                return super().fit(*args, **kwargs)
        except (tf.errors.UnavailableError, tf.errors.ResourceExhaustedError):
            raise  # a block's host is gone, or its memory full: no block can go on
        except BaseException:
            self.drain()
            raise

    @functools.wraps(keras.Model.evaluate)
    def evaluate(self, *args, **kwargs):
        """As `keras.Model.evaluate`; the buffers keep their contents."""
        before, self._evaluating = self._evaluating, True
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self._evaluating = before

    def _get_metrics_result_or_logs(self, logs):
        """Called by Keras at the end of an epoch, before its metrics are read."""
        if self._evaluating or not self._is_pipelined:
            return super()._get_metrics_result_or_logs(logs)
        self.drain()
        return self.get_metrics_result()

    def reset_metrics(self) -> None:
        """As `keras.Model.reset_metrics`."""
        super().reset_metrics()
        self._filling = self._is_pipelined

    def make_train_function(self, force: bool = False) -> None:
        """As `keras.Model.make_train_function`; logs leave out blocks without a batch yet."""
        if len(self.blocks) > 1:
            self._build_optimizer()
        made: Any = self.train_function
        super().make_train_function(force)
        step: Any = self.train_function
        if self._is_pipelined and step is not made:
            seen: Any = None

            def train(iterator):
                nonlocal seen
                spec = getattr(iterator, "element_spec", None)
                if spec is None or spec is not seen:
                    iterator, seen = self._prepared(iterator), spec
                logs = step(iterator)
                return self._without_unreached(logs) if self._filling else logs

            self.train_function = train

    def _prepared(self, iterator):
        """Makes the buffers for what an iterator gives; a step that is traced again may not.

        Returns:
            An iterator of the same batches.
        """
        if isinstance(iterator, tf.distribute.DistributedIterator):
            return iterator
        if isinstance(iterator, tf.data.Iterator):
            spec = tf.nest.map_structure(
                lambda each: None if isinstance(each, tf.OptionalSpec) else each,
                iterator.element_spec,
            )
        else:  # one batch, of `train_on_batch`
            spec = next(iterator)
            iterator = iter([spec])
        images, labels, weights = self._parts(spec)
        if labels is not None:
            self.prepare(Batch(images, labels, () if weights is None else weights))
        return iterator

    def _without_unreached(self, logs: dict) -> dict:
        """The logs of blocks that have had a batch since the metrics' reset."""
        ready = {m.name: bool(m.count.numpy()) for m in [*self.block_losses, self.head_loss]}
        self._filling = not all(ready.values())
        return {name: value for name, value in logs.items() if ready.get(name, ready["loss"])}

    @functools.wraps(keras.Model.train_on_batch)
    def train_on_batch(self, *args, return_dict: bool = False, **kwargs):
        """As `keras.Model.train_on_batch`; NaN for blocks that have had no batch yet."""
        with self._settings():
            logs = super().train_on_batch(*args, return_dict=True, **kwargs)
        if self._is_pipelined:
            logs = {name: logs.get(name, math.nan) for name in self.get_metrics_result()}
        return logs if return_dict else self._flatten_metrics_in_order(logs)

    @functools.wraps(keras.Model.save)
    def save(self, filepath, *args, **kwargs):
        """As `keras.Model.save`, to a file `.keras`; the buffers are emptied first."""
        if str(filepath).endswith((".h5", ".hdf5")):
            raise UserError(
                f"HDF5 cannot hold a decoupled model: save to a file .keras, or the weights alone "
                f"by save_weights. Received: {filepath}"
            )
        self.drain()
        return super().save(filepath, *args, **kwargs)

    @functools.wraps(keras.Model.save_weights)
    def save_weights(self, *args, **kwargs):
        """As `keras.Model.save_weights`; the buffers are emptied first."""
        self.drain()
        return super().save_weights(*args, **kwargs)

    @functools.wraps(keras.Model.export)
    def export(self, filepath, *args, **kwargs):
        """As `keras.Model.export`, of the backbone: devices and auxiliary nets stay behind."""
        self.drain()
        return self.backbone.export(filepath, *args, **kwargs)

    def _settings(self) -> contextlib.AbstractContextManager[None]:
        """Settings of the process while blocks learn; with one block, those of plain Keras."""
        return process_settings(
            graph_optimizer=DECOUPLED_GRAPH_OPTIONS if len(self.blocks) > 1 else {}
        )

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
        decoupling = Decoupling.from_dict(config.pop("decoupling"))
        devices = config["devices"]
        missing = [] if isinstance(devices, str) else [d for d in devices if not exists(d)]
        if missing:
            warnings.warn(
                f"device '{missing[0]}' of the saved model does not exist here: devices='auto'.",
                stacklevel=2,
            )
            config["devices"] = "auto"
        return cls(backbone, decoupling, **config)

    def compile_from_config(self, config: dict) -> None:
        """Compiles as the saved model was; part of `keras.models.load_model`."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)
