"""The home folder in the paths that commands take."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

from search_runs import ROOT, command, refused

PATHS = {
    "decode": ["plan", "costs", "output"],
    "evaluate": ["workdir"],
    "export": ["workdir", "output"],
    "profile": ["plan", "workdir", "cache"],
    "report": ["workdir", "training", "output"],
    "search": ["workdir"],
    "train": ["plan", "workdir"],
    "tune": ["workdir"],
}
BY_NAME = ("plan",)  # looked up when the command uses it
CODE = """
import importlib, json, sys
from absl import flags
found = {}
for command, names in json.loads(sys.argv[1]).items():
    module = importlib.import_module(f"sedona_tf.{command}")
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"sedona_tf.{command}.__main__")
    module.define_flags()
    for name in names:
        flags.FLAGS[name].parse(f"~/{name},~/two" if name == "training" else f"~/{name}")
    found[command] = [flags.FLAGS[name].value for name in names]
    for name in list(flags.FLAGS):
        delattr(flags.FLAGS, name)
print(json.dumps(found))
"""


def test_commands_expand_it_in_every_path(tmp_path):
    given = {each: [n for n in names if n not in BY_NAME] for each, names in PATHS.items()}
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(given)],
        capture_output=True,
        text=True,
        env=os.environ | {"HOME": str(tmp_path)},
        check=True,
    )

    def expanded(name: str):
        return [f"{tmp_path}/training", f"{tmp_path}/two"] if name == "training" else path(name)

    def path(name: str) -> str:
        return f"{tmp_path}/{name}"

    assert json.loads(done.stdout) == {e: list(map(expanded, names)) for e, names in given.items()}


def test_a_recipe_and_a_plan_in_the_home_folder(tmp_path):
    """Nothing named `~` comes to be in the working folder."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    for path in ("saved_plans/fashion_mnist_resnet18.json", "recipes/digits.py"):
        shutil.copy(ROOT / path, home)
    options = {"cwd": here, "env": os.environ | {"HOME": str(home), "PYTHONPATH": str(ROOT)}}
    files = ["--plan=~/fashion_mnist_resnet18.json", "--output=~/out.json"]
    done = command("decode", *files, "--blocks=4", **options)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((home / "out.json").read_text())["cut_after"]) == 3
    # Reads the recipe, and refuses it for a plan that is neither a file nor a name.
    files = ["--recipe=~/digits.py:smoke", "--plan=~/digits"]
    done = command("train", *files, "--workdir=~/run", **options)
    refused(done, f"unknown plan '{home}/digits'")
    assert list(here.iterdir()) == []
