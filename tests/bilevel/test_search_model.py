"""SearchModel under fit and under several replicas."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from bilevel.networks import tiny_backbone
from sedona_tf.auxiliary import candidates_from
from sedona_tf.bilevel import SearchModel, State, relaxed_field
from sedona_tf.bilevel.field import validation_loss
from sedona_tf.callbacks import NanGuard
from sedona_tf.errors import UserError


def make_model() -> SearchModel:
    keras.utils.set_random_seed(11)
    candidates = candidates_from([{"kind": "separable", "depth": m} for m in (1, 2)])
    model = SearchModel(tiny_backbone(), candidates, learning_rate=0.05)
    model.compile()
    return model


def batches(seed: int = 3):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((3, 6, 6, 6, 2))
    y = rng.integers(0, 3, (3, 6)).astype("int32")
    return {"train": (x, y), "validation": (x[0] + 0.1, y[0])}


def test_parts_have_names_from_the_input_up():
    """What a diverging search names."""
    model = make_model()
    parts = model.variables_by_part()
    expected = []
    for number, unit in enumerate(model.supernet.backbone.units, 1):
        expected.append(f"unit {number} ('{unit.name}')")
        if number < len(model.supernet.backbone.units):
            nets = model.supernet.auxiliaries[number - 1]
            expected += [f"auxiliary net '{net.name}'" for net in nets]
    assert list(parts) == [*expected, "the head", "alpha", "beta"] and len(expected) > 3
    kept = {id(variable) for part in parts.values() for variable in part}
    assert kept >= {id(variable) for variable in model.trainable_variables}


def test_fit_alternates(float64):
    model = make_model()
    data = batches()
    before = model.snapshot()
    plain = tf.data.Dataset.from_tensors((data["train"][0][0], data["train"][1][0]))
    model.fit(plain.repeat(4), verbose=0, shuffle=False)
    assert np.all(model.alpha.numpy() == 0) and np.all(model.beta.numpy() == 0)
    assert np.any(model.snapshot()["weights"] != before["weights"])
    assert int(model.step_in_phase.value) == 4

    model.begin_phase(0.05)
    history = model.fit(
        tf.data.Dataset.from_tensors(data).repeat(2), verbose=0, shuffle=False
    ).history
    assert {"loss", "local_loss", "accuracy", "outer_loss", "outer_accuracy"} <= set(history)
    # Adam's first steps have the size of its learning rate wherever there is a gradient.
    assert np.all(np.abs(model.alpha.numpy()) > 1e-3)
    np.testing.assert_allclose(model.alpha.numpy().sum(axis=1), 0, atol=1e-12)


def test_hard_numbers_stay_finite_or_are_named():
    """Constant images, one class, p at 0 and 1 exactly, a wild learning rate: one traced step."""
    model, rate = make_model(), tf.Variable(0.05)
    model.begin_phase(lambda step: tf.convert_to_tensor(rate))
    guard = NanGuard("search", 0, model.variables_by_part())
    saved, (x, y) = model.snapshot(), batches()["train"]

    def search(steps, x, y):
        data = {"train": (x, y), "validation": (x[0] + 0.1, y[0])}
        model.restore(saved)
        batch = tf.data.Dataset.from_tensors(data)
        model.fit(batch.repeat(steps), verbose=0, shuffle=False, callbacks=[guard])

    x = x.astype("float32")
    for images, labels in ((x * 0 + 0.7, y), (x, y * 0 + 1), (x * 0, y * 0)):
        search(3, images, labels)
        state = [*model.snapshot().values(), *(v.numpy() for v in model.optimizer.variables)]
        assert all(np.isfinite(value).all() for value in state)

    model.alpha.assign([[200.0, -200.0], [-200.0, 200.0]])
    np.testing.assert_array_equal(model.cut_probability, [1.0, 0.0])
    search(1, x, y)
    assert all(np.isfinite(variable.numpy()).all() for variable in model.optimizer.variables)
    np.testing.assert_array_equal(model.cut_probability, [1.0, 0.0])

    rate.assign(1e6)  # the weights stay finite in inner steps, their gradient does not
    with pytest.raises(UserError, match=r"loss is nan at search step 1; the first .* is alpha;"):
        search(50, x, y)


def test_snapshot_restores_bit_for_bit():
    model = make_model()
    saved = model.snapshot()
    x, y = batches()["train"]
    model.fit(x[0].astype("float32"), y[0], verbose=0, batch_size=6)
    assert np.any(model.snapshot()["weights"] != saved["weights"])
    model.restore(saved)
    for name, value in model.snapshot().items():
        np.testing.assert_array_equal(value, saved[name])


def test_replicas_give_the_hypergradient_of_one(float64):
    """Each replica sees the same batch, so that batch statistics agree with one device's."""
    one = make_model()
    data = tf.nest.map_structure(tf.constant, batches())
    tf.function(lambda: one.train_step(data), autograph=False)()

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        two = make_model()
    tf.function(
        lambda: strategy.run(two.train_step, args=(data,)),
        autograph=False,
    )()
    # Adam hides the size of a gradient, so compare its first moment: 0.5 times the gradient.
    for mine, theirs in zip(one.optimizer.variables, two.optimizer.variables, strict=True):
        np.testing.assert_allclose(theirs.numpy(), mine.numpy(), rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(two.alpha.numpy(), one.alpha.numpy(), rtol=1e-8)
    weights = (each.snapshot()["weights"] for each in (two, one))
    np.testing.assert_allclose(*weights, rtol=1e-9, atol=1e-15)


def test_replicas_share_out_the_batches(float64):
    """Each has other images: finite differences of the mean of their outer losses."""
    shares = [tf.nest.map_structure(tf.constant, batches(seed)) for seed in (3, 4)]
    one, rate = make_model(), tf.constant(0.05, tf.float64)

    @tf.function(autograph=False)
    def outer(alpha):
        """Two inner steps along the mean of the fields, by hand."""
        net, (weights, statistics, seeds) = one.supernet, one._present()
        p, mixture, velocity = tf.nn.softmax(alpha)[:, 0], one.candidate_weights, 0.0 * weights
        for step in range(2):
            fields = [
                relaxed_field(
                    net, State(weights, statistics, seeds), p, mixture, images[step], labels[step]
                )
                for images, labels in (share["train"] for share in shares)
            ]
            gradients = (fields[0].gradients + fields[1].gradients) / 2
            statistics = (fields[0].statistics + fields[1].statistics) / 2
            weights, velocity = one.inner_optimizer.step(weights, velocity, gradients, rate)
        state = State(weights, statistics, seeds)
        return sum(validation_loss(net, state, *share["validation"])[0] for share in shares) / 2

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        two = make_model()
    given = strategy.experimental_distribute_values_from_function(
        lambda context: shares[context.replica_id_in_sync_group]
    )
    tf.function(lambda: strategy.run(two.train_step, args=(given,)), autograph=False)()
    # Adam hides the size of a gradient; its first moment is 0.5 times the gradient.
    (moment,) = (v for v in two.optimizer.variables if v.path.endswith("alpha_momentum"))
    start, small = one.alpha.numpy(), 1e-5
    for cut in range(2):
        shift = np.zeros_like(start)
        shift[cut, 0] = small
        slope = (outer(tf.constant(start + shift)) - outer(tf.constant(start - shift))) / small / 2
        np.testing.assert_allclose(2.0 * moment.numpy()[cut], [slope, -slope], rtol=1e-6)


def test_a_pretraining_step_is_the_fields(float64):
    model = make_model()
    model.begin_phase(0.0625)  # the same number in all precisions
    images, labels = (tf.constant(each[0]) for each in batches()["train"])
    state, net = model._present(), model.supernet
    half = tf.constant(0.5, tf.float64)
    p, mixture = tf.fill((2,), half), tf.fill((2, 2), half)
    field = relaxed_field(net, state, p, mixture, images, labels)
    logs = model.train_step((images, labels))
    found = model.snapshot()
    velocity = field.gradients + 1e-4 * state.weights
    np.testing.assert_allclose(found["velocity"], velocity, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found["weights"], state.weights - 0.0625 * velocity, rtol=1e-9)
    np.testing.assert_allclose(found["statistics"], field.statistics, rtol=1e-12)
    np.testing.assert_allclose(logs["loss"], field.losses[2], rtol=1e-12)
    np.testing.assert_allclose(logs["local_loss"], np.mean(field.losses[:2]), rtol=1e-12)
    hits = np.argmax(field.logits, axis=1) == labels.numpy()
    assert 0 < hits.sum() < len(hits)  # or the accuracy would show little
    np.testing.assert_allclose(logs["accuracy"], hits.mean())


def test_what_a_model_starts_with(float64):
    model = make_model()
    np.testing.assert_array_equal(model.cut_probability, [0.5, 0.5])
    np.testing.assert_array_equal(model.candidate_weights, np.full((2, 2), 0.5))
    adam = model.optimizer
    assert (float(adam.learning_rate), adam.beta_1) == (0.01, 0.5) and not model.jit_compile
    images = batches()["train"][0][0]
    np.testing.assert_array_equal(model(images), model.supernet.backbone(images))
    model.step_in_phase.assign(7)
    model.begin_phase(lambda step: step + 1)
    assert int(model.step_in_phase.value) == 0 and int(model._rate()) == 1
