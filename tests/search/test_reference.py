"""The search's numbers against an independent float64 implementation of the same mathematics."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import reference
import tensorflow as tf

from sedona_tf import backbones
from sedona_tf.auxiliary import candidates_from
from sedona_tf.environment.process_settings import SEARCH_GRAPH_OPTIONS, process_settings
from sedona_tf.search.field import State, relaxed_field
from sedona_tf.search.hypergradient import hypergradient
from sedona_tf.search.inner_optimizer import InnerOptimizer
from sedona_tf.search.supernet import Supernet

FIXTURES = Path(__file__).parents[1] / "fixtures"
CANDIDATES = {
    "mixed": [{"kind": "separable", "depth": depth} for depth in (1, 2, 3, 4)],
    "mlp_sr": [{"kind": "mlp_sr"}],
    "predsim": [{"kind": "predsim"}],
}
RELATIVE = 1e-6  # both sides are float64; we measured 1e-10 at worst


def close(actual, expected) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert np.max(np.abs(actual - expected)) <= RELATIVE * np.max(np.abs(expected))


def names(net: Supernet, part) -> list[str]:
    """The reference's names; where there is one auxiliary net a unit, it has no number there."""
    found = reference.names(part)
    if len(net.candidates) > 1:
        return found
    return [re.sub(r"^(aux_\d+)_1/", r"\1/", name) for name in found]


@pytest.fixture(params=["resnet18", "vgg11", "resnet18_dgl", "resnet18_predsim"])
def case(request, float64):
    figures = json.loads((FIXTURES / f"{request.param}.json").read_text())
    backbone = backbones.build(figures["arch"], (32, 32, 3), 10, width=16)
    for layer in backbone.head.layers:
        if hasattr(layer, "rate"):
            layer.rate = 0.0  # the reference has no dropout
    # PredSim is defined on plain labels, its head included.
    smoothing = 0.0 if figures["decoder"] == "predsim" else figures["label_smoothing"]
    net = Supernet(backbone, candidates_from(CANDIDATES[figures["decoder"]]), smoothing)
    variables = {
        name: variable
        for part in net.parts
        for name, variable in zip(names(net, part), part.trainable_variables, strict=True)
    }
    shapes = {name: list(variable.shape) for name, variable in variables.items()}
    assert shapes == dict(figures["weights"])
    for name, variable in variables.items():
        variable.assign(reference.weight(figures["seed"], name, tuple(variable.shape)))
    return figures, net


def test_first_step_and_unrolled_gradients(case):
    figures, net = case
    x, y, x_valid, y_valid = map(tf.constant, reference.inputs(figures))
    seeds = tuple(tf.convert_to_tensor(seed.value) for seed in net.seeds)
    state = State(net.weights.read(), net.statistics.read(), seeds)
    alpha, beta = (tf.constant(figures[key], tf.float64) for key in ("alpha", "beta"))
    beta = beta[:, : len(net.candidates)]  # the reference drew four, whatever it used
    with tf.GradientTape() as tape:
        tape.watch([alpha, beta])
        p, b = tf.nn.softmax(alpha)[:, 0], tf.nn.softmax(beta)

    field = tf.function(relaxed_field, autograph=False)(net, state, p, b, x[0], y[0])
    first = figures["first_step"]
    close(field.losses, first["local_losses"])
    close(field.logits, first["logits"])
    close([tf.norm(features) for features in field.sweep.features], first["activation_norms"])
    norms = {
        part.name: np.sqrt(sum(float(tf.reduce_sum(g**2)) for g in group))
        for part, group in zip(net.parts, net.weights.unpack(field.gradients), strict=True)
    }
    close([norms[unit.name] for unit in net.backbone.units], first["unit_grad_norms"])
    rows = [*net.auxiliaries, [net.backbone.head]]
    close(
        [np.sqrt(sum(norms[part.name] ** 2 for part in row)) for row in rows],
        first["aux_grad_norms"],
    )

    with process_settings(graph_optimizer=SEARCH_GRAPH_OPTIONS):
        result = tf.function(
            lambda: hypergradient(
                net,
                InnerOptimizer(figures["momentum"], figures["weight_decay"]),
                state,
                tf.zeros_like(state.weights),
                p,
                b,
                (x, y),
                (x_valid, y_valid),
                tf.constant(figures["lr"], tf.float64),
                through_statistics=False,
            ),
            autograph=False,
        )()
    unrolled = figures["unrolled_statistics_detached"]
    d_alpha, d_beta = tape.gradient(
        [p, b], [alpha, beta], output_gradients=[result.cut_probability, result.mixture]
    )
    close(result.loss, unrolled["validation_loss"])
    close(tf.norm(result.weights), unrolled["param_norm_after"])
    close(d_alpha, unrolled["alpha_gradient"])
    if len(net.candidates) > 1:
        close(d_beta, unrolled["beta_gradient"])
    else:  # a softmax of one
        assert unrolled["beta_gradient"] is None and np.all(d_beta == 0.0)
