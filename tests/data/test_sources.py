"""Sources: totals, reproducibility, and each refusal in one line."""

from __future__ import annotations

import dataclasses
import socket
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from sedona_tf import recipe
from sedona_tf.data import Source, catalogue, load, load_section, stratified_subset
from sedona_tf.data.resizing import resize
from sedona_tf.errors import UserError

IMAGES = np.zeros((4, 3, 3, 1), np.float32)
LABELS = np.array([0, 1, 2, 1], np.int32)


def test_digits():
    train, test = load("digits", "train"), load("digits", "test")
    assert len(train.labels) + len(test.labels) == 1797
    counts = np.bincount(np.concatenate([train.labels, test.labels]))
    np.testing.assert_array_equal(
        np.bincount(test.labels), [round(0.2 * int(count)) for count in counts]
    )
    assert train.images.shape == (len(train.labels), 8, 8, 1)
    assert (train.images.dtype, train.labels.dtype) == (np.uint8, np.int32)
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert len(np.unique(train.images)) == 17
    np.testing.assert_array_equal(load("digits", "train").images, train.images)


def test_synthetic_is_learnable_and_seeded():
    train, test = load("synthetic", "train"), load("synthetic", "test", limit=200)
    assert train.images.shape == (1024, 32, 32, 3)
    assert train.images.dtype == np.uint8
    assert np.ptp(np.bincount(train.labels)) <= 1
    np.testing.assert_array_equal(load("synthetic", "train").images, train.images)
    means = np.stack([train.images[train.labels == one].mean(0) for one in range(10)])
    distances = np.square(test.images[:, None] - means[None]).sum((2, 3, 4))
    np.testing.assert_array_equal(distances.argmin(1), test.labels)
    small = load("synthetic", "train", image_size=5, limit=7, num_classes=3)
    assert (small.images.shape, small.num_classes) == ((7, 5, 5, 3), 3)


def test_limit_and_image_size():
    source = load("digits", "train", limit=100, image_size=12)
    assert source.images.shape == (100, 12, 12, 1)
    assert source.images.dtype == np.uint8
    counts = np.bincount(source.labels)
    assert counts.sum() == 100
    everything = load("digits", "train").labels
    # Largest remainders round each class's share up or down.
    assert (np.abs(counts - 100 * np.bincount(everything) / len(everything)) < 1).all()


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_what_would_fill_the_memory_is_refused(name):
    with pytest.raises(UserError, match="4 GiB"):
        load(name, "train", limit=1_000, image_size=10_000)


def test_as_stored_leaves_out_the_resizing():
    given = {"limit": 50, "as_stored": True}
    stored = load("digits", "train", image_size=12, **given)
    np.testing.assert_array_equal(stored.images, load("digits", "train", limit=50).images)
    assert load("synthetic", "train", image_size=5, **given).images.shape == (50, 5, 5, 3)


def test_resize_against_block_means():
    # An antialiased triangle of half-width 2 over pixels weighs (1, 3, 3, 1) / 8 inside.
    row = np.array([0, 8, 80, 16, 240, 0, 40, 8], np.uint8)
    image = np.broadcast_to(row[None, None, :, None], (1, 8, 8, 1)).copy()
    inner = np.array([row[start : start + 4] @ [1, 3, 3, 1] / 8 for start in (1, 3)])
    result = resize(image, 4)
    assert result.dtype == np.uint8
    # 1/2: rounding to integers.
    np.testing.assert_allclose(result[0, 0, 1:3, 0], inner, atol=0.5)
    np.testing.assert_array_equal(resize(image, 8), image)


def test_source_accepts_both_types():
    assert Source("mine", IMAGES, LABELS, 3).num_classes == 3
    assert Source("mine", IMAGES.astype(np.uint8), LABELS, 9).num_classes == 9


REFUSED = {
    "label above": ({"num_classes": 2}, "image 2 has label 2"),
    "label below": ({"labels": LABELS - 1}, "image 0 has label -1"),
    "count": ({"labels": LABELS[:3]}, "4 images, 3 labels"),
    "rank": ({"images": IMAGES[..., 0]}, r"shape \(4, 3, 3\)"),
    "empty": ({"images": IMAGES[:0], "labels": LABELS[:0]}, "no images"),
    "nan": ({"images": np.where(np.arange(4) == 2, np.nan, 0)}, "image 2 is not finite"),
    "infinite": ({"images": np.where(np.arange(4) == 1, np.inf, 0)}, "image 1 is not finite"),
    "type": ({"images": IMAGES.astype(np.float64)}, "images are float64"),
    "label type": ({"labels": LABELS.astype(np.float32)}, "labels are float32"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_source_refuses(case):
    change, words = REFUSED[case]
    if case in ("nan", "infinite"):
        change = {"images": IMAGES + change["images"].astype(np.float32)[:, None, None, None]}
    with pytest.raises(UserError, match=words) as caught:
        dataclasses.replace(Source("mine", IMAGES, LABELS, 3), **change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"split": "tset"}, "'test'"),
        ({"limit": -1}, "limit"),
        ({"image_size": -1}, "image_size"),
        ({"num_classes": 0}, "num_classes"),
        ({"num_classes": 5}, r"'digits': image \d+ has label [5-9]\."),
    ],
)
def test_load_refuses(arguments, words):
    with pytest.raises(UserError, match=words):
        load("digits", **{"split": "train", **arguments})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    tfds = pytest.importorskip("tensorflow_datasets")
    folder = tmp_path_factory.mktemp("tfds")
    examples = [
        {"image": np.full((4, 4, 3), index, np.uint8), "label": index % 3} for index in range(9)
    ]
    sizes = [{**one, "image": one["image"][: 2 + one["label"]]} for one in examples]
    labelled = {"image": tfds.features.Image(shape=(None, None, 3))}
    for name, content in (("tiny_same", examples), ("tiny_mixed", sizes)):
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            features=tfds.features.FeaturesDict(
                {**labelled, "label": tfds.features.ClassLabel(num_classes=3)}
            ),
            split_datasets={"train": list(enumerate(content))},
            data_dir=folder,
        )
    return str(folder)


def supervise(monkeypatch):
    """Ad hoc builders cannot name their pair of image and label; those of the catalogue do."""
    from tensorflow_datasets.core import dataset_info

    keys = property(lambda self: ("image", "label"))
    monkeypatch.setattr(dataset_info.DatasetInfo, "supervised_keys", keys)


def test_catalogue_reads_a_prepared_data_set(prepared, monkeypatch):
    supervise(monkeypatch)
    source = load("tiny_same", "train", data_dir=prepared)
    assert (source.images.shape, source.num_classes) == ((9, 4, 4, 3), 3)
    np.testing.assert_array_equal(source.images[:, 0, 0, 0] % 3, source.labels)
    assert load("tiny_mixed", "train", data_dir=prepared, image_size=4).images.shape[1:3] == (4, 4)
    stored = load("tiny_same", "train", data_dir=prepared, image_size=6, as_stored=True)
    assert stored.images.shape[1:3] == (6, 6)  # it declares (None, None, 3)
    with pytest.raises(UserError, match="image_size"):
        load("tiny_mixed", "train", data_dir=prepared)
    with pytest.raises(UserError, match="'none'") as caught:
        load("tiny_same", "none", data_dir=prepared)
    assert "\n" not in str(caught.value)


def test_catalogue_without_pairs(prepared):
    with pytest.raises(UserError, match="tiny_same"):
        load("tiny_same", "train", data_dir=prepared)


def test_catalogue_without_a_test_split(prepared, monkeypatch):
    """Refused with the splits that there are; the recipe may name other parts."""
    supervise(monkeypatch)
    settings = recipe.paper().data
    settings.source, settings.data_dir, settings.image_size = "tiny_same", prepared, 4
    with pytest.raises(UserError, match="test_split"):
        load_section(settings, "test")
    settings.train_split, settings.test_split = "train[:6]", "train[6:]"
    values = [load_section(settings, s).images[:, 0, 0, 0].tolist() for s in ("train", "test")]
    assert [len(each) for each in values] == [6, 3]
    assert sorted(values[0] + values[1]) == list(range(9))


def test_a_limit_is_what_is_decoded(prepared, monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")
    supervise(monkeypatch)
    whole = load("tiny_same", "train", data_dir=prepared)
    decoded, decode = [], tfds.features.Image.decode_example

    def count(self, example):
        result = decode(self, example)
        tf.py_function(lambda: decoded.append(1), [], [])
        return result

    monkeypatch.setattr(tfds.features.Image, "decode_example", count)
    few = load("tiny_same", "train", data_dir=prepared, limit=3)
    chosen = stratified_subset(whole.labels, 3)
    np.testing.assert_array_equal(few.images, whole.images[chosen])
    np.testing.assert_array_equal(few.labels, whole.labels[chosen])
    assert len(decoded) == 3
    mixed = load("tiny_mixed", "train", data_dir=prepared, limit=3, image_size=5)
    assert mixed.images.shape == (3, 5, 5, 3)


def test_catalogue_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # Makes its import fail.
    assert load("digits", "test").num_classes == 10
    with pytest.raises(UserError, match="'digits'.*pip install"):
        load("digit", "train")


def test_catalogue_offline_and_unknown(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(UserError, match="nothing_like_it") as caught:
        load("nothing_like_it", "train", data_dir=str(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="folder"):
        load("mnist", "train", data_dir=str(tmp_path / "none"))

    def unresolved(*arguments):
        raise socket.gaierror("no name")

    monkeypatch.setattr(catalogue.urllib.request, "getproxies", dict)
    monkeypatch.setattr(catalogue.socket, "getaddrinfo", unresolved)
    with pytest.raises(UserError, match="no network") as caught:
        load("mnist", "train", data_dir=str(tmp_path))
    assert "\n" not in str(caught.value)


def test_catalogue_refuses_large_and_failed(monkeypatch):
    tfds = pytest.importorskip("tensorflow_datasets")

    def fail():
        raise OSError("checksum\nof many lines")

    fake = types.SimpleNamespace(
        info=types.SimpleNamespace(
            features={
                "image": tfds.features.Image(shape=(1024, 1024, 1)),
                "label": tfds.features.ClassLabel(num_classes=2),
            },
            supervised_keys=("image", "label"),
            splits={"train": types.SimpleNamespace(num_examples=4097)},
        ),
        data_dir="/somewhere",
        is_prepared=lambda: False,
        download_and_prepare=fail,
    )
    monkeypatch.setattr(tfds, "builder", lambda *arguments, **named: fake)
    for arguments in ({}, {"image_size": 2048, "limit": 1025}):
        with pytest.raises(UserError, match="4 GiB"):
            load("huge", "train", **arguments)
    monkeypatch.setattr(catalogue.urllib.request, "getproxies", lambda: {"https": "proxy"})
    with pytest.raises(UserError, match="checksum"):
        load("huge", "train", limit=4096)
