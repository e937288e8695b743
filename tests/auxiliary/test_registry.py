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


def build(kind: str, shape: tuple[int, ...], narrow: bool = True) -> keras.Model:
    """The kind's network for features of that shape, every option 2."""
    options = tuple((name, of_type(2)) for name, of_type in kinds[kind].options.items())
    backbone = SimpleNamespace(
        units=[SimpleNamespace(output_shape=(None, *shape))],
        num_classes=CLASSES,
        narrow_auxiliary=narrow,
    )
    return build_auxiliary(Candidate(kind, options), backbone, 0, "aux_1_1")


def features(shape: tuple[int, ...], seed: int = 0) -> tf.Tensor:
    values = np.random.default_rng(seed).standard_normal((len(LABELS), *shape))
    return tf.constant(values, keras.config.floatx())


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize("channels", [1, 6, 520])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 2), (32, 32)], ids=str)
@pytest.mark.parametrize("kind", kinds)
def test_any_feature_size(kind, size, channels, narrow):
    if channels == 520 and size == (32, 32):
        channels = 24  # as wide as such a map gets in a test of seconds
    net, shape = build(kind, (*size, channels), narrow), (*size, channels)
    assert net.name == "aux_1_1" and net.trainable_variables
    for x in (features(shape), tf.zeros((len(LABELS), *shape))):  # also where nothing varies
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = net(x, training=True)
            loss = kinds[kind].loss(outputs, LABELS, 0.1)
        assert kinds[kind].logits(outputs).shape == (len(LABELS), CLASSES)
        assert loss.shape == () and np.isfinite(loss)
        gradients = tape.gradient(loss, [x, *net.trainable_variables])
        assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


@pytest.mark.parametrize("kind", kinds)
def test_every_weight_is_trained_and_labels_count(kind):
    net, x = build(kind, (4, 4, 8)), features((4, 4, 8))
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = net(x, training=True)
        loss = kinds[kind].loss(outputs, LABELS, 0.0)
    gradients = tape.gradient(loss, [x, *net.trainable_variables])
    assert all(np.any(gradient.numpy() != 0.0) for gradient in gradients)
    assert kinds[kind].loss(outputs, LABELS[::-1], 0.0) != loss


@pytest.mark.parametrize("kind", kinds)
def test_outputs_of_two_can_be_mixed(kind):
    x = features((4, 4, 8))
    first, second = (build(kind, (4, 4, 8))(x) for _ in range(2))
    mixed = tf.nest.map_structure(lambda a, b: 0.25 * a + 0.75 * b, first, second)
    logits = kinds[kind].logits
    expected = 0.25 * logits(first) + 0.75 * logits(second)
    np.testing.assert_allclose(logits(mixed), expected, rtol=1e-6)
    assert kinds[kind].loss(mixed, LABELS, 0.0).shape == ()


@pytest.mark.parametrize("size", [(8, 8), (3, 5)], ids=str)
@pytest.mark.parametrize("kind", kinds)
def test_config_round_trip(kind, size):
    shape = (*size, 6)
    net, x = build(kind, shape), features(shape)
    net(features(shape, seed=1), training=True)  # moving statistics of their own
    again = keras.Model.from_config(net.get_config())
    assert again.get_config() == net.get_config()
    again.set_weights(net.get_weights())
    tf.nest.map_structure(np.testing.assert_array_equal, again(x), net(x))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 4)], ids=str)
@pytest.mark.parametrize("kind", kinds)
def test_second_derivative_against_finite_differences(kind, size, float64):
    """Hessian times a direction, of features and weights together, in training mode."""
    shape = (*size, 4)
    net, x = build(kind, shape, narrow=False), features(shape)
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
                loss = kinds[kind].loss(outputs, LABELS, 0.1)
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
    good = tuple((name, of_type(2)) for name, of_type in kinds[kind].options.items())
    candidate = Candidate(kind, good)
    assert Candidate.from_dict(candidate.to_dict()) == candidate
    assert str(candidate) == (f"{kind}(depth=2)" if good else kind)
    with pytest.raises(UserError, match=f"unknown option of '{kind}' 'dephts'") as caught:
        Candidate(kind, (*good, ("dephts", 2)))
    assert "\n" not in str(caught.value)
    for name, of_type in kinds[kind].options.items():
        others = tuple(item for item in good if item[0] != name)
        with pytest.raises(UserError, match=f"'{kind}' needs the option '{name}'"):
            Candidate(kind, others)
        for wrong in (0, "2", None):
            with pytest.raises(UserError, match=f"must be a positive {of_type.__name__}"):
                Candidate(kind, (*others, (name, wrong)))


def test_names_and_mixtures_of_kinds():
    with pytest.raises(UserError, match="Did you mean 'predsim'"):
        Candidate("predsin")
    with pytest.raises(UserError, match="is taken"):
        register("mlp_sr", kinds["mlp_sr"])
    with pytest.raises(UserError, match="share one local loss"):
        candidates_from([{"kind": "mlp_sr"}, {"kind": "predsim"}])
    with pytest.raises(UserError, match="must differ"):
        candidates_from([{"kind": "predsim"}, {"kind": "predsim"}])
