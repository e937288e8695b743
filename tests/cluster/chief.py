"""Run by test_connection.py: trains on workers, in a process of its own.

Usage: chief.py equal CLUSTER OWN_HOST; chief.py train CLUSTER SCHEDULE LIMIT
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

from sedona_tf import command_line, decouple, plans
from sedona_tf.cluster import connect, guarded
from sedona_tf.errors import UserError
from sedona_tf.train.placement import assign_devices

sys.path.append(str(Path(__file__).parents[1]))
from networks import tiny_backbone


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((36, 6, 6, 2)).astype("float32"), rng.integers(0, 3, 36)


def make(devices, schedule: str):
    keras.utils.set_random_seed(1)
    backbone = tiny_backbone()
    auxiliary = {"kind": "separable", "depth": 1}
    model = decouple(backbone, plans.uniform(backbone, 2, auxiliary), None, devices, schedule)
    rate = keras.optimizers.schedules.CosineDecay(0.05, 20)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), metrics=["accuracy"])
    return model


def train(devices, schedule: str) -> tuple[keras.Model, list[np.ndarray]]:
    """Two epochs with a smaller last batch: weights, optimizers' state and predictions."""
    model = make(devices, schedule)
    images, labels = data()
    model.fit(images, labels, 16, 2, shuffle=False, verbose=0)
    variables = [*model.variables, *model.optimizer.variables]
    return model, [*(each.numpy() for each in variables), model.predict(images, verbose=0)]


def equal(cluster: str, host: str) -> None:
    """Workers end with the bits of two local devices, under both schedules."""
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    _, expected = train(["CPU:0", "CPU:1"], "lockstep")
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    devices = connect(cluster, address=f"{host}:{port}")
    with contextlib.suppress(UserError):
        connect(cluster)
        raise AssertionError("connected twice")
    assert devices == [f"/job:worker/task:{task}/device:CPU:0" for task in range(2)], devices
    full = [f"/job:worker/replica:0/task:{task}/device:CPU:0" for task in range(2)]
    assert assign_devices("auto", 2) == full
    for schedule in ("lockstep", "pipelined"):
        model, actual = train(devices, schedule)
        for index, block in enumerate(model.blocks):
            variables = [*block.variables, *model.optimizer.of_blocks[index].variables]
            assert {variable.value.device for variable in variables} == {full[index]}
        for buffer in model.buffers:
            assert {variable.device for variable in buffer.variables} == {full[1]}
        assert len(model.buffers) == (schedule == "pipelined")
        assert len(actual) == len(expected)
        same = [np.array_equal(mine, other) for mine, other in zip(actual, expected, strict=True)]
        print(schedule, "equal" if all(same) else f"differs in {same.count(False)}", flush=True)


def train_on(cluster: str, schedule: str, limit: str) -> None:
    """Trains until something happens to a worker."""
    model = make(connect(cluster), schedule)
    tell = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: print("training", flush=True) if epoch == 1 else None
    )
    with guarded(cluster, float(limit)) as watchdog:
        model.fit(*data(), 16, 100_000, verbose=0, callbacks=[watchdog, tell])


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    sys.argv = sys.argv[:1]
    command_line.run(lambda: {"equal": equal, "train": train_on}[what](*arguments), __doc__)
