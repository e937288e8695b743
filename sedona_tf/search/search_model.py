"""SearchModel: alternates weight and architecture updates under `model.fit`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from sedona_tf.auxiliary import Candidate, candidates_from
from sedona_tf.auxiliary.losses import labels_in_range
from sedona_tf.backbones import Backbone
from sedona_tf.data.arrival import after_batch
from sedona_tf.environment.process_settings import SEARCH_GRAPH_OPTIONS, process_settings
from sedona_tf.errors import UserError
from sedona_tf.search.differentiable import check_derivatives
from sedona_tf.search.field import State, relaxed_field
from sedona_tf.search.hypergradient import hypergradient
from sedona_tf.search.inner_optimizer import InnerOptimizer
from sedona_tf.search.supernet import Supernet

__all__ = ["SearchModel"]

WEIGHT_METRICS = ("loss", "local_loss", "accuracy")
OUTER_METRICS = ("outer_loss", "outer_accuracy", "skipped_steps")
_NO_WEIGHTS = (
    "a search takes no sample_weight and no class_weight: the local losses of the auxiliary nets "
    "know none. Leave them out."
)


@keras.saving.register_keras_serializable(package="sedona_tf")
class SearchModel(keras.Model):
    """A supernet that learns where to cut (paper, algorithm 1).

    The form of the data decides what a step does:

    - `(images, labels)`: one ordinary training step of the supernet (pretraining);
    - `{"train": (images, labels), "validation": (images, labels)}`, the training part with T + 1
      batches in front, `(T + 1, batch, ...)`: an architecture step through T inner steps, whose
      results are thrown away, then one ordinary training step on the last batch.

    Labels are class numbers of any type, `(batch,)` or `(batch, 1)`. A step without a batch, at the
    end of the data, changes nothing. Callbacks get the numbers of each step, `History` their means
    over an epoch: `loss` and `accuracy` of the head, `local_loss`, and in a search `outer_loss`,
    `outer_accuracy` and `skipped_steps`. If the outer loss or its gradient is not finite, the step
    is skipped: alpha and beta stay as they are, and `outer_loss` is NaN.

    Under a strategy with several replicas, `fit` splits `(images, labels)` among them. It cannot
    split the second form, whose first axis is T + 1: give it a dataset that
    `strategy.distribute_datasets_from_function` made.

    `fit` and `train_on_batch` run without TensorFlow's graph optimizer, see `SEARCH`.

    Args:
        backbone: the network to decouple.
        candidates: auxiliary networks on offer.
        inner_optimizer: rule of the weight updates.
        learning_rate: of the weight updates: a number or a schedule of the step in the phase. It
            can be set at any time. A number holds from the next step, a schedule from the next
            `fit`.
        smoothing: label smoothing.
        through_statistics: see `hypergradient`.

    Attributes:
        alpha: `(L - 1, 2)` logits (local, backpropagated).
        beta: `(L - 1, M)` logits of the candidates.
        step_in_phase: counts training steps since `begin_phase`.

    Example:
        >>> from sedona_tf import backbones
        >>> from sedona_tf.auxiliary import Candidate
        >>> backbone = backbones.build("resnet18", (8, 8, 1), 10, width=4)
        >>> model = SearchModel(backbone, [Candidate("separable", (("depth", 1),))])
        >>> tuple(model.alpha.shape), tuple(model.beta.shape)
        ((7, 2), (7, 1))
    """

    def __init__(
        self,
        backbone: Backbone,
        candidates: Sequence[Candidate],
        inner_optimizer: InnerOptimizer | None = None,
        learning_rate: float | Callable[[Any], Any] = 0.1,
        smoothing: float = 0.1,
        through_statistics: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.supernet = Supernet(backbone, candidates, smoothing)
        check_derivatives(self.supernet.parts)
        self.parts = self.supernet.parts  # so that Keras tracks them
        self.inner_optimizer = inner_optimizer or InnerOptimizer()
        self.through_statistics = through_statistics
        cuts = self.supernet.num_units - 1
        self.alpha = self._variable("alpha", (cuts, 2))
        self.beta = self._variable("beta", (cuts, len(self.supernet.candidates)))
        self.velocity = self._variable("velocity", (self.supernet.weights.size,))
        self.step_in_phase = self._variable("step_in_phase", (), "int64")
        self._constant_rate = self._variable("learning_rate", ())
        self.learning_rate = learning_rate
        means = (*WEIGHT_METRICS, *OUTER_METRICS[:-1])
        self._own_metrics = [keras.metrics.Mean(name) for name in means]
        self._own_metrics.append(keras.metrics.Sum(OUTER_METRICS[-1]))
        self._traced: tuple = ()
        self.built = True

    def _variable(self, name: str, shape: tuple[int, ...], dtype: str | None = None):
        return self.add_weight(
            name=name, shape=shape, dtype=dtype, initializer="zeros", trainable=False
        )

    def compile(self, optimizer=None, **kwargs) -> None:
        """As `keras.Model.compile`; the optimizer is the architecture's.

        Args:
            optimizer: of alpha and beta; the paper's Adam(1e-2, beta_1=0.5) if None.
            **kwargs: passed on. XLA stays off: it cannot hold several devices, and its second
                derivative of max-pooling is wrong.

        Raises:
            UserError: for losses and metrics, since a search has its own, and for XLA.
        """
        if kwargs.pop("jit_compile", False) is True:
            raise UserError("jit_compile must be off in a search.")
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if kwargs.get(name) is not None:
                raise UserError(f"a search has its own losses and metrics; leave out {name}.")
        optimizer = optimizer or keras.optimizers.Adam(1e-2, beta_1=0.5)
        super().compile(optimizer=optimizer, jit_compile=False, **kwargs)
        optimizer.build([self.alpha, self.beta])

    def call(self, inputs, training: bool = False):
        """The backbone's logits."""
        return self.supernet.backbone(inputs, training=training)

    def begin_phase(self, learning_rate) -> None:
        """Starts a phase (pretraining or search) with its own learning rate or schedule."""
        self.learning_rate = learning_rate
        self.step_in_phase.assign(0)

    @property
    def learning_rate(self) -> float | Callable[[Any], Any]:
        """Of the weight updates; see the class."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: float | Callable[[Any], Any]) -> None:
        self._learning_rate = rate
        if not callable(rate):
            self._constant_rate.assign(rate)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Means over the epoch, and the sum of its skipped steps."""
        return list(self._own_metrics)

    def get_metrics_result(self) -> dict[str, Any]:
        """The epoch's metrics; a pretraining or an evaluation has only some of them."""
        means = [metric for metric in self.metrics if isinstance(metric, keras.metrics.Mean)]
        names = {m.name for m in means if keras.ops.convert_to_tensor(m.count) > 0}
        if "outer_accuracy" in names:
            names.update(OUTER_METRICS)
        return {metric.name: metric.result() for metric in self.metrics if metric.name in names}

    def _metric_named(self, name: str) -> keras.metrics.Metric:
        return next(metric for metric in self._own_metrics if metric.name == name)

    def fit(self, x: Any = None, *args, **kwargs) -> keras.callbacks.History:
        """As `keras.Model.fit`, without sample and class weights.

        Raises:
            UserError: if there are such weights, or the dataset is one that a strategy with
                several replicas would split wrongly; see the class.
        """
        if any(kwargs.get(name) is not None for name in ("sample_weight", "class_weight")):
            raise UserError(_NO_WEIGHTS)
        replicas = self.distribute_strategy.num_replicas_in_sync
        whole = isinstance(x, tf.data.Dataset) and isinstance(x.element_spec, dict)
        if replicas > 1 and whole:
            raise UserError(
                "fit would split the T + 1 batches of a step among the replicas; give it a "
                "dataset of strategy.distribute_datasets_from_function."
            )
        with process_settings(graph_optimizer=SEARCH_GRAPH_OPTIONS):
            return super().fit(x, *args, **kwargs)

    def make_train_function(self, force: bool = False) -> None:
        """As Keras', but traces anew if a setting in the traced step has changed."""
        schedule = self.learning_rate if callable(self.learning_rate) else None
        settings = (schedule, self.inner_optimizer, self.through_statistics)
        super().make_train_function(force or settings != self._traced)
        self._traced = settings

    @property
    def cut_probability(self) -> tf.Tensor:
        """`(L - 1,)`, p."""
        return tf.nn.softmax(self.alpha.value)[:, 0]

    @property
    def candidate_weights(self) -> tf.Tensor:
        """`(L - 1, M)`, b."""
        return tf.nn.softmax(self.beta.value)

    def variables_by_part(self) -> dict[str, list[keras.Variable]]:
        """Names for a person to all variables of a step, from the input up; alpha and beta last."""
        net, parts = self.supernet, {}
        for index, unit in enumerate(net.backbone.units):
            parts[f"unit {index + 1} ('{unit.name}')"] = unit.variables
            for auxiliary in net.auxiliaries[index] if index < net.num_units - 1 else ():
                parts[f"auxiliary net '{auxiliary.name}'"] = auxiliary.variables
        return parts | {
            "the head": net.backbone.head.variables,
            "alpha": [self.alpha],
            "beta": [self.beta],
        }

    def weight_variables(self) -> dict[str, Sequence[keras.Variable]]:
        """All that an inner step reads and writes, by kind: what a snapshot holds."""
        net = self.supernet
        return {
            "weights": net.weights.variables,
            "statistics": net.statistics.variables,
            "velocity": [self.velocity],
            "seeds": net.seeds,
        }

    def state_variables(self) -> dict[str, Sequence[keras.Variable]]:
        """All that a search needs to go on as if it had not been interrupted, by kind.

        What a step reads and draws beyond this is a function of the seed and the step.
        """
        return self.weight_variables() | {
            "alpha": [self.alpha],
            "beta": [self.beta],
            "optimizer": self.optimizer.variables,
        }

    def train_on_batch(self, *args, **kwargs):
        """As `keras.Model.train_on_batch`."""
        with process_settings(graph_optimizer=SEARCH_GRAPH_OPTIONS):
            return super().train_on_batch(*args, **kwargs)

    def train_step(self, data) -> dict[str, tf.Tensor]:
        """One step; returns this step's metrics."""
        logs = {}
        searching = isinstance(data, dict)
        if searching:
            data = {name: self._labelled(data[name]) for name in ("train", "validation")}
        else:
            data = self._labelled(data)
        with after_batch(data) as data:
            if searching:
                images, labels = data["train"]
                if images.shape[0] is not None and images.shape[0] < 2:
                    raise UserError(
                        f"train must hold T + 1 batches, at least 2. Received: {images.shape[0]}"
                    )
                logs = self._architecture_step((images[:-1], labels[:-1]), data["validation"])
                data = (images[-1], labels[-1])
            return {**self._weight_step(*data), **logs}

    def test_step(self, data) -> dict[str, tf.Tensor]:
        """The head's loss and accuracy, without auxiliary nets; `loss` is the outer loss."""
        images, labels = self._labelled(data)
        logits = self(images, training=False)
        values = {
            "loss": self.supernet.head_loss(logits, labels),
            "accuracy": _accuracy(logits, labels),
        }
        self._record(values, images)
        return values

    def _labelled(self, data) -> tuple[tf.Tensor, tf.Tensor]:
        """Images and class numbers of one batch, or of several in front."""
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        if weights is not None:
            raise UserError(_NO_WEIGHTS)
        if labels is None:
            raise UserError("a search needs labels. Received: none")
        shape = self.supernet.backbone.input_shape[1:]
        batches = images.shape.rank - len(shape)
        images = tf.ensure_shape(images, (*[None] * batches, *shape))
        if labels.shape.rank == batches + 1 and labels.shape[-1] == 1:
            labels = tf.squeeze(labels, -1)
        if labels.shape.rank != batches:
            raise UserError(
                f"labels must be class numbers {tuple(images.shape[:batches])}, not one-hot. "
                f"Received: {tuple(labels.shape)}"
            )
        return images, tf.cast(
            labels_in_range(labels, self.supernet.backbone.num_classes), tf.int32
        )

    def _record(self, values: Mapping[str, tf.Tensor], images: tf.Tensor) -> None:
        """Adds what a step measured to the epoch's metrics, by the number of its images."""
        for name, value in values.items():
            self._metric_named(name).update_state(value, sample_weight=tf.shape(images)[0])

    def _present(self) -> State:
        net = self.supernet
        seeds = tuple(tf.convert_to_tensor(seed.value) for seed in net.seeds)
        return State(net.weights.read(), net.statistics.read(), seeds)

    def _rate(self) -> tf.Tensor:
        rate = self.learning_rate
        if callable(rate):
            return rate(self.step_in_phase.value)
        return tf.convert_to_tensor(self._constant_rate.value)

    def _architecture_step(self, train, validation) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            alpha, beta = (tf.convert_to_tensor(logits.value) for logits in (self.alpha, self.beta))
            tape.watch([alpha, beta])
            cut_probability = tf.nn.softmax(alpha)[:, 0]
            candidate_weights = tf.nn.softmax(beta)
        result = hypergradient(
            self.supernet,
            self.inner_optimizer,
            self._present(),
            tf.convert_to_tensor(self.velocity.value),
            cut_probability,
            candidate_weights,
            train,
            validation,
            self._rate(),
            through_statistics=self.through_statistics,
            unrolled=_replicas() > 1,
            reduce_mean=_reduce_mean,
        )
        gradients = tape.gradient(
            [cut_probability, candidate_weights],
            [alpha, beta],
            output_gradients=[result.cut_probability, result.mixture],
        )
        finite = tf.reduce_all(
            [tf.reduce_all(tf.math.is_finite(each)) for each in (result.loss, *gradients)]
        )
        self._update_architecture(gradients, finite)
        accuracy = _reduce_mean([_accuracy(result.logits, validation[1])])[0]
        one = tf.ones_like(result.loss)
        images = tf.shape(validation[0])[0]
        self._metric_named("outer_loss").update_state(
            tf.where(finite, result.loss, 0.0), sample_weight=tf.where(finite, images, 0)
        )
        self._metric_named("outer_accuracy").update_state(accuracy, sample_weight=images)
        skipped = tf.where(finite, 0.0 * one, one)
        self._metric_named("skipped_steps").update_state(skipped / _replicas())  # it adds them up
        return {
            "outer_loss": tf.where(finite, result.loss, np.nan),
            "outer_accuracy": accuracy,
            "skipped_steps": skipped,
        }

    def _update_architecture(self, gradients: Sequence[tf.Tensor], finite: tf.Tensor) -> None:
        """One step of the architecture's optimizer, taken back unless `finite`."""
        logits = [self.alpha, self.beta]
        variables = [*self.optimizer.variables, *logits]
        before = [tf.identity(variable.value) for variable in variables]
        if _replicas() > 1:
            # `apply` clips on each replica and then adds up; gradients are equal on all by now.
            gradients = [g / _replicas() for g in _clipped(self.optimizer, gradients)]
        self.optimizer.apply(gradients, logits)
        after = [tf.identity(variable.value) for variable in variables]
        _assign(variables, [tf.where(finite, *pair) for pair in zip(after, before, strict=True)])

    def _weight_step(self, images, labels) -> dict[str, tf.Tensor]:
        net, state = self.supernet, self._present()
        field = relaxed_field(
            net, state, self.cut_probability, self.candidate_weights, images, labels
        )
        gradients, statistics, losses, accuracy = _reduce_mean(
            [field.gradients, field.statistics, field.losses, _accuracy(field.logits, labels)]
        )
        rate = tf.cast(self._rate(), state.weights.dtype)
        weights, velocity = self.inner_optimizer.step(
            state.weights, tf.convert_to_tensor(self.velocity.value), gradients, rate
        )
        _assign(
            [*net.weights.variables, *net.statistics.variables, *net.seeds, self.velocity],
            [
                *net.weights.split(weights),
                *net.statistics.split(statistics),
                *field.seeds,
                velocity,
            ],
        )
        _assign([self.step_in_phase], [self.step_in_phase.value + 1])
        values = {
            "loss": losses[-1],
            "local_loss": tf.reduce_mean(losses[:-1]),
            "accuracy": accuracy,
        }
        self._record(values, images)
        return values

    def get_config(self) -> dict[str, Any]:
        rate = self.learning_rate
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "backbone": serialize(self.supernet.backbone),
            "candidates": [candidate.to_dict() for candidate in self.supernet.candidates],
            "inner_optimizer": dataclasses.asdict(self.inner_optimizer),
            "learning_rate": serialize(rate) if callable(rate) else float(rate),
            "smoothing": self.supernet.smoothing,
            "through_statistics": self.through_statistics,
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects=None) -> SearchModel:
        config, load = dict(config), keras.saving.deserialize_keras_object
        rate = config["learning_rate"]
        return cls(
            load(config.pop("backbone"), custom_objects=custom_objects),
            candidates_from(config.pop("candidates")),
            InnerOptimizer(**config.pop("inner_optimizer")),
            **{
                **config,
                "learning_rate": load(rate, custom_objects) if isinstance(rate, dict) else rate,
            },
        )

    def _own_variables(self) -> list[keras.Variable]:
        own = [self.alpha, self.beta, self.velocity, self.step_in_phase, self._constant_rate]
        return [*own, *self.supernet.seeds]

    def save_own_variables(self, store) -> None:
        """As Keras', and the states of random generators, which Keras leaves out."""
        for index, variable in enumerate(self._own_variables()):
            store[str(index)] = variable.numpy()

    def load_own_variables(self, store) -> None:
        """Reads what `save_own_variables` wrote."""
        for index, variable in enumerate(self._own_variables()):
            variable.assign(store[str(index)])

    def compile_from_config(self, config: dict) -> None:
        """Compiles as the saved model was; part of `keras.models.load_model`."""
        self.compile(**keras.saving.deserialize_keras_object(config))


def _accuracy(logits, labels) -> tf.Tensor:
    hits = tf.equal(tf.argmax(logits, -1, labels.dtype), labels)
    return tf.reduce_mean(tf.cast(hits, logits.dtype))


def _clipped(
    optimizer: keras.optimizers.Optimizer, gradients: Sequence[tf.Tensor]
) -> Sequence[tf.Tensor]:
    """Gradients, clipped as the optimizer's one clipping option says."""
    if optimizer.clipnorm:
        return [tf.clip_by_norm(gradient, optimizer.clipnorm) for gradient in gradients]
    if optimizer.global_clipnorm:
        return tf.clip_by_global_norm(gradients, optimizer.global_clipnorm)[0]
    if optimizer.clipvalue:
        limit = optimizer.clipvalue
        return [tf.clip_by_value(gradient, -limit, limit) for gradient in gradients]
    return gradients


def _replicas() -> int:
    return tf.distribute.get_strategy().num_replicas_in_sync


def _reduce_mean(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    if _replicas() == 1:
        return tensors
    context = tf.distribute.get_replica_context()
    present = [tensor for tensor in tensors if tensor is not None]
    reduced = iter(context.all_reduce(tf.distribute.ReduceOp.MEAN, present))
    return [None if tensor is None else next(reduced) for tensor in tensors]


def _assign(variables: Sequence[keras.Variable], values: Sequence[tf.Tensor]) -> None:
    """Assigns values that are equal on all replicas."""
    if _replicas() == 1:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return

    def update(strategy, values):
        for variable, value in zip(variables, values, strict=True):
            strategy.extended.update(
                variable.value, lambda target, new: target.assign(new), args=(value,)
            )

    tf.distribute.get_replica_context().merge_call(update, args=(list(values),))
