"""Which kernels the commands choose."""

from __future__ import annotations

import os

import pytest
from search_runs import ENVIRONMENT, command
from train_runs import METHOD, TRAIN

from sedona_tf.kernels import choose_kernels

THREADS, ONEDNN = "TF_NUM_INTRAOP_THREADS", "TF_ENABLE_ONEDNN_OPTS"


@pytest.mark.parametrize(
    ("cores", "devices", "given", "threads", "onednn"),
    [
        (2, 1, {}, None, "0"),
        (2, 2, {}, "1", "0"),
        (8, 2, {}, "4", "0"),
        (2, 4, {}, "1", "0"),
        (8, 2, {THREADS: "2"}, "2", "0"),
        (8, 2, {THREADS: "1", ONEDNN: "1"}, "1", "1"),
    ],
)
def test_onednn_is_off_and_devices_share_the_cores(
    monkeypatch, cores, devices, given, threads, onednn
):
    for name in (THREADS, ONEDNN):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    choose_kernels(devices)
    assert (os.environ.get(THREADS), os.environ.get(ONEDNN)) == (threads, onednn)


def test_one_thread_an_operation_does_not_crash(tmp_path):
    """With oneDNN's kernels this run ended in heap corruption."""
    environment = {name: value for name, value in ENVIRONMENT.items() if name != ONEDNN}
    result = command("train", *TRAIN, *METHOD, f"--workdir={tmp_path / 'run'}", env=environment)
    assert result.returncode == 0, result.stderr[-500:]
