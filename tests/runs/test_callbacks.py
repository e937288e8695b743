"""The callbacks of a run: steps, checkpoints and TensorBoard."""

from __future__ import annotations

import re
import shutil
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from run_stubs import stub_run, take_step
from train_runs import recorded

from sedona_tf.errors import UserError
from sedona_tf.files import locked
from sedona_tf.recipe import paper
from sedona_tf.runs.callbacks import SaveCheckpoints, Steps, TensorBoard
from sedona_tf.runs.checkpoints import CheckpointStore, Position
from sedona_tf.runs.event_log import EventLog
from sedona_tf.runs.nan_guard import NanGuard
from sedona_tf.runs.run import Run
from sedona_tf.runs.signals import StopRequest


def test_what_is_not_finite_is_never_saved(tmp_path):
    """Nor does it push out the checkpoints that there are; nor is another run's folder written."""
    recipe, variable = paper(), keras.Variable([0.0, 0.0])
    recipe.train.checkpoint_every = 1
    parts = {"the head": [variable]}
    with locked(tmp_path) as lock:
        store = CheckpointStore(tmp_path / "checkpoints")
        run = Run("train", tmp_path, recipe, None, StopRequest(), lock, store)
        run.set_phases({"training": 9})
        run.start(
            SimpleNamespace(
                variables_by_part=lambda: parts, state_variables=lambda: {"weights": [variable]}
            )
        )
        steps, saver = Steps(run), SaveCheckpoints(run)

        def step() -> None:
            for callback in (steps, saver):
                callback.on_train_batch_end(0, {"loss": 1.0})

        step()
        step()
        before = {path: path.read_bytes() for path in tmp_path.glob("checkpoints/*")}
        assert [path.stem for path in sorted(before)] == ["training-00000001", "training-00000002"]
        variable.assign([0.0, np.inf])
        with pytest.raises(UserError, match="weights not finite after training step 3; .* head; "):
            step()
        assert {path: path.read_bytes() for path in tmp_path.glob("checkpoints/*")} == before
        variable.assign([0.0, 0.0])
        (tmp_path / ".lock").unlink()  # as if the folder were another run's
        with pytest.raises(UserError, match="was deleted or replaced"):
            run.save()
        assert run.store.read().position == Position("training", 2)


@pytest.mark.parametrize("what", ["deleted", "replaced", "a file"])
def test_a_folder_that_is_another_now_ends_the_run(what, tmp_path):
    folder = tmp_path / "run"
    with locked(folder) as lock:
        run = stub_run(lock=lock, guard=NanGuard({}))
        steps = Steps(run)
        steps.on_train_batch_end(0, {"loss": 1.0})
        assert run.position == ("search", 1)
        shutil.rmtree(folder)
        if what == "replaced":
            (folder / "sub").mkdir(parents=True)
            (folder / ".lock").touch()
        if what == "a file":
            folder.touch()
        with pytest.raises(UserError, match=f"{folder} was deleted or replaced"):
            steps.on_train_batch_end(1, {"loss": 1.0})


def test_tensorboard_gets_what_the_history_has_at_the_same_steps(tmp_path):
    """Also after the last step, in a resumed run, and while recording is switched off."""
    history: dict[str, list] = {}
    for start, steps in ((0, 4), (4, 7)):
        run = stub_run("training", start, 7, folder=tmp_path, history=history)
        board = TensorBoard(run, 3, lambda s: 10 - s)
        with tf.summary.record_if(False):
            for step in range(start + 1, steps + 1):
                if step % 2 == 0:  # as a callback before it does
                    row = {"step": step, "val_step": step, "loss": step / 8, "val_error": step / 16}
                    for name, value in row.items():
                        history.setdefault(name, []).append(value)
                take_step(run, {"loss": float(step)}, board)
        board.on_train_end()
    found = recorded(tmp_path / "logs/training")
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
    run = stub_run("training", 0, 1, folder=tmp_path, history={"step": [1]})
    take_step(run, {"loss": 1.0}, TensorBoard(run, 1, lambda s: 0.1))
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
