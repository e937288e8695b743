"""Ensembles and early exits against slow loops over the blocks' logits."""

from __future__ import annotations

import math
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from sedona_tf import backbones, decouple, plans
from sedona_tf.errors import UserError
from sedona_tf.evaluate.ensemble import Ensemble, evaluate_exits
from sedona_tf.evaluate.temperature import fit_temperature, negative_log_likelihood

SEPARABLE = {"kind": "separable", "depth": 1}


def digits():
    images, labels = load_digits(return_X_y=True)
    return (images.reshape(-1, 8, 8, 1) / 8 - 1).astype("float32"), labels


def make(num_blocks: int, auxiliary=SEPARABLE):
    keras.utils.set_random_seed(1)
    backbone = backbones.build("resnet18", (8, 8, 1), 10, width=4)
    return decouple(backbone, plans.uniform(backbone, num_blocks, auxiliary), schedule="lockstep")


@pytest.fixture(scope="module")
def model():
    """Three blocks, trained a little: wrong on some digits, and each block on others."""
    model = make(3)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), metrics=["accuracy"])
    images, labels = digits()
    model.fit(images[:640], labels[:640], batch_size=32, epochs=5, shuffle=False, verbose=0)
    return model


@pytest.fixture(scope="module")
def held_out():
    images, labels = digits()
    return images[700:875], labels[700:875]


def slow_average(model, images, temperatures, last) -> np.ndarray:
    """Image by image, classifier by classifier, class by class."""
    logits = np.array(model.block_logits(tf.constant(images)), np.float64)
    rows = []
    for image in range(len(images)):
        total = [0.0] * logits.shape[-1]
        for block in range(len(model.blocks) - 1 - last, len(model.blocks)):
            powers = [math.exp(z / temperatures[block]) for z in logits[block, image]]
            for index, power in enumerate(powers):
                total[index] += power / sum(powers) / (last + 1)
        rows.append(total)
    return np.array(rows)


def slow_error(scores, labels) -> float:
    pairs = zip(scores, labels, strict=True)
    return sum(max(range(10), key=row.__getitem__) != label for row, label in pairs) / len(labels)


@pytest.mark.parametrize("last", [0, 1, 2])
def test_average_of_probabilities(model, held_out, last):
    images, _ = held_out
    ensemble = Ensemble(model, last)
    for temperatures in (None, (0.5, 2.0, 1.3)):
        ensemble.temperatures = temperatures
        actual = ensemble.predict(images, batch_size=64)
        expected = slow_average(model, images, temperatures or (1.0,) * 3, last)
        # float32 logits of other batch sizes and of eager execution
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(actual.sum(axis=1), 1, rtol=1e-12)


def test_kinds_of_data_agree(model, held_out):
    images, labels = held_out
    ensemble = Ensemble(model)
    expected = ensemble.predict(images, batch_size=50)
    pairs = tf.data.Dataset.from_tensor_slices((images, labels)).batch(50)
    alone = tf.data.Dataset.from_tensor_slices(images).batch(50)
    for data in (pairs, alone, tf.constant(images), images.astype("float64")):
        np.testing.assert_array_equal(ensemble.predict(data, batch_size=50), expected)
    fitted = ensemble.calibrate(images, labels, 50).temperatures
    assert ensemble.calibrate(pairs).temperatures == fitted
    assert ensemble.calibrate(images, labels[:, None], 50).temperatures == fitted
    assert ensemble.evaluate(images, labels) == ensemble.evaluate(pairs)


def test_calibration_fits_each_classifier(model, held_out):
    images, labels = held_out
    ensemble = Ensemble(model)
    assert ensemble.temperatures is None and ensemble.calibrate(images, labels) is ensemble
    logits = [each.numpy() for each in model.block_logits(tf.constant(images))]
    np.testing.assert_allclose(
        ensemble.temperatures, [fit_temperature(each, labels) for each in logits], rtol=1e-4
    )
    for each, temperature in zip(logits, ensemble.temperatures, strict=True):
        before, after = (negative_log_likelihood(each, labels, t) for t in (1.0, temperature))
        assert after < before


def test_errors(model, held_out):
    images, labels = held_out
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(64)
    ensemble = Ensemble(model).calibrate(*[part[:60] for part in held_out])
    temperatures = ensemble.temperatures
    found = ensemble.evaluate(dataset)
    logits = [each.numpy() for each in model.block_logits(tf.constant(images))]
    alone = [slow_error(each, labels) for each in logits]
    # Or the test would show little.
    assert len({tuple(each.argmax(-1)) for each in logits}) == 3 and 0 < max(alone) < 0.9
    assert [*found.exits, found.head] == alone
    for errors, scales in (
        (found.ensembles, (1.0,) * 3),
        (found.calibrated_ensembles, temperatures),
    ):
        averages = [slow_average(model, images, scales, last) for last in (1, 2)]
        assert list(errors) == [slow_error(each, labels) for each in averages]
    assert found.num_images == 175 and found.decoupling == model.decoupling
    keras_accuracy = model.evaluate(dataset, verbose=0, return_dict=True)["accuracy"]
    np.testing.assert_allclose(1 - found.head, keras_accuracy, rtol=1e-6)
    assert evaluate_exits(model, dataset, temperatures) == found
    plain = evaluate_exits(model, dataset)
    assert plain.calibrated_ensembles is None and plain.temperatures is None
    assert (plain.exits, plain.head, plain.ensembles) == (found.exits, found.head, found.ensembles)


def test_one_block_is_the_head_alone(held_out):
    images, labels = held_out
    model = make(1)
    ensemble = Ensemble(model).calibrate(images, labels)
    (temperature,) = ensemble.temperatures
    expected = tf.nn.softmax(model.predict(images, verbose=0) / temperature)
    np.testing.assert_allclose(ensemble.predict(images), expected, rtol=1e-4)
    found = ensemble.evaluate(images, labels)
    assert (found.exits, found.ensembles, found.calibrated_ensembles) == ((), (), ())
    assert found.head == slow_error(expected.numpy(), labels)


def test_activations_are_computed_once_a_batch_by_one_trace(model, held_out, monkeypatch):
    """Also for ragged batches, and for calibration and prediction in turn."""
    traces, runs = [], []
    block_logits, unit = model.block_logits, model.blocks[0].units[0]

    def traced(images, training=False):
        traces.append(training)
        with tf.control_dependencies([tf.py_function(lambda: runs.append(1), [], [])]):
            return block_logits(tf.identity(images), training=training)

    monkeypatch.setattr(model, "block_logits", traced)
    images, labels = held_out
    before = [variable.numpy() for variable in unit.variables]
    seen: list[int] = []
    callback = keras.callbacks.LambdaCallback()
    callback.on_test_batch_end = lambda batch, logs=None: seen.append(batch)
    ensemble = Ensemble(model, callbacks=[callback]).calibrate(images, labels, batch_size=100)
    ensemble.predict(images[:7])
    ensemble.evaluate(images, labels, batch_size=100)
    assert traces == [False] and len(runs) == 2 + 1 + 2
    assert seen == [0, 1, 0, 0, 1]
    for variable, value in zip(unit.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_uses_the_weights_of_the_moment(held_out):
    images, _ = held_out
    model = make(2)
    ensemble = Ensemble(model, last=0)
    ensemble.predict(images)
    for variable in model.blocks[-1].classifier.trainable_variables:
        variable.assign(tf.zeros_like(variable))
    np.testing.assert_allclose(ensemble.predict(images), 0.1, rtol=1e-6)


def test_half_precision_and_predsim(held_out):
    """Logits come in two types, and those of predsim among other outputs."""
    images, _ = held_out
    full = Ensemble(make(2, {"kind": "predsim"})).predict(images)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = Ensemble(make(2, {"kind": "predsim"})).predict(images)
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(half.sum(axis=1), 1, rtol=1e-12)
    # bfloat16 has 8 bits, and its roundings add up over the layers
    np.testing.assert_allclose(half, full, atol=0.05)
    assert not np.array_equal(half, full)


def test_refusals(model, held_out):
    images, labels = held_out
    for temperatures in ((1.0, 1.0), (1.0, 0.0, 1.0), (1.0, math.inf, 1.0)):
        with pytest.raises(UserError, match="temperatures"):
            evaluate_exits(model, None, temperatures)
    for last in (-1, 3, 1.0, True):
        with pytest.raises(UserError, match="last"):
            Ensemble(model, last)
    ensemble = Ensemble(model)
    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    fewer = tf.data.Dataset.from_tensors((images, labels[:9]))
    weighted = tf.data.Dataset.from_tensor_slices((images, labels, labels * 1.0)).batch(9)
    for call, words in (
        (lambda: ensemble.calibrate(images), "labels"),
        (lambda: ensemble.evaluate(images, labels[:9]), "175 labels"),
        (lambda: ensemble.evaluate(images, labels + 1), "1 to 10"),
        (lambda: ensemble.evaluate(images, labels * 1.0), "whole number"),
        (lambda: ensemble.evaluate(images, np.eye(10, dtype=int)[labels]), "whole number"),
        (lambda: ensemble.predict(images[:, :4]), r"\(175, 4, 8, 1\)"),
        (lambda: ensemble.predict(dataset), r"\(8, 8, 1\)"),
        (lambda: ensemble.predict(images[:0]), "image"),
        (lambda: ensemble.predict(images, batch_size=0), "batch_size"),
        (lambda: ensemble.predict(dataset.batch(9).repeat()), "must end"),
        (lambda: ensemble.evaluate(weighted), "weights"),
        (lambda: ensemble.evaluate(fewer), "175"),
        (lambda: ensemble.evaluate(dataset.batch(9), labels), "beside"),
        (lambda: ensemble.predict(images * np.nan), "block 1"),
        (lambda: evaluate_exits(model, dataset.batch(9), [1, 1]), "3 positive"),
        (lambda: evaluate_exits(model, dataset.batch(9), [1, 1, 0]), "3 positive"),
    ):
        with pytest.raises(UserError, match=words):
            call()


def test_progress_only_where_it_is_asked_for(model, held_out, capsys):
    data = tf.data.Dataset.from_tensor_slices(held_out).batch(100)
    Ensemble(model).calibrate(data).evaluate(*held_out)
    assert capsys.readouterr() == ("", "")
    Ensemble(model, progress=True).calibrate(data).evaluate(*held_out, batch_size=60)
    printed = capsys.readouterr().out
    assert re.search(r"calibrating: 100%.* 2/2 \[", printed)
    assert re.search(r"evaluating: 100%.* 3/3 \[", printed)
