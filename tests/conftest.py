"""Shared settings: quiet TensorFlow, one type at a time, the CPU.

With TESTS_ON_GPU=1 all tests run on the first GPU instead, as two logical devices.
"""

from __future__ import annotations

import os

from sedona_tf.environment.kernels import choose_kernels

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_CPU_ALLOCATOR_USE_BFC"] = "0"  # it gives nothing back: all tests would take 20 GB
choose_kernels()
ON_GPU = bool(os.environ.get("TESTS_ON_GPU"))
if ON_GPU:
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # test workers and commands share it
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # float32 with all its digits
else:
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import gc
import signal
from pathlib import Path

import pytest
import tensorflow as tf

from sedona_tf.environment.custom_gradients import dropped_gradients

# A shell starts what runs in the background deaf to SIGINT, and the commands would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Before anything starts TensorFlow: replicas are tested on two devices of one CPU, and one thread
# an operation fixes the order of sums, which tests of equal bits rely on.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
if ON_GPU:
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("GPU")[0],
        [tf.config.LogicalDeviceConfiguration(memory_limit=3000)] * 2,
    )
    tf.config.experimental.enable_op_determinism()
    tf.random.set_seed(0)  # which that asks for


@pytest.fixture(scope="module", autouse=True)
def _released():
    """Graphs refer to one another in circles; uncollected, a run of all tests takes 20 GB."""
    with dropped_gradients():
        yield
    gc.collect()


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """The folder and the output of one uninterrupted run of the search command."""
    from search_runs import SMALL, search

    workdir = tmp_path_factory.mktemp("search")
    result = search(*SMALL, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    return workdir, result.stdout


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> tuple[Path, str]:
    """The folder and the output of one uninterrupted run of the train command, in two blocks.

    The command turns oneDNN's kernels off by itself, as all others here do: with them and one
    thread an operation it once ended in heap corruption.
    """
    from search_runs import ENVIRONMENT, command
    from train_runs import METHOD, TRAIN

    workdir = tmp_path_factory.mktemp("trained") / "run"
    own = {name: value for name, value in ENVIRONMENT.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    result = command("train", *TRAIN, *METHOD, f"--workdir={workdir}", env=own)
    assert result.returncode == 0, result.stderr
    return workdir, result.stdout


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory) -> tuple[Path, str]:
    """The folder of the first version that the export command made of `trained`, and its output."""
    from search_runs import command

    output = tmp_path_factory.mktemp("exported") / "models" / "digits"
    output.parent.mkdir()
    result = command("export", f"--workdir={trained[0]}", f"--output={output}")
    assert result.returncode == 0, result.stderr
    return output / "1", result.stdout


@pytest.fixture
def float64():
    """Builds everything in float64 for the duration of a test."""
    import keras

    for name in ("float64", "float32"):
        keras.config.set_floatx(name)
        keras.config.set_dtype_policy(name)
        if name == "float64":
            yield
