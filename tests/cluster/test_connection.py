"""Blocks on workers: equality with local devices, and what becomes of dead workers.

A cluster belongs to a process, so workers and the training are processes of their own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tensorflow as tf

from sedona_tf.cluster.connection import _chief_address, connect
from sedona_tf.cluster.watchdog import guarded
from sedona_tf.errors import UserError
from sedona_tf.train.placement import assign_devices

CHIEF = Path(__file__).with_name("chief.py")
PROXIES = {f"{scheme}_proxy": "http://127.0.0.1:1" for scheme in ("http", "https", "grpc")}
"""As on many clusters; through one, no worker is reached."""


class Child:
    """A Python process whose lines of output can be waited for."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **PROXIES, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        )
        self.errors: list[str] = []
        self._reader = threading.Thread(target=lambda: self.errors.extend(self.process.stderr))
        self._reader.start()

    def wait_for(self, words: str) -> str:
        """The first line of output that holds some words."""
        limit = threading.Timer(150, self.process.kill)
        limit.start()
        try:
            for line in self.process.stdout:
                if words in line:
                    return line.strip()
        finally:
            limit.cancel()
        self.end()
        raise AssertionError(f"'{words}' did not come: {''.join(self.errors)}")

    def end(self) -> None:
        self.process.kill()  # a stopped process, too
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()


@pytest.fixture(scope="module")
def start():
    """Starts processes, and ends those that are left."""
    children: list[Child] = []

    def start(*arguments: str) -> Child:
        children.append(Child(*arguments))
        return children[-1]

    yield start
    for child in children:
        child.end()


@pytest.fixture(scope="module")
def workers(start):
    """Three workers and their addresses; the last two are there to be lost."""
    started = [start("-m", "sedona_tf.worker", "--port=0") for _ in range(3)]
    return [(worker, worker.wait_for("ready on").split()[-1]) for worker in started]


def test_workers_end_with_the_bits_of_local_devices(start, workers):
    """No tolerance: the same kernels run on the same machine, and sums keep their order."""
    chief = start(str(CHIEF), "equal", f"{workers[0][1]},{workers[1][1]}", "127.0.0.1")
    for schedule in ("lockstep", "pipelined"):
        assert chief.wait_for(schedule) == f"{schedule} equal"
    assert chief.process.wait(30) == 0


@pytest.mark.slow
def test_two_hosts_end_with_the_bits_of_local_devices(tmp_path):
    """Each has a localhost of its own; needs the right to make network namespaces."""
    isolate = ["unshare", "-Urnpf", "--mount-proc", "--kill-child"]
    tools = shutil.which("ip") and shutil.which("unshare")
    if not tools or subprocess.run([*isolate, "true"]).returncode:
        pytest.skip("no network namespaces here")
    script = str(CHIEF.with_name("two_hosts.sh"))
    result = subprocess.run(
        [*isolate, "sh", script, sys.executable, str(CHIEF), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.stdout.splitlines() == ["lockstep equal", "pipelined equal"], result.stderr


@pytest.mark.parametrize(
    "victim, blow, schedule, limit, words",
    [
        (1, signal.SIGKILL, "pipelined", 60, "does not answer: connection refused"),
        (2, signal.SIGSTOP, "lockstep", 3, "does not answer: no answer within 3 s (no step for"),
    ],
    ids=["killed", "stopped"],
)
def test_a_lost_worker_ends_the_training(start, workers, victim, blow, schedule, limit, words):
    (_, healthy), (worker, lost) = workers[0], workers[victim]
    chief = start(str(CHIEF), "train", f"{healthy},{lost}", schedule, str(limit))
    chief.wait_for("training")
    worker.process.send_signal(blow)
    assert chief.process.wait(60) == 2
    chief.end()
    lines = [line for line in chief.errors if line.startswith("error: ")]
    assert len(lines) == 1, chief.errors
    assert f"worker {lost} (task 1) {words}" in lines[0]
    assert healthy not in lines[0] and "resume from the last checkpoint" in lines[0]
    assert not any("Traceback" in line for line in chief.errors)


def test_a_worker_that_cannot_be_reached_is_named():
    began = time.monotonic()
    with pytest.raises(UserError, match=r"127.0.0.1:1"):
        connect("127.0.0.1:1,127.0.0.1:2", timeout=1.0)
    with pytest.raises(UserError, match="address of this machine"):
        connect("127.0.0.1:1", address="192.0.2.1:2222")  # set aside for documentation
    with pytest.raises(UserError, match="twice"):
        connect("localhost:1,127.0.0.1:1", timeout=1.0)
    assert time.monotonic() - began < 5.0
    with pytest.raises(UserError, match="/job:worker/task:0"):
        assign_devices("/job:worker/task:0/device:CPU:0", 2)


def test_workers_are_told_an_address_that_they_can_reach():
    """TensorFlow's own choice is `localhost`, which is another machine on another host."""
    assert _chief_address(["127.0.0.1", "::ffff:10.0.0.5"]).startswith("10.0.0.5:")
    assert _chief_address(["::1", "127.0.0.1"]).startswith("127.0.0.1:")


def error(kind=tf.errors.UnavailableError, message=""):
    return kind(None, None, message)


@pytest.mark.parametrize(
    "raised, words",
    [
        (
            error(tf.errors.AbortedError, "different device incarnation ... probably restarted."),
            "one of the workers .* was started again",
        ),
        (
            error(message="GRPC error information from remote target /job:worker/task:0"),
            "a connection broke although all workers answer",
        ),
    ],
)
def test_errors_whose_worker_answers_again(monkeypatch, raised, words):
    monkeypatch.setattr("sedona_tf.cluster.watchdog.unresponsive", lambda addresses, timeout: {})
    with pytest.raises(UserError, match=words), guarded("127.0.0.1:1"):
        raise raised


def test_errors_that_are_no_workers_fault_stay():
    with pytest.raises(tf.errors.InvalidArgumentError), guarded(""):
        raise error(tf.errors.InvalidArgumentError, "shapes do not fit")


@pytest.fixture
def exits(monkeypatch):
    """What the watchdog would have said; it does not end the tests."""
    said: list[str] = []
    ended = threading.Event()

    def leave(message):
        said.append(message)
        ended.set()

    monkeypatch.setattr("sedona_tf.cluster.watchdog._exit", leave)
    return said, ended


def test_the_watchdog_bears_with_slow_steps_but_not_for_ever(monkeypatch, exits):
    """As long as all workers answer, only patience ends it."""
    said, ended = exits
    asked = []
    monkeypatch.setattr(
        "sedona_tf.cluster.watchdog.unresponsive", lambda *arguments: asked.append(1) or {}
    )
    with guarded("127.0.0.1:1", limit=0.1, patience=1.0):
        time.sleep(0.5)
        assert asked and not said
        assert ended.wait(10)
    assert said[0].endswith("although all workers answer")


def test_steps_are_progress_to_the_watchdog(monkeypatch, exits):
    said, _ = exits
    monkeypatch.setattr(
        "sedona_tf.cluster.watchdog.unresponsive",
        lambda addresses, timeout: {"127.0.0.1:1": "gone"},
    )
    with guarded("127.0.0.1:1", limit=1.5) as watchdog:
        for step in range(25):
            time.sleep(0.1)
            (watchdog.on_train_batch_end, watchdog.on_test_batch_end)[step % 2](step)
        assert not said


@pytest.mark.parametrize("limit, patience", [(0, 1), (-1, 1), (float("nan"), 1), (2, 1)])
def test_limits_must_make_sense(limit, patience):
    with pytest.raises(UserError, match="limit"), guarded("", limit, patience):
        pass
