"""The guards of a run: what they say, and that nothing bad is saved or written elsewhere."""

from __future__ import annotations

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from sedona_tf.callbacks import Checkpoint, FolderGuard, NanGuard, TensorBoard, first_not_finite
from sedona_tf.checkpoints import CheckpointStore, Position
from sedona_tf.errors import UserError
from sedona_tf.files import locked
from sedona_tf.interruption import StopRequest

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


def test_tensorboard_is_handed_numpys_numbers_of_the_recorded_steps_only(tmp_path, monkeypatch):
    """TensorFlow keeps Python numbers for good, recorded or not: 0.7 KB for each."""
    handed, plain = [], keras.callbacks.TensorBoard.on_train_batch_end

    def on_train_batch_end(self, batch, logs=None):
        handed.append((batch, type(logs["loss"])))
        plain(self, batch, logs)

    monkeypatch.setattr(keras.callbacks.TensorBoard, "on_train_batch_end", on_train_batch_end)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    for start, steps in ((0, 7), (7, 3)):  # the second is resumed
        board = TensorBoard(tmp_path, start, every=3)
        model.fit(np.ones((steps, 2)), np.ones(steps), batch_size=1, verbose=0, callbacks=[board])
    assert handed == [(2, np.float32), (5, np.float32), (1, np.float32)]
    recorded = [
        (event.step, value.tag)
        for path in sorted((tmp_path / "train").iterdir())
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    ]
    assert [step for step, tag in recorded if tag == "batch_loss"] == [3, 6, 9]
