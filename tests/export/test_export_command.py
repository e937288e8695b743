"""The export command: what it writes, versions, what it refuses and then leaves behind."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys

import pytest
from search_runs import ENVIRONMENT, command, help_of, refused

from sedona_tf.errors import UserError
from sedona_tf.export.publish import choose_version, publish
from sedona_tf.recipe import paper
from sedona_tf.runs.kept_recipe import write_recipe


def visible(folder) -> list[str]:
    return sorted(path.name for path in folder.glob("[!.]*"))


def test_writes_what_it_promises(exported):
    version, output = exported
    assert visible(version.parent) == ["1"]
    assert visible(version.parent.parent) == ["digits", "models.config"]
    assert not list(version.parent.glob(".*"))
    assert 'base_path: "/models/digits"' in (version.parents[1] / "models.config").read_text()
    assert "signatures: ensemble, exit_1, exit_2, serving_default, serving_float" in output
    assert str(version) in output and "has not ended" not in output


def test_versions(tmp_path):
    model = tmp_path / "digits"
    assert choose_version(model, None) == 1 and choose_version(model, 5) == 5
    for name in ("2", "007", "x", "9.partial", "²"):
        (model / name).mkdir(parents=True)
    assert choose_version(model, None) == 8 and choose_version(model, 1) == 1
    with pytest.raises(UserError, match="digits/7"):
        choose_version(model, 7)


def test_a_second_version_keeps_the_list_and_clears_what_a_kill_left(trained, tmp_path):
    listed, model = tmp_path / "models.config", tmp_path / "digits"
    text = (
        "# comments stay\n"
        'model_config_list { config { name: "digits" base_path: "/srv/digits" '
        'model_platform: "tensorflow" } }'
    )
    listed.write_text(text)
    (model / "3").mkdir(parents=True)
    (model / ".4.0123abcd.partial" / "variables").mkdir(parents=True)
    version, _ = publish(trained[0], model, served_from="/srv")
    assert version == 4 and listed.read_text() == text
    assert sorted(path.name for path in model.iterdir()) == ["3", "4"]
    assert (model / "4").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda run, models: shutil.rmtree(run), "run"),
        (lambda run, models: shutil.rmtree(run / "checkpoints"), "no checkpoint"),
        (lambda run, models: (models / "digits/2").mkdir(parents=True), "digits/2"),
        (lambda run, models: models.write_text(""), "models"),
        (lambda run, models: _write(models / "models.config", "{"), "models.config"),
        (lambda run, models: _write(models / "digits", ""), "digits"),
    ],
)
def test_refuses(prepare, message, trained, tmp_path):
    run, models = tmp_path / "run", tmp_path / "models"
    shutil.copytree(trained[0], run)
    prepare(run, models)
    before = sorted(tmp_path.rglob("models/**"))
    with pytest.raises(UserError, match=message) as error:
        publish(run, models / "digits", version=2)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("models/**")) == before


def _write(path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)


def test_an_error_is_one_line_and_exit_code_2(tmp_path):
    result = command("export", f"--workdir={tmp_path / 'no'}", f"--output={tmp_path / 'models/a'}")
    refused(result, "no")
    refused(command("export", "--workdir=x", "--output=y", "--version=0"), "version")
    assert not (tmp_path / "models").exists()


def test_a_full_disk_leaves_no_version(trained, tmp_path):
    """Files above 100 kB cannot be written; the weights are larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(UserError, match="digits") as error:
            publish(trained[0], tmp_path / "models/digits")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "models/digits").iterdir()) == []
    assert not (tmp_path / "models/models.config").exists()


def test_without_the_optional_package(tmp_path):
    write_recipe(tmp_path, paper(), "train")
    code = (
        "import sys; sys.modules['tensorflow_serving'] = None\n"
        f"sys.argv = ['export', '--workdir={tmp_path}', '--output={tmp_path}/m/a']\n"
        "from sedona_tf import command_line\n"
        "from sedona_tf.export import __main__ as export\n"
        "export.define_flags(); command_line.run(export.main, export.__doc__)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT
    )
    refused(result, "sedona_tf[serving]")


def test_help_is_quick_and_loads_no_tensorflow():
    text, imported = help_of("export")
    assert "sedona_tf.command_line" in imported
    assert not imported & {"tensorflow", "keras", "numpy", "scipy", "google.protobuf"}
    for words in ("Examples:", "--workdir", "(required)", "--version", "exit_K", "K > 1"):
        assert words in text
