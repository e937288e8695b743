"""Which kernels the commands choose."""

from __future__ import annotations

import os

import pytest
from search_runs import ENVIRONMENT, command
from train_runs import METHOD, TRAIN

from sedona_tf.kernels import choose_kernels

THREADS, ONEDNN = "TF_NUM_INTRAOP_THREADS", "TF_ENABLE_ONEDNN_OPTS"
ALLOCATOR, LIMIT = "TF_CPU_ALLOCATOR_USE_BFC", "TF_CPU_BFC_MEM_LIMIT_IN_MB"


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


def test_tensorflows_own_allocator_up_to_the_machines_memory(monkeypatch):
    for name in (ALLOCATOR, LIMIT):
        monkeypatch.delenv(name, raising=False)
    choose_kernels()
    with open("/proc/meminfo") as file:
        kilobytes = int(file.readline().split()[1])
    assert os.environ[ALLOCATOR] == "1"
    assert int(os.environ[LIMIT]) == pytest.approx(kilobytes / 1024, abs=1)
    monkeypatch.setenv(LIMIT, "100")
    choose_kernels()
    assert os.environ[LIMIT] == "100"


def test_a_model_that_is_too_large_ends_with_a_message(tmp_path):
    """The allocator's limit, rather than the kernel's killer; a GPU has its own."""
    result = command(
        "train",
        *TRAIN,
        *METHOD,
        f"--workdir={tmp_path / 'run'}",
        env={**ENVIRONMENT, LIMIT: "2", "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert result.returncode == 2
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error:"))
    assert "memory" in line and "Traceback" not in result.stderr


def test_one_thread_an_operation_does_not_crash(tmp_path):
    """With oneDNN's kernels this run ended in heap corruption."""
    environment = {name: value for name, value in ENVIRONMENT.items() if name != ONEDNN}
    result = command("train", *TRAIN, *METHOD, f"--workdir={tmp_path / 'run'}", env=environment)
    assert result.returncode == 0, result.stderr[-500:]
