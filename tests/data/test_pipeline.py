"""Batches: epochs, resumption, and parts that do not mix, on images that show their index."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config

from sedona_tf.data import SearchData, Source, load
from sedona_tf.errors import UserError

COUNT = 50
SIZES = {"batch_size": 10, "validation_batch_size": 5, "inner_steps": 2}


def indexed(**changes):
    """Images of one value, their index; no crop."""
    values = np.arange(COUNT, dtype=np.uint8)[:, None, None, None]
    images = np.broadcast_to(values, (COUNT, 4, 4, 1))
    source = Source("indexed", images.copy(), (np.arange(COUNT) % 5).astype(np.int32), 5)
    return SearchData(source, **{"fraction": 0.4, "seed": 1, **SIZES, "pad": 0, **changes})


def shown(data, images):
    """The indices that normalised images show."""
    unit = np.asarray(images) * data.normalization.std + data.normalization.mean
    return np.rint(unit[..., 0, 0, 0] * 255).astype(int)


def flat(dataset):
    return [np.asarray(leaf) for element in dataset for leaf in tf.nest.flatten(element)]


def assert_same(first, second):
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_element_specs():
    data = indexed()
    image, label = tf.TensorSpec((10, 4, 4, 1)), tf.TensorSpec((10,), tf.int32)
    assert (data.input_shape, data.num_classes) == ((4, 4, 1), 5)
    assert data.training(0, 1).element_spec == (image, label)
    assert data.search(0, 1).element_spec == {
        "train": (tf.TensorSpec((3, 10, 4, 4, 1)), tf.TensorSpec((3, 10), tf.int32)),
        "validation": (tf.TensorSpec((5, 4, 4, 1)), tf.TensorSpec((5,), tf.int32)),
    }


@pytest.mark.parametrize("batch_size", [10, 7])
def test_every_epoch_of_pretraining_visits_every_training_example_once(batch_size):
    data = indexed(batch_size=batch_size)
    visited = []
    for images, labels in data.training(0, -(-60 // batch_size)):
        indices = shown(data, images)
        np.testing.assert_array_equal(indices % 5, labels)
        visited += indices.tolist()
    assert len(data.train_indices) == 30
    assert visited[:30] != visited[30:60]
    for epoch in (visited[:30], visited[30:60]):
        assert epoch != sorted(epoch)
        np.testing.assert_array_equal(np.sort(epoch), data.train_indices)


def test_search_visits_each_part_once_and_never_mixes():
    data = indexed()
    train, validation = [], []
    for element in data.search(0, 4):
        for part, seen in (("train", train), ("validation", validation)):
            images, labels = element[part]
            indices = shown(data, images)
            np.testing.assert_array_equal(indices % 5, labels)
            seen.append(indices.ravel())
    for epoch in train:  # A step's three batches of 10 are an epoch here.
        np.testing.assert_array_equal(np.sort(epoch), data.train_indices)
    np.testing.assert_array_equal(np.sort(np.concatenate(validation)), data.validation_indices)
    np.testing.assert_array_equal(
        np.union1d(data.train_indices, data.validation_indices), np.arange(COUNT)
    )


def test_validation_is_not_augmented():
    source = load("digits", "train", limit=100)
    data = SearchData(source, fraction=0.4, seed=0, **SIZES)
    originals = data.normalization(tf.constant(source.images)).numpy().reshape(100, -1)

    def unchanged(images):
        rows = np.asarray(images).reshape(-1, originals.shape[1])
        return [bool((originals == row).all(1).any()) for row in rows]

    element = next(iter(data.search(0, 1)))
    assert all(unchanged(element["validation"][0]))
    # Unmoved and unmirrored: 1 in 162.
    assert sum(unchanged(element["train"][0])) <= 3


@pytest.mark.parametrize("stream", ["training", "search"])
def test_resuming_replays(stream):
    options = {"pad": 2, "batch_size": 7}
    whole = flat(getattr(indexed(**options), stream)(0, 9))
    rest = flat(getattr(indexed(**options), stream)(5, 4))
    assert_same(whole[-len(rest) :], rest)
    other = flat(getattr(indexed(**options, seed=2), stream)(5, 4))
    assert not all(np.array_equal(one, two) for one, two in zip(rest, other, strict=True))


def test_op_determinism():
    data = indexed(pad=2)
    before = flat(data.search(3, 3))
    tf.config.experimental.enable_op_determinism()
    try:
        assert_same(before, flat(data.search(3, 3)))
    finally:
        config.disable_op_determinism()


def test_float_images():
    images = np.random.default_rng(0).random((COUNT, 4, 4, 3)).astype(np.float32)
    source = Source("floats", images, np.zeros(COUNT, np.int32), 1)
    images, _ = next(iter(SearchData(source, **SIZES).training(0, 1)))
    assert images.dtype == tf.float32
    assert np.isfinite(images).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch_size": 31}, "batch_size 31 is more than the 30 examples"),
        ({"validation_batch_size": 21}, "validation_batch_size 21 is more than the 20 examples"),
        ({"batch_size": 0}, "batch_size must be positive"),
        ({"validation_batch_size": -1}, "validation_batch_size must be positive"),
        ({"inner_steps": 0}, "inner_steps must be positive"),
        ({"pad": -1}, "pad must not be negative"),
        ({"seed": -1}, r"seed must be in \[0, 2\*\*31\)"),
        ({"fraction": 1.0}, "fraction must lie between"),
    ],
)
def test_refusals(arguments, words):
    with pytest.raises(UserError, match=words):
        indexed(**arguments)


@pytest.mark.parametrize("stream", ["training", "search"])
def test_steps_are_refused(stream):
    with pytest.raises(UserError, match="start_step must not be negative"):
        getattr(indexed(), stream)(-1, 1)
    with pytest.raises(UserError, match="steps must be positive"):
        getattr(indexed(), stream)(0, 0)
