"""Small files of every kind that the package reads, and what comes of damage to each."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import logging
import random
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras_tuner
import numpy as np

from sedona_tf.data import DataRecord, Normalization
from sedona_tf.data.idx import read_folder
from sedona_tf.errors import UserError
from sedona_tf.export.models_config import add_model, read_config, write_config
from sedona_tf.plans import Plan, load_decoupling
from sedona_tf.profile.cache import CostCache
from sedona_tf.profile.costs import Costs, PartCost
from sedona_tf.recipe import paper
from sedona_tf.runs.arrays import Arrays
from sedona_tf.runs.checkpoints import CheckpointStore, Position
from sedona_tf.runs.history import load_history, save_history
from sedona_tf.runs.kept_recipe import read_recipe, write_recipe
from sedona_tf.runs.metrics import load_metrics, save_metrics
from sedona_tf.search.pool import SnapshotPool
from sedona_tf.tune.oracles import RandomOracle
from sedona_tf.tune.trials import TrialRecord, require_same_tuning, write_trials
from sedona_tf.tune.tuner import DecouplingTuner

__all__ = ["FELL_BACK", "REFUSED", "Kind", "attack", "kinds", "write_idx", "write_sums"]

REFUSED, FELL_BACK, EQUAL = "refused", "fell back and said so", "equal content"
UNSEEN = "not detectable"
SILENT, TRACEBACK, UNCLEAR = "SILENT", "TRACEBACK", "UNCLEAR"
FAULTS = (SILENT, TRACEBACK, UNCLEAR)
"""Outcomes that must not be; the last is an error of several lines or without the file's name."""

NETS = ({"kind": "separable", "depth": 1}, {"kind": "separable", "depth": 2})
PLAN = Plan(
    backbone="toy",
    units=tuple((f"unit_{number}", (8, 8, 4 * number)) for number in range(1, 5)),
    candidates=NETS,
    alpha=((0.1, -0.2), (1.5, 0.0), (-0.25, 1e-3)),
    beta=((0.0, 1.0), (2.0, -1.0), (0.5, 0.125)),
    provenance={"recipe": {"seed": 3, "name": "größer"}, "dataset": {"name": "noise"}},
)
BACKBONE = SimpleNamespace(
    name="toy",
    units=[SimpleNamespace(name=name, output_shape=(None, *shape)) for name, shape in PLAN.units],
)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: of the kind, for people.
        path: an undamaged file.
        read: reads it as the commands do; what it returns has all of the content in its `repr`.
        older: what `read` may return instead if it warns of it in the log; None if nothing.
        protected: whether any change can be told from an edit, by a checksum; JSON's cannot.
    """

    name: str
    path: Path
    read: Callable[[], Any]
    older: Any = None
    protected: bool = True

    def outcome(self, expected: Any) -> str:
        """Reads the file as it is now and judges what comes of it.

        Args:
            expected: the undamaged file's content.
        """
        log = logging.StreamHandler(io.StringIO())
        logging.getLogger().addHandler(log)
        try:
            found = self.read()
        except UserError as error:
            return REFUSED if self._is_clear(str(error)) else UNCLEAR
        except Exception:
            return TRACEBACK
        finally:
            logging.getLogger().removeHandler(log)
        if repr(found) == repr(expected):
            return EQUAL
        said = log.stream.getvalue().strip()
        if self.older is not None and repr(found) == repr(self.older) and "Going on from" in said:
            return FELL_BACK if self._is_clear(said) else UNCLEAR
        protected = self.protected and self.path.suffix != ".json"
        return SILENT if protected else UNSEEN

    def _is_clear(self, message: str) -> bool:
        return len(message.splitlines()) == 1 and self.path.name in message


def attack(kind: Kind, step: int, flips: int, rng: random.Random) -> tuple[Counter[str], list[str]]:
    """Damages a file in many ways, one at a time, and leaves it as it was.

    Args:
        kind: what to damage.
        step: the file is cut off at every so many bytes.
        flips: cases of flipped bits: 1, 2 or 8 at random places.
        rng: decides where.

    Returns:
        How often each outcome came, and the faults in words.
    """
    whole, expected = kind.path.read_bytes(), kind.read()
    counts: Counter[str] = Counter()
    faults = []
    for words, content in _damages(whole, step, flips, rng):
        kind.path.write_bytes(content)
        outcome = kind.outcome(expected)
        counts[outcome] += 1
        if outcome in FAULTS:
            faults.append(f"{outcome}: {kind.name}, {words}")
    kind.path.write_bytes(whole)
    if kind.outcome(expected) != EQUAL:
        faults.append(f"{kind.name}: the undamaged file was not left as it was")
    return counts, faults


def _damages(
    whole: bytes, step: int, flips: int, rng: random.Random
) -> Iterator[tuple[str, bytes]]:
    for length in range(0, len(whole), step):
        yield f"cut to {length} of {len(whole)} bytes", whole[:length]
    for index in range(flips):
        places = rng.sample(range(8 * len(whole)), (1, 1, 2, 8)[index % 4])
        damaged = bytearray(whole)
        for place in places:
            damaged[place // 8] ^= 1 << (place % 8)
        yield f"bits {places} flipped", bytes(damaged)


def kinds(folder: Path) -> list[Kind]:
    """Writes a file of each kind, none over a few kilobytes.

    Args:
        folder: an empty one for all of them.
    """
    makers = (_plans, _costs, _run_files, _tuning, _checkpoints, _snapshots, _idx, _models)
    found = []
    for maker in makers:
        inner = folder / maker.__name__.strip("_")
        inner.mkdir()
        found += maker(inner)
    return found


def _plans(folder: Path) -> list[Kind]:
    plan, decoupling = folder / "plan.json", folder / "decoupling.json"
    PLAN.save(plan)
    PLAN.decode(3).save(decoupling)
    return [
        Kind("plan", plan, lambda: Plan.load(plan, BACKBONE)),
        Kind("plan for training", plan, lambda: load_decoupling(plan, BACKBONE, 2)),
        Kind("decoupling", decoupling, lambda: load_decoupling(decoupling, BACKBONE, 3)),
    ]


def _costs(folder: Path) -> list[Kind]:
    parts = [
        PartCost(0.1 / number, 0.2, 1e-3, 4096, 512, 2048, 10**6, 0.05) for number in range(1, 5)
    ]
    rows = ((parts[1], parts[2]),) * 3
    costs, cache = folder / "costs.json", folder / "parts.json"
    Costs("toy", PLAN.units, NETS, 8, "CPU", tuple(parts), rows, parts[3]).save(costs)
    kept = CostCache(cache)
    names = [f"dense {number}" for number in range(4)]
    for name, part in zip(names, parts, strict=True):
        kept.put("CPU, batch 8", name, part)
    kept.save()

    def read_cache() -> list[PartCost | None]:
        found = CostCache(cache)
        return [found.get("CPU, batch 8", name) for name in names]

    return [
        Kind("costs", costs, lambda: Costs.load(costs)),
        Kind("cost cache", cache, read_cache),
    ]


def _run_files(folder: Path) -> list[Kind]:
    recipe, history, metrics = (
        folder / f"{name}.json" for name in ("recipe", "history", "metrics")
    )
    write_recipe(folder, paper(), "train")
    normalization = Normalization((0.25, 0.5), (0.1, 0.2))
    DataRecord("a" * 64, None, (8, 8, 2), 10, 60, normalization).write(folder)
    save_history(history, "training", {"loss": [2.0, float("nan"), 0.1], "step": [1, 2, 3]})
    save_metrics(metrics, metrics_content())

    def read_history() -> tuple:
        found = load_history(history)
        return found.run, found.date, {name: each.tolist() for name, each in found.columns.items()}

    return [
        Kind("resolved recipe", recipe, lambda: read_recipe(folder, "train").to_dict()),
        Kind("data record", folder / "data.json", lambda: DataRecord.read(folder)),
        Kind("history", history, read_history),
        Kind("metrics", metrics, lambda: load_metrics(metrics)),
    ]


def metrics_content() -> dict[str, Any]:
    """What a training of three blocks writes as `metrics.json`."""
    decoupling = PLAN.decode(3)
    errors = {
        "exits": [0.5, 0.4],
        "head": 0.3125,
        "ensembles": [0.3, 0.29],
        "calibrated_ensembles": [0.295, 0.285],
    }
    return {
        "method": "sedona",
        "num_blocks": 3,
        "data": {
            "name": "noise",
            "limit": 0,
            "training_images": 50_000,
            "input_shape": [8, 8, 1],
        },
        "backbone": {"name": "toy", "width": 4},
        "units": [[name, list(shape)] for name, shape in PLAN.units],
        "seed": 0,
        "epochs": 2,
        "schedule": "pipelined",
        "devices": ["/device:CPU:0"] * 3,
        "images_per_second": 1234.5,
        "validation_error": 0.3,
        "test": {
            "backbone": "toy",
            "num_units": 4,
            "cut_after": list(decoupling.cut_after),
            "auxiliary": list(decoupling.auxiliary),
            "num_images": 100,
            "errors": errors,
            "temperatures": [1.1, 1.2, 1.3],
        },
        "machine": "x86_64, 2 cores",
        "tensorflow": "2.21.0",
        "date": "2026-11-25",
    }


def _tuning(folder: Path) -> list[Kind]:
    settings = {"tuner": "random", "num_blocks": 3}
    write_trials(folder, settings, [TrialRecord("0", PLAN.decode(3), 0.25, 12.5, 30, 2)])
    runner = _runner(folder)
    for error in (0.5, 0.25):
        trial = runner.oracle.create_trial("tuner0")
        found = {"val_error": error, "val_loss": 1.0, "seconds": 2.0, "steps": 3}
        runner.oracle.update_trial(trial.trial_id, found)
        trial.status = "COMPLETED"
        runner.oracle.end_trial(trial)
    runner.save()

    def read_state() -> str:
        oracle = _runner(folder).oracle
        content = oracle.get_state()
        content["tried_so_far"].sort(key=repr)
        return json.dumps([content, *(trial.get_state() for trial in oracle.trials.values())])

    trials = folder / "trials.json"

    def read_trials() -> str:
        require_same_tuning(folder, settings)
        return "".join(trials.read_text().split())

    return [
        Kind("trial records", trials, read_trials),
        Kind("tuner's state", folder / "tuner/tuner0.json", read_state),
    ]


def _runner(folder: Path) -> DecouplingTuner:
    hp = keras_tuner.HyperParameters()
    hp.Float("unit_1/score", 0.0, 1.0)
    oracle = RandomOracle(
        lambda hp: hp.get("unit_1/score"),
        objective=keras_tuner.Objective("val_error", "min"),
        max_trials=3,
        hyperparameters=hp,
        seed=1,
    )
    oracle.verbose = 0
    lock = SimpleNamespace(require=lambda: None)
    return DecouplingTuner(oracle, None, SimpleNamespace(folder=folder, lock=lock))


def _arrays(value: float) -> Arrays:
    return {
        "weights/00000": np.full((5, 3), value, np.float32),
        "optimizer/00000": np.arange(4) + int(10 * value),
        "history/loss": np.array([1.0]),
    }


def _plain(arrays: Arrays) -> dict[str, tuple]:
    return {name: (each.dtype.str, each.shape, each.tobytes()) for name, each in arrays.items()}


def _read_checkpoint(folder: Path, pool: SnapshotPool | None = None) -> tuple:
    found = CheckpointStore(folder, pool).read()
    if found is None:
        return ()
    return found[0], _plain(found[1]), pool.files if pool else None


def _checkpoints(folder: Path) -> list[Kind]:
    found = []
    for name, steps in (("newest checkpoint", (1, 2)), ("only checkpoint", (2,))):
        inner = folder / name.partition(" ")[0]
        store = CheckpointStore(inner)
        read = []
        for step in steps:
            store.write(Position("training", step), _arrays(0.1 * step))
            read.append(_read_checkpoint(inner))
        older = read[-2] if len(read) > 1 else None
        path = inner / "training-00000002.npz"
        found.append(Kind(name, path, lambda inner=inner: _read_checkpoint(inner), older))
    return found


def _snapshots(folder: Path) -> list[Kind]:
    inner, checkpoints = folder / "snapshots", folder / "checkpoints"
    pool = SnapshotPool(inner, 2)
    store = CheckpointStore(checkpoints, pool)
    for step in (1, 2):
        pool.add(_arrays(0.1 * step), step)

    def read() -> tuple:
        return _read_checkpoint(checkpoints, SnapshotPool(inner, 2))

    store.write(Position("pretraining", 2), _arrays(1.0))
    older = read()
    pool.replace(0, _arrays(0.3), 1)
    store.write(Position("search", 1), _arrays(2.0))
    return [
        Kind("newest checkpoint of a search", checkpoints / "search-00000001.npz", read, older),
        Kind("snapshot of the newest checkpoint", inner / "search-00000001.npz", read, older),
        Kind("snapshot that is drawn", inner / pool.files[0], lambda: _plain(pool.load(0))),
    ]


def _idx(folder: Path) -> list[Kind]:
    plain, zipped = folder / "plain", folder / "zipped"
    write_idx(plain)
    write_idx(zipped)
    for path in list(zipped.iterdir()):
        (zipped / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()
    write_sums(plain)

    def read(inner: Path) -> Callable[[], tuple]:
        def parts() -> tuple:
            images, labels, classes = read_folder(inner, "train")
            return images.shape, images.tobytes(), labels.tolist(), classes

        return parts

    return [
        Kind("IDX, gzip", zipped / "train-images-idx3-ubyte.gz", read(zipped)),
        Kind("IDX labels, gzip", zipped / "train-labels-idx1-ubyte.gz", read(zipped)),
        Kind("IDX, listed", plain / "train-images-idx3-ubyte", read(plain)),
        Kind("IDX labels, listed", plain / "train-labels-idx1-ubyte", read(plain)),
        Kind("list of IDX files", plain / "SHA256SUMS", read(plain)),
    ]


def write_idx(folder: Path) -> None:
    """Twenty images of 8 x 8 and their labels, twice, under MNIST's names."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for prefix in ("train", "t10k"):
        images = rng.integers(0, 256, (20, 8, 8), np.uint8)
        labels = (np.arange(20) % 10).astype(np.uint8)
        for part, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (folder / f"{prefix}-{part}-ubyte").write_bytes(header + array.tobytes())


def write_sums(folder: Path) -> None:
    """`sha256sum * > SHA256SUMS` in a folder."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))


def _models(folder: Path) -> list[Kind]:
    path = folder / "models.config"
    config = add_model(read_config(path), "digits", "/models/digits")
    config = add_model(config, "letters", "gs://bucket/letters")
    config.model_config_list.config[0].model_version_policy.specific.versions.extend((2, 3))
    write_config(path, config)
    return [Kind("models.config", path, lambda: str(read_config(path)), protected=False)]
