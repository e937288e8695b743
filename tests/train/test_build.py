"""From a recipe and a method to a decoupling."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import tensorflow as tf

from sedona_tf import backbones
from sedona_tf.errors import UserError
from sedona_tf.plans import METHODS, Decoupling, baseline
from sedona_tf.recipe import paper
from sedona_tf.train.build import TRAINED_AS, build_decoupling, build_model, resolve

TOY = SimpleNamespace(name="toy", units=range(8))
NET = {"kind": "separable", "depth": 1}


@pytest.mark.parametrize("method", METHODS)
def test_predsim_has_plain_labels(method):
    recipe = paper()
    smoothing = recipe.train.label_smoothing
    assert smoothing > 0
    found = resolve(recipe, method)
    assert found.train.label_smoothing == (0.0 if method == "predsim" else smoothing)
    assert recipe.train.label_smoothing == smoothing  # it is a copy


def test_methods_and_what_they_make(tmp_path):
    path = tmp_path / "decoupling.json"
    Decoupling("toy", 8, (3,), (NET,), provenance={"seed": 3}).save(path)
    searched = build_decoupling("sedona", str(path), TOY, 2)
    assert (searched.cut_after, searched.auxiliary) == ((3,), (NET,))
    assert searched.provenance == {"seed": 3, TRAINED_AS: "sedona"}
    whole = build_decoupling("backprop", None, TOY, 4)
    assert whole.blocks() == [(1, 8)] and whole.provenance[TRAINED_AS] == "backprop"
    for method, kind in (("dgl", "mlp_sr"), ("predsim", "predsim")):
        found = build_decoupling(method, None, TOY, 4)
        assert found.cut_after == (2, 4, 6) and found.provenance[TRAINED_AS] == method
        assert {net["kind"] for net in found.auxiliary} == {kind}


def test_refusals():
    with pytest.raises(UserError, match="'sedona'"):
        resolve(paper(), "sedna")
    with pytest.raises(UserError, match="plan"):
        build_decoupling("sedona", None, TOY, 2)
    for method in ("dgl", "backprop"):
        with pytest.raises(UserError, match=method):
            build_decoupling(method, "plan.json", TOY, 2)


@pytest.mark.parametrize(
    ("num_blocks", "schedule", "buffers"), [(3, "pipelined", 2), (2, "lockstep", 0), (1, "", 0)]
)
def test_the_model_is_compiled_as_the_recipe_says(num_blocks, schedule, buffers):
    recipe = paper()
    recipe.train.update(learning_rate=0.2, final_learning_rate=0.02, momentum=0.8)
    recipe.train.update(weight_decay=0.01, label_smoothing=0.3, schedule=schedule or "pipelined")
    backbone = backbones.build("resnet18", (8, 8, 1), 10, width=4)
    decoupling = baseline("dgl", backbone, num_blocks)
    batch = (tf.TensorSpec((None, 8, 8, 1)), tf.TensorSpec((None,), tf.int32))
    model = build_model(recipe, backbone, decoupling, "CPU:0", batch, steps=10)
    assert model.loss.smoothing == 0.3 and len(model.buffers) == buffers
    for each in getattr(model.optimizer, "of_blocks", [model.optimizer]):
        assert (each.momentum, each.l2) == (0.8, 0.01)
        rates = [float(each._learning_rate(step)) for step in (0, 5, 10)]  # half a cosine
        assert rates == pytest.approx([0.2, 0.11, 0.02])
    counts = [float(tf.reduce_sum(each)) for each in model.metrics_variables]
    assert counts and not any(counts)
