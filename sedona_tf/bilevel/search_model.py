"""SearchModel: alternates weight and architecture updates under `model.fit`."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from sedona_tf.auxiliary import Candidate
from sedona_tf.backbones import Backbone
from sedona_tf.bilevel.differentiable import check_derivatives
from sedona_tf.bilevel.field import State, relaxed_field
from sedona_tf.bilevel.hypergradient import hypergradient
from sedona_tf.bilevel.inner_optimizer import InnerOptimizer
from sedona_tf.bilevel.supernet import Supernet
from sedona_tf.process_settings import SEARCH, process_settings

__all__ = ["SearchModel"]


class SearchModel(keras.Model):
    """A supernet that learns where to cut (paper, algorithm 1).

    What `fit` feeds decides what a step does:

    - `(images, labels)`: one ordinary training step of the supernet (pretraining);
    - `{"train": (images, labels), "validation": (images, labels)}`, the training part with T + 1
      batches in front, `(T + 1, batch, ...)`: an architecture step through T inner steps, whose
      results are thrown away, then one ordinary training step on the last batch.

    `fit` and `train_on_batch` run without TensorFlow's graph optimizer, see `SEARCH`.

    Args:
        backbone: the network to decouple.
        candidates: auxiliary networks on offer.
        inner_optimizer: rule of the weight updates.
        learning_rate: of the weight updates: a number or a schedule of the step in the phase.
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
        learning_rate=0.1,
        smoothing: float = 0.1,
        through_statistics: bool = True,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.supernet = Supernet(backbone, candidates, smoothing)
        check_derivatives(self.supernet.parts)
        self.parts = self.supernet.parts  # so that Keras tracks them
        self.inner_optimizer = inner_optimizer or InnerOptimizer()
        self.learning_rate = learning_rate
        self.through_statistics = through_statistics
        cuts = self.supernet.num_units - 1
        self.alpha = self._variable("alpha", (cuts, 2))
        self.beta = self._variable("beta", (cuts, len(self.supernet.candidates)))
        self.velocity = self._variable("velocity", (self.supernet.weights.size,))
        self.step_in_phase = self._variable("step_in_phase", (), "int64")
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
        """
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
        self.train_function = None

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

    def fit(self, *args, **kwargs):
        """As `keras.Model.fit`."""
        with process_settings(graph_optimizer=SEARCH):
            return super().fit(*args, **kwargs)

    def train_on_batch(self, *args, **kwargs):
        """As `keras.Model.train_on_batch`."""
        with process_settings(graph_optimizer=SEARCH):
            return super().train_on_batch(*args, **kwargs)

    def train_step(self, data) -> dict[str, tf.Tensor]:
        """One step; returns this step's metrics."""
        logs = {}
        if isinstance(data, dict):
            images, labels = data["train"]
            logs = self._architecture_step((images[:-1], labels[:-1]), data["validation"])
            data = (images[-1], labels[-1])
        return {**self._weight_step(*data), **logs}

    def _present(self) -> State:
        net = self.supernet
        seeds = tuple(tf.convert_to_tensor(seed.value) for seed in net.seeds)
        return State(net.weights.read(), net.statistics.read(), seeds)

    def _rate(self) -> tf.Tensor:
        rate = self.learning_rate
        return rate(self.step_in_phase.value) if callable(rate) else tf.constant(rate)

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
        # `apply` adds up over replicas, which hold equal gradients by now.
        self.optimizer.apply([g / _replicas() for g in gradients], [self.alpha, self.beta])
        accuracy = _accuracy(result.logits, validation[1])
        return {"outer_loss": result.loss, "outer_accuracy": _reduce_mean([accuracy])[0]}

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
        return {
            "loss": losses[-1],
            "local_loss": tf.reduce_mean(losses[:-1]),
            "accuracy": accuracy,
        }

    def snapshot(self) -> dict[str, np.ndarray]:
        """All that an inner step reads and writes, as arrays."""
        state = self._present()
        seeds = {f"seed_{index}": seed.numpy() for index, seed in enumerate(state.seeds)}
        return {
            "weights": state.weights.numpy(),
            "statistics": state.statistics.numpy(),
            "velocity": tf.convert_to_tensor(self.velocity.value).numpy(),
            **seeds,
        }

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Sets what `snapshot` read."""
        net = self.supernet
        for packing, name in ((net.weights, "weights"), (net.statistics, "statistics")):
            values = packing.split(tf.constant(snapshot[name]))
            for variable, value in zip(packing.variables, values, strict=True):
                variable.assign(value)
        self.velocity.assign(snapshot["velocity"])
        for index, seed in enumerate(net.seeds):
            seed.assign(snapshot[f"seed_{index}"])


def _accuracy(logits, labels) -> tf.Tensor:
    hits = tf.equal(tf.argmax(logits, -1, labels.dtype), labels)
    return tf.reduce_mean(tf.cast(hits, logits.dtype))


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
