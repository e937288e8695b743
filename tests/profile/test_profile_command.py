"""The command from a shell: tables, files, errors; then decode and train with what it wrote."""

from __future__ import annotations

import json

import pytest

from sedona_tf.plans import Decoupling, Plan
from sedona_tf.profile.costs import Costs
from tests.search_runs import command, help_of

RECIPE = ["--recipe", "digits", "--recipe.backbone.width=4"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("profile")
    arguments = [*RECIPE, "--blocks", "2,4,16", "--batch", "8", "--devices", "CPU:0,CPU:1"]
    done = command(
        "profile", *arguments, "--workdir", "out", "--cache", "kept/parts.json", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_tables_and_files(measured):
    folder, output = measured
    for words in ("measured", "predicted speed-up", "Recommendation (predicted)", "K = 4"):
        assert words in output
    assert "K = 16" not in output  # the network has 8 units
    costs = Costs.load(folder / "out" / "costs.json")
    assert (costs.backbone, costs.num_units, costs.batch_size) == ("resnet18", 8, 8)
    assert (folder / "out" / "front.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "kept" / "parts.json").exists()


def test_an_earlier_profile_is_kept(measured):
    folder, _ = measured
    before = (folder / "out" / "costs.json").read_bytes()
    done = command("profile", *RECIPE, "--batch", "9", "--workdir", "out", cwd=folder)
    assert (done.returncode, done.stdout) == (2, "") and "holds a profile" in done.stderr
    assert (folder / "out" / "costs.json").read_bytes() == before


def test_decode_refuses_costs_of_another_plan(measured):
    folder, _ = measured
    done = command(
        *("decode", "--plan", "fashion_mnist_resnet18", "--blocks", "4"),
        *("--costs", str(folder / "out" / "costs.json")),
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "costs are of another network" in done.stderr


def test_costs_make_a_decoupling_that_trains(measured, tmp_path):
    folder, _ = measured
    plan = folder / "plan.json"
    costs = Costs.load(folder / "out" / "costs.json")
    Plan(costs.backbone, costs.units, costs.candidates, ((0.0, 0.0),) * 7, ((0.0,),) * 7).save(plan)
    output = tmp_path / "balanced.json"
    arguments = ["--plan", str(plan), "--blocks", "2", "--costs", str(folder / "out/costs.json")]
    done = command("decode", *arguments, "--output", str(output), "--json")
    assert done.returncode == 0, done.stderr
    described = json.loads(done.stdout)
    assert len(described["predicted_block_seconds"]) == 2
    assert list(Decoupling.load(output).cut_after) == described["cut_after"]
    assert "predicted speed-up" in command("decode", *arguments).stdout
    trained = command(
        *("train", *RECIPE, "--plan", str(output), "--blocks", "2", "--dry_run"), cwd=tmp_path
    )
    assert trained.returncode == 0, trained.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--blocks", "two"], "--blocks must be whole numbers"),
        (["--plan", "published/resnet50_k4"], "is a decoupling"),
        (["--devices", "TPU:3"], "TPU:3"),
        (["--bandwidth", "-1"], "bandwidth"),
        (["--cache", "broken.json"], "broken.json"),
    ],
)
def test_bad_input_is_one_line(arguments, words, tmp_path):
    (tmp_path / "broken.json").write_text("{}")
    done = command("profile", *RECIPE, *arguments, "--workdir", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "costs.json").exists()


def test_help_is_quick_and_loads_no_tensorflow():
    text, imported = help_of("profile")
    assert not imported & {"tensorflow", "keras", "matplotlib"}
    for words in ("Examples:", "--bandwidth", "--cache", "predictions"):
        assert words in text


def test_balance_needs_costs():
    done = command(
        *("decode", "--plan", "fashion_mnist_resnet18", "--blocks", "4", "--balance", "0.5")
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: balance and limits need --costs")
