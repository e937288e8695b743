"""What every kind of auxiliary network has to do; a new kind is tested by being registered."""

from __future__ import annotations

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from sedona_tf.auxiliary import Candidate, build_auxiliary, candidates_from, kinds, register
from sedona_tf.errors import UserError

CLASSES = 5
LABELS = tf.constant([0, 4, 2, 2])


def required(kind: str) -> dict:
    """A value for every option that the kind needs."""
    options = kinds[kind].options.items()
    return {name: option.type(2) for name, option in options if option.required}


CANDIDATES = [
    *(Candidate(kind, tuple(required(kind).items())) for kind in kinds),
    Candidate("separable", (("depth", 3), ("loss", "predsim"), ("kernel", 5))),
    Candidate("separable", (("depth", 3), ("features", 7), ("width_ratio", 0.5))),
]
every_candidate = pytest.mark.parametrize("candidate", CANDIDATES, ids=str)


def build(candidate: Candidate, shape: tuple[int, ...], narrow: bool = True) -> keras.Model:
    """The candidate's network for features of that shape."""
    backbone = SimpleNamespace(
        units=[SimpleNamespace(output_shape=(None, *shape))],
        num_classes=CLASSES,
        narrow_auxiliary=narrow,
    )
    return build_auxiliary(candidate, backbone, 0, "aux_1_1")


def features(shape: tuple[int, ...], seed: int = 0) -> tf.Tensor:
    values = np.random.default_rng(seed).standard_normal((len(LABELS), *shape))
    return tf.constant(values, keras.config.floatx())


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 520), (3, 5, 6), (8, 2, 1), (32, 32, 24)], ids=str
)
@every_candidate
def test_any_feature_size(candidate, shape, narrow):
    net = build(candidate, shape, narrow)
    assert net.name == "aux_1_1" and net.trainable_variables
    for x in (features(shape), tf.zeros((len(LABELS), *shape))):  # also where nothing varies
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = net(x, training=True)
            loss = candidate.resolved_kind.loss(outputs, LABELS, 0.1)
        assert candidate.resolved_kind.logits(outputs).shape == (len(LABELS), CLASSES)
        assert loss.shape == () and np.isfinite(loss)
        gradients = tape.gradient(loss, [x, *net.trainable_variables])
        assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


@every_candidate
def test_every_weight_is_trained_and_labels_count(candidate):
    # So large that normalisation sees more than the four values of a 1x1 map, whose gradients are
    # nearly zero.
    net, x = build(candidate, (8, 8, 8)), features((8, 8, 8))
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = net(x, training=True)
        loss = candidate.resolved_kind.loss(outputs, LABELS, 0.0)
    gradients = tape.gradient(loss, [x, *net.trainable_variables])
    assert all(np.any(gradient.numpy() != 0.0) for gradient in gradients)
    assert candidate.resolved_kind.loss(outputs, LABELS[::-1], 0.0) != loss


@every_candidate
def test_outputs_of_two_can_be_mixed(candidate):
    x = features((4, 4, 8))
    first, second = (build(candidate, (4, 4, 8))(x) for _ in range(2))
    mixed = tf.nest.map_structure(lambda a, b: 0.25 * a + 0.75 * b, first, second)
    logits = candidate.resolved_kind.logits
    expected = 0.25 * logits(first) + 0.75 * logits(second)
    np.testing.assert_allclose(logits(mixed), expected, rtol=1e-6)
    assert candidate.resolved_kind.loss(mixed, LABELS, 0.0).shape == ()


@every_candidate
def test_config_round_trip(candidate):
    shape = (3, 5, 6)
    net, x = build(candidate, shape), features(shape)
    net(features(shape, seed=1), training=True)  # moving statistics of their own
    again = keras.Model.from_config(net.get_config())
    assert again.get_config() == net.get_config()
    again.set_weights(net.get_weights())
    tf.nest.map_structure(np.testing.assert_array_equal, again(x), net(x))


@pytest.mark.parametrize("size", [(1, 1), (3, 5)], ids=str)
@every_candidate
def test_second_derivative_against_finite_differences(candidate, size, float64):
    """Hessian times a direction, of features and weights together, in training mode."""
    shape = (*size, 4)
    net, x = build(candidate, shape, narrow=False), features(shape)
    rng = np.random.default_rng(2)
    for variable in net.trainable_variables:  # off the special values that weights start with
        variable.assign(0.5 * rng.standard_normal(variable.shape))
    point = [x, *(tf.convert_to_tensor(v.value) for v in net.trainable_variables)]
    state = [v.value for v in net.non_trainable_variables]
    direction = [rng.standard_normal(part.shape) for part in point]
    # of length 1, so that a step is short against the distance to the next kink of a ReLU
    length = np.sqrt(sum(np.sum(part**2) for part in direction))
    direction = [tf.constant(part / length) for part in direction]

    @tf.function(autograph=False)
    def derivatives(point):
        with tf.GradientTape() as outer:
            outer.watch(point)
            with tf.GradientTape() as inner:
                inner.watch(point)
                outputs, _ = net.stateless_call(point[1:], state, point[0], training=True)
                loss = candidate.resolved_kind.loss(outputs, LABELS, 0.1)
            gradient = inner.gradient(loss, point)
            along = tf.add_n(
                [tf.reduce_sum(g * v) for g, v in zip(gradient, direction, strict=True)]
            )
        return gradient, outer.gradient(along, point, unconnected_gradients="zero")

    def flat(parts) -> np.ndarray:
        return np.concatenate([part.numpy().ravel() for part in parts])

    step = 1e-5  # error about step**2 times the third derivative plus 1e-16 / step
    high, low = (
        flat(derivatives([p + sign * step * v for p, v in zip(point, direction, strict=True)])[0])
        for sign in (1.0, -1.0)
    )
    product = flat(derivatives(point)[1])
    assert np.max(np.abs(product)) > 1e-3
    np.testing.assert_allclose(
        product, (high - low) / (2 * step), rtol=0, atol=1e-6 * np.max(np.abs(product))
    )


@pytest.mark.parametrize("kind", kinds)
def test_options_of_a_candidate(kind):
    good = tuple(required(kind).items())
    candidate = Candidate(kind, good)
    assert Candidate.from_dict(candidate.to_dict()) == candidate
    assert str(candidate) == (f"{kind}(depth=2)" if good else kind)
    with pytest.raises(UserError, match="dephts") as caught:
        Candidate(kind, (*good, ("dephts", 2)))
    assert "\n" not in str(caught.value)
    for name, option in kinds[kind].options.items():
        others = tuple(item for item in good if item[0] != name)
        if option.required:
            with pytest.raises(UserError, match=name):
                Candidate(kind, others)
        else:
            assert Candidate(kind, (*others, (name, option.default))) == candidate
        for wrong in (-1, -0.5, float("nan"), "2", None, True, [2]):
            with pytest.raises(UserError, match=name):
                Candidate(kind, (*others, (name, wrong)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("depth", 0),
        ("width_ratio", 1.1),
        ("width_ratio", 1),
        ("features", 0),
        ("kernel", 4),
        ("loss", "cross_entrop"),
    ],
)
def test_values_of_a_separable_nets_options(name, value):
    options = tuple(({"depth": 1} | {name: value}).items())
    with pytest.raises(UserError, match=name):
        Candidate("separable", options)


def test_candidates_that_mean_the_same_are_equal():
    given = {"width_ratio": 0.0, "loss": "predsim", "kernel": 3, "features": 512, "depth": 2}
    candidate = Candidate("separable", tuple(given.items()))
    assert candidate == Candidate("separable", (("depth", 2), ("loss", "predsim")))
    assert candidate.to_dict() == {"kind": "separable", "depth": 2, "loss": "predsim"}
    assert candidate.settings == given
    assert str(candidate) == "separable(depth=2, loss=predsim)"
    same = {"kind": "separable", "depth": 1}
    with pytest.raises(UserError, match="must differ"):
        candidates_from([same, same | {"features": 512}])


def test_names_and_mixtures_of_kinds():
    with pytest.raises(UserError, match="predsim"):
        Candidate("predsin")
    with pytest.raises(UserError, match="mlp_sr"):
        register("mlp_sr", kinds["mlp_sr"])
    with pytest.raises(UserError, match="loss"):
        candidates_from([{"kind": "mlp_sr"}, {"kind": "predsim"}])
    net = {"kind": "separable", "depth": 1}
    with pytest.raises(UserError, match="loss"):
        candidates_from([net, net | {"loss": "predsim"}])
    assert len(candidates_from([{"kind": "predsim"}, net | {"loss": "predsim"}])) == 2
    with pytest.raises(UserError, match="must differ"):
        candidates_from([{"kind": "predsim"}, {"kind": "predsim"}])
