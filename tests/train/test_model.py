"""DecoupledModel under `fit`: equality with plain Keras, devices, saving, what is refused."""

from __future__ import annotations

import keras
import msgspec
import numpy as np
import pytest
import tensorflow as tf
from model_checks import assert_equal, values
from networks import tiny_backbone

from sedona_tf import backbones, decouple, plans
from sedona_tf.auxiliary import CrossEntropy
from sedona_tf.errors import UserError
from sedona_tf.train.schedules import Batch, lockstep_step

SEPARABLE = {"kind": "separable", "depth": 1}


def data(count: int = 70):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((count, 6, 6, 2)).astype("float32")
    return images, rng.integers(0, 3, count)


def make(num_blocks: int, backbone=None, **kwargs):
    keras.utils.set_random_seed(1)
    backbone = backbone or tiny_backbone()
    model = decouple(backbone, plans.uniform(backbone, num_blocks, SEPARABLE), **kwargs)
    rate = keras.optimizers.schedules.CosineDecay(0.05, 20)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), metrics=["accuracy"])
    return model


def test_fit_with_ragged_batches_and_validation_ends_alike():
    """70 images in batches of 16: the last batch of an epoch is smaller."""
    images, labels = data()
    weights = np.linspace(0.5, 1.5, 70).astype("float32")
    ends = []
    for schedule in ("lockstep", "pipelined"):
        model = make(3, schedule=schedule)
        history = model.fit(
            images,
            labels,
            16,
            2,
            sample_weight=weights,
            shuffle=False,
            verbose=0,
            validation_data=(images, labels),
        ).history
        assert {"loss", "block_1_loss", "block_2_loss", "accuracy", "val_loss"} <= set(history)
        assert "val_block_1_loss" not in history
        assert [int(each.iterations) for each in model.optimizer.of_blocks] == [10, 10, 10]
        ends.append(values(model.variables))
    assert_equal(*ends)


def test_data_of_other_forms_in_one_models_fits():
    """Weights come and go, labels and images change their type; what a buffer holds is not lost.

    Going back to an earlier form traces nothing anew: Keras goes on with what it has traced then.
    """
    rng = np.random.default_rng(0)
    images = rng.standard_normal((10, 6, 6, 2)).astype("float32")
    labels, weights = rng.integers(0, 3, 10), np.linspace(0.5, 1.5, 10).astype("float32")
    ends = []
    for schedule in ("lockstep", "pipelined"):
        keras.utils.set_random_seed(1)
        backbone = tiny_backbone()
        model = decouple(backbone, plans.uniform(backbone, 2, SEPARABLE), schedule=schedule)
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9))
        for given in (
            (images, labels),
            (images, labels, weights),
            (images, labels),
            (images.astype("float16"), labels.astype("uint8")[:, np.newaxis]),
        ):
            model.fit(tf.data.Dataset.from_tensor_slices(given).batch(4), verbose=0)
            assert not any(buffer.full.numpy() for buffer in model.buffers)
            model.train_on_batch(images, labels)  # no drain: a buffer of the first form is full
        model.fit(images, labels.astype("int32"), verbose=0)
        assert [int(each.iterations) for each in model.optimizer.of_blocks] == [17, 17]
        ends.append(values([*model.variables, *model.optimizer.variables]))
    assert len(model.buffers) == 4
    assert_equal(*ends)


def test_one_block_is_plain_keras_bit_for_bit():
    images, labels = data()

    def network():
        keras.utils.set_random_seed(1)
        return backbones.build("resnet18", (6, 6, 2), 3, width=4)

    model, plain = make(1, network()), network()
    rate = keras.optimizers.schedules.CosineDecay(0.05, 20)
    plain.compile(
        keras.optimizers.SGD(rate, momentum=0.9),
        CrossEntropy(0.1),
        metrics=["accuracy"],
        jit_compile=False,
    )
    histories = []
    for each in (model, plain):
        keras.utils.set_random_seed(2)
        fit = each.fit(images, labels, batch_size=16, epochs=2, verbose=0)
        histories.append(fit.history)
    assert histories[0] == histories[1]
    assert_equal(values(model.variables), values(plain.variables))


def test_a_step_is_each_blocks_own_gradient(float64):
    """Plain SGD against gradients of the blocks' losses, written out."""
    model = make(2, schedule="lockstep")
    model.compile([keras.optimizers.SGD(0.5), keras.optimizers.SGD(0.25)], CrossEntropy(0.1))
    images, labels = data(6)
    images = tf.constant(images, tf.float64)
    before = [values(block.trainable_variables) for block in model.blocks]
    with tf.GradientTape(persistent=True) as tape:
        logits = model.block_logits(images, training=True)
        losses = [model.loss(labels, each) for each in logits]
    expected = [
        [
            v - rate * g
            for v, g in zip(old, tape.gradient(loss, block.trainable_variables), strict=True)
        ]
        for old, loss, block, rate in zip(before, losses, model.blocks, (0.5, 0.25), strict=True)
    ]
    model.train_step((images, labels))
    for block, wanted in zip(model.blocks, expected, strict=True):
        for actual, value in zip(values(block.trainable_variables), wanted, strict=True):
            np.testing.assert_allclose(actual, value, rtol=1e-9, atol=1e-12)


def test_blocks_and_their_optimizers_live_on_their_devices():
    model = make(2, devices=["CPU:0", "CPU:1"])
    model.optimizer.build(model.trainable_variables)
    for number, (block, optimizer) in enumerate(
        zip(model.blocks, model.optimizer.of_blocks, strict=True)
    ):
        for variable in [*block.variables, *optimizer.variables]:
            assert variable.value.device.endswith(f"CPU:{number}"), variable.path
    assert [metric.name for metric in model.block_losses] == ["block_1_loss"]
    images, labels = data(8)
    model.fit(images, labels, verbose=0)
    ours, plain = (each.predict(images, verbose=0) for each in (model, model.backbone))
    np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)


def test_blocks_of_a_pipelined_step_do_not_wait_for_each_other():
    """In the graph of a step no path, by data or by control, leads from one update to another."""
    model = make(3)
    step = model.prepare(Batch(*map(tf.constant, data(4)), ())).step
    operations = step.get_concrete_function().graph.get_operations()
    updates = {each for each in operations if each.type == "If"}
    assert len(updates) == 3
    for update in updates:
        above, seen = [update], set()
        while above:
            each = above.pop()
            before = {*each.control_inputs, *(tensor.op for tensor in each.inputs)} - seen
            above += before
            seen |= before
        assert not seen & updates


@pytest.mark.parametrize("devices", [["CPU:0", "CPU:0"], ["CPU:0", "CPU:1"]])
def test_on_one_device_a_lockstep_step_learns_block_by_block(devices):
    """There the next block's batch comes when the gradients are there, and activations can go."""
    model = make(2, schedule="lockstep", devices=devices)
    images, labels = map(tf.constant, data(4))
    step = tf.function(
        lambda *batch: lockstep_step(model.blocks, model._learn, Batch(*batch, ())), autograph=False
    )
    operations = step.get_concrete_function(images, labels).graph.get_operations()
    waiting = [len(each.control_inputs) for each in operations if each.type == "Identity"]
    assert (max(waiting) > 9) == (devices[0] == devices[1])  # for a few dozen operations


@pytest.mark.parametrize("num_blocks", [1, 3])
def test_save_and_load_go_on_alike(tmp_path, num_blocks):
    images, labels = data()
    model = make(num_blocks, schedule="lockstep")
    model.fit(images, labels, batch_size=16, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.decoupling == model.decoupling and loaded.schedule == model.schedule
    for each in (model, loaded):
        each.fit(images, labels, batch_size=16, shuffle=False, verbose=0)
    assert_equal(values(loaded.variables), values(model.variables))
    assert_equal(values(loaded.optimizer.variables), values(model.optimizer.variables))


@pytest.mark.parametrize(
    ("policy", "schedule"), [("mixed_bfloat16", "lockstep"), ("mixed_float16", "pipelined")]
)
def test_mixed_precision(policy, schedule):
    keras.config.set_dtype_policy(policy)
    try:
        images, labels = data(32)
        model = make(2, schedule=schedule)
        model.fit(images, labels, batch_size=16, epochs=2, verbose=0)
    finally:
        keras.config.set_dtype_policy("float32")
    assert all(np.all(np.isfinite(value)) for value in values(model.variables))
    scaled = [isinstance(o, keras.optimizers.LossScaleOptimizer) for o in model.optimizer.of_blocks]
    assert scaled == [policy == "mixed_float16"] * 2


def test_overflow_in_half_precision_lowers_the_scale_of_its_block_alone():
    """Block 1 starts at a scale whose gradients float16 cannot hold, block 2 at a good one."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        keras.utils.set_random_seed(1)
        backbone, scales = tiny_backbone(), (2.0**40, 2.0**10)
        model = decouple(backbone, plans.uniform(backbone, 2, SEPARABLE), schedule="lockstep")
        scaled = keras.optimizers.LossScaleOptimizer
        model.compile([scaled(keras.optimizers.SGD(0.05), initial_scale=s) for s in scales])
        rng = np.random.default_rng(0)
        images, labels = rng.standard_normal((16, 6, 6, 2)), rng.integers(0, 3, 16)
        first, last = (block.trainable_variables for block in model.blocks)
        before = values(first), values(last)
        model.train_on_batch(images, labels)
        assert_equal(values(first), before[0])
        assert np.any(values(last)[0] != before[1][0])
        for _ in range(40):
            logs = model.train_on_batch(images, labels, return_dict=True)
    finally:
        keras.config.set_dtype_policy("float32")
    falling, kept = (float(each.dynamic_scale) for each in model.optimizer.of_blocks)
    assert 1 <= falling < scales[0] / 2**10 and kept == scales[1]
    assert np.any(values(first)[0] != before[0][0])
    assert all(np.isfinite(value) for value in logs.values())
    assert all(np.isfinite(value).all() for value in values(model.variables))


@pytest.mark.parametrize("kind", ["separable", "mlp_sr", "predsim"])
def test_images_or_labels_that_tell_nothing_apart_stay_finite(kind):
    """Constant images have no variance to normalise by, and one class no unlike pairs."""
    rng, backbone = np.random.default_rng(0), tiny_backbone()
    images, labels = rng.standard_normal((16, 6, 6, 2)), rng.integers(0, 3, 16)
    net = {"kind": kind, **({"depth": 1} if kind == "separable" else {})}
    model = decouple(backbone, plans.uniform(backbone, 2, net))
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9))
    for given in ((images * 0 + 0.7, labels), (images, labels * 0 + 2), (images * 0, labels * 0)):
        history = model.fit(*given, batch_size=8, epochs=3, verbose=0).history
        assert all(np.isfinite(each).all() for each in history.values()), history
    assert all(np.isfinite(value).all() for value in values(model.variables))


@pytest.mark.parametrize("schedule", ["lockstep", "pipelined"])
def test_weights_are_refused_where_a_loss_would_not_know_of_them(schedule):
    rng, backbone = np.random.default_rng(0), tiny_backbone()
    images, labels = rng.standard_normal((8, 6, 6, 2)), rng.integers(0, 3, 8)
    predsim = {**SEPARABLE, "loss": "predsim"}
    plan = msgspec.structs.replace(
        plans.uniform(backbone, 3, SEPARABLE), auxiliary=(SEPARABLE, predsim)
    )
    model = decouple(backbone, plan, schedule=schedule)
    model.compile(keras.optimizers.SGD(0.05))
    before = values(model.variables)
    for weights in ({"sample_weight": np.ones(8)}, {"class_weight": {0: 1.0, 1: 2.0, 2: 1.0}}):
        with pytest.raises(UserError, match="aux_2") as caught:
            model.fit(images, labels, verbose=0, **weights)
        assert "\n" not in str(caught.value)
    assert_equal(values(model.variables), before)
    model.evaluate(images, labels, sample_weight=np.ones(8), verbose=0)  # the head's loss knows
    model.fit(images, labels, verbose=0)


def test_refusals():
    backbone = backbones.build("resnet18", (8, 8, 1), 10, width=4)
    two = plans.uniform(backbone, 2, SEPARABLE)
    with pytest.raises(UserError, match="blocks"):
        decouple(backbone, two, num_blocks=3)
    with pytest.raises(UserError, match="lockstep"):
        decouple(backbone, two, schedule="lock_step")
    with pytest.raises(UserError, match="CPU:7"):
        decouple(backbone, two, devices=["CPU:7"])
    with pytest.raises(UserError, match="resnet18"):
        decouple(backbones.build("vgg11", (32, 32, 1), 10, width=4), two)
    model = decouple(backbone, two)
    with pytest.raises(UserError, match="blocks"):
        model.compile([keras.optimizers.SGD(0.1)] * 3)
