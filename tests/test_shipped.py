"""Recipes and plans by name: from the checkout, and from a wheel of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from search_runs import ROOT, command, help_of, refused

from sedona_tf.errors import UserError
from sedona_tf.plans import Decoupling, Plan, load_decoupling
from sedona_tf.shipped import plan_file, plan_names, recipe_file, recipe_names

SHIPPED = {
    *(f"sedona_tf/{path.relative_to(ROOT)}" for path in (ROOT / "recipes").glob("*.py")),
    *(f"sedona_tf/{path.relative_to(ROOT)}" for path in (ROOT / "saved_plans").rglob("*.json")),
    *(f"sedona_tf/{path.relative_to(ROOT)}" for path in (ROOT / "saved_plans").rglob("*.png")),
}


def test_names_are_those_of_the_files():
    assert {"digits", "fashion_mnist_resnet18", "imagenet"} <= set(recipe_names())
    assert {"fashion_mnist_resnet18", "published/resnet50_k4"} <= set(plan_names())
    assert recipe_file("digits") == str(ROOT / "recipes/digits.py")
    assert recipe_file("digits:smoke") == str(ROOT / "recipes/digits.py:smoke")
    assert plan_file("published/vgg19_k8") == str(ROOT / "saved_plans/published/vgg19_k8.json")


def test_a_file_wins_over_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("digits").write_text("")
    Path("mine.txt").write_text("")
    assert recipe_file("digits:smoke") == "digits:smoke"
    assert plan_file("mine.txt") == "mine.txt"


def test_a_folder_does_not_hide_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    assert recipe_file("digits") == str(ROOT / "recipes/digits.py")
    Path("other").mkdir()
    assert plan_file("other") == "other"


@pytest.mark.parametrize(
    ("find", "text", "words"),
    [
        (recipe_file, "digit:smoke", "unknown recipe 'digit'. Did you mean 'digits'? Allowed: "),
        (plan_file, "resnet50_k4", "Did you mean 'published/resnet50_k4'"),
        (plan_file, "", "unknown plan ''"),
    ],
)
def test_unknown_names(find, text, words):
    with pytest.raises(UserError) as error:
        find(text)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_plans_load_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Plan.load("fashion_mnist_vgg11") == Plan.load(
        ROOT / "saved_plans/fashion_mnist_vgg11.json"
    )
    decoupling = Decoupling.load("published/resnet50_k4", num_blocks=4)
    assert decoupling.cut_after == load_decoupling("published/resnet50_k4", None, 4).cut_after
    assert load_decoupling("fashion_mnist_vgg11", None, 2).num_blocks == 2
    with pytest.raises(UserError, match="unknown plan"):
        Decoupling.load("published/resnet51_k4")


def test_commands_refuse_unknown_names():
    refused(command("search", "--recipe=digist"), "Did you mean 'digits'?")
    refused(command("train", "--recipe", "digist:smoke"), "Did you mean 'digits'?")
    refused(command("train", "--recipe=digits:smok"), "Allowed: smoke")
    refused(command("tune", "--recipe=digist", "--max_trials=1"), "Did you mean 'digits'?")
    plan = "--plan=fashion_mnist_resnet"
    refused(command("train", "--recipe=digits", plan), "Did you mean 'fashion_mnist_resnet18'?")
    refused(command("decode", plan, "--blocks=2"), "Did you mean 'fashion_mnist_resnet18'?")


def test_help_lists_the_names():
    for name in ("search", "train", "tune"):
        text, imported = help_of(name)
        assert all(recipe in text for recipe in recipe_names())
        assert "tensorflow" not in imported


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    """A wheel built from a copy of the checkout, in another folder, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    checkout = folder / "checkout"
    checkout.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    for name in ("sedona_tf", "recipes", "saved_plans"):
        shutil.copytree(
            ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "-w", folder, checkout],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_is_complete(unpacked):
    files = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith("sedona_tf-")} == {
        "sedona_tf/py.typed",
        *(
            str(path.relative_to(ROOT))
            for pattern in ("*.py", "*.pyi", "templates/*")
            for path in (ROOT / "sedona_tf").rglob(pattern)
        ),
        *SHIPPED,
    }
    assert any(name.endswith("/LICENSE") for name in files)
    for name in SHIPPED:
        original = ROOT / name.removeprefix("sedona_tf/")
        assert (unpacked / name).read_bytes() == original.read_bytes()


def test_names_work_in_the_wheel(unpacked, tmp_path):
    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,  # where there is no folder recipes/
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(unpacked)},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    plan = ["--plan", "fashion_mnist_resnet18", "--blocks", "2", "--json"]
    decoded = json.loads(run("-m", "sedona_tf.decode", *plan))
    assert decoded["backbone"] == "resnet18" and decoded["num_blocks"] == 2
    code = (
        "import sys, sedona_tf; print(sedona_tf.__file__)\n"
        "from absl import flags\n"
        "from sedona_tf import command_line\n"
        "from sedona_tf.search import __main__ as search\n"
        "search.define_flags()\n"
        "def show(): print(flags.FLAGS.recipe.name, flags.FLAGS.recipe.search.steps)\n"
        "sys.argv = ['search', '--recipe', 'digits:smoke', '--recipe.search.steps=7']\n"
        "command_line.run(show, search.__doc__)\n"
    )
    where, shown = run("-c", code).splitlines()
    assert Path(where).is_relative_to(unpacked) and shown == "digits 7"
