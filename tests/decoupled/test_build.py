"""From a recipe and a method to a decoupling."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sedona_tf.decoupled.build import TRAINED_AS, build_decoupling, resolve
from sedona_tf.errors import UserError
from sedona_tf.plans import METHODS, Decoupling
from sedona_tf.recipe import paper

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
    with pytest.raises(UserError, match="unknown method 'sedna'. Did you mean 'sedona'"):
        resolve(paper(), "sedna")
    with pytest.raises(UserError, match="'sedona' needs a plan"):
        build_decoupling("sedona", None, TOY, 2)
    for method in ("dgl", "backprop"):
        with pytest.raises(UserError, match=f"'{method}' takes no plan"):
            build_decoupling(method, "plan.json", TOY, 2)
