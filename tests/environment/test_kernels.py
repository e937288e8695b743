"""Which kernels the commands choose."""

from __future__ import annotations

import math
import os

import pytest
from search_runs import ENVIRONMENT, command
from train_runs import METHOD, TRAIN

from sedona_tf.environment import kernels
from sedona_tf.environment.cgroups import memory_limit
from sedona_tf.environment.kernels import choose_kernels, count_cpus, usable_cores

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
    machine = kilobytes / 1024
    assert int(os.environ[LIMIT]) == pytest.approx(min(machine, memory_limit() / 2**20), abs=1)
    monkeypatch.delenv(LIMIT)
    monkeypatch.setattr(kernels, "memory_limit", lambda: 300 << 20)
    choose_kernels()
    assert os.environ[LIMIT] == "300"
    monkeypatch.setenv(LIMIT, "100")
    choose_kernels()
    assert os.environ[LIMIT] == "100"


@pytest.mark.parametrize(
    ("affinity", "quota", "cores", "threads"),
    [(4, math.inf, 4, None), (4, 2.9, 2, "2"), (1, 3.0, 1, None), (4, 0.5, 1, "1")],
)
def test_usable_cores(monkeypatch, affinity, quota, cores, threads):
    """TensorFlow sees affinity for itself, but no limit on time."""
    monkeypatch.delenv(THREADS, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)))
    monkeypatch.setattr(kernels, "core_limit", lambda: quota)
    choose_kernels()
    assert (usable_cores(), os.environ.get(THREADS)) == (cores, threads)


@pytest.mark.parametrize(
    ("devices", "count"),
    [
        ("auto", 1),
        ("GPU:3", 1),
        ("CPU:0,CPU:1", 2),
        ("cpu:0, Cpu:2", 3),
        (["/device:CPU:1", "/job:localhost/replica:0/task:0/device:CPU:3"], 4),
        ("/job:worker/task:0/device:CPU:3,CPU:1", 2),
    ],
)
def test_names_of_this_process_processors_are_counted(devices, count):
    assert count_cpus(devices) == count


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
