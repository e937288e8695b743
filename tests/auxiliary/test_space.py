"""The space of auxiliary nets: its candidates, and what each option does to a separable net."""

from __future__ import annotations

import math
from types import SimpleNamespace

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf

from sedona_tf.auxiliary import AuxiliarySpace, Candidate, build_auxiliary, candidates_from
from sedona_tf.auxiliary.predsim import SpatialDeviation, predsim_loss
from sedona_tf.backbones import build as build_backbone
from sedona_tf.errors import UserError
from sedona_tf.plans import Decoupling
from sedona_tf.recipe import paper

WIDE = AuxiliarySpace(
    kind=("mlp_sr", "separable", "predsim"),
    depth=(1, 3),
    width_ratio=(0.0, 0.5),
    features=(512, 16, 64),
    kernel=(3, 5),
    loss=("cross_entropy", "predsim"),
)
SHAPE, CLASSES = (16, 12, 20), 7


def net(narrow: bool = True, seed: int = 0, **options) -> keras.Model:
    backbone = SimpleNamespace(
        units=[SimpleNamespace(output_shape=(None, *SHAPE))],
        num_classes=CLASSES,
        narrow_auxiliary=narrow,
    )
    keras.utils.set_random_seed(seed)
    return build_auxiliary(Candidate("separable", tuple(options.items())), backbone, 0, "aux")


def images(seed: int = 0) -> tf.Tensor:
    values = np.random.default_rng(seed).standard_normal((4, *SHAPE))
    return tf.constant(values, tf.float32)


def test_enumeration_is_the_product():
    found = WIDE.enumerate()
    assert len(found) == len(set(found)) == 2 * 2 * 3 * 2 * 2 + 2
    assert found[0] == Candidate("mlp_sr") and found[-1] == Candidate("predsim")
    texts = [str(candidate) for candidate in found]
    assert texts[1:4] == [
        "separable(depth=1)",
        "separable(depth=1, loss=predsim)",
        "separable(depth=1, kernel=5)",
    ]
    assert texts[-2] == "separable(depth=3, features=64, kernel=5, loss=predsim, width_ratio=0.5)"
    assert found == WIDE.enumerate()


def test_the_default_is_sedonas_four_and_the_recipes():
    found = candidates_from([candidate.to_dict() for candidate in AuxiliarySpace().enumerate()])
    assert list(map(str, found)) == [f"separable(depth={depth})" for depth in (1, 2, 3, 4)]
    assert AuxiliarySpace(**paper().search.space) == AuxiliarySpace()
    assert paper().search.candidates == 0


def test_sample():
    everything = WIDE.enumerate()
    found = WIDE.sample(9, seed=1)
    assert len(set(found)) == 9 and set(found) <= set(everything)
    assert list(found) == sorted(found, key=everything.index)
    assert found == WIDE.sample(9, seed=1) != WIDE.sample(9, seed=2)
    assert WIDE.sample(len(everything), seed=3) == everything
    drawn = {candidate for seed in range(40) for candidate in WIDE.sample(9, seed)}
    assert drawn == set(everything)  # one is missed with a chance of 50 (41/50)**40 = 0.02
    for count in (0, -1, 51):
        with pytest.raises(UserError, match="50"):
            WIDE.sample(count, seed=0)


def test_declaration_covers_the_space_and_no_more():
    hp = keras_tuner.HyperParameters()
    first = WIDE.declare(hp, "unit_1/")
    assert first == Candidate("mlp_sr") and hp.values == {"unit_1/kind": "mlp_sr"}
    names = {each.name for each in hp.space}
    options = ("kind", "depth", "width_ratio", "features", "kernel", "loss")
    assert names == {f"unit_1/{name}" for name in options}
    oracle = keras_tuner.oracles.RandomSearchOracle(
        objective=keras_tuner.Objective("error", "min"), hyperparameters=hp, seed=1
    )
    seen = set()
    for _ in range(1_000):  # each of 48 nets has a chance of 1 in 144: missed once in 20
        values = oracle.populate_space("0")["values"]
        again = keras_tuner.HyperParameters()
        again.values = values
        candidate = WIDE.declare(again, "unit_1/")
        for name, value in candidate.settings.items():
            assert values[f"unit_1/{name}"] == value
        assert len(values) == (6 if candidate.kind == "separable" else 1)
        seen.add(candidate)
    assert seen == set(WIDE.enumerate())


def test_what_has_one_value_is_fixed():
    hp = keras_tuner.HyperParameters()
    assert AuxiliarySpace().declare(hp) == Candidate("separable", (("depth", 1),))
    tuned = [each.name for each in hp.space if not isinstance(each, type(_fixed()))]
    assert tuned == ["depth"] and hp.values["features"] == 512


def _fixed():
    hp = keras_tuner.HyperParameters()
    hp.Fixed("any", 1)
    return hp.space[0]


def test_values_to_candidate_to_file(tmp_path):
    """Every candidate, and back from the file; a damaged option ends in one line."""
    backbone = build_backbone("resnet18", (8, 8, 1), CLASSES, width=4)
    path = tmp_path / "decoupling.json"
    for candidate in WIDE.enumerate():
        hp = keras_tuner.HyperParameters()
        hp.values = {"kind": candidate.kind, **candidate.settings}
        assert WIDE.declare(hp) == candidate
        Decoupling("resnet18", 8, (3,), (candidate.to_dict(),)).save(path)
        (read,) = Decoupling.load(path, backbone, 2).auxiliary
        assert Candidate.from_dict(read) == candidate
    for damage in ({"kernel": 4}, {"kernal": 3}, {"loss": "none"}, {"width_ratio": 7}):
        data = {"kind": "separable", "depth": 1, **damage}
        with pytest.raises(UserError, match="option") as error:
            Candidate.from_dict(data)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": ("separble",)}, "separable'"),
        ({"kind": "separable"}, "kind"),
        ({"depth": ()}, "depth"),
        ({"depth": (1, 1)}, r"\(1, 1\)"),
        ({"depth": (0, 1)}, "depth"),
        ({"depth": (1.0,)}, "depth"),
        ({"width_ratio": (0.5, 2)}, "width_ratio"),
        ({"kernel": (3, 4)}, "kernel"),
        ({"loss": ("cross_entropy", "mse")}, "mse"),
    ],
)
def test_refuses(fields, message):
    with pytest.raises(UserError, match=message) as error:
        AuxiliarySpace(**fields)
    assert "\n" not in str(error.value)


def test_lists_and_whole_ratios_are_taken():
    """As they come from JSON and from a command line."""
    space = AuxiliarySpace(depth=[1, 2], width_ratio=(0, 1))
    assert space.depth == (1, 2) and space.width_ratio == (0.0, 1.0)
    assert all(type(ratio) is float for ratio in space.width_ratio)
    assert len(space.enumerate()) == 4


def test_a_default_given_explicitly_changes_nothing():
    plain = net(depth=4)
    given = net(depth=4, width_ratio=0.0, features=512, kernel=3, loss="cross_entropy")
    assert plain.get_config() == given.get_config()
    for one, other in zip(plain.weights, given.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(plain(images()), given(images()))


@pytest.mark.parametrize(("narrow", "ratio"), [(True, 0.25), (False, 1.0)])
def test_the_backbones_own_widths_are_two_of_the_ratios(narrow, ratio):
    own, given = net(narrow=narrow, depth=4), net(narrow=not narrow, depth=4, width_ratio=ratio)
    assert own.get_config() == given.get_config()
    np.testing.assert_array_equal(own(images()), given(images()))


def parameters(depth: int, ratio: float, features: int, kernel: int) -> int:
    """Trainable ones, counted layer by layer from the definition."""
    channels, expansion = SHAPE[-1], max(round(1 / ratio), 1)
    width = max(math.floor(channels * ratio), 1)
    now = width
    total = channels * width + 2 * width + kernel**2 * width + 2 * width
    for layer in range(depth - 1):
        inner = now * expansion
        total += now * inner + 2 * inner if expansion > 1 else 0
        total += kernel**2 * inner + 2 * inner
        after = now + (width // 2 if expansion > 1 else width) if layer % 2 else now
        total += inner * after + 2 * after
        now = after
    return total + now * features + 2 * features + features * CLASSES + CLASSES


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("ratio", "features", "kernel"),
    [(0.25, 512, 3), (1.0, 512, 3), (0.5, 512, 3), (0.1, 512, 3), (0.25, 16, 3), (0.3, 64, 7)],
)
def test_number_of_parameters(depth, ratio, features, kernel):
    found = net(depth=depth, width_ratio=ratio, features=features, kernel=kernel)
    count = sum(math.prod(variable.shape) for variable in found.trainable_variables)
    assert count == parameters(depth, ratio, features, kernel)


def test_predsims_loss_is_the_two_put_together():
    """The plain net's logits; the convolution's map and its deviations by hand, in float64."""
    plain, both = net(depth=3), net(depth=3, loss="predsim")
    for one, other in zip(plain.weights, [w for w in both.weights if _shared(w)], strict=True):
        np.testing.assert_array_equal(one, other)
    outputs, x = both(images(), training=True), images()
    np.testing.assert_array_equal(outputs["logits"], plain(images(), training=True))
    kernel = both.get_layer("conv_similarity").kernel.numpy().astype(float)
    padded = np.pad(x.numpy().astype(float), ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width, _ = SHAPE
    convolved = sum(
        padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)
    )
    expected = convolved.reshape(4, height * width, -1).std(1, ddof=1)
    np.testing.assert_allclose(outputs["features"], expected, rtol=1e-5)
    np.testing.assert_allclose(  # the layer as PredSim's own net has it
        outputs["features"],
        SpatialDeviation()(both.get_layer("conv_similarity")(x)),
        rtol=1e-6,
    )
    labels = tf.constant([0, 6, 6, 2])
    kind = Candidate("separable", (("depth", 3), ("loss", "predsim"))).resolved_kind
    similarity = np.corrcoef(expected)
    match = np.mean((similarity - np.corrcoef(np.eye(CLASSES)[labels.numpy()])) ** 2)
    logits = np.asarray(outputs["logits"], float)
    log_probability = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    prediction = -np.mean(log_probability[np.arange(4), labels.numpy()])
    loss = kind.loss(outputs, labels, 0.1)
    np.testing.assert_allclose(loss, 0.99 * match + 0.01 * prediction, rtol=1e-4)
    assert kind.loss is predsim_loss and kind.logits(outputs) is outputs["logits"]


def _shared(weight: keras.Variable) -> bool:
    return "conv_similarity" not in weight.path
