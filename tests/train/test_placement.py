"""Names of devices, and what moving a variable keeps."""

from __future__ import annotations

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from sedona_tf.errors import UserError
from sedona_tf.train.placement import assign_devices, move

HERE = "/device:"
THERE = "/job:worker/replica:0/task:0/device:"


def known(monkeypatch, *names: str) -> None:
    devices = [SimpleNamespace(name=name) for name in names]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda: devices)


def test_neighbours_share_what_there_is():
    assert assign_devices("CPU:0, CPU:1", 4) == ["CPU:0", "CPU:0", "CPU:1", "CPU:1"]
    assert assign_devices(["CPU:1", "CPU:0"], 2) == ["CPU:1", "CPU:0"]
    assert assign_devices(["CPU:1", "CPU:0"], 1) == ["CPU:1"]
    assert assign_devices("/device:CPU:1", 1) == ["/device:CPU:1"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([f"{HERE}CPU:0", f"{HERE}CPU:1"], [f"{HERE}CPU:0", f"{HERE}CPU:1"]),
        ([f"{HERE}CPU:0", f"{HERE}GPU:0", f"{HERE}GPU:1"], [f"{HERE}GPU:0", f"{HERE}GPU:1"]),
        ([f"{HERE}GPU:0", f"{HERE}CPU:0", f"{THERE}CPU:0"], [f"{THERE}CPU:0"] * 2),
    ],
    ids=["CPUs", "GPUs first", "workers first"],
)
def test_auto(names, expected, monkeypatch):
    known(monkeypatch, *names)
    assert assign_devices("auto", 2) == expected


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ([], "at least one device"),
        ("", "at least one device"),
        ("CPU:0,,CPU:1", "at least one device"),
        ("CPU:0,GPU:7", "device 'GPU:7' does not exist. There are: .*CPU:0, .*CPU:1"),
        ("CPU:zero", "'CPU:zero' is not the name of a device"),
        ("/job:worker/device:CPU:0", "does not exist"),
    ],
)
def test_refusals(devices, words):
    with pytest.raises(UserError, match=words):
        assign_devices(devices, 2)


def test_moving_keeps_everything_but_the_place():
    """And leaves alone what is there already."""
    with tf.device("CPU:0"):
        variable = keras.Variable([[1.0, 2.0]], trainable=False, name="statistics")
    before = variable.value
    move([variable], "CPU:0")
    assert variable.value is before
    move([variable], "CPU:1")
    assert variable.value.device.endswith("CPU:1")
    np.testing.assert_array_equal(variable.numpy(), before.numpy())
    for name in ("dtype", "trainable", "name"):
        assert getattr(variable.value, name) == getattr(before, name)
