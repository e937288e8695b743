"""Losses and metrics that expect probabilities, for heads that give logits.

`Backbone.from_keras` leaves out a model's final softmax, and this package's backbones have none.
The losses and metrics that the model's owner compiles with keep their meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from sedona_tf.errors import UserError

__all__ = ["adapted_loss", "adapted_metrics", "link_of"]

_losses, _metrics = keras.losses, keras.metrics
_BINARY: Any = (_losses.BinaryCrossentropy, _losses.BinaryFocalCrossentropy)
_CATEGORICAL: Any = (
    _losses.CategoricalCrossentropy,
    _losses.CategoricalFocalCrossentropy,
    _losses.SparseCategoricalCrossentropy,
)
_CLASS_OF = {
    _losses.binary_crossentropy: _losses.BinaryCrossentropy,
    _losses.binary_focal_crossentropy: _losses.BinaryFocalCrossentropy,
    _losses.categorical_crossentropy: _losses.CategoricalCrossentropy,
    _losses.categorical_focal_crossentropy: _losses.CategoricalFocalCrossentropy,
    _losses.sparse_categorical_crossentropy: _losses.SparseCategoricalCrossentropy,
}
_OF_PROBABILITIES = (
    _metrics.AUC,
    _metrics.BinaryAccuracy,
    _metrics.BinaryCrossentropy,
    _metrics.CategoricalCrossentropy,
    _metrics.F1Score,
    _metrics.FBetaScore,
    _metrics.FalseNegatives,
    _metrics.FalsePositives,
    _metrics.KLDivergence,
    _metrics.Precision,
    _metrics.PrecisionAtRecall,
    _metrics.Recall,
    _metrics.RecallAtPrecision,
    _metrics.SensitivityAtSpecificity,
    _metrics.SparseCategoricalCrossentropy,
    _metrics.SpecificityAtSensitivity,
    _metrics.TrueNegatives,
    _metrics.TruePositives,
)
"""Metrics that mean nothing on logits."""

_BY_ORDER = (
    _metrics.CategoricalAccuracy,
    _metrics.SparseCategoricalAccuracy,
    _metrics.TopKCategoricalAccuracy,
    _metrics.SparseTopKCategoricalAccuracy,
)
"""Metrics that depend on the order of a sample's scores only; probabilities have the same."""


@keras.saving.register_keras_serializable(package="sedona_tf")
class ProbabilityLoss(keras.losses.Loss):
    """A loss of probabilities, given logits.

    Args:
        loss: takes probabilities.
        link: `"softmax"` or `"sigmoid"`, the function from logits to probabilities.
    """

    def __init__(self, loss: Any, link: str, name: str | None = None) -> None:
        inner = keras.losses.get(loss)
        reduction = getattr(inner, "reduction", "sum_over_batch_size")
        super().__init__(name=name or "probability_loss", reduction=reduction)
        self.inner = inner
        self.link = link

    def call(self, y_true, y_pred):
        """The inner loss of every sample."""
        probabilities = keras.activations.get(self.link)(y_pred)
        return getattr(self.inner, "call", self.inner)(y_true, probabilities)

    def get_config(self) -> dict:
        return {
            "loss": keras.losses.serialize(self.inner),
            "link": self.link,
            "name": self.name,
        }


@keras.saving.register_keras_serializable(package="sedona_tf")
class ProbabilityMetric(keras.metrics.Metric):
    """A metric of probabilities, given logits.

    Args:
        metric: takes probabilities.
        link: see `ProbabilityLoss`.
        name: by default the metric's.
    """

    def __init__(self, metric: keras.metrics.Metric, link: str, name: str | None = None) -> None:
        if isinstance(metric, dict):
            metric = keras.saving.deserialize_keras_object(metric)
        super().__init__(name=name or metric.name, dtype=metric.dtype)
        self.inner = metric
        self.link = link

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch."""
        probabilities = keras.activations.get(self.link)(y_pred)
        return self.inner.update_state(y_true, probabilities, sample_weight=sample_weight)

    def result(self):
        """As the inner metric's."""
        return self.inner.result()

    def reset_state(self) -> None:
        """Begins anew."""
        self.inner.reset_state()

    @property
    def variables(self) -> list:
        """The inner metric's."""
        return self.inner.variables

    def get_config(self) -> dict:
        metric = keras.saving.serialize_keras_object(self.inner)
        return {"metric": metric, "link": self.link, "name": self.name}


def _is_of_keras(thing: Any) -> bool:
    kind = thing if callable(thing) and hasattr(thing, "__name__") else type(thing)
    return str(getattr(kind, "__module__", "")).split(".")[0] == "keras"


def adapted_loss(loss: Any, removed: str | None) -> Any:
    """A loss of logits with the meaning that the given one has for probabilities.

    Cross entropies of Keras take logits (`from_logits=True`), which is also more accurate. If a
    softmax was left out, Keras' other losses get the softmax of the logits. All other losses, a
    user's own included, are called with logits.

    Args:
        loss: as given to `compile`: a name, a function, a Keras loss.
        removed: `"softmax"` if one was left out at the end of the model, else None.
    """
    loss = keras.losses.get(loss)
    if callable(loss) and loss in _CLASS_OF:
        loss = _CLASS_OF[loss]()
    # A subclass has code of its own, and is called with logits.
    if type(loss) in _CATEGORICAL or (type(loss) in _BINARY and removed is None):
        config = loss.get_config()
        return loss if config["from_logits"] else type(loss)(**{**config, "from_logits": True})
    if removed and _is_of_keras(loss) and not getattr(loss, "from_logits", False):
        return ProbabilityLoss(loss, removed)
    return loss


def link_of(loss: Any, num_classes: int) -> str:
    """The function from logits to probabilities: a sigmoid if scores are independent."""
    return "sigmoid" if num_classes == 1 or isinstance(loss, _BINARY) else "softmax"


def adapted_metrics(metrics: Any, link: str, num_classes: int, removed: str | None) -> Any:
    """Metrics of logits that mean what the given ones mean of probabilities.

    Where a softmax was left out, Keras' own metrics get probabilities, except those that only look
    at the order of the scores. For a model that ended in logits, those get them that mean nothing
    else. Metrics that are told to expect logits, and those of one's own, are called with logits.

    Args:
        metrics: as given to `compile`: None, one, or a list.
        link: see `link_of`.
        num_classes: number of logits.
        removed: see `adapted_loss`.

    Raises:
        UserError: for `"crossentropy"`, which Keras would look up by the labels' shape.
    """
    if metrics is None:
        return None
    if isinstance(metrics, list | tuple):
        return [adapted_metrics(each, link, num_classes, removed) for each in metrics]
    if metrics in ("accuracy", "acc"):
        if num_classes > 1:
            return metrics
        return ProbabilityMetric(_metrics.BinaryAccuracy(name=metrics), link)
    if metrics in ("crossentropy", "ce"):
        raise UserError(
            f"metric '{metrics}' does not say which cross entropy it is; give one by its class, "
            "such as keras.metrics.SparseCategoricalCrossentropy(from_logits=True)."
        )
    name = metrics if isinstance(metrics, str) else None
    metric: Any = _metrics.get(metrics) if name or isinstance(metrics, type) else metrics
    if isinstance(metric, ProbabilityMetric) or not _is_of_keras(metric):
        return metrics
    wanted = removed is not None or metric in _CLASS_OF or isinstance(metric, _OF_PROBABILITIES)
    if isinstance(metric, _metrics.BinaryAccuracy) and not removed and metric.threshold <= 0:
        wanted = False
    if not isinstance(metric, keras.metrics.Metric):
        function: Callable = metric
        metric = _metrics.MeanMetricWrapper(function, name=name or function.__name__)
    if not wanted or isinstance(metric, _BY_ORDER) or _takes_logits(metric):
        return metrics
    return ProbabilityMetric(metric, link, name)


def _takes_logits(metric: keras.metrics.Metric) -> bool:
    return bool(metric.get_config().get("from_logits", getattr(metric, "from_logits", False)))
