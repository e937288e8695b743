"""Backbone.from_keras: the model's function and weights, its cuts, and what it refuses."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from sedona_tf import Backbone, Plan, backbones, decouple, plans
from sedona_tf.auxiliary import Candidate
from sedona_tf.errors import UserError
from sedona_tf.search.search_model import SearchModel

# Numbers found at first, which the brute force below confirms; a change would break plans.
UNITS = {"ResNet50": 17, "MobileNetV2": 32, "EfficientNetB0": 38, "DenseNet121": 62, "VGG16": 13}
LARGE = ("ResNet50", "DenseNet121")
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in UNITS
    ],
)
def pair(request) -> tuple[str, keras.Model, Backbone]:
    """An architecture with weights unlike any initial ones, and the backbone made of it."""
    keras.utils.set_random_seed(1)
    function = getattr(keras.applications, request.param)
    model = function(weights=None, input_shape=(32, 32, 3), classes=10)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(weight.numpy() * rng.uniform(0.7, 1.3, weight.shape))
    model.get_layer("predictions").bias.assign(rng.standard_normal(10))
    return request.param, model, Backbone.from_keras(model)


def images(size: int = 32, channels: int = 3, count: int = 4) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, size, size, channels)).astype("float32")


def test_computes_what_the_model_does(pair):
    name, model, backbone = pair
    # EfficientNet's dropout differs from call to call in training.
    for training in (False,) if name == "EfficientNetB0" else (False, True):
        expected = model(images(), training=training)
        actual = tf.nn.softmax(backbone(images(), training=training))
        np.testing.assert_allclose(actual, expected, atol=1e-6)
        assert np.ptp(expected) > 0.05


def test_weights_are_the_models(pair):
    _, model, backbone = pair
    assert set(map(id, backbone.variables)) == set(map(id, model.variables))
    mine, theirs = backbone.trainable_variables, model.trainable_variables
    assert set(map(id, mine)) == set(map(id, theirs)) and len(mine) == len(theirs)


def parents_of(model: keras.Model) -> dict[str, set[str]]:
    """The layers each layer takes its inputs from, read from the saved form of the model."""
    return {
        layer["name"]: set(re.findall(r"'keras_history': \['([^']+)'", str(layer["inbound_nodes"])))
        for layer in model.get_config()["layers"]
    }


def ancestors_of(name: str, parents: dict[str, set[str]], without: str = "") -> set[str]:
    found: set[str] = set()
    pending = [name]
    while pending:
        new = parents[pending.pop()] - found - {without}
        found |= new
        pending += new
    return found


def expected_ends(model: keras.Model) -> list[str]:
    """Brute force: layers without which nothing passes; of these, the ends of units."""
    parents = parents_of(model)
    first, last = model.layers[0].name, model.layers[-1].name
    single = [
        name
        for name in parents
        if name not in (first, last) and first not in ancestors_of(last, parents, without=name)
    ]
    ancestors = {name: ancestors_of(name, parents) for name in single}
    single.sort(key=lambda name: len(ancestors[name]))
    maps = list(
        itertools.takewhile(lambda name: len(model.get_layer(name).output.shape) > 2, single)
    )

    def learns(before: str | None, name: str) -> bool:
        inside = ancestors[name] | {name}
        if before is not None:
            inside -= ancestors[before] | {before}
        layers = [model.get_layer(one) for one in inside]
        return any("kernel" in weight.name for layer in layers for weight in layer.weights)

    begins = [learns(before, name) for before, name in zip([None, *maps], maps, strict=False)]
    return [
        name
        for index, name in enumerate(maps)
        if any(begins[: index + 1]) and (index + 1 == len(maps) or begins[index + 1])
    ]


def ends_of(backbone: Backbone) -> list[str]:
    return [unit.output_names[0] for unit in backbone.units]


def test_units_are_those_of_brute_force(pair):
    name, model, backbone = pair
    assert ends_of(backbone) == expected_ends(model)
    assert len(backbone.units) == UNITS[name]


@pytest.mark.parametrize("max_units", [None, 3])
def test_units_hold_all_layers_in_order(pair, max_units):
    _, model, backbone = pair
    ends = ends_of(backbone)
    if max_units is not None:
        backbone = Backbone.from_keras(model, max_units)
        assert len(backbone.units) == max_units and ends_of(backbone)[-1] == ends[-1]
        assert set(ends_of(backbone)) <= set(ends)
    parts = [*backbone.units, backbone.head]
    held = [[layer.name for layer in part.layers[1:]] for part in parts]
    names = [name for part in held for name in part]
    assert sorted(names) == sorted(layer.name for layer in model.layers[1:])
    place = {name: index for index, part in enumerate(held) for name in part}
    for name, parents in parents_of(model).items():
        for parent in parents & place.keys():
            assert place[parent] <= place[name]


@pytest.mark.parametrize("name, size", [("resnet18", 8), ("resnet50", 8), ("vgg11", 32)])
def test_finds_the_units_of_our_own_backbones(name, size):
    """Every unit is a model inside the model there, so this opens them up, too."""
    own = backbones.build(name, (size, size, 1), 10, width=4)
    found = Backbone.from_keras(own, name=name)
    count = len(own.units) + (name != "vgg11")  # the stem of a ResNet can be cut off
    assert len(found.units) == count
    np.testing.assert_array_equal(found(images(size, 1)), own(images(size, 1)))


def residual(**options) -> keras.Model:
    """A small residual network with dropout and Keras' normalisation."""
    layers = keras.layers
    x = start = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, padding="same", **options)(layers.Rescaling(2.0)(x))
    for index in range(2):
        y = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x))
        y = layers.Dropout(0.1, seed=index)(y)
        x = keras.ops.relu(x + y)
    x = layers.Dense(10, "softmax")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(start, x, name="residual")


def small_mobilenet() -> keras.Model:
    return keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=10)


@pytest.mark.parametrize("make", [residual, small_mobilenet])
def test_trains_in_blocks_and_loads_again(make, tmp_path):
    source = make()
    backbone = Backbone.from_keras(source, max_units=4)
    model = decouple(backbone, plans.baseline("dgl", backbone, 2))
    model.compile(keras.optimizers.SGD(0.01))
    size, channels = source.input_shape[1], source.input_shape[-1]
    before = source.layers[-1].kernel.numpy()
    history = model.fit(images(size, channels), np.arange(4), batch_size=4, verbose=0).history
    assert np.isfinite(history["loss"]).all() and np.isfinite(history["block_1_loss"]).all()
    assert np.any(source.layers[-1].kernel.numpy() != before)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded(images(size, channels)), model(images(size, channels)), atol=1e-6
    )
    assert Plan.fingerprint(loaded.backbone) == Plan.fingerprint(backbone)


@pytest.mark.parametrize("make, size, channels", [(residual, 8, 1), (small_mobilenet, 32, 3)])
def test_takes_a_step_of_a_search(make, size, channels):
    backbone = Backbone.from_keras(make(), max_units=2)
    model = SearchModel(backbone, [Candidate("separable", (("depth", 1),))])
    model.compile(keras.optimizers.Adam(0.1))
    before = model.alpha.numpy()
    x, y = images(size, channels), np.arange(4)
    logs = model.train_step(
        tf.nest.map_structure(
            tf.constant,
            {"train": (np.stack([x, x + 1]), np.stack([y, y])), "validation": (x, y)},
        )
    )
    assert all(np.isfinite(value) for value in logs.values())
    assert np.isfinite(model.alpha.numpy()).all() and np.any(model.alpha.numpy() != before)


def test_opens_up_a_base_model():
    base = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, include_top=False)
    layers = keras.layers
    start = keras.Input((32, 32, 3))
    model = keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(3)])
    model = keras.Model(start, model(base(layers.Rescaling(1 / 255)(start), training=False)))
    backbone = Backbone.from_keras(model)
    assert len(backbone.units) == UNITS["MobileNetV2"]
    for training in (False, True):
        expected = model(images(), training=training)
        np.testing.assert_allclose(backbone(images(), training=training), expected, atol=1e-6)


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


class Remembering(keras.layers.Layer):
    stateful = True

    def call(self, inputs):
        return inputs


def chain(*middle, shape=(8, 8, 1)) -> keras.Model:
    layers = keras.layers
    ends = [layers.GlobalAveragePooling2D(), layers.Dense(3)]
    return keras.Sequential(
        [keras.Input(shape), layers.Conv2D(4, 3, name="first"), *middle, *ends], name="chain"
    )


def shared() -> keras.Model:
    x = start = keras.Input((8, 8, 4))
    conv = keras.layers.Conv2D(4, 3, padding="same", name="twice")
    for _ in range(2):
        x = keras.layers.ReLU()(conv(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(start, keras.layers.Dense(3)(x))


def several(inputs: int, outputs: int) -> keras.Model:
    starts = [keras.Input((8, 8, 1)) for _ in range(inputs)]
    x = keras.layers.Add()(starts) if inputs > 1 else starts[0]
    x = keras.layers.Flatten()(x)
    return keras.Model(starts, [keras.layers.Dense(3)(x) for _ in range(outputs)])


def conv(**options) -> keras.layers.Layer:
    return keras.layers.Conv2D(4, 3, name="second", **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: keras.layers.Dense(3), "keras.Model"),
        (Subclassed, "Subclassed"),
        (lambda: keras.Sequential([conv()]), "keras.Input"),
        (lambda: several(2, 1), "2 inputs"),
        (lambda: several(1, 2), "2 outputs"),
        (
            lambda: keras.Sequential([keras.Input((9,)), keras.layers.Dense(3)]),
            r"\(9,\)",
        ),
        (
            lambda: keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(3, 8)]),
            r"\(1, 1, 3\)",
        ),
        (lambda: chain(conv(), shape=(None, None, 1)), "sizes"),
        (lambda: chain(), "'chain'"),
        (shared, "'twice'"),
        (lambda: chain(Remembering(name="odd"), conv()), "'odd' is stateful"),
        (lambda: chain(Subclassed(name="odd"), conv()), "'odd' is a model"),
        (lambda: chain(conv(kernel_regularizer="l2")), "'second'"),
        (lambda: chain(conv(activity_regularizer="l2")), "'second'"),
        (
            lambda: chain(
                keras.layers.MaxPooling2D(2, data_format="channels_first", name="odd"), conv()
            ),
            "'odd' has channels",
        ),
    ],
)
def test_refuses(make, message):
    with pytest.raises(UserError, match=message) as raised:
        Backbone.from_keras(make())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("max_units", [1, 2.0, True])
def test_refuses_numbers_of_units(max_units):
    with pytest.raises(UserError, match="max_units"):
        Backbone.from_keras(residual(), max_units=max_units)


def test_options_reach_the_backbone():
    backbone = Backbone.from_keras(residual(), name="mine", narrow_auxiliary=False)
    assert (backbone.name, backbone.narrow_auxiliary, backbone.num_classes) == ("mine", False, 10)
    assert Backbone.from_keras(residual()).name == "residual"
    assert Backbone.from_keras(residual()).narrow_auxiliary


def test_recipes_name_networks_of_keras():
    backbone = backbones.build("keras:MobileNetV3Small", (32, 32, 3), 7)
    assert backbone.name == "keras_MobileNetV3Small" and backbone.output_shape == (None, 7)
    layers = {type(layer) for part in [*backbone.units, backbone.head] for layer in part.layers}
    assert keras.layers.Rescaling not in layers
    assert tf.function(backbone)(images()).shape == (4, 7)


def test_recipes_join_units():
    joined = backbones.build("keras:MobileNetV3Small", (32, 32, 3), 7, max_units=3)
    all_of_them = backbones.build("keras:MobileNetV3Small", (32, 32, 3), 7)
    assert len(joined.units) == 3 < len(all_of_them.units)
    assert joined.count_params() == all_of_them.count_params()
    ends = [unit.output_shape for unit in all_of_them.units]
    assert [unit.output_shape for unit in joined.units][-1] == ends[-1]
    assert all(unit.output_shape in ends for unit in joined.units)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet18", {"max_units": 3}, "max_units"),
        ("keras:ResNet50", {"max_units": 1}, "max_units"),
        ("keras:ResNet50", {"max_units": -1}, "max_units"),
        ("keras:ResNet5O", {}, "ResNet50'"),
        ("keras:ResNet50", {"width": 64}, "64"),
        ("keras:ResNet50", {"stem": "imagenet"}, "'small'"),
        ("keras:ResNet50", {"input_shape": (8, 8, 3)}, "32x32"),
    ],
)
def test_refuses_networks_of_keras(name, options, message):
    with pytest.raises(UserError, match=message) as raised:
        backbones.build(**{"name": name, "input_shape": (32, 32, 3), "num_classes": 10, **options})
    assert "\n" not in str(raised.value)


def test_the_guides_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "bring-your-own-model.md").read_text(encoding="utf-8")
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    assert len(names["backbone"].units) == 4 and (tmp_path / "model.keras").exists()
