"""A training's state: all of it read, all of it set, and no other model's."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from sedona_tf import backbones, decouple, plans
from sedona_tf.errors import UserError
from sedona_tf.train.schedules import Batch
from sedona_tf.train.state import capture, restore


def make(num_blocks: int = 2):
    backbone = backbones.build("resnet18", (8, 8, 1), 10, width=4)
    model = decouple(backbone, plans.baseline("dgl", backbone, num_blocks))
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), metrics=["accuracy"])
    model.prepare(Batch(tf.TensorSpec((None, 8, 8, 1)), tf.TensorSpec((None,), tf.int32), ()))
    return model


@pytest.fixture(scope="module")
def model():
    model = make()
    rng = np.random.default_rng(0)
    buffers = [variable for buffer in model.buffers for variable in buffer.variables]
    for variable in (*model.variables, *model.optimizer.variables, *buffers):
        shape = [size or 3 for size in variable.shape]
        variable.assign(tf.cast(tf.constant(rng.integers(1, 9, shape)), variable.dtype))
    return model


def test_what_was_read_can_be_set(model):
    arrays, history = capture(model, {"loss": [0.5, 0.1]}), {"old": [1]}
    kinds = {name.partition("/")[0] for name in arrays}
    assert kinds == {"weights", "optimizer", "buffers", "metrics", "history"}
    other = make()
    restore(arrays, other, history)
    assert history == {"loss": [0.5, 0.1]}
    again = capture(other, history)
    assert again.keys() == arrays.keys()
    for name, value in arrays.items():
        np.testing.assert_array_equal(again[name], value)


def test_half_precision_as_files_give_it():
    """NumPy's files have no name for bfloat16: it comes back as two bytes of nothing."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model, other = make(), make()
    finally:
        keras.config.set_dtype_policy("float32")
    (features,) = (each for each in model.buffers[0].variables if each.dtype == tf.bfloat16)
    features.assign(tf.fill((3, *features.shape[1:]), tf.constant(1.5, tf.bfloat16)))
    arrays = capture(model, {})
    nameless = {name for name, each in arrays.items() if each.dtype == features.dtype}
    assert nameless
    restore(arrays | {name: arrays[name].view("V2") for name in nameless}, other, {})
    again = capture(other, {})
    for name, value in arrays.items():
        np.testing.assert_array_equal(again[name], value)


def test_other_states_are_refused(model):
    arrays = capture(model, {})
    count = sum(name.startswith("buffers/") for name in arrays)
    more = arrays | {f"buffers/{count:05d}": np.zeros(1)}
    fewer = {name: value for name, value in arrays.items() if name != "buffers/00000"}
    for state, found in ((more, count + 1), (fewer, count - 1)):
        with pytest.raises(UserError, match=f"has {found} tensors of its buffers, not {count}"):
            restore(state, model, {})
    renamed = {name.replace("weights/00000", "weights/x"): each for name, each in arrays.items()}
    reshaped = arrays | {"weights/00000": np.zeros((1, 2, 3))}
    for state in (renamed, reshaped, arrays | {"history": np.zeros(3, np.uint8)}):
        with pytest.raises(UserError, match="the checkpoint is of another model: ") as caught:
            restore(state, model, {})
        assert "\n" not in str(caught.value)
