"""The guards of a run: what they say, and that nothing bad is saved or written elsewhere."""

from __future__ import annotations

import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from train_runs import recorded

from sedona_tf.errors import UserError
from sedona_tf.files import locked
from sedona_tf.runs.callbacks import (
    Checkpoint,
    FolderGuard,
    NanGuard,
    TensorBoard,
    first_not_finite,
)
from sedona_tf.runs.checkpoints import CheckpointStore, Position
from sedona_tf.runs.event_log import EventLog
from sedona_tf.runs.signals import StopRequest

NAN = float("nan")


def part(weight: float, *statistics: float) -> list[keras.Variable]:
    weights = [keras.Variable([1.0, weight])]
    return [*weights, *(keras.Variable([each], trainable=False) for each in statistics)]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"unit 1": part(NAN, 1.0), "unit 2": part(NAN, 1.0, np.inf)}, "unit 2"),
        ({"unit 1": part(NAN, 1.0), "net 1": part(np.inf), "unit 2": part(1.0, 1.0)}, "net 1"),
        ({"unit 1": part(1.0, 1.0), "unit 2": part(NAN, 1.0), "head": part(1.0)}, "unit 2"),
        ({"unit 1": part(1.0), "unit 2": part(-np.inf)}, "unit 2"),
        ({"unit 1": part(1.0, 1.0), "head": part(1.0)}, None),
    ],
    ids=["statistics tell", "a net without statistics", "weights alone", "no statistics", "fine"],
)
def test_the_part_that_computed_it_first_is_found(parts, expected):
    """A bad loss spoils the weights of all below it, so those are asked last."""
    assert first_not_finite(parts) == expected


def test_metric_step_part_and_checkpoint_are_named(tmp_path):
    store = CheckpointStore(tmp_path)
    guard = NanGuard("training", 10, {"unit 1 ('a')": part(1.0), "unit 2 ('b')": part(NAN)}, store)
    guard.on_train_batch_end(0, {"loss": 1.0})
    words = "loss is nan at training step 12; the first part with such numbers is unit 2 ('b'); {}."
    for left, position in (
        ("there is no checkpoint yet", None),
        ("the last checkpoint (training step 10) is kept", Position("training", 10)),
    ):
        if position:
            store.write(position, {"weights/00000": np.zeros(2)})
        with pytest.raises(UserError) as error:
            guard.on_train_batch_end(1, {"accuracy": 0.5, "loss": NAN})
        assert str(error.value) == words.format(left) + " A lower learning rate usually helps."
    again = CheckpointStore(tmp_path)
    again.read()
    assert again.newest == Position("training", 10)


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16], ids=lambda dtype: dtype.name)
def test_what_is_not_finite_is_never_saved(dtype, tmp_path):
    """Nor does it push out the checkpoints that there are."""
    store, parts = CheckpointStore(tmp_path), {"unit 1": part(1.0), "the head": part(NAN)}
    arrays = {"weights/00007": np.zeros(3, dtype.as_numpy_dtype), "history": np.zeros(2, np.uint8)}
    guard = NanGuard("training", 0, parts, store)
    with locked(tmp_path) as lock:
        saver = Checkpoint("training", 0, 1, store, lambda: arrays, StopRequest(), guard, lock)
        for batch in range(2):
            saver.on_train_batch_end(batch)
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        arrays["weights/00007"][1] = np.inf
        words = "weights not finite after training step 3; .* the head; "
        with pytest.raises(UserError, match=words):
            saver.on_train_batch_end(2)
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
        assert store.read()[0] == Position("training", 2)
        arrays["weights/00007"][1] = 0.0
        (tmp_path / ".lock").unlink()  # as if the folder were another run's
        with pytest.raises(UserError, match="was deleted or replaced"):
            saver.save(3)
    assert store.read()[0] == Position("training", 2)


@pytest.mark.parametrize("what", ["deleted", "replaced", "a file"])
def test_a_folder_that_is_another_now_ends_the_run(what, tmp_path):
    folder = tmp_path / "run"
    with locked(folder) as lock:
        guard = FolderGuard(lock)
        guard.on_train_batch_end(0)
        shutil.rmtree(folder)
        if what == "replaced":
            (folder / "sub").mkdir(parents=True)
            (folder / ".lock").touch()
        if what == "a file":
            folder.touch()
        with pytest.raises(UserError, match=f"{folder} was deleted or replaced"):
            guard.on_train_batch_end(1)


def test_tensorboard_gets_what_the_history_has_at_the_same_steps(tmp_path):
    """Also after the last step, in a resumed run, and while recording is switched off."""
    history: dict[str, list] = {}
    for start, steps in ((0, 4), (4, 7)):
        board = TensorBoard(EventLog(tmp_path), "training", start, 7, 3, lambda s: 10 - s, history)
        with tf.summary.record_if(False):
            for batch in range(steps - start):
                step = start + batch + 1
                if step % 2 == 0:  # as a callback before it does
                    row = {"step": step, "val_step": step, "loss": step / 8, "val_error": step / 16}
                    for name, value in row.items():
                        history.setdefault(name, []).append(value)
                board.on_train_batch_end(batch, {"loss": float(step)})
        board.on_train_end()
    found = recorded(tmp_path)
    assert found["batch_loss"] == [(3, 3), (6, 6), (7, 7)]
    assert found["batch_learning_rate"] == [(3, 8), (6, 5), (7, 4)]
    assert found["epoch_loss"] == [(2, 0.25), (4, 0.5), (6, 0.75)]
    assert found["epoch_val_error"] == [(2, 0.125), (4, 0.25), (6, 0.375)]
    assert found["epoch_learning_rate"] == [(2, 9), (4, 7), (6, 5)]
    assert len(found) == 5


def test_numbers_handed_to_tensorflow_are_numpys(tmp_path, monkeypatch):
    """It keeps Python numbers for good: 0.7 KB for each."""
    handed: list[type] = []
    monkeypatch.setattr(tf.summary, "scalar", lambda name, value: handed.append(type(value)))
    board = TensorBoard(EventLog(tmp_path), "training", 0, 1, 1, lambda s: 0.1, {"step": [1]})
    board.on_train_batch_end(0, {"loss": 1.0})
    assert handed == [np.float32] * 3


def test_a_log_that_cannot_be_written_costs_one_line(tmp_path, caplog):
    (tmp_path / "logs").write_text("")
    log, calls = EventLog(tmp_path / "logs"), []
    for step in (1, 2):
        log.write(step, lambda: calls.append("written"))
    log.close()
    assert not calls
    (message,) = caplog.messages
    assert re.fullmatch(".*: not a directory", message, re.IGNORECASE)
