"""What a search leaves for TensorBoard."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from networks import tiny_backbone
from train_runs import recorded

from sedona_tf.auxiliary import candidates_from
from sedona_tf.errors import UserError
from sedona_tf.runs.callbacks import NanGuard
from sedona_tf.runs.event_log import EventLog
from sedona_tf.search import callbacks
from sedona_tf.search.callbacks import ArchitectureLog
from sedona_tf.search.search_model import SearchModel


def test_every_step_is_recorded_with_histograms_of_alpha_and_beta(tmp_path):
    """Also while keras.callbacks.TensorBoard has recording switched off."""
    model = SearchModel(tiny_backbone(), candidates_from([{"kind": "separable", "depth": 1}]))
    history: dict[str, list] = {
        name: [] for name in ("steps", "cut_probability", "candidate_weights", "outer_loss")
    }
    log = ArchitectureLog(3, 100, EventLog(tmp_path), history)
    log.set_model(model)
    with tf.summary.record_if(False):
        for batch in range(2):
            model.alpha.assign(np.full(model.alpha.shape, 5.0 + batch))
            log.on_train_batch_end(batch, {"outer_loss": 0.5})
    log.on_train_end()
    assert history["steps"] == [4, 5]

    found = recorded(tmp_path)
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
    history: dict[str, list] = {
        name: [] for name in ("steps", "cut_probability", "candidate_weights", "outer_loss")
    }
    log = ArchitectureLog(0, steps, EventLog(tmp_path), history)
    log.set_model(SearchModel(tiny_backbone(), candidates_from([{"kind": "mlp_sr"}])))
    for batch in range(steps):
        log.on_train_batch_end(batch, {"outer_loss": 0.5})
    log.on_train_end()
    assert [step for step, _ in recorded(tmp_path)["cut_probability"]] == expected
    assert len(expected) <= callbacks.IMAGES + 1


def test_the_heat_map_has_the_colours_of_the_probabilities(tmp_path):
    """Three steps at p = 0 in the upper half of the units and near 1 in the lower half."""
    from matplotlib import colormaps

    model = SearchModel(tiny_backbone(), candidates_from([{"kind": "mlp_sr"}]))
    num_cuts = model.alpha.shape[0]
    known = np.where(np.arange(num_cuts) < num_cuts // 2, 0.0, 1.0)
    model.alpha.assign(np.stack([np.where(known, 60.0, -60.0), np.zeros(num_cuts)], 1))
    history: dict[str, list] = {
        name: [] for name in ("steps", "cut_probability", "candidate_weights", "outer_loss")
    }
    log = ArchitectureLog(0, 3, EventLog(tmp_path), history)
    log.set_model(model)
    for batch in range(3):
        log.on_train_batch_end(batch, {"outer_loss": 0.5})
    log.on_train_end()
    step, value = recorded(tmp_path)["cut_probability"][-1]
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
    history: dict[str, list] = {
        name: [] for name in ("steps", "cut_probability", "candidate_weights", "outer_loss")
    }
    log = ArchitectureLog(0, 1, EventLog(tmp_path), history)
    log.set_model(SearchModel(tiny_backbone(), candidates_from([{"kind": "mlp_sr"}])))
    log.on_train_batch_end(0, {"outer_loss": 0.5})
    log.on_train_end()
    found = recorded(tmp_path)
    assert found["outer_loss"] == [(1, 0.5)] and "cut_probability" not in found
    assert [message.endswith("no LaTeX") for message in caplog.messages] == [True]


class Slots:
    """As much of a pool as callbacks use; a model's snapshot is the number it holds."""

    def __init__(self, *values: int) -> None:
        self.files, self.calls = list(values), []

    def due(self, step: int, steps: int) -> bool:
        return step % 3 == 0 and steps == 10

    def add(self, value: int, step: int) -> None:
        self.calls.append((value, step))

    def load(self, slot: int) -> int:
        return self.files[slot]

    def replace(self, slot: int, value: int, step: int) -> None:
        self.calls.append((slot, value, step))


class Model:
    held = 5

    def snapshot(self) -> int:
        return self.held

    def restore(self, value: int) -> None:
        self.held = value


class Guard:
    """Notes the snapshots that it is asked about, which are numbers here."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def check_arrays(self, value: int, step: int) -> None:
        self.seen.append((value, step))


def test_the_pool_is_filled_when_due():
    pool = Slots()
    filler = callbacks.PoolFiller(pool, 4, 10, guard := Guard())
    filler.set_model(Model())
    for batch in range(6):  # steps 5 to 10
        filler.on_train_batch_end(batch)
    assert pool.calls == guard.seen == [(5, 6), (5, 9)]


def test_draws_depend_on_seed_and_step_alone():
    def drawn(start: int, seed: int) -> list[tuple]:
        pool = Slots(10, 20, 30, 40)
        sampler = callbacks.PoolSampler(pool, start, seed, guard := Guard())
        sampler.set_model(model := Model())
        for batch in range(40 - start):
            sampler.on_train_batch_begin(batch)
            assert model.held == pool.files[sampler.slot]
            model.held += 1
            sampler.on_train_batch_end(batch)
        assert guard.seen == [(value, step) for _, value, step in pool.calls]
        return pool.calls

    whole = drawn(0, 3)
    assert [step for _, _, step in whole] == list(range(1, 41))
    assert all(value == 10 * slot + 11 for slot, value, _ in whole)
    assert {slot for slot, _, _ in whole} == {0, 1, 2, 3}
    assert drawn(25, 3) == whole[25:] and drawn(0, 4) != whole


def test_skipped_steps_are_counted_and_end_nothing(tmp_path):
    """Two of three steps had no finite outer loss; any other number that is not finite stops."""
    history: dict[str, list] = {
        name: [] for name in ("steps", "cut_probability", "candidate_weights", "outer_loss")
    }
    log = ArchitectureLog(0, 99, EventLog(tmp_path), history)
    log.set_model(SearchModel(tiny_backbone(), candidates_from([{"kind": "mlp_sr"}])))
    guard = NanGuard("search", 0, {})
    for batch, loss in enumerate((np.nan, 0.5, np.nan)):
        log.on_train_batch_end(batch, {"outer_loss": loss})
        guard.on_train_batch_end(batch, {"outer_loss": loss, "loss": 0.5})
    log.on_train_end()
    assert callbacks.skipped_steps(history) == 2 and history["steps"] == [1, 2, 3]
    guard.check_arrays({"history/outer_loss": np.array(history["outer_loss"])}, 3)
    for name in ("alpha", "history/cut_probability"):
        with pytest.raises(UserError, match="after search step 3"):
            guard.check_arrays({name: np.array([np.nan])}, 3)
