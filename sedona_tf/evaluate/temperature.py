"""Temperature scaling: one number that makes a classifier's probabilities honest."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

__all__ = ["TEMPERATURES", "fit_temperature", "negative_log_likelihood"]

TEMPERATURES = (0.05, 20.0)
"""Where temperatures are looked for.

There is no best one for a classifier that is never wrong on the validation set (the lower the
better) or that is worse than chance on it (the higher the better).
"""


def negative_log_likelihood(
    logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0
) -> float:
    """Mean of `-log softmax(logits / temperature)[label]`, in nats.

    Args:
        logits: `(N, classes)`.
        labels: `(N,)` integers in `[0, classes)`.
        temperature: positive.
    """
    margins = np.asarray(logits, np.float64)
    margins = margins - margins[np.arange(len(labels)), labels, None]
    return float(np.mean(logsumexp(margins / temperature, axis=1)))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of least negative log likelihood (Guo et al., ICML 2017, section 4.2).

    The likelihood is convex in 1 / temperature, so there is one minimum, found to about 1e-5 of
    its value.

    Args:
        logits: `(N, classes)`, of images that the classifier was not trained on.
        labels: `(N,)` integers in `[0, classes)`.

    Returns:
        A number in `TEMPERATURES`; exactly 1 where nothing found is better than that.

    Example: of three alike, two are right, so softmax should give 2/3.
        >>> logits = np.array([[4.0, 0.0]] * 3)
        >>> temperature = fit_temperature(logits, np.array([0, 0, 1]))
        >>> round(1 / (1 + math.exp(-4 / temperature)), 4)
        0.6667
    """

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(logits, labels, math.exp(log_temperature))

    bounds = tuple(map(math.log, TEMPERATURES))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return math.exp(found.x) if found.fun < loss(0.0) else 1.0
