"""Batches: epochs, resumption, and parts that do not mix, on images that show their index."""

from __future__ import annotations

import dataclasses
import resource
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config

from sedona_tf.data import DataRecord, SearchData, Source, TrainingData, load
from sedona_tf.errors import UserError

COUNT = 50
SIZES = {"batch_size": 10, "validation_batch_size": 5, "inner_steps": 2}


def indexed_source():
    """Images of one value, their index."""
    values = np.arange(COUNT, dtype=np.uint8)[:, None, None, None]
    images = np.broadcast_to(values, (COUNT, 4, 4, 1))
    return Source("indexed", images.copy(), (np.arange(COUNT) % 5).astype(np.int32), 5)


def indexed(**changes):
    """No crop."""
    return SearchData(
        indexed_source(), **{"fraction": 0.4, "seed": 1, **SIZES, "pad": 0, **changes}
    )


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


def test_every_epoch_of_every_seed_has_an_order_of_its_own():
    """The kernel itself takes seed and epoch modulo 256; with one permutation chi is 1.5."""
    orders, epochs = set(), 1_000
    for seed in (0, 256):
        data = indexed(batch_size=30, seed=seed, flip=False)
        # Each epoch is a batch; places within the part, since the parts differ.
        found = [shown(data, images) for images, _ in data.training(0, epochs)]
        places = np.searchsorted(data.train_indices, found)
        orders |= {row.tobytes() for row in places}
        counts = np.stack([np.bincount(column, minlength=30) for column in places.T])
        chi = np.square(counts - epochs / 30).sum() / (epochs / 30) / (29 * 30)
        assert chi == pytest.approx(1, abs=0.2)  # four standard deviations of a chi-square
    assert len(orders) == 2 * epochs


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


def resident() -> int:
    """Bytes of memory that this process has now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_evaluation_copies_no_images():
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 1_000, 1_000, 1), np.uint8)
    source = Source("large", images, np.zeros(COUNT, np.int32), 1)
    data = SearchData(source, **SIZES, test=lambda: source)
    before = resident()
    datasets = data.validation(), data.test()
    assert resident() - before < 0.1 * images.nbytes
    for dataset, first in zip(datasets, (data.validation_indices[0], 0), strict=True):
        shown = next(iter(dataset.unbatch()))[0]
        np.testing.assert_array_equal(shown, data.normalization(tf.constant(images[first])))


def test_a_run_knows_its_data_again():
    """With its record, splits are read when they are used, and must be the run's."""
    source, reads = indexed_source(), []

    def reader(name, source):
        return lambda: reads.append(name) or source

    def of_run(training=source, test=source, **changes):
        splits = {"source": reader("training", training), "test": reader("test", test)}
        return TrainingData(**splits, batch_size=10, **changes)

    first = of_run()
    assert reads == ["training", "test"]
    record = first.record
    half = dataclasses.replace(source, images=source.images // 2)
    swapped = dataclasses.replace(
        source, images=source.images[::-1].copy(), labels=source.labels[::-1].copy()
    )
    relabelled = dataclasses.replace(source, labels=(source.labels + 1) % 5)
    reads.clear()
    data = of_run(record=record)
    assert (data.steps_per_epoch, data.normalization) == (4, first.normalization)
    assert reads == []
    assert_same(flat(data.test()), flat(first.test()))
    assert reads == ["test"]
    assert_same(flat(data.training(3, 2)), flat(first.training(3, 2)))
    for other in (half, swapped, relabelled):
        data = of_run(training=other, record=record)
        assert_same(flat(data.test()), flat(first.test()))
        for use in (data.load, data.validation, lambda data=data: data.training(0, 1)):
            with pytest.raises(UserError, match="training split"):
                use()
        data = of_run(test=other, record=record)
        assert_same(flat(data.validation()), flat(first.validation()))
        for use in (data.load, data.test):
            with pytest.raises(UserError, match="test split"):
                use()


def test_the_record_of_a_run(tmp_path):
    record = indexed().record
    assert record.test is None and record.training_images == 30
    record.write(tmp_path)
    assert DataRecord.read(tmp_path) == record
    (tmp_path / "data.json").unlink()
    with pytest.raises(UserError, match="data.json"):
        DataRecord.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": np.zeros((50, 4, 5, 1), np.uint8)}, r"images are \(4, 5, 1\), not \(4, 4, 1\)"),
        ({"labels": np.full(50, 5, np.int32), "num_classes": 6}, "label 5, of 5 classes"),
    ],
)
def test_a_test_split_that_does_not_fit_is_refused_at_once(change, words):
    with pytest.raises(UserError, match=words) as caught:
        indexed(test=lambda: dataclasses.replace(indexed_source(), **change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch_size": 31}, "batch_size 31 is more than the 30 examples"),
        ({"validation_batch_size": 21}, "validation_batch_size 21 is more than the 20 examples"),
        ({"batch_size": 0}, "batch_size must be positive"),
        ({"validation_batch_size": -1}, "validation_batch_size must be positive"),
        ({"inner_steps": 0}, "inner_steps"),
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
    with pytest.raises(UserError, match="start_step"):
        getattr(indexed(), stream)(-1, 1)
    with pytest.raises(UserError, match="steps"):
        getattr(indexed(), stream)(0, 0)
