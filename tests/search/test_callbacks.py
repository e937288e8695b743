"""What a search leaves for TensorBoard."""

from __future__ import annotations

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import tiny_backbone
from run_stubs import stub_run, take_step
from train_runs import recorded

from sedona_tf.auxiliary import candidates_from
from sedona_tf.errors import UserError
from sedona_tf.runs.arrays import Arrays
from sedona_tf.runs.nan_guard import NanGuard
from sedona_tf.runs.state import capture
from sedona_tf.search import callbacks
from sedona_tf.search.callbacks import ArchitectureLog
from sedona_tf.search.search_model import SearchModel


def test_every_step_is_recorded_with_histograms_of_alpha_and_beta(tmp_path):
    """Also while keras.callbacks.TensorBoard has recording switched off."""
    model = SearchModel(tiny_backbone(), candidates_from([{"kind": "separable", "depth": 1}]))
    log = ArchitectureLog(run := stub_run(done=3, steps=100, folder=tmp_path))
    log.set_model(model)
    with tf.summary.record_if(False):
        for batch in range(2):
            model.alpha.assign(np.full(model.alpha.shape, 5.0 + batch))
            take_step(run, {"outer_loss": 0.5}, log)
    log.on_train_end()
    assert run.history["steps"] == [4, 5]

    found = recorded(tmp_path / "logs/architecture")
    assert [step for step, _ in found["cut_probability"]] == [5]  # twenty in a hundred steps
    for tag in ("alpha", "beta", "candidate_weights", "outer_loss", "cut_probability/unit_1"):
        assert [step for step, _ in found[tag]] == [4, 5]
    cuts = {f"cut_probability/unit_{unit}" for unit in range(1, model.alpha.shape[0] + 1)}
    assert {tag for tag in found if tag.startswith("cut_probability/")} == cuts
    for step, buckets in found["alpha"]:  # rows of (left edge, right edge, count)
        assert buckets[:, 2].sum() == model.alpha.shape[0] * 2
        assert np.all((buckets[:, 0] <= step + 1) & (step + 1 <= buckets[:, 1]))


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(3, [1, 2, 3]), (45, [*range(3, 46, 3)]), (61, [*range(4, 61, 4), 61]), (20, [*range(1, 21)])],
)
def test_heat_maps_are_few_and_one_is_of_the_end(steps, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(callbacks, "heat_map", lambda *_: np.zeros((2, 3, 3), np.uint8))
    log = ArchitectureLog(run := stub_run(steps=steps, folder=tmp_path))
    log.set_model(SearchModel(tiny_backbone(), candidates_from([{"kind": "mlp_sr"}])))
    for _ in range(steps):
        take_step(run, {"outer_loss": 0.5}, log)
    log.on_train_end()
    assert [
        step for step, _ in recorded(tmp_path / "logs/architecture")["cut_probability"]
    ] == expected
    assert len(expected) <= callbacks.HEAT_MAPS + 1


def test_the_heat_map_has_the_colours_of_the_probabilities(tmp_path):
    """Three steps at p = 0 in the upper half of the units and near 1 in the lower half."""
    from matplotlib import colormaps

    model = SearchModel(tiny_backbone(), candidates_from([{"kind": "mlp_sr"}]))
    num_cuts = model.alpha.shape[0]
    known = np.where(np.arange(num_cuts) < num_cuts // 2, 0.0, 1.0)
    model.alpha.assign(np.stack([np.where(known, 60.0, -60.0), np.zeros(num_cuts)], 1))
    log = ArchitectureLog(run := stub_run(steps=3, folder=tmp_path))
    log.set_model(model)
    for _ in range(3):
        take_step(run, {"outer_loss": 0.5}, log)
    log.on_train_end()
    step, value = recorded(tmp_path / "logs/architecture")["cut_probability"][-1]
    width, height, image = value
    picture = tf.io.decode_png(image).numpy()
    assert step == 3 and picture.shape == (int(height), int(width), 3) == (304, 640, 3)
    colours = [  # to within rounding
        np.all(np.abs(picture - 255 * np.array(colormaps["cividis"](p)[:3])) < 1.5, axis=-1)
        for p in (0.0, 1.0)
    ]
    areas, middles = zip(
        *((mask.sum(), np.argwhere(mask).mean(axis=0)) for mask in colours), strict=True
    )
    upper, lower = num_cuts // 2, num_cuts - num_cuts // 2
    assert min(areas) > 0.1 * picture.shape[0] * picture.shape[1]
    assert areas[0] / areas[1] == pytest.approx(upper / lower, rel=0.05)
    assert middles[0][0] < middles[1][0]  # unit 1 is at the top
    assert middles[0][1] == pytest.approx(middles[1][1], abs=15)


def test_a_picture_that_fails_costs_one_line(tmp_path, monkeypatch, caplog):
    """The numbers of that step are recorded all the same."""

    def fail(*_):
        raise RuntimeError("no LaTeX\nhere")

    monkeypatch.setattr(callbacks, "heat_map", fail)
    log = ArchitectureLog(run := stub_run(steps=1, folder=tmp_path))
    log.set_model(SearchModel(tiny_backbone(), candidates_from([{"kind": "mlp_sr"}])))
    take_step(run, {"outer_loss": 0.5}, log)
    log.on_train_end()
    found = recorded(tmp_path / "logs/architecture")
    assert found["outer_loss"] == [(1, 0.5)] and "cut_probability" not in found
    assert [message.endswith("no LaTeX") for message in caplog.messages] == [True]


class Slots:
    """As much of a pool as callbacks use; a snapshot is the number that the model holds."""

    def __init__(self, *values: int) -> None:
        self.files, self.calls = list(values), []

    def due(self, step: int, steps: int) -> bool:
        return step % 3 == 0 and steps == 10

    def add(self, arrays: Arrays, step: int) -> None:
        self.calls.append((int(arrays["weights/00000"]), step))

    def load(self, slot: int) -> Arrays:
        return {"weights/00000": np.array(self.files[slot], "float32")}

    def replace(self, slot: int, arrays: Arrays, step: int) -> None:
        self.calls.append((slot, int(arrays["weights/00000"]), step))


class Model:
    def __init__(self) -> None:
        self.held = keras.Variable(5.0)

    def weight_variables(self) -> dict[str, list]:
        return {"weights": [self.held]}


def test_the_pool_is_filled_when_due():
    pool, run = Slots(), stub_run("pretraining", 4, 10, guard=NanGuard({}))
    filler = callbacks.PoolFiller(run, pool)
    filler.set_model(model := Model())
    for _ in range(5):  # steps 5 to 9
        take_step(run, {}, filler)
    assert pool.calls == [(5, 6), (5, 9)]
    model.held.assign(np.nan)
    with pytest.raises(UserError, match="weights not finite after pretraining step 12"):
        for _ in range(3):
            take_step(run, {}, filler)
    assert len(pool.calls) == 2


def test_draws_depend_on_seed_and_step_alone():
    def drawn(start: int, seed: int) -> list[tuple]:
        pool = Slots(10, 20, 30, 40)
        recipe = SimpleNamespace(seed=seed)
        run = stub_run(done=start, recipe=recipe, guard=NanGuard({}))
        sampler = callbacks.PoolSampler(run, pool)
        sampler.set_model(model := Model())
        for _ in range(40 - start):
            sampler.on_train_batch_begin(0)
            assert float(model.held) == pool.files[sampler.slot]
            model.held.assign_add(1.0)
            take_step(run, {}, sampler)
        return pool.calls

    whole = drawn(0, 3)
    assert [step for _, _, step in whole] == list(range(1, 41))
    assert all(value == 10 * slot + 11 for slot, value, _ in whole)
    assert {slot for slot, _, _ in whole} == {0, 1, 2, 3}
    assert drawn(25, 3) == whole[25:] and drawn(0, 4) != whole


def test_skipped_steps_are_counted_and_end_nothing(tmp_path):
    """Two of three steps had no finite outer loss; any other number that is not finite stops."""
    log = ArchitectureLog(run := stub_run(steps=99, folder=tmp_path))
    log.set_model(SearchModel(tiny_backbone(), candidates_from([{"kind": "mlp_sr"}])))
    guard = NanGuard({})
    for loss in (np.nan, 0.5, np.nan):
        take_step(run, {"outer_loss": loss}, log)
        guard.check({"outer_loss": loss, "loss": 0.5}, run.position)
    log.on_train_end()
    assert callbacks.skipped_steps(run.history) == 2 and run.history["steps"] == [1, 2, 3]
    guard.check_arrays(capture({}, run.history), run.position)
    with pytest.raises(UserError, match="after search step 3"):
        guard.check_arrays({"alpha/00000": np.array([np.nan])}, run.position)
