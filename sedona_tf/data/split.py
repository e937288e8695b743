"""Class-stratified choices of examples."""

from __future__ import annotations

import numpy as np

from sedona_tf.errors import UserError

__all__ = ["bilevel_split", "stratified_subset"]


def bilevel_split(
    labels: np.ndarray, fraction: float = 0.4, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Splits the examples into those of the inner steps and those of the outer loss.

    Of a class with `count` examples, `round(fraction * count)` go to validation; a class with at
    least two examples keeps at least one on each side.

    Args:
        labels: integers `(N,)`.
        fraction: of each class that goes to validation, in `(0, 1)`.
        seed: of the choice within each class.

    Returns:
        `(train_indices, validation_indices)`, int64, each sorted; together `0 .. N - 1`.

    Raises:
        UserError: `fraction` is not in `(0, 1)`.

    Example:
        >>> train, validation = bilevel_split(np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1]))
        >>> train.size, validation.size
        (6, 4)
    """
    if not 0 < fraction < 1:
        raise UserError(f"fraction must lie between 0 and 1, both excluded. Received: {fraction}.")
    classes, counts = np.unique(labels, return_counts=True)
    takes = np.array([round(fraction * int(count)) for count in counts], np.int64)
    takes = np.where(counts >= 2, np.clip(takes, 1, np.maximum(counts - 1, 1)), takes)
    validation = _choose(labels, classes, takes, seed)
    return np.setdiff1d(np.arange(len(labels)), validation), validation


def stratified_subset(labels: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Chooses `count` examples in the proportions of the classes (largest remainders).

    Args:
        labels: integers `(N,)`.
        count: of examples to keep; all are kept where there are no more.
        seed: of the choice within each class.

    Returns:
        Sorted int64 indices `(min(count, N),)`.
    """
    if count >= len(labels):
        return np.arange(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    takes, remainders = np.divmod(counts * count, len(labels))
    largest_first = np.argsort(-remainders, kind="stable")
    takes[largest_first[: count - takes.sum()]] += 1
    return _choose(labels, classes, takes, seed)


def _choose(labels: np.ndarray, classes: np.ndarray, takes: np.ndarray, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    chosen = [
        random.permutation(np.flatnonzero(labels == one))[:take]
        for one, take in zip(classes, takes, strict=True)
    ]
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)
