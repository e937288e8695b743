"""What is handed to compile and fit: the user's own optimizer, names, probabilities, precision."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_checks import assert_equal, values
from small_models import IMAGES, LABELS, LOGITS_LOSS, NET, batches, cut, made, source, state

from sedona_tf import Backbone, decouple, plans
from sedona_tf.errors import UserError

SGD = keras.optimizers.SGD


def fit(model, epochs: int = 1, **kwargs) -> dict:
    return model.fit(
        IMAGES, LABELS, batch_size=8, epochs=epochs, shuffle=False, verbose=0, **kwargs
    ).history


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_users_own_optimizer_trains(blocks):
    """Its learning rate, set or assigned at any time, is every block's."""
    optimizer = SGD(0.1, momentum=0.5)
    model = cut(source(normalized=False), blocks)
    model.compile(optimizer, LOGITS_LOSS)
    fit(model)
    assert int(optimizer.iterations) == 4
    for stop in (
        lambda: setattr(optimizer, "learning_rate", 0.0),
        lambda: optimizer.learning_rate.assign(0.0),
        lambda: model.optimizer.learning_rate.assign(0.0),
    ):
        optimizer.learning_rate = 0.1
        model.compile(optimizer, LOGITS_LOSS)
        fit(model)
        stop()
        for each in model.optimizer.variables:
            if "momentum" in each.path:
                each.assign(keras.ops.zeros_like(each))
        before = values(model.trainable_variables)
        fit(model)
        assert_equal(values(model.trainable_variables), before)


def test_an_optimizer_goes_on_with_what_it_has_learnt():
    """Two stages: the whole model, then its blocks. Moments of the model's weights stay."""
    model = source()
    optimizer = keras.optimizers.Adam(1e-3)
    model.compile(optimizer, LOGITS_LOSS)
    model.fit(IMAGES, LABELS, verbose=0)
    moments = {
        id(variable): optimizer._momentums[index].numpy()
        for index, variable in enumerate(model.trainable_variables)
    }
    blocks = cut(model, 2)
    blocks.compile(optimizer, LOGITS_LOSS)
    blocks.optimizer.build(blocks.trainable_variables)
    first, last = blocks.optimizer.of_blocks
    assert last is optimizer and int(first.iterations) == int(last.iterations) == 1
    own = blocks.blocks[0].trainable_variables
    known = [index for index, variable in enumerate(own) if id(variable) in moments]
    assert known and len(known) < len(own)  # the auxiliary net has none yet
    for index in known:
        np.testing.assert_array_equal(first._momentums[index].numpy(), moments[id(own[index])])
    fit(blocks)
    blocks.compile(optimizer, LOGITS_LOSS)  # once more: all of it stays
    assert blocks.optimizer.of_blocks[0] is first and int(first.iterations) == 5


def test_what_no_config_holds_reaches_every_block():
    """Weight decay that leaves out the biases: each block against a lone optimizer of its own."""
    model = cut(source(normalized=False), 2, "lockstep")
    optimizer = keras.optimizers.AdamW(1e-2, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    model.compile(optimizer, LOGITS_LOSS)
    images, labels = tf.constant(IMAGES), tf.constant(LABELS)
    variables = model.blocks[0].trainable_variables
    with tf.GradientTape() as tape:
        loss = LOGITS_LOSS(labels, model.block_logits(images, training=True)[0])
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    copies = [keras.Variable(v, name=v.name) for v in values_named(variables)]
    plain = keras.optimizers.AdamW(1e-2, weight_decay=0.5)
    plain.exclude_from_weight_decay(var_names=["bias"])
    plain.apply(gradients, copies)
    model.train_on_batch(images, labels)
    for mine, theirs in zip(variables, copies, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)


def values_named(variables):
    class Named(np.ndarray):
        pass

    for variable in variables:
        value = variable.numpy().view(Named)
        value.name = variable.name
        yield value


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
def test_weights_end_as_their_moving_average(schedule):
    model = cut(source(), 2, schedule)
    model.compile(SGD(0.1, use_ema=True, ema_momentum=0.5), LOGITS_LOSS)
    fit(model)
    for block, each in zip(model.blocks, model.optimizer.of_blocks, strict=True):
        averages = each._model_variables_moving_average
        assert_equal(values(block.trainable_variables), values(averages))


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_layer_unfrozen_before_the_first_fit_trains(blocks):
    model = source()
    model.get_layer("conv_1").trainable = False
    decoupled = cut(model, blocks)
    decoupled.compile(SGD(0.1), LOGITS_LOSS)
    model.get_layer("conv_1").trainable = True
    before = model.get_layer("conv_1").kernel.numpy()
    fit(decoupled)
    assert np.any(model.get_layer("conv_1").kernel.numpy() != before)


@pytest.mark.parametrize("blocks", [1, 2])
def test_learning_rates_in_history_have_keras_name(blocks):
    model = made(blocks)
    model.compile(SGD(0.1), LOGITS_LOSS)
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    rates = fit(model, 2, callbacks=[schedule])["learning_rate"]
    np.testing.assert_allclose(rates, [0.05, 0.025], rtol=1e-6)


@pytest.mark.parametrize("blocks", [1, 2])
def test_input_and_output_go_by_the_source_models_names(blocks):
    ends = []
    for named in (False, True):
        keras.utils.set_random_seed(1)
        model = cut(source(), blocks)
        if named:
            model.compile(SGD(0.1), {"scores": LOGITS_LOSS}, None, {"scores": ["accuracy"]})
            data = batches().map(lambda x, y: ({"picture": x}, {"scores": y}))
            history = model.fit(data, verbose=0).history
            outputs = model.predict({"picture": IMAGES}, verbose=0)
        else:
            model.compile(SGD(0.1), LOGITS_LOSS, metrics=["accuracy"])
            history = model.fit(batches(), verbose=0).history
            outputs = model.predict([IMAGES], verbose=0)
        ends.append((history, values(model.variables), outputs))
    assert ends[0][0] == ends[1][0]
    assert_equal(ends[0][1], ends[1][1])
    np.testing.assert_array_equal(ends[0][2], ends[1][2])
    with pytest.raises(UserError, match="'scores'"):
        model.compile("sgd", {"other": LOGITS_LOSS})
    with pytest.raises(UserError, match="'picture'"):
        model.predict({"other": IMAGES}, verbose=0)


def test_a_second_compile_leaves_nothing_of_the_first():
    model, counts = made(2), []
    for _ in range(3):
        model.compile(SGD(0.1), LOGITS_LOSS, metrics=["accuracy"])
        counts.append(len(model.train_on_batch(IMAGES, LABELS)))
    assert counts == [3, 3, 3]


def test_a_metric_whose_name_begins_like_a_block_loss_is_shown():
    model = made(2)
    metric = keras.metrics.SparseCategoricalAccuracy(name="block_accuracy")
    model.compile(SGD(0.1), LOGITS_LOSS, metrics=[metric])
    history = fit(model, validation_data=(IMAGES, LABELS))
    assert {"block_accuracy", "val_block_accuracy"} <= set(history)
    assert set(model.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)) == {
        "loss",
        "block_accuracy",
    }


ONE_HOT = keras.utils.to_categorical(LABELS, 5)
CASES = [
    ("sparse_categorical_crossentropy", ["accuracy"], LABELS),
    (keras.losses.SparseCategoricalCrossentropy(), ["sparse_categorical_crossentropy"], LABELS),
    (keras.losses.categorical_crossentropy, ["auc", keras.metrics.Precision()], ONE_HOT),
    ("binary_crossentropy", ["acc", "mse"], ONE_HOT),
    ("mse", [keras.metrics.AUC(name="auc"), "kl_divergence"], ONE_HOT),
]


@pytest.mark.parametrize(("loss", "metrics", "labels"), CASES)
def test_a_softmax_model_compiled_as_its_owner_does(loss, metrics, labels):
    """One block against the model itself: losses, metrics and weights; then two blocks' loss."""
    histories, ends = [], []
    for form in ("plain", 1, 2):
        keras.utils.set_random_seed(1)
        own = source("softmax")
        model = own if form == "plain" else cut(own, form)
        fresh = [
            type(m).from_config(m.get_config()) if not isinstance(m, str) else m for m in metrics
        ]
        model.compile(SGD(0.1), loss, metrics=fresh)
        evaluated = model.evaluate(IMAGES, labels, verbose=0, return_dict=True)
        if form != 2:
            model.fit(IMAGES, labels, batch_size=8, shuffle=False, verbose=0)
        histories.append(evaluated)
        ends.append(values(own.trainable_variables))
    assert set(histories[0]) == set(histories[1]) == set(histories[2])
    for name, value in histories[0].items():
        np.testing.assert_allclose([each[name] for each in histories[1:]], value, rtol=1e-4)
    for plain, one in zip(*ends[:2], strict=True):
        np.testing.assert_allclose(one, plain, rtol=1e-3, atol=1e-5)


def test_losses_and_metrics_of_logits_stay_as_they_are():
    model = cut(source(), 2)
    metric = keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="entropy")
    model.compile("sgd", LOGITS_LOSS, metrics=[metric, lambda y, p: keras.ops.min(p)])
    logs = model.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)
    assert logs["entropy"] == pytest.approx(logs["loss"], rel=1e-5)
    assert min(logs.values()) < 0  # a metric of one's own gets logits
    with pytest.raises(UserError, match="crossentropy"):
        model.compile("sgd", LOGITS_LOSS, metrics=["crossentropy"])


def test_losses_of_ones_own_get_logits_and_metrics_by_their_class_are_made():
    class Own(keras.losses.CategoricalCrossentropy):
        def __init__(self, scale):
            super().__init__(from_logits=True)
            self.scale = scale

        def call(self, y_true, y_pred):
            return self.scale * super().call(y_true, y_pred)

    plain = cut(source("softmax"), 2)
    plain.compile("sgd", keras.losses.CategoricalCrossentropy(), metrics=[keras.metrics.AUC])
    loss = plain.evaluate(IMAGES, ONE_HOT, verbose=0, return_dict=True)
    plain.compile("sgd", Own(3.0), metrics=[keras.metrics.AUC()])
    scaled = plain.evaluate(IMAGES, ONE_HOT, verbose=0, return_dict=True)
    assert scaled["loss"] == pytest.approx(3 * loss["loss"], rel=1e-5)
    assert 0.3 < next(value for name, value in loss.items() if "auc" in name) < 0.7


def test_on_a_model_of_logits_metrics_of_values_get_the_values():
    own = source()
    model, logits = cut(own, 2), own.predict(IMAGES, verbose=0)
    metrics = ["mse", keras.metrics.BinaryAccuracy(threshold=0.0), keras.metrics.AUC(name="auc")]
    model.compile("sgd", "mse", metrics=metrics)
    logs = model.evaluate(IMAGES, ONE_HOT, verbose=0, return_dict=True)
    assert logs["mse"] == pytest.approx(logs["loss"], rel=1e-5)
    expected = np.mean((logits > 0) == (ONE_HOT > 0))
    assert logs["binary_accuracy"] == pytest.approx(expected, rel=1e-5)
    area = keras.metrics.AUC()
    area.update_state(ONE_HOT, keras.activations.softmax(keras.ops.convert_to_tensor(logits)))
    assert logs["auc"] == pytest.approx(float(area.result()), rel=1e-5)


def test_run_eagerly_runs_every_block_eagerly_with_the_bits_of_lockstep():
    ends = []
    for schedule in ("lockstep", "pipelined"):
        calls = []

        def loss(y_true, y_pred, calls=calls):
            calls.append(tf.executing_eagerly())
            return LOGITS_LOSS(y_true, y_pred)

        model = made(2, schedule)
        model.compile(SGD(0.05, momentum=0.9), loss, run_eagerly=True)
        history = model.fit(batches(10), verbose=0).history
        assert sum(calls) == 6  # of three batches and two blocks
        ends.append((history, state(model)))
    assert ends[0][0] == ends[1][0]
    assert_equal(ends[0][1], ends[1][1])


def test_adapted_losses_and_metrics_are_saved(tmp_path):
    model = cut(source("softmax"), 2, "lockstep")
    model.compile(SGD(0.1), "mse", metrics=["mae"])
    model.fit(IMAGES, ONE_HOT, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.backbone.removed_activation == "softmax"
    logs = [each.evaluate(IMAGES, ONE_HOT, verbose=0) for each in (model, loaded)]
    assert logs[0] == logs[1]
    for each in (model, loaded):
        each.fit(IMAGES, ONE_HOT, verbose=0, shuffle=False)
    assert_equal(state(loaded), state(model))


def test_one_logit_trains_with_its_own_loss_and_not_with_that_of_classes():
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3)(keras.layers.Conv2D(4, 3)(inputs))
    outputs = keras.layers.Dense(1)(keras.layers.Flatten()(x))
    own = keras.Model(inputs, outputs)
    model, labels = cut(own, 2), (IMAGES.mean((1, 2, 3)) > 0).astype("float32")
    with pytest.raises(UserError, match="one output"):
        model.compile("sgd")
    model.compile(SGD(0.1), "binary_crossentropy", metrics=["accuracy"])
    logs = model.evaluate(IMAGES, labels, verbose=0, return_dict=True)
    logits = own.predict(IMAGES, verbose=0)[:, 0]
    assert logs["accuracy"] == pytest.approx(np.mean((logits > 0) == labels))
    expected = np.mean(np.logaddexp(0, logits) - labels * logits)
    assert logs["loss"] == pytest.approx(expected, rel=1e-4)
    history = model.fit(IMAGES, labels, epochs=20, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


def test_one_hot_labels_with_the_default_loss_are_the_classes():
    ends = []
    for labels in (LABELS, ONE_HOT):
        keras.utils.set_random_seed(1)
        model = cut(source(), 2)
        model.compile(SGD(0.1))
        ends.append(model.fit(IMAGES, labels, shuffle=False, verbose=0).history["loss"])
    np.testing.assert_allclose(*ends, rtol=1e-5)


def test_loss_scales_follow_what_a_block_computes_in():
    """A loss of 1e-7: its gradients vanish in float16 unless the loss is scaled."""
    scaled = keras.optimizers.LossScaleOptimizer
    for wanted in (True, False):
        keras.config.set_dtype_policy("mixed_float16")
        model = cut(source(normalized=False), 2, "lockstep")
        keras.config.set_dtype_policy("float32")
        before = values(model.trainable_variables)
        model.compile(SGD(1e4), lambda y, p: 1e-7 * LOGITS_LOSS(y, p), auto_scale_loss=wanted)
        assert [isinstance(o, scaled) for o in model.optimizer.of_blocks] == [wanted] * 2
        fit(model)
        if wanted:
            kernels = [v for v in model.trainable_variables if v.ndim == 4]
            moved = [
                np.any(a != b)
                for a, b in zip(before, values(model.trainable_variables), strict=True)
            ]
            assert len(kernels) > 4 and all(moved)


@pytest.mark.parametrize("blocks", [1, 2])
def test_inputs_are_cast_by_the_layer_that_takes_them(blocks):
    """Raw values beyond float16's largest number, and whole numbers that a model computes with."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        inputs = keras.Input((6, 6, 2))
        x = keras.layers.Rescaling(1e-5, dtype="float32")(inputs)
        x = keras.layers.Conv2D(4, 3)(keras.layers.Conv2D(4, 3)(x))
        outputs = keras.layers.Dense(5, dtype="float32")(keras.layers.Flatten()(x))
        own = keras.Model(inputs, outputs)
        model = cut(own, blocks)
        model.compile(SGD(0.01), LOGITS_LOSS)
        large = np.abs(IMAGES) * 1e5
        np.testing.assert_array_equal(
            model.predict(large, verbose=0), own.predict(large, verbose=0)
        )
        assert np.isfinite(model.fit(large, LABELS, verbose=0).history["loss"]).all()
    finally:
        keras.config.set_dtype_policy("float32")
    inputs = keras.Input((6, 6, 2), dtype="uint8")
    x = keras.layers.Rescaling(0.1)(inputs - 128)
    x = keras.layers.Conv2D(4, 3)(keras.layers.Conv2D(4, 3)(x))
    own = keras.Model(inputs, keras.layers.Dense(5)(keras.layers.Flatten()(x)))
    whole = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 2)).astype("uint8")
    model = cut(own, blocks)
    np.testing.assert_allclose(
        model.predict(whole, verbose=0), own.predict(whole, verbose=0), rtol=1e-5, atol=1e-5
    )
    model.compile(SGD(0.01), LOGITS_LOSS)
    model.fit(whole, LABELS, verbose=0)


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
def test_half_precision_with_a_float32_layer_at_a_cut_trains_and_loads(schedule, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        inputs = keras.Input((6, 6, 2))
        x = keras.layers.Conv2D(4, 3, padding="same", dtype="float32")(inputs)
        x = keras.layers.Conv2D(4, 3, padding="same")(x)
        outputs = keras.layers.Dense(5, dtype="float32")(keras.layers.Flatten()(x))
        model = cut(keras.Model(inputs, outputs), 2, schedule)
        model.compile(SGD(0.01), LOGITS_LOSS)
        fit(model)
        model.save(tmp_path / "model.keras")
    finally:
        keras.config.set_dtype_policy("float32")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        fit(each)
    assert_equal(values(loaded.variables), values(model.variables))


def test_losses_under_a_strategy_are_those_of_one_device():
    """Two replicas of three images each: the mean of their losses, and the gradients' sum.

    The auxiliary net's statistics are each replica's own, so block 1 stands still.
    """
    keras.utils.set_random_seed(1)
    plain, ends = cut(source(normalized=False), 2, "lockstep", devices=["CPU:0"]), []
    first_logits = tf.function(lambda images: plain.block_logits(images, training=True)[0])
    for replicas in (1, 2):
        names = [f"CPU:{index}" for index in range(replicas)]
        strategy = tf.distribute.MirroredStrategy(names, tf.distribute.ReductionToOneDevice())
        size = 6 // replicas
        shards = [slice(first, first + size) for first in range(0, 30, size)]
        losses = [LOGITS_LOSS(LABELS[each], first_logits(IMAGES[each])) for each in shards]
        with strategy.scope():
            keras.utils.set_random_seed(1)
            model = cut(source(normalized=False), 2, "lockstep", devices=["CPU:0"])
            model.compile([SGD(0.0), SGD(0.1)], LOGITS_LOSS)
        history = model.fit(batches(6), verbose=0).history
        np.testing.assert_allclose(history["block_1_loss"], [np.mean(losses)], rtol=1e-5)
        ends.append((history["loss"], values(model.trainable_variables)))
    np.testing.assert_allclose(ends[1][0], ends[0][0], rtol=1e-5)
    for one, two in zip(ends[0][1], ends[1][1], strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-6)


def test_what_cannot_be_is_refused_in_a_sentence():
    model = made(2)
    with pytest.raises(UserError, match="lockstep"):
        model.compile("sgd", jit_compile=True)
    strategy = tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
    )
    with strategy.scope():
        replicated = cut(source(), 2, devices=["CPU:0"])
        replicated.compile("sgd", LOGITS_LOSS)
    with pytest.raises(UserError, match="lockstep"):
        replicated.fit(batches(6), verbose=0)
    with pytest.raises(UserError, match="as y"):
        model.fit(IMAGES, verbose=0)
    with pytest.raises(UserError, match="HDF5"):
        model.save("model.h5")
    with pytest.raises(UserError, match="from_keras"):
        decouple(source(), plans.uniform(model.backbone, 2, NET))
    net = {"kind": "predsim"}
    predsim = decouple(model.backbone, plans.uniform(model.backbone, 2, net))
    predsim.compile("sgd")
    with pytest.raises(UserError, match="not one-hot"):
        predsim.fit(IMAGES, ONE_HOT, verbose=0)


def test_models_whose_own_code_blocks_would_never_call_are_refused():
    def method(self, *args, **kwargs):
        raise AssertionError

    for name in ("train_step", "test_step", "compute_loss"):
        own, plain = type("Own", (keras.Model,), {name: method}), source()
        with pytest.raises(UserError, match=name):
            Backbone.from_keras(own(plain.inputs, plain.outputs))


def test_probabilities_by_a_detour_are_refused_at_the_cut():
    plain = source("softmax")
    clipped = keras.ops.clip(plain.outputs[0], 1e-7, 1.0)
    with pytest.raises(UserError, match="probabilities"):
        Backbone.from_keras(keras.Model(plain.inputs, clipped))


def test_a_saved_model_goes_where_its_devices_do_not_exist(tmp_path):
    model = cut(source(), 2, devices=["CPU:0", "CPU:1"])
    config = model.get_config()
    config["devices"] = ["GPU:7", "CPU:0"]
    with pytest.warns(UserWarning, match="GPU:7"):
        loaded = type(model).from_config(config)
    assert [block.device.rpartition("device:")[2][:3] for block in loaded.blocks] == ["CPU", "CPU"]


def test_functions_of_the_source_model_see_the_weights_that_have_moved():
    own = source("softmax")
    own.predict(IMAGES, verbose=0)
    model = cut(own, 2, devices=["CPU:0", "CPU:1"])
    model.compile(SGD(0.1, momentum=0.9))
    fit(model)
    logits = model.predict(IMAGES, verbose=0)
    expected = keras.activations.softmax(keras.ops.convert_to_tensor(logits))
    np.testing.assert_allclose(own.predict(IMAGES, verbose=0), expected, rtol=1e-4, atol=1e-6)


def test_export_needs_no_signature(tmp_path):
    model = made(2)
    fit(model)
    model.export(tmp_path / "served", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "served")
    served = loaded.serve(tf.constant(IMAGES))
    np.testing.assert_allclose(served, model.predict(IMAGES, verbose=0), rtol=1e-5, atol=1e-5)
