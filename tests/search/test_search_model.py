"""SearchModel under fit and under several replicas."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import tiny_backbone

from sedona_tf.auxiliary import candidates_from
from sedona_tf.errors import UserError
from sedona_tf.runs.checkpoints import Position
from sedona_tf.runs.nan_guard import NanGuard
from sedona_tf.runs.state import capture, restore
from sedona_tf.search.field import State, relaxed_field, validation_loss
from sedona_tf.search.inner_optimizer import InnerOptimizer
from sedona_tf.search.search_model import SearchModel


def make_model(optimizer=None, depths=(1, 2), dropout: float = 0.0) -> SearchModel:
    keras.utils.set_random_seed(11)
    candidates = candidates_from([{"kind": "separable", "depth": m} for m in depths])
    model = SearchModel(tiny_backbone(dropout), candidates, learning_rate=0.05)
    model.compile(optimizer)
    return model


def snapshot(model: SearchModel) -> dict[str, np.ndarray]:
    """All that an inner step reads and writes; the variables of a kind in one vector."""
    return {
        kind: np.concatenate([variable.numpy().ravel() for variable in variables])
        for kind, variables in model.weight_variables().items()
        if variables
    }


def guarded(model: SearchModel) -> keras.callbacks.Callback:
    """Ends `fit` at the first number that is not finite."""
    guard = NanGuard(model.variables_by_part())
    return keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: guard.check(logs, Position("search", batch + 1))
    )


def values(model: SearchModel) -> list[np.ndarray]:
    """All that a step may change, metrics aside."""
    own = [model.alpha, model.beta, model.step_in_phase, *model.optimizer.variables]
    return [*snapshot(model).values(), *(variable.numpy() for variable in own)]


def assert_equal(found, expected) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


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
    before = snapshot(model)
    plain = tf.data.Dataset.from_tensors((data["train"][0][0], data["train"][1][0]))
    model.fit(plain.repeat(4), verbose=0, shuffle=False)
    assert np.all(model.alpha.numpy() == 0) and np.all(model.beta.numpy() == 0)
    assert np.any(snapshot(model)["weights"] != before["weights"])
    assert int(model.step_in_phase.value) == 4

    model.begin_phase(0.05)
    history = model.fit(
        tf.data.Dataset.from_tensors(data).repeat(2), verbose=0, shuffle=False
    ).history
    assert {"loss", "local_loss", "accuracy", "outer_loss", "outer_accuracy"} <= set(history)
    # Adam's first steps have the size of its learning rate wherever there is a gradient.
    assert np.all(np.abs(model.alpha.numpy()) > 1e-3)
    np.testing.assert_allclose(model.alpha.numpy().sum(axis=1), 0, atol=1e-12)


def unknown_length(data, tmp_path, kind: str) -> tf.data.Dataset:
    """The same batches from a source that cannot say how many they are."""
    dataset = tf.data.Dataset.from_tensor_slices(data)
    if kind == "filter":
        return dataset.filter(lambda *batch: True)
    if kind == "generator":
        return tf.data.Dataset.from_generator(
            lambda: iter(dataset), output_signature=dataset.element_spec
        )
    spec = tf.nest.flatten(dataset.element_spec)
    with tf.io.TFRecordWriter(str(tmp_path / kind)) as writer:
        for batch in dataset:
            pieces = [tf.io.serialize_tensor(each).numpy() for each in tf.nest.flatten(batch)]
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=pieces))
            example = tf.train.Example(features=tf.train.Features(feature={"pieces": feature}))
            writer.write(example.SerializeToString())
    form = {"pieces": tf.io.FixedLenFeature((len(spec),), tf.string)}

    def parse(record):
        pieces = tf.unstack(tf.io.parse_single_example(record, form)["pieces"])
        tensors = [
            tf.ensure_shape(tf.io.parse_tensor(piece, each.dtype), each.shape)
            for piece, each in zip(pieces, spec, strict=True)
        ]
        return tf.nest.pack_sequence_as(dataset.element_spec, tensors)

    return tf.data.TFRecordDataset(str(tmp_path / kind)).map(parse)


@pytest.mark.parametrize("phase", ["pretraining", "search"])
def test_nothing_changes_without_a_batch(phase, tmp_path):
    """Keras runs a step more where data end of which it does not know the length."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((3, 2, 4, 6, 6, 2)).astype("float32")
    y = rng.integers(0, 3, (3, 2, 4))
    data = {"train": (x, y), "validation": (x[:, 0] + 0.1, y[:, 0])}
    data = data if phase == "search" else (x[:, 0], y[:, 0])
    model = make_model(depths=(1,), dropout=0.3)
    model.begin_phase(keras.optimizers.schedules.CosineDecay(0.05, 20))
    variables = [*model.variables, *model.optimizer.variables]
    start = [variable.numpy() for variable in variables]

    def fitted(dataset, epochs: int = 2):
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        model.fit(dataset, epochs=epochs, verbose=0, shuffle=False)

    plain = tf.data.Dataset.from_tensor_slices(data)
    fitted(plain)
    expected = values(model)
    assert int(model.step_in_phase.value) == 6
    for kind in ("filter", "generator", "records"):
        fitted(unknown_length(data, tmp_path, kind))
        assert_equal(values(model), expected)

    fitted(plain.take(2), epochs=1)
    expected = values(model)
    x[2, 0, 1] = np.nan  # a picture that cannot be decoded, in the third batch
    broken = tf.data.Dataset.from_tensor_slices(data).map(
        lambda *batch: tf.nest.map_structure(
            lambda z: tf.debugging.check_numerics(z, "") if z.dtype.is_floating else z,
            batch if len(batch) > 1 else batch[0],
        )
    )
    with pytest.raises(tf.errors.InvalidArgumentError):
        fitted(broken, epochs=1)
    assert_equal(values(model), expected)
    x[2, 0, 1], y[2, 0, 0] = 0.0, 3  # of the classes 0, 1 and 2
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels"):
        fitted(tf.data.Dataset.from_tensor_slices(data), epochs=1)
    assert_equal(values(model), expected)


def test_a_step_without_a_finite_outer_loss_is_skipped():
    """Alpha, beta and Adam stay as they were; the weights are trained all the same."""
    model = make_model(depths=(1,))
    (x, y), (images, labels) = batches()["train"], batches()["validation"]
    x, images = x[:2].astype("float32"), images.astype("float32")
    good = {"train": (x, y[:2]), "validation": (images, labels)}
    bad = {**good, "validation": (images * np.nan, labels)}
    guard, saved = guarded(model), capture(model.weight_variables())
    start = snapshot(model)["weights"]

    def search(*steps):
        restore(saved, model.weight_variables())
        stacked = tf.nest.map_structure(lambda *each: np.stack(each), *steps)
        dataset = tf.data.Dataset.from_tensor_slices(stacked)
        return model.fit(dataset, verbose=0, shuffle=False, callbacks=[guard]).history

    outer = search(good)
    architecture = [model.alpha, model.beta, *model.optimizer.variables]
    before = [variable.numpy() for variable in architecture]
    weights = snapshot(model)["weights"]
    skipped = search(bad)
    assert_equal([variable.numpy() for variable in architecture], before)
    assert np.any(before[0] != 0) and np.any(start != snapshot(model)["weights"])
    assert (outer["skipped_steps"], skipped["skipped_steps"]) == ([0.0], [1.0])
    mixed = search(good, bad)
    assert mixed["skipped_steps"] == [1.0] and np.isfinite(mixed["outer_loss"][0])
    assert np.any(model.alpha.numpy() != before[0]) and np.isfinite(weights).all()


def test_settings_hold_from_the_next_step_or_fit(float64):
    model = make_model(depths=(1,))
    x, y = (each[0] for each in batches()["train"])

    def step() -> dict[str, np.ndarray]:
        model.fit(x, y, batch_size=6, shuffle=False, verbose=0)
        return snapshot(model)

    before = step()
    function = model.train_function
    model.learning_rate = 0.0
    after = step()
    assert model.train_function is function  # nothing was traced again
    np.testing.assert_array_equal(after["weights"], before["weights"])
    model.learning_rate = lambda step: tf.cast(step, "float64") / 8.0  # two steps are done
    scheduled = step()
    moved = after["weights"] - 0.25 * scheduled["velocity"]
    np.testing.assert_allclose(scheduled["weights"], moved, rtol=1e-12)
    model.learning_rate, model.inner_optimizer = 0.0, InnerOptimizer(0.0, 0.0)
    start = snapshot(model)
    net, half = model.supernet, tf.constant(0.5, tf.float64)
    field = relaxed_field(
        net,
        model._present(),
        tf.fill((2,), half),
        tf.fill((2, 1), 2 * half),
        *map(tf.constant, (x, y)),
    )
    after = step()
    np.testing.assert_allclose(after["velocity"], field.gradients, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(after["weights"], start["weights"])


def test_labels_are_class_numbers_of_any_type():
    model = make_model(depths=(1,))
    model.learning_rate = 0.0
    x, y = (each[0] for each in batches()["train"])
    x = tf.constant(x, tf.float32)
    found = [
        float(model.train_step((x, tf.constant(labels)))["loss"])
        for labels in (
            y,
            y[:, None],
            *(y.astype(t) for t in ("uint8", "int16", "int64", "float32")),
        )
    ]
    assert found == [found[0]] * 6
    for given in ((x, tf.one_hot(y, 3)), (x, y, np.ones(6)), (x,)):
        with pytest.raises(UserError):
            model.train_step(tf.nest.map_structure(tf.constant, given))
    with pytest.raises(UserError):
        model.fit(x, y, class_weight={0: 2.0}, verbose=0)
    for argument in ("loss", "metrics"):
        with pytest.raises(UserError, match=argument):
            model.compile(**{argument: ["accuracy"]})


def test_history_holds_means_over_an_epoch(float64):
    """Batches of 4 and 2 images; callbacks get each step's own numbers."""
    model = make_model(depths=(1,))
    x, y = (each[0] for each in batches()["train"])
    steps: list[dict] = []
    each = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: steps.append(logs))
    for _ in range(2):  # an epoch starts anew
        history = model.fit(x, y, batch_size=4, verbose=0, shuffle=False, callbacks=[each]).history
        assert set(history) == {"loss", "local_loss", "accuracy"}
        for name, (mean,) in history.items():
            one, two = (logs[name] for logs in steps[-2:])
            assert mean == pytest.approx((4 * one + 2 * two) / 6) and mean != pytest.approx(two)
    found = model.evaluate(x, y, batch_size=4, verbose=0, return_dict=True)
    logits = model(x)
    assert found["loss"] == pytest.approx(float(model.supernet.head_loss(logits, y)))
    assert found["accuracy"] == pytest.approx(np.mean(np.argmax(logits, 1) == y))


def test_a_saved_model_goes_on_as_it_would_have(tmp_path):
    """Weights, statistics, dropout's seed, velocity, architecture and its optimizer."""
    model = make_model(depths=(1,), dropout=0.3)
    model.begin_phase(keras.optimizers.schedules.CosineDecay(0.05, 20))
    (x, y), validation = batches()["train"], batches()["validation"]
    data = tf.data.Dataset.from_tensors({"train": (x[:2], y[:2]), "validation": validation})
    model.fit(data, verbose=0, shuffle=False)
    model.save(tmp_path / "search.keras")
    loaded = keras.models.load_model(tmp_path / "search.keras")
    assert_equal(values(loaded), values(model))
    for each in (model, loaded):
        each.fit(data, verbose=0, shuffle=False)
    assert_equal(values(loaded), values(model))
    assert int(loaded.step_in_phase.value) == 2


def test_hard_numbers_stay_finite_or_are_named():
    """Constant images, one class, p at 0 and 1 exactly, a wild learning rate: one traced step."""
    model, rate = make_model(depths=(1,)), tf.Variable(0.05)
    model.begin_phase(lambda step: tf.convert_to_tensor(rate))
    guard, saved = guarded(model), capture(model.weight_variables())
    x, y = batches()["train"]

    def search(steps, x, y):
        data = {"train": (x, y), "validation": (x[0] + 0.1, y[0])}
        restore(saved, model.weight_variables())
        batch = tf.data.Dataset.from_tensors(data)
        model.fit(batch.repeat(steps), verbose=0, shuffle=False, callbacks=[guard])

    x = x.astype("float32")
    for images, labels in ((x * 0 + 0.7, y), (x, y * 0 + 1), (x * 0, y * 0)):
        search(3, images, labels)
        state = [*snapshot(model).values(), *(v.numpy() for v in model.optimizer.variables)]
        assert all(np.isfinite(value).all() for value in state)

    model.alpha.assign([[200.0, -200.0], [-200.0, 200.0]])
    np.testing.assert_array_equal(model.cut_probability, [1.0, 0.0])
    search(1, x, y)
    assert all(np.isfinite(variable.numpy()).all() for variable in model.optimizer.variables)
    np.testing.assert_array_equal(model.cut_probability, [1.0, 0.0])

    rate.assign(1e6)  # the weights stay finite in inner steps, their gradient does not
    with pytest.raises(UserError, match=r"search step \d"):
        search(50, x, y)
    # Steps without a finite outer gradient left no trace where it is kept.
    assert all(np.isfinite(variable.numpy()).all() for variable in model.optimizer.variables)
    np.testing.assert_array_equal(model.cut_probability, [1.0, 0.0])


def test_snapshot_restores_bit_for_bit():
    model = make_model()
    saved, before = capture(model.weight_variables()), snapshot(model)
    x, y = batches()["train"]
    model.fit(x[0].astype("float32"), y[0], verbose=0, batch_size=6)
    assert np.any(snapshot(model)["weights"] != before["weights"])
    restore(saved, model.weight_variables())
    for name, value in snapshot(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_replicas_give_the_hypergradient_of_one(float64):
    """Each replica sees the same batch, so that batch statistics agree with one device's."""

    def clipped():
        return keras.optimizers.Adam(1e-2, beta_1=0.5, clipnorm=1e-4)

    one, data = make_model(clipped(), depths=(1,)), batches()
    data["train"] = tuple(each[:2] for each in data["train"])  # T = 1
    data = tf.nest.map_structure(tf.constant, data)
    tf.function(lambda: one.train_step(data), autograph=False)()
    (moment,) = (v for v in one.optimizer.variables if v.path.endswith("alpha_momentum"))
    assert np.linalg.norm(moment.numpy()) == pytest.approx(0.5e-4)  # so it is clipped

    # Without collectives: a process cannot use their keys again for the next test's shapes.
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
    )
    with strategy.scope():
        two = make_model(clipped(), depths=(1,))
    plain = tf.data.Dataset.from_tensors(data).repeat()
    with pytest.raises(UserError, match="distribute_datasets_from_function"):
        two.fit(plain, steps_per_epoch=1, verbose=0)
    shared = strategy.distribute_datasets_from_function(lambda context: plain)
    two.fit(shared, steps_per_epoch=1, verbose=0)
    # Adam hides the size of a gradient, so compare its first moment: 0.5 times the gradient.
    for mine, theirs in zip(one.optimizer.variables, two.optimizer.variables, strict=True):
        np.testing.assert_allclose(theirs.numpy(), mine.numpy(), rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(two.alpha.numpy(), one.alpha.numpy(), rtol=1e-8)
    weights = (snapshot(each)["weights"] for each in (two, one))
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
    found = snapshot(model)
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
