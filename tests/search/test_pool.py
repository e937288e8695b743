"""When weights go into the pool."""

from __future__ import annotations

import numpy as np
import pytest

from sedona_tf.errors import UserError
from sedona_tf.search.pool import SnapshotPool


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


def test_files_come_and_go(tmp_path):
    pool = SnapshotPool(tmp_path / "snapshots", 2)
    for step in (3, 6):
        pool.add({"weights": np.full(2, step)}, step)
    pool.replace(1, {"weights": np.full(2, 9)}, 12)
    assert pool.files == ["pretraining-00000003.npz", "search-00000012.npz"]
    assert [pool.load(slot)["weights"].tolist() for slot in (0, 1)] == [[3, 3], [9, 9]]
    with pytest.raises(UserError, match="pretraining-00000006.npz"):  # no checkpoint holds it
        pool.check([*pool.files, "pretraining-00000006.npz"])
    pool.protect(pool.files)
    pool.replace(1, {"weights": np.full(2, 8)}, 13)
    pool.check(["search-00000012.npz"])
    pool.protect([])
    foreign = ["._search-00000012.npz", "search-00000012 (1).npz", "search-old.npz", "notes.npz"]
    for name in foreign:
        (pool.folder / name).write_text("")
    pool.collect()
    assert sorted(path.name for path in pool.folder.iterdir()) == sorted([*pool.files, *foreign])
    with pytest.raises(UserError, match="search-00000012.npz"):
        pool.check(["search-00000012.npz"])


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_pool_holds_at_least_one(capacity, tmp_path):
    with pytest.raises(UserError, match="snapshots"):
        SnapshotPool(tmp_path / "snapshots", capacity)
    assert not (tmp_path / "snapshots").exists()
