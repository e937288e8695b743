"""Settings of the user's for Keras, in keras.json and in the environment, change nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from search_runs import ENVIRONMENT, SMALL, command, scores, search
from train_runs import METHOD, TRAIN, last_state

SETTINGS = {"image_data_format": "channels_first", "backend": "torch", "floatx": "float64"}
NETWORKS = """
import json, os
from sedona_tf import auxiliary, backbones
found = {}
for name, side in (("resnet18", 32), ("vgg11", 32), ("keras:MobileNetV2", 32)):
    given = {} if name.startswith("keras:") else {"width": 4, "stem": "imagenet"}
    parts = backbones.build(name, (side, side, 3), 10, **given)
    nets = []
    for options in ({"kind": "separable", "depth": 3}, {"kind": "mlp_sr"}, {"kind": "predsim"}):
        (candidate,) = auxiliary.candidates_from([options])
        nets.append(auxiliary.build_auxiliary(candidate, parts, 1, f"aux_{candidate.kind}"))
    for part in [*parts.units, parts.head, *nets]:
        found[f"{name} {part.name}"] = [
            [each.name, getattr(each, "data_format", None), [list(w.shape) for w in each.weights]]
            for each in part.layers
        ]
print(json.dumps([found, os.environ.get("KERAS_BACKEND")]))
"""


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "keras.json").write_text(json.dumps(SETTINGS))
    return ENVIRONMENT | {"KERAS_HOME": str(tmp_path / "keras"), "KERAS_BACKEND": "jax"}


def test_networks_are_the_same(environment, capsys):
    done = subprocess.run(
        [sys.executable, "-c", NETWORKS], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    found, backend = json.loads(done.stdout)
    keras.utils.clear_session()  # names count up from 0 again, as in a new process
    exec(NETWORKS, {})  # here, under no such settings
    expected, _ = json.loads(capsys.readouterr().out)
    assert found == expected and backend == "jax"  # the environment is the user's
    formats = {data_format for layers in found.values() for _, data_format, _ in layers}
    assert formats == {None, "channels_last"}


def test_a_training_is_the_same_bit_for_bit(environment, trained, tmp_path):
    run = f"--workdir={tmp_path / 'run'}"
    done = command("train", *TRAIN, *METHOD, run, env=environment)
    assert done.returncode == 0, done.stderr
    (found, history), (expected, expected_history) = map(last_state, (tmp_path / "run", trained[0]))
    assert found.keys() == expected.keys() and history == expected_history
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array, name)


@pytest.mark.slow
def test_a_search_is_the_same_bit_for_bit(environment, finished, tmp_path):
    done = search(*SMALL, f"--workdir={tmp_path / 'run'}", env=environment)
    assert done.returncode == 0, done.stderr
    assert scores(tmp_path / "run") == scores(finished[0])


@pytest.mark.parametrize("first", ["import tensorflow", "sys.modules['keras'] = on_jax"])
def test_another_backend_imported_before_is_one_error(first):
    code = (
        "import os, sys\n"
        "from types import SimpleNamespace as Stand\n"
        "on_jax = Stand(config=Stand(backend=lambda: 'jax'))\n"
        "on_jax.saving = Stand(get_custom_objects=dict)\n"
        f"{first}\n"
        "from sedona_tf.errors import UserError\n"
        "import sedona_tf.plans\n"  # needs no Keras
        "try:\n    from sedona_tf.train import decouple\nexcept UserError as error: print(error)\n"
    )
    environment = ENVIRONMENT | {"KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1 and "jax" in done.stdout
