"""The recipes that come with the package, and the checks of their fields."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from sedona_tf.data import load
from sedona_tf.errors import UserError
from sedona_tf.recipe import check_search, check_train, paper

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.py"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_have_a_smoke_variant(path):
    get_config = runpy.run_path(str(path))["get_config"]
    full, smoke = get_config(), get_config("smoke")
    assert full.name == smoke.name == path.stem
    assert (smoke.search.pretraining_steps, smoke.search.steps, smoke.search.snapshots) == (4, 3, 3)
    assert full.search.steps >= 150
    for config in (full, smoke):
        check_search(config)
    with pytest.raises(ValueError, match="smok"):
        get_config("smok")


COMMON = [("seed", -1), ("seed", 2**31), ("data.limit", -1), ("data.pad", -1)]


@pytest.mark.parametrize(
    ("check", "field", "value"),
    [
        (check_search, "search.learning_rate", 0.0),
        (check_search, "search.momentum", 1.0),
        (check_search, "search.label_smoothing", -0.1),
        (check_search, "search.weight_decay", -1.0),
        (check_search, "search.inner_steps", 0),
        (check_search, "search.checkpoint_every", 0),
        (check_search, "search.candidates", -1),
        (check_search, "search.validation_batch_size", 0),
        (check_search, "data.validation_fraction", 1.0),
        (check_train, "train.batch_size", 0),
        (check_train, "train.validation_fraction", 0.0),
        *((check, *each) for check in (check_search, check_train) for each in COMMON),
    ],
)
def test_refuses_numbers_out_of_range(check, field, value):
    config = paper()
    check(config)
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=field):
        check(config)


def test_refuses_an_unknown_schedule():
    config = paper()
    config.train.schedule = "pipe"
    with pytest.raises(UserError, match="pipelined"):
        check_train(config)


def test_tiny_imagenet_is_converted_for_tensorflow_datasets(tmp_path):
    """A folder like the archive's, of two classes; read as training does, in another process."""
    folder, data_dir = tmp_path / "tiny-imagenet-200", tmp_path / "data"
    rng, lines = np.random.default_rng(0), []
    for number, name in enumerate(("n02", "n01")):  # wnids.txt gives the labels' order
        for split, count in ((f"train/{name}/images", 3), ("val/images", 1)):
            (folder / split).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                pixels = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8) + np.uint8(120 * number)
                content = tf.io.encode_jpeg(pixels).numpy()
                (folder / split / f"{name}_{index}.JPEG").write_bytes(content)
        lines.append(f"{name}_0.JPEG\t{name}\t0\t0\t63\t63\n")
    (folder / "wnids.txt").write_text("n02\nn01\n")
    (folder / "val/val_annotations.txt").write_text("".join(lines))
    script = next(path for path in RECIPES if path.stem == "tiny_imagenet")
    done = subprocess.run(
        [sys.executable, str(script), str(folder), str(data_dir)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for split, count in (("train", 6), ("test", 2)):
        source = load("tiny_imagenet", split, data_dir=str(data_dir))
        assert source.images.shape == (count, 64, 64, 3) and source.num_classes == 2
        brightness = source.images.mean(axis=(1, 2, 3))
        np.testing.assert_array_equal(source.labels, (brightness > 90).astype(int))


@pytest.mark.parametrize("check", [check_search, check_train])
def test_refuses_what_is_missing_or_of_another_type(check):
    section = check.__name__.removeprefix("check_")

    def refused(change, *words):
        config = paper()
        with config.unlocked():
            change(config)
        with pytest.raises(UserError) as error:
            check(config)
        assert all(word in str(error.value) for word in words), error.value

    for name in (section, "data", "backbone", "seed", "name", f"{section}.batch_size"):
        *outer, last = name.split(".")
        refused(lambda c: (c[outer[0]] if outer else c).__delitem__(last), name)  # noqa: B023
    for name, value in (
        (f"{section}.batch_size", None),
        (f"{section}.batch_size", 2.0),
        (f"{section}.momentum", "0.9"),
        (f"{section}.momentum", float("nan")),
        ("data.flip", 1),
        ("data.source", None),
        ("data.dry_run.shape", 8),
        (section, 3),
        ("name", None),
    ):
        *outer, last = name.split(".")

        def change(config, outer=outer, last=last, value=value):
            for each in outer:
                config = config[each]
            del config[last]
            config[last] = value

        refused(change, name, repr(value))
    refused(lambda c: c.backbone.update(widht=8), "widht", "Did you mean 'width'")
    for change in (
        lambda c: c.__delitem__("train" if section == "search" else "search"),
        lambda c: c[section].update(weight_decay=1, learning_rate=1),
        lambda c: c.update(note="a field of the user's own"),
        lambda c: c.__setitem__("data", c.data.to_dict()),
    ):
        config = paper()
        with config.unlocked():
            change(config)
        check(config)
