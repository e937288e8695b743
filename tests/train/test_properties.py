"""What holds for any network, any plan, any K, any mix of auxiliary nets and both schedules."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_checks import (
    assert_learns_from_below_only,
    assert_no_gradient_passes_a_cut,
    assert_pipelined_is_lockstep_delayed,
    step_of,
)

from sedona_tf import DecoupledModel, backbones, decouple
from sedona_tf.auxiliary import Candidate, build_auxiliary
from sedona_tf.backbones import resnet, vgg
from sedona_tf.plans import Plan

CANDIDATES = [
    *({"kind": "separable", "depth": depth} for depth in (1, 2, 3, 4)),
    {"kind": "mlp_sr"},
    {"kind": "predsim"},
    {"kind": "separable", "depth": 2, "kernel": 5, "loss": "predsim", "width_ratio": 0.5},
]
UNITS = {f"resnet{depth}": sum(stages) for depth, (stages, _) in resnet.STAGES.items()} | {
    f"vgg{depth}": sum(stages) for depth, stages in vgg.STAGES.items()
}
QUICK = [("resnet18", 4)]
WIDE = [
    *(
        (name, num_blocks)
        for name, units in UNITS.items()
        for num_blocks in ((1, 2, 3, 5, units) if units <= 16 else (2, 7))
        if (name, num_blocks) not in QUICK
    ),
    *(("keras:MobileNetV2", num_blocks) for num_blocks in (2, 3, 6)),
]


def test_all_backbones_are_covered():
    assert {name for name, _ in QUICK + WIDE} >= set(backbones.names())


def build(name: str, shape: tuple[int, ...], seed: int) -> backbones.Backbone:
    """A network of few weights, the same for one seed."""
    keras.utils.set_random_seed(seed)
    own = {"max_units": 6} if name.startswith("keras:") else {"width": 4}
    return backbones.build(name, shape, 10, **own)


def random_plan(backbone: backbones.Backbone, rng: np.random.Generator) -> Plan:
    cuts = len(backbone.units) - 1
    return Plan(
        backbone.name,
        Plan.fingerprint(backbone),
        tuple(CANDIDATES),
        rng.standard_normal((cuts, 2)).tolist(),
        rng.standard_normal((cuts, len(CANDIDATES))).tolist(),
    )


def assert_cut_as_the_plan_says(model: DecoupledModel, plan: Plan, num_blocks: int) -> None:
    """The units, each once and in order, end where alpha is highest; beta chooses the nets."""
    alpha = np.array(plan.alpha)
    best = np.argsort(alpha[:, 1] - alpha[:, 0], kind="stable")[: num_blocks - 1]
    ends = np.cumsum([len(block.units) for block in model.blocks])
    assert ends.tolist() == [*(np.sort(best) + 1), plan.num_units]
    units = [unit for block in model.blocks for unit in block.units]
    assert all(a is b for a, b in zip(units, model.backbone.units, strict=True))
    chosen = [CANDIDATES[np.argmax(plan.beta[unit])] for unit in np.sort(best)]
    assert list(model.decoupling.auxiliary) == chosen
    nets = [
        build_auxiliary(Candidate.from_dict(net), model.backbone, unit, "again")
        for net, unit in zip(chosen, np.sort(best), strict=True)
    ]
    assert [net.count_params() for net in model.auxiliaries] == [n.count_params() for n in nets]
    total = model.backbone.count_params() + sum(net.count_params() for net in nets)
    assert model.count_params() == total
    held = [weight for block in model.blocks for part in block.parts for weight in part.weights]
    assert len({id(weight) for weight in held}) == len(held)
    assert sum(int(np.prod(weight.shape)) for weight in held) == total


@pytest.mark.parametrize(
    ("name", "num_blocks"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in WIDE)],
)
def test_any_plan(tmp_path: Path, name: str, num_blocks: int):
    rng = np.random.default_rng([*name.encode(), num_blocks])
    seed, odd, second = int(rng.integers(1000)), int(rng.integers(2)), bool(rng.integers(2))
    shape = (((8, 8, 1), (9, 7, 3)) if "resnet" in name else ((32, 32, 1), (32, 35, 3)))[odd]
    images = tf.constant(rng.standard_normal((12, *shape)), tf.float32)
    labels = tf.constant(rng.integers(0, 10, 12))
    batches = [(images[i : i + 4], labels[i : i + 4]) for i in range(0, 12, 4)]
    plan = random_plan(build(name, shape, seed), rng)

    def make(schedule: str) -> DecoupledModel:
        model = decouple(build(name, shape, seed), plan, num_blocks, schedule=schedule)
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), metrics=["accuracy"])
        return model

    lockstep, pipelined = make("lockstep"), make("pipelined")
    assert_cut_as_the_plan_says(lockstep, plan, num_blocks)
    step = step_of(lockstep, batches[0])
    assert_learns_from_below_only(lockstep, step, batches[0], int(rng.integers(num_blocks)))
    assert_pipelined_is_lockstep_delayed(lockstep, step, pipelined, batches)

    trained = pipelined if second else lockstep
    trained.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.decoupling == trained.decoupling and loaded.schedule == trained.schedule
    np.testing.assert_array_equal(loaded.predict_on_batch(images), trained.predict_on_batch(images))
    assert_no_gradient_passes_a_cut(loaded, images)
