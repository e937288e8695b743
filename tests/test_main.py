"""The package as a whole: its list of commands, its lazy names, early errors, saved models."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys

import keras
import pytest
from search_runs import DIGITS, ROOT

import sedona_tf
from sedona_tf.__main__ import COMMANDS
from sedona_tf.recipe import paper
from sedona_tf.runs.kept_recipe import write_recipe

WITHOUT_TENSORFLOW = """
import runpy, sys
sys.modules["tensorflow"] = sys.modules["keras"] = None
sys.argv = sys.argv[1:]
runpy.run_module("sedona_tf." + sys.argv[0], run_name="__main__", alter_sys=True)
"""

NEED_RECIPE = (["search"], ["train"], ["profile"], ["tune", "--max_trials=1"])


def python(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **options)


def test_lists_and_runs_the_commands():
    package = ROOT / "sedona_tf"
    modules = [path for path in package.rglob("*.py") if "command_line.run(" in path.read_text()]
    names = {(path.parent if path.stem == "__main__" else path).stem for path in modules}
    assert set(COMMANDS) == names
    listed = python("-X", "importtime", "-m", "sedona_tf")
    assert all(f"\n  {name} " in listed.stdout for name in COMMANDS)
    assert "tensorflow" not in {line.split("|")[-1].strip() for line in listed.stderr.splitlines()}
    direct, by_name = (
        python("-m", "sedona_tf.decode", "-h"),
        python("-m", "sedona_tf", "decode", "-h"),
    )
    assert direct.stdout == by_name.stdout and "--blocks" in direct.stdout
    for arguments in (["-m", "sedona_tf"], ["-m", "sedona_tf.train"]):
        shown = python(*arguments, "--version").stdout
        assert shown == f"sedona_tf {sedona_tf.__version__}\n"
    wrong = python("-m", "sedona_tf", "trian")
    assert wrong.returncode == 2 and "Did you mean 'train'" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["search", "--recipe.search.steps=0"], "search.steps"),
        (["search", "--workdir=run"], "holds a run already"),
        (["search", "--workdir=run", "--resume"], "holds a training"),
        (["train"], "needs a plan"),
        (["train", "--method=dgl", "--plan=fashion_mnist_vgg11"], "takes no plan"),
        (["train", "--plan=fashion_mnist_vgg11", "--blocks=99"], "number of blocks"),
        (["train", "--plan=published/vgg19_k8", "--blocks=4"], "8 blocks"),
        (["train", "--plan=damaged.json"], "alpha"),
        (["train", "--method=dgl", "--cluster=host"], "host:port"),
        (["train", "--method=dgl", "--workdir=run"], "holds a run already"),
        (["train", "--method=dgl", "--workdir=none", "--resume"], "does not hold a run"),
        (["train", "--method=dgl", "--dry_run", "--recipe.train.momentum=2"], "train.momentum"),
        (["tune", "--max_trials=1", "--workdir=run"], "holds a run already"),
        (["profile", "--recipe.train.epochs=0"], "train.epochs"),
        (["profile", "--plan=damaged.json"], "alpha"),
        (["evaluate", "--workdir=none"], "no recipe.json"),
        (["export", "--workdir=none", "--output=models/x"], "no recipe.json"),
        *(
            ([name, *rest, "--recipe=empty.py"], "lacks the field name")
            for name, *rest in NEED_RECIPE
        ),
        *(
            ([*command, "--recipe.data.source=idx", "--recipe.data.data_dir=none"], "no file none")
            for command in (["search"], ["train", "--method=dgl"], ["tune", "--max_trials=1"])
        ),
        (["worker", "--port=2222", "--host=192.0.2.1"], "192.0.2.1"),
    ],
)
def test_errors_that_need_no_tensorflow_come_without_it(tmp_path, arguments, word):
    (tmp_path / "run").mkdir()
    write_recipe(tmp_path / "run", paper(), "train")
    plan = json.loads((ROOT / "saved_plans/fashion_mnist_vgg11.json").read_text())
    (tmp_path / "empty.py").write_text(
        "import ml_collections\ndef get_config(): return ml_collections.ConfigDict()\n"
    )
    (tmp_path / "damaged.json").write_text(json.dumps(plan | {"alpha": []}))
    name, *flags = arguments
    recipe = [f"--recipe={DIGITS}"] if name in ("search", "train", "tune", "profile") else []
    done = python("-c", WITHOUT_TENSORFLOW, name, *recipe, *flags, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ") and word in done.stderr


def test_saved_models_load_after_the_package_was_imported(tmp_path):
    """In a fresh process, whichever was imported first; and no class was forgotten."""
    for name in (
        "auxiliary",
        "backbones",
        "train.model",
        "train.momentum_sgd",
        "search.search_model",
    ):
        importlib.import_module(f"sedona_tf.{name}")
    registered = {
        name.partition(">")[2]: cls
        for name, cls in keras.saving.get_custom_objects().items()
        if name.startswith("sedona_tf>")
    }
    assert {name: f"sedona_tf.{module}" for name, module in sedona_tf._SAVED.items()} == {
        name: cls.__module__ for name, cls in registered.items()
    }
    keras.utils.set_random_seed(3)
    backbone = sedona_tf.backbones.build("resnet18", (8, 8, 1), 10, width=4)
    decoupling = sedona_tf.plans.uniform(backbone, 2, {"kind": "predsim"})
    model = sedona_tf.decouple(backbone, decoupling, devices="CPU:0")
    model.compile("sgd")
    images = keras.random.normal((4, 8, 8, 1), seed=1)
    expected = float(abs(model.predict(images, verbose=0)).sum())
    model.save(tmp_path / "model.keras")
    for imports in ("sedona_tf, keras", "keras, sedona_tf"):
        code = (
            f"import {imports}, sys\n"
            "assert 'sedona_tf.train' not in sys.modules\n"
            f"model = keras.models.load_model({str(tmp_path / 'model.keras')!r})\n"
            "assert type(model) is sedona_tf.DecoupledModel\n"
            "images = keras.random.normal((4, 8, 8, 1), seed=1)\n"
            "print(float(abs(model.predict(images, verbose=0)).sum()))\n"
        )
        done = python("-c", code, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"})
        assert done.returncode == 0, done.stderr
        assert float(done.stdout) == pytest.approx(expected, rel=1e-5)


def test_devices_of_one_cpu_are_made_from_python():
    code = (
        "from sedona_tf import backbones, decouple, make_cpu_devices, plans\n"
        "make_cpu_devices(2)\n"
        "backbone = backbones.build('resnet18', (8, 8, 1), 10, width=4)\n"
        "decoupling = plans.baseline('dgl', backbone, 2)\n"
        "model = decouple(backbone, decoupling, devices='CPU:0,CPU:1')\n"
        "print(*(block.trainable_variables[0].value.device[-5:] for block in model.blocks))\n"
        "make_cpu_devices(3)\n"
    )
    done = python("-c", code, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"})
    assert done.stdout == "CPU:0 CPU:1\n" and "before TensorFlow is first used" in done.stderr
