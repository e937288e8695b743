"""Signatures of untrained models: resizing, precision, one block, losses' own layers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

from sedona_tf import backbones, decouple, plans
from sedona_tf.data import Normalization
from sedona_tf.data.resizing import resize
from sedona_tf.export.signatures import Preprocessing, build_signatures

NORMALIZATION = Normalization((0.3, 0.4, 0.5), (0.2, 0.3, 0.4))


def build(method: str = "dgl", blocks: int = 2):
    keras.utils.set_random_seed(3)
    backbone = backbones.build("resnet18", (8, 8, 3), 10, width=4)
    if method == "backprop":
        return decouple(backbone, plans.uniform(backbone, 1, {}))
    return decouple(backbone, plans.baseline(method, backbone, blocks))


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("stored", "whole"), [((8, 8, 3), True), ((13, 11, 3), True), ((5, 8, 3), False)]
)
def test_images_come_as_the_data_pipeline_gives_them(stored, whole):
    """Images stored as float32 run from 0 to 1 and are not rounded when resized."""
    model, given = build(), images(6, *stored)
    source = given if whole else given.astype(np.float32) / 255
    logits = model(NORMALIZATION(tf.constant(resize(source, 8))), training=False)
    signatures = build_signatures(
        model, Preprocessing(stored, (8, 8), whole, NORMALIZATION), (0.5, 3.0)
    )
    for name, dtype in (("serving_default", np.uint8), ("serving_float", np.float32)):
        answer = signatures[name](tf.constant(given.astype(dtype)))
        np.testing.assert_allclose(answer["probabilities"], softmax(logits, -1), atol=1e-5)


def test_probabilities_are_float32_whatever_the_units_work_in():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build()
        preprocessing = Preprocessing((8, 8, 3), (8, 8), True, NORMALIZATION)
        signatures = build_signatures(model, preprocessing, (1.0, 1.0))
    finally:
        keras.config.set_dtype_policy("float32")
    given = images(3, 8, 8, 3)
    for function in signatures.values():
        dtype = function.structured_input_signature[0][0].dtype
        answer = function(tf.cast(given, dtype))
        assert answer["probabilities"].dtype == tf.float32
        np.testing.assert_allclose(np.sum(answer["probabilities"], -1), 1, atol=1e-6)
    logits = model(NORMALIZATION(tf.constant(given)), training=False)
    assert logits.dtype != tf.float32
    np.testing.assert_allclose(
        signatures["exit_2"](tf.constant(given))["probabilities"],
        softmax(np.asarray(logits, np.float64), -1),
        atol=0.02,  # half precision, and the graph may keep more of it between operations
    )


def test_one_block_has_one_exit_and_no_ensemble():
    preprocessing = Preprocessing((8, 8, 3), (8, 8), True, NORMALIZATION)
    signatures = build_signatures(build("backprop"), preprocessing, None)
    assert sorted(signatures) == ["exit_1", "serving_default", "serving_float"]


def test_layers_for_a_local_loss_alone_are_left_out():
    """PredSim's convolution and deviation give similarities; its logits need neither."""
    model = build("predsim")
    preprocessing = Preprocessing((8, 8, 3), (8, 8), True, NORMALIZATION)
    function = build_signatures(model, preprocessing, (1.0, 1.0))["exit_1"]
    block = model.blocks[0]
    needed = [v for unit in block.units for v in unit.variables]
    needed += block.classifier.get_layer("dense_0").variables
    assert {v.ref() for v in function.graph.variables} == {v.value.ref() for v in needed}
    given = images(2, 8, 8, 3)
    logits = model.block_logits(NORMALIZATION(tf.constant(given)))[0]
    answer = function(tf.constant(given))["probabilities"]
    np.testing.assert_allclose(answer, softmax(logits, -1), atol=1e-5)
