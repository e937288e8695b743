"""No step without its batch: data of unknown length, pictures that fail, short epochs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_checks import assert_equal
from small_models import IMAGES, LABELS, LOGITS_LOSS, batches, made, state

FORMS = [(1, "lockstep"), (2, "lockstep"), (2, "pipelined"), (3, "pipelined")]


def unknown_length(kind: str, folder) -> tf.data.Dataset:
    if kind == "filter":
        return batches().filter(lambda *_: True)
    if kind == "generator":

        def each():
            yield from ((images.numpy(), labels.numpy()) for images, labels in batches())

        spec = (tf.TensorSpec((None, 6, 6, 2)), tf.TensorSpec((None,), tf.int64))
        return tf.data.Dataset.from_generator(each, output_signature=spec)
    file = str(folder / "pictures")
    with tf.io.TFRecordWriter(file) as writer:
        for image, label in zip(IMAGES, LABELS, strict=True):
            example = tf.train.Example()
            example.features.feature["image"].float_list.value.extend(image.ravel())
            example.features.feature["label"].int64_list.value.append(label)
            writer.write(example.SerializeToString())
    features = {
        "image": tf.io.FixedLenFeature((6, 6, 2), tf.float32),
        "label": tf.io.FixedLenFeature((), tf.int64),
    }

    def parse(text):
        example = tf.io.parse_single_example(text, features)
        return example["image"], example["label"]

    return tf.data.TFRecordDataset(file).map(parse).batch(4)


@pytest.fixture(scope="module")
def fresh():
    """Models as `made` gives them: the same ones again and again, since each is traced once."""
    kept = {}

    def model(blocks: int, schedule: str = "pipelined"):
        if (blocks, schedule) not in kept:
            new = made(blocks, schedule)
            new.optimizer.build(new.trainable_variables)
            kept[blocks, schedule] = new, state(new)
        found, start = kept[blocks, schedule]
        found.drain()
        for variable, value in zip(
            [*found.variables, *found.optimizer.variables], start, strict=True
        ):
            variable.assign(value)
        return found

    return model


@pytest.mark.parametrize(("blocks", "schedule"), FORMS)
def test_data_of_unknown_length_train_as_arrays_do(fresh, blocks, schedule, tmp_path):
    """Keras runs a step once more at the end of every epoch, whose batch never comes."""
    kinds = ("generator", "filter", "tfrecord") if blocks == 2 else ("filter",)
    ends = {}
    for kind in ("arrays", *kinds):
        model = fresh(blocks, schedule)
        data = batches() if kind == "arrays" else unknown_length(kind, tmp_path)
        history = model.fit(data, epochs=2, verbose=0).history
        ends[kind] = state(model), history
        assert int(model.optimizer.iterations) == 16
    for kind in kinds:
        assert_equal(ends[kind][0], ends["arrays"][0])
        assert ends[kind][1] == ends["arrays"][1]


@pytest.mark.parametrize(("blocks", "schedule"), FORMS)
def test_after_an_error_a_model_is_as_after_the_last_good_batch(fresh, blocks, schedule):
    bad = IMAGES.copy()
    bad[17] = np.nan

    def read(image, label):
        return tf.debugging.check_numerics(image, "picture"), label

    data = tf.data.Dataset.from_tensor_slices((bad, LABELS)).map(read).batch(4)
    model = fresh(blocks, schedule)
    with pytest.raises(tf.errors.InvalidArgumentError, match="picture"):
        model.fit(data, verbose=0)
    assert not any(buffer.full.numpy() for buffer in model.buffers)
    failed = state(model)
    good = fresh(blocks, schedule)
    good.fit(batches().take(4), verbose=0)
    assert_equal(failed, state(good))


def test_after_an_interrupt_nothing_is_left_in_the_buffers(fresh):
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                raise KeyboardInterrupt

    model = fresh(3)
    with pytest.raises(KeyboardInterrupt):
        model.fit(batches(), verbose=0, callbacks=[Interrupt()])
    stopped = state(model)
    good = fresh(3)
    good.fit(batches().take(4), verbose=0)
    assert_equal(stopped, state(good))


@pytest.mark.parametrize(("blocks", "schedule"), [FORMS[0], FORMS[1], FORMS[3]])
def test_labels_that_are_no_classes_end_fit_and_change_nothing(blocks, schedule):
    model = made(blocks, schedule)
    for loss, labels in ((None, (-1, 7)), (LOGITS_LOSS, (5,))):
        model.compile(keras.optimizers.SGD(0.05), loss)
        model.fit(IMAGES[:8], LABELS[:8], batch_size=4, verbose=0)
        before = state(model)
        for label in labels:
            wrong = LABELS.copy()
            wrong[9] = label
            with pytest.raises(tf.errors.InvalidArgumentError, match="labels"):
                model.fit(IMAGES[8:12], wrong[8:12], batch_size=4, verbose=0)
            assert_equal(state(model), before)
            with pytest.raises(tf.errors.InvalidArgumentError, match="labels"):
                model.evaluate(IMAGES, wrong, verbose=0)


def test_pictures_whose_sizes_the_data_do_not_tell(fresh):
    def load(index):
        def read(i):
            return IMAGES[int(i)], LABELS[int(i)].astype("int32")

        image, label = tf.numpy_function(read, [index], [tf.float32, tf.int32])
        return tf.ensure_shape(image, (None, None, 2)), tf.ensure_shape(label, ())

    for blocks, schedule in (FORMS[0], FORMS[2]):
        untold = fresh(blocks, schedule)
        data = tf.data.Dataset.range(30).map(load).batch(4)
        history, found = untold.fit(data, epochs=2, verbose=0).history, state(untold)
        told = fresh(blocks, schedule)
        assert history == told.fit(batches(), epochs=2, verbose=0).history
        assert_equal(found, state(told))


def test_an_epoch_shorter_than_the_pipeline_has_its_loss(fresh):
    """EarlyStopping on the loss goes on while it falls, as in lockstep."""
    histories = []
    for schedule in ("lockstep", "pipelined"):
        model = fresh(3, schedule)
        stop = keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True)
        histories.append(
            model.fit(
                IMAGES,
                LABELS,
                batch_size=15,
                epochs=5,
                shuffle=False,
                verbose=0,
                callbacks=[stop],
                validation_data=(IMAGES, LABELS),
            ).history
        )
    assert histories[0] == histories[1]
    assert min(histories[0]["loss"]) > 1.0


def test_logs_of_a_step_hold_what_a_batch_has_reached(fresh):
    class Logs(keras.callbacks.Callback):
        seen: list = []

        def on_train_batch_end(self, batch, logs=None):
            self.seen.append(set(logs))

    model, logs = fresh(3), Logs()
    model.fit(batches(), epochs=2, verbose=0, callbacks=[logs])
    first, second = {"block_1_loss"}, {"block_1_loss", "block_2_loss"}
    assert logs.seen == 2 * [first, second, *6 * [{*second, "loss"}]]
    model.reset_metrics()
    values = model.train_on_batch(IMAGES, LABELS, return_dict=True)
    assert set(values) == {*second, "loss"} and np.isnan(values["loss"])


def test_what_is_saved_has_had_every_batch(fresh, tmp_path):
    """Between two batches: a checkpoint on the way has no update of an upper block too few."""
    saved, plain = fresh(3), fresh(3, "lockstep")
    weights = tmp_path / "some.weights.h5"
    save = keras.callbacks.ModelCheckpoint(weights, save_freq=4, save_weights_only=True)
    saved.fit(batches().take(5), verbose=0, callbacks=[save])
    plain.fit(batches().take(4), verbose=0)
    loaded = fresh(3)
    loaded.load_weights(weights)
    floating = [
        [each for each in state(model) if each.dtype.kind == "f"] for model in (loaded, plain)
    ]
    assert_equal(*floating)  # Keras' files hold no generator's state
    counts = [int(each.iterations) for each in loaded.optimizer.of_blocks]
    assert counts == [4, 4, 4]


def test_backup_in_the_middle_of_an_epoch_loses_no_update(fresh, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 5:
                raise RuntimeError("stop")

    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=3)
    with pytest.raises(RuntimeError, match="stop"):
        fresh(3).fit(batches(), verbose=0, callbacks=[backup, Stop()])
    again = fresh(3)
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    again.fit(batches().skip(6), verbose=0, callbacks=[backup])
    counts = [int(each.iterations) for each in again.optimizer.of_blocks]
    assert len(set(counts)) == 1
