"""An exported run, loaded as others load it, against the run in this process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax
from search_runs import ENVIRONMENT
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from sedona_tf.data import load
from sedona_tf.evaluate.ensemble import Ensemble
from sedona_tf.train.trained_run import TrainedRun, load_run

HERE = Path(__file__).parent
SIGNATURES = ["ensemble", "exit_1", "exit_2", "serving_default", "serving_float"]
TOLERANCE = 1e-5  # float32, and the graph is optimised as a whole


@pytest.fixture(scope="module")
def run(trained) -> TrainedRun:
    """Its blocks on two devices."""
    return load_run(trained[0])


@pytest.fixture(scope="module")
def meta_graph(exported):
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((exported[0] / "saved_model.pb").read_bytes())
    return model.meta_graphs[0]


def expected(run: TrainedRun, signature: str, images: np.ndarray) -> np.ndarray:
    """Probabilities by the methods of the model and of its ensemble."""
    scaled = images.astype(np.float32) / 255
    normalized = (scaled - run.data.normalization.mean) / run.data.normalization.std
    normalized = normalized.astype(np.float32)
    if signature == "ensemble":
        return Ensemble(run.model).calibrate(run.data.validation()).predict(normalized)
    if signature == "exit_1":
        return softmax(run.model.block_logits(tf.constant(normalized))[0], axis=-1)
    return softmax(run.model.predict(normalized, verbose=0), axis=-1)


@pytest.fixture(scope="module")
def requests(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """Test images for each signature, at two batch sizes; as a file, and as it reads."""
    images = load("digits", "test").images
    arrays = {
        f"{signature}/{size}": images[:size].astype("f4" if signature == "serving_float" else "u1")
        for signature in SIGNATURES
        for size in (1, 5)
    }
    path = tmp_path_factory.mktemp("requests") / "requests.npz"
    np.savez(path, **arrays)
    return path, arrays


def in_fresh_process(script: str, *arguments) -> None:
    result = subprocess.run(
        [sys.executable, str(HERE / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr


def compare(run: TrainedRun, arrays: dict[str, np.ndarray], results) -> None:
    for key, images in arrays.items():
        wanted = expected(run, key.split("/")[0], images)
        probabilities, classes = results[f"{key}/probabilities"], results[f"{key}/classes"]
        assert (probabilities.dtype, classes.dtype) == (np.float32, np.int64)
        np.testing.assert_allclose(probabilities, wanted, rtol=0, atol=TOLERANCE, err_msg=key)
        np.testing.assert_array_equal(classes, wanted.argmax(axis=-1), err_msg=key)


def test_loads_without_this_package_or_keras(run, exported, requests, tmp_path):
    path, arrays = requests
    in_fresh_process("fresh_load.py", exported[0], path, tmp_path / "results.npz")
    results = np.load(tmp_path / "results.npz")
    assert results["signatures"].tolist() == SIGNATURES
    compare(run, arrays, results)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names of Linux libraries")
def test_loads_through_the_c_api(run, exported, meta_graph, requests, tmp_path):
    path, arrays = requests
    names = {
        key: {
            "images": signature.inputs["images"].name,
            "outputs": {name: tensor.name for name, tensor in signature.outputs.items()},
        }
        for key, signature in meta_graph.signature_def.items()
        if key in SIGNATURES
    }
    (tmp_path / "tensors.json").write_text(json.dumps(names))
    results = tmp_path / "results.npz"
    in_fresh_process("c_loader.py", exported[0], path, results, tmp_path / "tensors.json")
    compare(run, arrays, np.load(results))


def test_the_ensemble_errs_as_evaluate_says(trained, exported):
    images = load("digits", "test")
    loaded = tf.saved_model.load(str(exported[0]))
    classes = loaded.signatures["ensemble"](images=tf.constant(images.images))["classes"]
    metrics = json.loads((trained[0] / "metrics.json").read_text())
    error = np.mean(classes.numpy() != images.labels)
    assert error == pytest.approx(metrics["test"]["errors"]["calibrated_ensembles"][-1], abs=1e-9)


def reached(meta_graph, signature: str) -> list:
    """All nodes of the functions that a signature calls."""
    functions = {
        function.signature.name: function for function in meta_graph.graph_def.library.function
    }
    output = meta_graph.signature_def[signature].outputs["classes"].name.split(":")[0]
    call = next(node for node in meta_graph.graph_def.node if node.name == output)
    waiting, seen = [call.attr["f"].func.name], set()
    nodes = []
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        nodes += functions[name].node_def
        for node in functions[name].node_def:
            waiting += [value.func.name for value in node.attr.values() if value.func.name]
    return nodes


def test_only_what_a_signature_needs_is_in_it(run, exported, meta_graph):
    def convolutions(parts) -> int:
        return sum(
            "conv" in type(layer).__name__.lower() for part in parts for layer in part.layers
        )

    blocks = run.model.blocks
    units = [unit for block in blocks for unit in block.units]
    parts = {
        "serving_default": [*units, blocks[1].classifier],
        "serving_float": [*units, blocks[1].classifier],
        "exit_1": blocks[0].parts,
        "exit_2": [*units, blocks[1].classifier],
        "ensemble": [*units, blocks[0].classifier, blocks[1].classifier],
    }
    loaded = tf.saved_model.load(str(exported[0]))
    for signature, needed in parts.items():
        operations = [node.op for node in reached(meta_graph, signature)]
        assert operations.count("Conv2D") == convolutions(needed) > 0, signature
        captured = loaded.signatures[signature].variables
        shapes = sorted(tuple(v.shape) for part in needed for v in part.variables)
        assert sorted(tuple(v.shape) for v in captured) == shapes, signature


def test_graph_is_portable(meta_graph):
    """No Python inside, and no device: TensorFlow's own saver is all that asks for the CPU."""
    functions = meta_graph.graph_def.library.function
    everything = [*meta_graph.graph_def.node, *(n for f in functions for n in f.node_def)]
    assert not [node.op for node in everything if "PyFunc" in node.op]
    for signature in SIGNATURES:
        assert {node.device for node in reached(meta_graph, signature)} == {""}
    objects = meta_graph.object_graph_def.nodes
    assert {node.variable.device for node in objects if node.HasField("variable")} == {""}
    assert {node.device for node in everything} <= {"", "/device:CPU:0", "/device:CPU:*"}


def test_warmup_requests_are_answered(exported):
    path = exported[0] / "assets.extra" / "tf_serving_warmup_requests"
    loaded = tf.saved_model.load(str(exported[0]))
    known = {image.tobytes() for image in load("digits", "test").images}
    seen = []
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == "digits" and list(request.inputs) == ["images"]
        images = tf.make_ndarray(request.inputs["images"])
        assert {image.astype(np.uint8).tobytes() for image in images} <= known
        signature = loaded.signatures[request.model_spec.signature_name]
        answer = signature(images=tf.constant(images))
        np.testing.assert_allclose(np.sum(answer["probabilities"], axis=-1), 1, atol=1e-5)
        seen.append((request.model_spec.signature_name, len(images)))
    assert sorted(seen) == [(signature, size) for signature in SIGNATURES for size in (1, 8)]
