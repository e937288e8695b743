"""When weights go into the pool."""

from __future__ import annotations

import pytest

from sedona_tf.bilevel.snapshots import SnapshotPool


@pytest.mark.parametrize(
    ("capacity", "steps", "times"),
    [
        (4, 12, [3, 6, 9, 12]),
        (5, 12, [2, 5, 7, 10, 12]),
        (3, 2, [1, 2]),
        (1, 9, [9]),
    ],
)
def test_spread_evenly_without_the_initial_weights(capacity, steps, times, tmp_path):
    """The initial weights have moving statistics without data, and an outer loss to match."""
    pool = SnapshotPool(tmp_path / "snapshots", capacity)
    assert [step for step in range(steps + 1) if pool.due(step, steps)] == times
