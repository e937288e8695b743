"""Checkpoints and snapshots on disk: what is kept, and what damage does."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import random
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest
from robustness.tripwire import Tripwire

from sedona_tf.errors import UserError
from sedona_tf.files import remove_partial
from sedona_tf.runs.arrays import read_arrays, write_arrays
from sedona_tf.runs.checkpoints import CheckpointStore, Position
from sedona_tf.search.pool import SnapshotPool

ARRAYS = {
    "weights": np.linspace(0, 1, 50, dtype="float32"),
    "model/seed_0": np.array([1, 2], "uint32"),
    "history/steps": np.zeros((0,), "int64"),
    "scalar": np.float64(0.1),
}


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(
        np.array_equal(left[name], right[name]) and left[name].dtype == right[name].dtype
        for name in left
    )


def test_arrays_read_back_also_with_numpy(tmp_path):
    write_arrays(tmp_path / "a.npz", ARRAYS)
    assert same(read_arrays(tmp_path / "a.npz"), ARRAYS)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as plain:
        assert same(dict(plain), ARRAYS)


def test_truncation_and_flipped_bits_are_seen(tmp_path):
    """On a file of about a kilobyte, so that names, shapes and the archive's index are hit too."""
    path, rng = tmp_path / "a.npz", random.Random(0)
    write_arrays(path, ARRAYS)
    data = path.read_bytes()
    lengths = {0, 1, 31, 32, 33, len(data) - 33, len(data) - 32, len(data) - 1}
    lengths |= set(rng.sample(range(len(data)), 100))
    damaged = [data[:length] for length in sorted(lengths)]
    damaged += [data + b"\0", data[:200] + data[201:], bytes(len(data))]
    for bit in rng.sample(range(8 * len(data)), 600):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << (bit % 8)
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(UserError, match="is damaged"):
            read_arrays(path)


class Trap:
    """Unpickling it would raise an error of its own."""

    def __reduce__(self):
        return exec, ("raise AssertionError('code from the file was run')",)


def saved(save, *arguments, **options) -> bytes:
    file = io.BytesIO()
    save(file, *arguments, **options)
    return file.getvalue()


FOREIGN = {
    "pickled array": saved(np.savez, weights=np.array([Trap()], object)),
    "pickle": pickle.dumps(Trap()),
    "plain array": saved(np.save, np.zeros(3)),
    "nothing": b"",
    "text": b"weights",
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_holds_no_arrays_is_refused_under_a_right_checksum_and_runs_nothing(case, tmp_path):
    path = tmp_path / "a.npz"
    if case == "pickled array":  # zip files end in a comment: here, as always, the checksum
        path.write_bytes(FOREIGN[case])
        with zipfile.ZipFile(path, "a") as archive:
            archive.comment = bytes(32)
        content = path.read_bytes()[:-32]
    else:
        content = FOREIGN[case]
    path.write_bytes(content + hashlib.sha256(content).digest())
    with pytest.raises(UserError, match=r"a\.npz is not a file of arrays") as error:
        read_arrays(path)
    assert "\n" not in str(error.value)
    assert ("pickle" in str(error.value)) == (case == "pickled array")


def test_any_bits_under_a_right_checksum_are_read_or_refused(tmp_path):
    path, rng = tmp_path / "a.npz", random.Random(1)
    write_arrays(path, ARRAYS)
    data = path.read_bytes()[:-32]
    refused = 0
    for bit in rng.sample(range(8 * len(data)), 400):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(bytes(flipped) + hashlib.sha256(flipped).digest())
        try:
            read_arrays(path)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("head", [b"[]", b"3", b"{}", b'{"phase": "search", "step": 1}', b"{"])
def test_a_position_that_is_none_is_refused(head, tmp_path):
    position = np.frombuffer(head, np.uint8)
    write_arrays(tmp_path / "search-00000001.npz", {"position": position})
    with pytest.raises(UserError, match="is not a checkpoint of such a run"):
        CheckpointStore(tmp_path).read()


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_arrays(tmp_path / "a.npz")
    with pytest.raises(UserError, match="cannot be read"):
        read_arrays(tmp_path)


class Run:
    """A stand-in for a search: each step replaces one of three snapshots."""

    def __init__(self, folder: Path) -> None:
        self.pool = SnapshotPool(folder / "snapshots", 3)
        self.store = CheckpointStore(folder / "checkpoints", self.pool)

    def fill(self) -> Run:
        for step in range(3):
            self.pool.add({"weights": np.full(100, step)}, step)
        self.store.write(Position("pretraining", 2), {"alpha": np.zeros(4)})
        return self

    def steps(self, first: int, last: int) -> None:
        for step in range(first, last + 1):
            self.pool.replace(step % 3, {"weights": np.full(100, 10.0 * step)}, step)

    def save(self, step: int) -> None:
        self.store.write(Position("search", step), {"alpha": np.full(4, step)})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[random.Random(0).randrange(len(data))] ^= 4
    path.write_bytes(data)


def test_keeps_two_and_the_snapshots_of_both(tmp_path):
    run = Run(tmp_path).fill()
    run.steps(1, 2)
    run.save(2)
    run.steps(3, 3)
    run.save(3)
    assert names(tmp_path / "checkpoints") == ["search-00000002.npz", "search-00000003.npz"]
    assert names(tmp_path / "snapshots") == [
        "pretraining-00000000.npz",  # of the checkpoint at step 2 only
        *(f"search-0000000{step}.npz" for step in (1, 2, 3)),
    ]
    run.save(3)  # the end of a phase may save a step again
    assert names(tmp_path / "checkpoints") == ["search-00000002.npz", "search-00000003.npz"]


def test_the_disk_holds_at_most_three_times_the_capacity(tmp_path):
    """99 steps with a checkpoint every 33 once left 104 files; the most is while one is written."""
    pool = SnapshotPool(tmp_path / "snapshots", 5)
    store = CheckpointStore(tmp_path / "checkpoints", pool)
    rng, most = np.random.default_rng(0), 0
    for step in range(1, 6):
        pool.add({"weights": np.zeros(3)}, step)
    store.write(Position("pretraining", 5), {})
    for step in range(1, 100):
        pool.replace(int(rng.integers(5)), {"weights": np.full(3, step)}, step)
        most = max(most, len(names(pool.folder)))
        if step % 33 == 0:
            store.write(Position("search", step), {})
        if step == 40:  # killed and resumed: what the lost steps wrote goes too
            pool = SnapshotPool(tmp_path / "snapshots", 5)
            store = CheckpointStore(tmp_path / "checkpoints", pool)
            assert store.read()[0] == ("search", 33)
    assert most == 15
    for slot in range(5):
        assert pool.load(slot)["weights"].shape == (3,)


def test_what_has_another_name_is_neither_read_nor_deleted(tmp_path, caplog):
    run = Run(tmp_path).fill()
    run.steps(1, 1)
    run.save(1)
    folder = tmp_path / "checkpoints"
    newest = (folder / "search-00000001.npz").read_bytes()
    foreign = ["search-old.npz", "._search-00000002.npz", "search-00000002 (1).npz", "search-2.npz"]
    for name in foreign:
        (folder / name).write_bytes((folder / "pretraining-00000002.npz").read_bytes())
    (folder / "search-00000009.npz").write_bytes(newest)  # and one that says otherwise inside
    resumed = Run(tmp_path)
    assert resumed.store.read()[0] == ("search", 1)
    assert "search-00000009.npz holds search step 1" in caplog.text
    resumed.steps(2, 3)
    resumed.save(3)
    ours = ["search-00000001.npz", "search-00000003.npz"]
    assert names(folder) == sorted([*foreign, "search-00000009.npz", *ours])
    assert (folder / "search-00000009.npz").read_bytes() == newest
    assert resumed.store.read()[0] == ("search", 3)


@pytest.mark.parametrize("which", ["checkpoints/search-00000004.npz", "snapshots/search-*4.npz"])
@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_falls_back_to_the_predecessor(tmp_path, caplog, which, how):
    run = Run(tmp_path).fill()
    run.steps(1, 2)
    run.save(2)
    before = list(run.pool.files)
    run.steps(3, 4)
    run.save(4)
    (path,) = tmp_path.glob(which)
    damage(path) if how == "damaged" else path.unlink()

    resumed = Run(tmp_path)
    position, arrays = resumed.store.read()
    assert position == ("search", 2) and np.all(arrays["alpha"] == 2)
    assert resumed.pool.files == before
    lines = list(caplog.messages)
    caplog.clear()
    if which.startswith("checkpoints") and how == "missing":
        assert lines == []  # nothing says that there was one
    else:
        assert len(lines) == 1 and str(path) in lines[0]
        assert "Going on from search step 2" in lines[0]

    resumed.steps(3, 3)
    resumed.save(3)  # the good predecessor stays, the damaged one goes
    assert names(tmp_path / "checkpoints") == ["search-00000002.npz", "search-00000003.npz"]
    position, _ = Run(tmp_path).store.read()
    assert position == ("search", 3) and not caplog.messages


def test_a_snapshot_of_both_checkpoints_is_read_once(tmp_path, monkeypatch):
    pool = SnapshotPool(tmp_path / "snapshots", 2)
    store = CheckpointStore(tmp_path / "checkpoints", pool)
    for step in (1, 2):
        pool.add(ARRAYS, step)
    store.write(Position("search", 1), ARRAYS)
    pool.replace(0, ARRAYS, 2)
    store.write(Position("search", 2), ARRAYS)
    read = []
    monkeypatch.setattr("sedona_tf.search.pool.read_arrays", lambda path: read.append(path.name))
    position, _ = CheckpointStore(store.folder, SnapshotPool(pool.folder, 2)).read()
    names = ("search-00000002", "pretraining-00000002", "pretraining-00000001")
    assert position.step == 2 and read == [f"{name}.npz" for name in names]


def test_refuses_when_both_are_damaged(tmp_path):
    run = Run(tmp_path).fill()
    run.steps(1, 1)
    run.save(1)
    for path in (tmp_path / "checkpoints").iterdir():
        damage(path)
    with pytest.raises(UserError, match="pretraining-00000002.npz is damaged") as error:
        Run(tmp_path).store.read()
    assert "search-00000001.npz is damaged" in str(error.value)
    assert "\n" not in str(error.value)


def test_no_checkpoint_yet(tmp_path):
    assert Run(tmp_path).store.read() is None


def test_newer_after_older_survive_a_second_resume(tmp_path):
    run = Run(tmp_path).fill()
    run.steps(1, 1)
    run.save(1)
    again = Run(tmp_path)
    again.store.read()
    again.save(1)  # a finished run that is resumed saves where it stands
    assert names(tmp_path / "checkpoints") == ["pretraining-00000002.npz", "search-00000001.npz"]


@contextlib.contextmanager
def largest_file(size: int):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_failed_write_leaves_all_as_it_was(tmp_path):
    run = Run(tmp_path).fill()
    run.steps(1, 1)
    run.save(1)
    before = [names(tmp_path / folder) for folder in ("checkpoints", "snapshots")]
    for size in (0, 1, 100, 400):
        with largest_file(size):
            with pytest.raises(UserError, match="cannot write .*search-00000002"):
                run.save(2)
            with pytest.raises(UserError, match="cannot write .*search-00000002"):
                run.steps(2, 2)
        assert [names(tmp_path / folder) for folder in ("checkpoints", "snapshots")] == before
        assert Run(tmp_path).store.read()[0] == ("search", 1)


def killed(folder: Path, number: int) -> bool:
    """Goes from step 2 to step 6 in a process that dies in its n-th operation on a file."""
    run = Run(folder)
    run.store.read()
    child = os.fork()
    if child == 0:
        try:
            Tripwire(folder, number=number)
            run.steps(3, 6)  # the last replaces a snapshot that no checkpoint refers to
            run.save(6)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_killed_inside_any_operation_goes_on_alike(tmp_path, caplog):
    """SIGKILL in each operation on a file from one checkpoint to the next, in one after another.

    What a resumed run reads is all of step 2 or all of step 6, never a step back, and going on
    from there ends in the files of an undisturbed run.
    """

    def begin(name: str) -> Path:
        run = Run(tmp_path / name).fill()
        run.steps(1, 2)
        run.save(2)
        return tmp_path / name

    undisturbed, found, number = begin("undisturbed"), [], 1
    assert not killed(undisturbed, number=0)
    while killed(folder := begin(f"killed_{number}"), number):
        for inner in ("snapshots", "checkpoints"):
            remove_partial(folder / inner)
        run = Run(folder)
        (_, step), arrays = run.store.read()
        weights = {2: [0, 10, 20], 6: [60, 40, 50]}[step]
        assert np.all(arrays["alpha"] == step)
        assert [run.pool.load(slot)["weights"][0] for slot in range(3)] == weights
        found.append(step)
        run.steps(step + 1, 6)
        run.save(6)
        for inner in ("snapshots", "checkpoints"):
            assert names(folder / inner) == names(undisturbed / inner)
            for path in (undisturbed / inner).iterdir():
                assert same(read_arrays(folder / inner / path.name), read_arrays(path))
        number += 1
    assert set(found) == {2, 6} and found == sorted(found)
    assert not caplog.messages
