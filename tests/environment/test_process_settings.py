"""Settings of the process: as a training or a search needs them, and as before afterwards."""

from __future__ import annotations

import os
import signal
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import logging
from networks import tiny_backbone
from tensorflow.python.framework import config

from sedona_tf import plans, recipe
from sedona_tf.auxiliary import candidates_from
from sedona_tf.environment.process_settings import (
    DECOUPLED_GRAPH_OPTIONS,
    SEARCH_GRAPH_OPTIONS,
    process_settings,
)
from sedona_tf.runs.run import open_run
from sedona_tf.search.search_model import SearchModel
from sedona_tf.train.model import DecoupledModel

SEPARABLE = {"kind": "separable", "depth": 1}
USERS = {"layout_optimizer": False, "constant_folding": True}
"""Options that a user has set."""


def options() -> dict[str, bool]:
    return tf.config.optimizer.get_experimental_options()


def everything() -> dict[str, object]:
    """What TensorFlow, Keras and Python keep for the whole process."""
    return {
        "options": options(),
        "jit": tf.config.optimizer.get_jit(),
        "placement": tf.config.get_soft_device_placement(),
        "deterministic": config.is_op_determinism_enabled(),
        "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
        "eager functions": tf.config.functions_run_eagerly(),
        "policy": keras.config.dtype_policy().name,
        "floatx": keras.config.floatx(),
        "epsilon": keras.config.epsilon(),
        "data format": keras.config.image_data_format(),
        "logging": logging.get_verbosity(),
        "warnings": list(warnings.filters),
        "numpy": np.geterr(),
        "environment": dict(os.environ),
        "cores": os.sched_getaffinity(0),
        "signals": [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)],
    }


@pytest.fixture
def users_options():
    with process_settings(graph_optimizer=USERS):
        yield


def test_what_was_set_is_put_back_and_what_was_not_is_unset():
    before = options()
    assert "constant_folding" not in before and keras.config.dtype_policy().name == "float32"
    with pytest.raises(RuntimeError), process_settings(graph_optimizer=USERS):
        assert options() == {**before, **USERS}
        with process_settings(graph_optimizer=DECOUPLED_GRAPH_OPTIONS, precision="mixed_float16"):
            assert options() == {**before, **USERS, **DECOUPLED_GRAPH_OPTIONS}
            assert keras.config.dtype_policy().name == "mixed_float16"
        assert options() == {**before, **USERS}
        assert keras.config.dtype_policy().name == "float32"
        raise RuntimeError
    assert options() == before


def test_precision_is_of_losses_metrics_and_optimizers_too():
    """Also where the user has set another type, or another order of axes, for Keras."""
    keras.config.set_floatx("float64")
    keras.config.set_image_data_format("channels_first")
    before = everything()
    try:
        with process_settings(precision="mixed_bfloat16", data_format="channels_last"):
            assert keras.layers.Dense(1).compute_dtype == "bfloat16"
            assert keras.layers.Conv2D(1, 1).data_format == "channels_last"
            loss, optimizer = keras.losses.MeanSquaredError(), keras.optimizers.SGD()
            made = (keras.metrics.Mean(), loss, optimizer.learning_rate)
            assert [each.dtype for each in made] == ["float32"] * 3
        assert everything() == before
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_image_data_format("channels_last")


class Watched:
    """Notes the graph optimizer's options at every training step, and when a block learns."""

    def train_step(self, data):
        self.seen.append(options())
        return super().train_step(data[:2])  # without weights

    def _learn(self, *arguments):
        self.seen.append(options())
        return super()._learn(*arguments)


class WatchedSearch(Watched, SearchModel):
    seen = []


class WatchedDecoupled(Watched, DecoupledModel):
    seen = []


def search():
    model = WatchedSearch(tiny_backbone(), candidates_from([SEPARABLE]), learning_rate=0.05)
    model.compile(run_eagerly=True)
    return model, SEARCH_GRAPH_OPTIONS


def decoupled(num_blocks):
    backbone = tiny_backbone()
    plan = plans.uniform(backbone, num_blocks, SEPARABLE if num_blocks > 1 else {})
    model = WatchedDecoupled(backbone, plan)
    model.compile("sgd", run_eagerly=True)
    return model, DECOUPLED_GRAPH_OPTIONS if num_blocks > 1 else {}


@pytest.mark.parametrize("make", [search, lambda: decoupled(2), lambda: decoupled(1)])
def test_models_leave_the_process_as_it_was(users_options, make):
    """However they train, with their own settings meanwhile; one block trains as plain Keras."""
    before = everything()
    model, own = make()
    assert everything() == before
    rng = np.random.default_rng(0)
    images = tf.constant(rng.standard_normal((4, 6, 6, 2)), tf.float32)
    labels = tf.constant(rng.integers(0, 3, 4), tf.int32)
    model.seen.clear()
    for train in (
        lambda: model.fit(tf.data.Dataset.from_tensors((images, labels)), verbose=0),
        lambda: model.train_on_batch(images, labels),
        getattr(model, "drain", lambda: None),
    ):
        train()
        assert everything() == before
    assert len(model.seen) >= 2
    assert all(each == {**before["options"], **own} for each in model.seen)


def test_a_run_leaves_the_process_as_it_was(tmp_path):
    """Deterministic operations and signals' handlers are the run's, while it is open."""
    before = everything()
    with open_run("train", tmp_path / "run", recipe.paper(), resume=False):
        assert config.is_op_determinism_enabled()
        assert signal.getsignal(signal.SIGTERM) is not before["signals"][1]
    assert everything() == before
