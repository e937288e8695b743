"""Counts of parameters and what every backbone has."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from sedona_tf import backbones

# torchvision's counts; its VGG convolutions have biases, which normalisation makes idle.
WELL_KNOWN = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "vgg11": 132_868_840 - 2_752,
    "vgg13": 133_053_736 - 2_944,
    "vgg16": 138_365_992 - 4_224,
    "vgg19": 143_678_248 - 5_504,
}
UNITS = {"resnet18": 8, "resnet34": 16, "resnet50": 16, "resnet101": 33, "resnet152": 50} | {
    f"vgg{depth}": depth - 3 for depth in (11, 13, 16, 19)
}


def count(backbone) -> int:
    return sum(int(np.prod(v.shape)) for v in backbone.trainable_variables)


DEEP = ("resnet101", "resnet152")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in DEEP else [])
        for name in backbones.names()
    ],
)
def test_number_of_units(name):
    backbone = backbones.build(name, (32, 32, 3), 10, width=4)
    assert len(backbone.units) == UNITS[name]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg11"])
def test_well_known_counts(name):
    assert count(backbones.build(name, (224, 224, 3), 1000, 64, "imagenet")) == WELL_KNOWN[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(WELL_KNOWN) - {"resnet18", "resnet50", "vgg11"}))
def test_all_well_known_counts(name):
    assert count(backbones.build(name, (224, 224, 3), 1000, 64, "imagenet")) == WELL_KNOWN[name]


def test_saves_and_loads(tmp_path):
    backbone = backbones.build("resnet18", (9, 7, 1), 4, width=4)
    images = np.random.default_rng(0).standard_normal((3, 9, 7, 1)).astype("float32")
    backbone.save(tmp_path / "backbone.keras")
    loaded = keras.models.load_model(tmp_path / "backbone.keras")
    assert [unit.name for unit in loaded.units] == [unit.name for unit in backbone.units]
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), backbone.predict(images, verbose=0)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet5O"}, "resnet50"),
        ({"stem": "imagnet"}, "imagenet"),
        ({"input_shape": (32, 32)}, "input_shape"),
        ({"num_classes": 1}, "num_classes"),
        ({"width": 0}, "width"),
        ({"name": "vgg11", "input_shape": (8, 8, 1)}, "32x32"),
    ],
)
def test_refuses(arguments, message):
    good = {"name": "resnet18", "input_shape": (8, 8, 1), "num_classes": 10}
    with pytest.raises(ValueError, match=message):
        backbones.build(**{**good, **arguments})
