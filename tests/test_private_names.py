"""What the package takes from inside of Keras, TensorFlow, keras-tuner and tqdm, for want of a way.

One test a name: a new version that changes it is found here, before anything that is built on it.
"""

from __future__ import annotations

import io

import keras
import keras_tuner
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import config
from tqdm import tqdm


def test_keras_history_leads_from_a_tensor_to_its_call():
    """`backbones.graph` reads the graph of a model."""
    layer, inputs = keras.layers.Dense(2), [keras.Input((3,)) for _ in range(2)]
    outputs = [layer(each) for each in inputs]
    for given, made in zip(inputs, outputs, strict=True):
        operation, index, _ = made._keras_history
        node = operation._inbound_nodes[index]
        assert operation is layer and node.operation is layer
        assert node.input_tensors[0] is given and node.output_tensors[0] is made


def test_a_variables_tensor_can_be_replaced():
    """`train.placement` moves variables: who shares them goes on with the new tensor."""
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    layer.build((None, 2))
    new = tf.Variable([[2.0], [3.0]])
    layer.kernel._value = new
    np.testing.assert_array_equal(layer(np.ones((1, 2), "float32")), [[5.0]])
    layer.kernel.assign([[1.0], [1.0]])
    assert layer.kernel.value is new and np.all(new.numpy() == 1.0)


def test_a_graph_knows_the_functions_that_it_calls():
    """`profile.counts` looks into calls."""

    @tf.function(autograph=False)
    def outer(x):
        return tf.cond(x[0] > 0, lambda: tf.sin(x), lambda: x)

    graph = outer.get_concrete_function(tf.TensorSpec((3,))).graph
    (condition,) = (each for each in graph.get_operations() if each.type in ("If", "StatelessIf"))
    inner = graph._get_function(condition.get_attr("then_branch").name).graph
    assert "Sin" in [each.type for each in inner.get_operations()]


def test_an_oracle_saves_itself_and_its_trials_by_two_methods(tmp_path):
    """`tune.tuner` replaces them, and keeps all in one file of its own."""
    parameters = keras_tuner.HyperParameters()
    parameters.Float("x", 0.0, 1.0)
    oracle = keras_tuner.oracles.RandomSearchOracle("val_loss", 2, hyperparameters=parameters)
    oracle._set_project_dir(str(tmp_path), "given")
    saved = []
    oracle.save = lambda *_: saved.append("oracle")
    oracle._save_trial = lambda *_: saved.append("trial")
    oracle.create_trial("tuner0")
    assert set(saved) == {"oracle", "trial"}
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_bar_asks_its_own_clock():
    """`runs.progress` gives it one that does not jump."""
    now, output = [0.0], io.StringIO()
    bar = tqdm(total=9, file=output, mininterval=5.0, miniters=1)
    bar._time = lambda: now[0]
    bar.start_t = bar.last_print_t = 0.0
    shown = []
    for now[0] in (1.0, 4.0, 6.0):
        output.truncate(0)
        bar.update()
        shown.append(bool(output.getvalue()))
    bar.close()
    assert shown == [False, False, True]


def test_determinism_of_operations_can_be_asked_for_and_undone():
    """`environment.process_settings` puts it back."""
    assert not config.is_op_determinism_enabled()
    tf.config.experimental.enable_op_determinism()
    assert config.is_op_determinism_enabled()
    config.disable_op_determinism()
    assert not config.is_op_determinism_enabled()
