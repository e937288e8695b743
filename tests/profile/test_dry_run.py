"""Dry runs: every recipe, and the costs against figures counted by hand."""

from __future__ import annotations

import dataclasses
import runpy
import time
from pathlib import Path

import pytest

from sedona_tf import backbones, data, decouple, plans
from sedona_tf.errors import UserError
from sedona_tf.profile import dry_run as module
from sedona_tf.profile.dry_run import BlockCost, DryRun, block_counts, dry_run

ROOT = Path(__file__).parents[2]
SLOW = pytest.mark.slow


def recipe(name: str, variant: str = ""):
    config = runpy.run_path(str(ROOT / f"recipes/{name}.py"))["get_config"](variant)
    config.deterministic = False  # could not be switched off for the tests that follow
    return config


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("digits", ""),
        ("fashion_mnist", ""),
        ("fashion_mnist_resnet18", ""),
        ("cifar10", "smoke"),
        ("tiny_imagenet", "smoke"),
        ("imagenet", "smoke"),
        *(pytest.param(name, "smoke", marks=SLOW) for name in ("digits", "fashion_mnist")),
        pytest.param("fashion_mnist_resnet18", "smoke", marks=SLOW),
        pytest.param("imagenet", "", marks=SLOW),  # ResNet-50, 224 x 224 pixels
        *(pytest.param(name, "", marks=SLOW) for name in ("cifar10", "tiny_imagenet")),
    ],
)
def test_every_recipe(name, variant):
    found = dry_run(recipe(name, variant), method="dgl", num_blocks=2, batch_size=2)
    assert len(found.blocks) == 2 and found.tried_batch_size == 2
    assert all(block.flops > 0 and block.parameters > 0 for block in found.blocks)
    assert 0 < found.step_seconds < 600
    text = str(found)
    assert f"an epoch of {found.images:,} images" in text and "dgl: " in text
    assert " at width " in text


@SLOW
@pytest.mark.parametrize("network", ["resnet50", "resnet101", "resnet152"])
def test_published_decouplings_fit_imagenet(network):
    config = recipe("imagenet")
    config.backbone.name = network
    plan = str(ROOT / f"saved_plans/published/{network}_k4.json")
    found = dry_run(config, plan=plan, num_blocks=4, batch_size=1)
    assert len(found.blocks) == 4 and "separable" in found.blocks[0].classifier


def test_networks_of_keras_have_no_width_and_can_join_units():
    config = recipe("cifar10", "smoke")
    config.backbone.name, config.backbone.max_units = "keras:MobileNet", 3
    found = dry_run(config, method="backprop", batch_size=2)
    assert [block.units for block in found.blocks] == [(1, 3)]
    assert str(found).startswith("backprop: keras_MobileNet, 32 x 32 x 3 pixels")


def test_all_recipes_are_covered():
    marks = next(mark for mark in test_every_recipe.pytestmark if mark.name == "parametrize")
    pairs = {tuple(getattr(each, "values", each)) for each in marks.args[1]}
    names = {path.stem for path in (ROOT / "recipes").glob("*.py")}
    assert pairs == {(name, variant) for name in names for variant in ("", "smoke")}


def test_the_digits_recipe_states_its_data():
    like = recipe("digits").data.dry_run
    source = data.load("digits", "train")
    assert (like.images, like.shape, like.classes) == (1438, source.images.shape[1:], 10)
    assert len(source.images) == like.images and source.num_classes == like.classes


@pytest.mark.parametrize("variant", ["cifar10", "tiny_imagenet", "imagenet"])
def test_smoke_variants_state_the_synthetic_data(variant):
    config = recipe(variant, "smoke")
    source = data.load(
        "synthetic", "train", limit=config.data.limit, image_size=config.data.image_size
    )
    assert config.data.dry_run.classes == source.num_classes
    stated = module.stated_data(config)
    assert stated.shape == source.images.shape[1:]
    assert stated.images == round(len(source.images) * (1 - config.train.validation_fraction))


def test_costs_of_one_block_by_hand():
    """VGG-11's convolutions and products, at width 4 on 32 x 32 pixels, 10 classes."""
    backbone = backbones.build("vgg11", (32, 32, 3), 10, width=4)
    (block,) = decouple(backbone, plans.uniform(backbone, 1, {})).blocks
    channels = (3, 4, 8, 16, 16, 32, 32, 32, 32)
    sides = (32, 16, 8, 8, 4, 4, 2, 2)
    convolutions = [
        2 * 9 * low * high * side**2
        for low, high, side in zip(channels, channels[1:], sides, strict=False)
    ]
    hidden = 64 * 4
    products = [2 * 32 * hidden, 2 * hidden * hidden, 2 * hidden * 10]
    exact = sum(convolutions) + sum(products)
    counts = block_counts(block, 1)
    assert counts.flops == exact

    # what normalisation reads and what the ReLU gave; what pooling gave; a little in the head
    outputs = [2 * high * side**2 for high, side in zip(channels[1:], sides, strict=True)]
    pools = [4 * 16**2, 8 * 8**2, 16 * 4**2, 32 * 2**2]
    least = 4 * (sum(outputs) + sum(pools))
    assert least < counts.kept_bytes < least + 4 * 12 * hidden


def test_activations_are_those_of_the_recipes_batch_and_not_of_weights(monkeypatch):
    """Statistics, and weights cast to half precision, do not grow with the batch."""
    monkeypatch.setattr(module, "_steps", lambda *_: (1.0, 1.0))
    kept = {}
    for batch in (16, 64):
        config = recipe("digits")
        config.train.precision, config.train.batch_size = "mixed_bfloat16", batch
        found = dry_run(config, method="dgl", num_blocks=2, batch_size=2)
        kept[batch] = found.blocks[1].activation_bytes
    once = (4 * kept[16] - kept[64]) / 3  # what is there whatever the batch
    weights = 2 * found.blocks[1].parameters
    assert 0 < once < weights / 20


def test_the_table_shows_a_blocks_figures():
    block = BlockCost((1, 3), "mlp_sr()", "CPU:0", 2_500_000, 29_000_000, 12 * 2**20)
    found = DryRun("a title", (block,), 100, 4, 8, 36.0, 2.0)
    assert found.epoch_hours == 0.125  # twelve and a half steps
    row = str(found).splitlines()[4].split()
    assert row == ["1", "1-3", "mlp_sr()", "CPU:0", "2.500", "7.25", "12.0"]
    assert "0.125 hours an epoch of 100 images on CPU:0" in str(found)


def test_estimate_and_images():
    start = time.perf_counter()
    found = dry_run(recipe("digits"), method="backprop", batch_size=1000)
    assert 0 < found.step_seconds < time.perf_counter() - start
    assert found.tried_batch_size == found.batch_size == 64  # at most the recipe's
    assert found.images == round(1438 * 0.9)
    assert len(found.blocks) == 1 and "one block" in found.title
    hours = dataclasses.replace(found, images=6400, step_seconds=36.0).epoch_hours
    assert hours == pytest.approx(1.0)  # 100 steps of 36 s
    backbone = backbones.build("resnet18", (8, 8, 1), 10, width=4)
    assert found.blocks[0].parameters == sum(
        int(variable.value.shape.num_elements()) for variable in backbone.trainable_variables
    )


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {"batch_size": 0}, "at least 1. Received: 0"),
        ({}, {"method": "sedona"}, "needs a plan"),
        ({}, {"devices": "GPU:7"}, "GPU:7"),
        ({"data.dry_run.shape": (8, 8)}, {}, r"data.dry_run must have"),
        ({"data.dry_run.classes": 1}, {}, r"data.dry_run must have"),
        ({"train.momentum": 1.0}, {}, "train.momentum"),
        ({"train.learning_rate": 1e30}, {}, "loss is nan after 3 steps on noise"),
    ],
)
def test_refuses(change, arguments, message):
    config = recipe("digits")
    config.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=message):
        dry_run(config, **({"method": "dgl", "num_blocks": 2} | arguments))
