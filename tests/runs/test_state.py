"""The state of a search or a training: all of it read, all of it set, and no other model's."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import tiny_backbone

from sedona_tf import backbones, decouple, plans
from sedona_tf.auxiliary import candidates_from
from sedona_tf.errors import UserError
from sedona_tf.runs.arrays import read_arrays, write_arrays
from sedona_tf.runs.state import capture, restore
from sedona_tf.search.search_model import SearchModel
from sedona_tf.train.schedules import Batch


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


def make_search(depths=(1, 2)) -> SearchModel:
    model = SearchModel(
        tiny_backbone(0.3), candidates_from([{"kind": "separable", "depth": m} for m in depths])
    )
    model.compile()
    return model


def assert_same(found, expected) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


def test_what_was_read_can_be_set(model):
    columns = {"loss": [0.5, 0.1], "step": [5, 10], "seconds": [float("nan"), 2.0]}
    arrays, history = capture(model.state_variables(), columns), {"old": [1]}
    kinds = {name.partition("/")[0] for name in arrays}
    assert kinds == {"weights", "optimizer", "buffers", "metrics", "history"}
    other = make()
    restore(arrays, other.state_variables(), history)
    assert str(history) == str(columns)  # types too
    assert_same(capture(other.state_variables(), history), arrays)


def test_a_search_and_its_history_through_a_file(tmp_path):
    rng = np.random.default_rng(0)
    first, second = make_search(), make_search()
    for variables in first.state_variables().values():
        for variable in variables:
            variable.assign(rng.uniform(1, 9, variable.shape).astype(variable.dtype))
    p = np.float32([0.1, 0.2]).tolist()
    columns = {"steps": [1, 2], "cut_probability": [p, p], "outer_loss": [0.1, 0.2]}
    arrays, history = capture(first.state_variables(), columns), {}
    kinds = {name.partition("/")[0] for name in arrays}
    trained = {"weights", "statistics", "velocity", "seeds"}
    assert kinds == trained | {"alpha", "beta", "optimizer", "history"}
    write_arrays(tmp_path / "a.npz", arrays)
    restore(read_arrays(tmp_path / "a.npz"), second.state_variables(), history)
    assert history == columns
    assert_same(capture(second.state_variables(), history), arrays)


def test_a_checkpoint_of_another_search_is_refused():
    arrays = capture(make_search().state_variables())
    with pytest.raises(UserError, match="of another model"):
        restore(arrays, make_search(depths=(1,)).state_variables())


def test_half_precision_as_files_give_it():
    """NumPy's files have no name for bfloat16: it comes back as two bytes of nothing."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model, other = make(), make()
    finally:
        keras.config.set_dtype_policy("float32")
    (features,) = (each for each in model.buffers[0].variables if each.dtype == tf.bfloat16)
    features.assign(tf.fill((3, *features.shape[1:]), tf.constant(1.5, tf.bfloat16)))
    arrays = capture(model.state_variables())
    nameless = {name for name, each in arrays.items() if each.dtype == features.dtype}
    assert nameless
    restore(arrays | {name: arrays[name].view("V2") for name in nameless}, other.state_variables())
    again = capture(other.state_variables())
    for name, value in arrays.items():
        np.testing.assert_array_equal(again[name], value)


def test_other_states_are_refused(model):
    arrays = capture(model.state_variables())
    count = sum(name.startswith("buffers/") for name in arrays)
    more = arrays | {f"buffers/{count:05d}": np.zeros(1)}
    fewer = {name: value for name, value in arrays.items() if name != "buffers/00000"}
    for state, found in ((more, count + 1), (fewer, count - 1)):
        with pytest.raises(UserError, match=f"has {found} tensors of its buffers, not {count}"):
            restore(state, model.state_variables())
    renamed = {name.replace("weights/00000", "weights/x"): each for name, each in arrays.items()}
    reshaped = arrays | {"weights/00000": np.zeros((1, 2, 3))}
    for state in (renamed, reshaped):
        with pytest.raises(UserError, match="the checkpoint is of another model: ") as caught:
            restore(state, model.state_variables())
        assert "\n" not in str(caught.value)
