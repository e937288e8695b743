"""The decode command and the shared command line, end to end in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from search_runs import help_of

import sedona_tf
from sedona_tf.plans import Plan

PROBE = """\"\"\"A throwaway command.

Examples:
  probe.py --recipe recipe.py --recipe.search.steps=3
\"\"\"
import os, time
from absl import flags
from sedona_tf import command_line
from sedona_tf.errors import UserError
from sedona_tf.command_line.recipe_flag import define_recipe
define_recipe()
flags.FLAGS["recipe"].validators.clear()  # not required here
flags.DEFINE_string("out", None, "folder of the run.")
flags.DEFINE_string("fault", None, "what goes wrong.")
def main():
    if flags.FLAGS.fault == "user": raise UserError("first\\n  second")
    if flags.FLAGS.fault == "memory": raise MemoryError("no 3 GiB\\nhere")
    if flags.FLAGS.fault == "bug": raise ValueError("a bug")
    if flags.FLAGS.fault == "interrupt":
        print("ready", flush=True)
        time.sleep(30)
    if flags.FLAGS.fault == "code": return 3
    if flags.FLAGS.out: open(flags.FLAGS.out)
    if flags.FLAGS.recipe: print(flags.FLAGS.recipe.search.steps, flags.FLAGS.recipe.seed)
command_line.run(main, __doc__, {"Run": ["out"]})
"""
RECIPE = """from ml_collections import config_dict
def get_config(variant=""):
    return config_dict.create(seed=1, search=dict(steps=100, rate=0.1, fast=False))
"""


def call(*arguments, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, **options
    )


def refusal(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def plan_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("plans") / "plan.json"
    Plan(
        backbone="toy",
        units=tuple((f"unit{i}", (4,)) for i in range(1, 5)),
        candidates=({"kind": "separable", "depth": 1}, {"kind": "separable", "depth": 2}),
        alpha=((0.0, 1.0), (3.0, 0.0), (2.0, 0.0)),
        beta=((0.0, 1.0), (2.0, 0.0), (0.0, 4.0)),
    ).save(path)
    return path


def decode(*arguments, **options) -> subprocess.CompletedProcess:
    return call("-m", "sedona_tf.decode", *arguments, **options)


def test_table(plan_file):
    done = decode("--plan", plan_file, "--blocks", "2,3")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()[4:]]
    assert rows == [
        ["2", "1", "1-2", "separable(depth=1)", "0.881", "0.9526"],
        ["2", "3-4", "(head)", "-", "-"],
        ["3", "1", "1-2", "separable(depth=1)", "0.881", "0.9526"],
        ["2", "3", "separable(depth=2)", "0.982", "0.8808"],
        ["3", "4", "(head)", "-", "-"],
    ]


def test_json(plan_file):
    one = json.loads(decode("--plan", plan_file, "--blocks", 3, "--json").stdout)
    assert one["cut_after"] == [2, 3] and one["blocks"] == [[1, 2], [3, 3], [4, 4]]
    assert one["auxiliary"] == [
        {"kind": "separable", "depth": 1},
        {"kind": "separable", "depth": 2},
    ]
    several = json.loads(decode("--plan", plan_file, "--blocks", "1,3", "--json").stdout)
    assert several[1] == one and several[0]["cut_after"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--plan=PLAN", "--blocks=9"], "must be between 1 and 4"),
        (["--plan=PLAN", "--blocks=2,x"], "--blocks must be whole numbers"),
        (["--plan=PLAN", "--blocks="], "--blocks must"),
        (["--plan=PLAN"], "--blocks is required"),
        (["--blocks=2"], "--plan is required"),
        (["--plan=PLAN", "--blcks=2"], "unknown flag --blcks. Did you mean --blocks?"),
        (["--plan=none.json", "--blocks=2"], "'none.json' does not exist"),
        (["--plan=/", "--blocks=2"], "cannot be read"),
        (["PLAN", "--blocks=2", "--plan=PLAN"], "unexpected argument"),
        (["--plan=PLAN", "--blocks"], "blocks"),
        (["--flagfile=none.txt"], "none.txt"),
    ],
)
def test_errors_are_one_line(plan_file, arguments, words):
    arguments = [argument.replace("PLAN", str(plan_file)) for argument in arguments]
    assert words in refusal(decode(*arguments))


def test_help_is_quick_and_loads_no_tensorflow():
    start = time.perf_counter()
    text, imported = help_of("decode")
    assert time.perf_counter() - start < 5  # 0.3 s when idle; TensorFlow alone takes longer
    assert "sedona_tf.plans.plan" in imported
    assert not imported & {"tensorflow", "keras", "matplotlib"}
    for words in ("Examples:", "--plan", "(required)", "--[no]json", "(default:"):
        assert words in text
    assert "pdb" not in text


def test_full_output_and_closed_pipe(plan_file):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sedona_tf.decode", f"--plan={plan_file}", "--blocks=2"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2 and done.stderr == "error: No space left on device\n"
    for arguments in (
        ["sedona_tf.decode", f"--plan={plan_file}", "--blocks=2"],
        ["sedona_tf.decode", "--help"],
        ["sedona_tf", "--help"],
    ):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [sys.executable, "-m", *arguments], stdout=write, stderr=subprocess.PIPE, text=True
        )
        os.close(write)
        assert (done.returncode, done.stderr) == (141, "")


@pytest.fixture
def probe(tmp_path):
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / "recipe.py").write_text(RECIPE)
    return lambda *arguments: call("probe.py", *arguments, cwd=tmp_path)


def test_recipe_and_exit_codes(probe):
    done = probe("--recipe=recipe.py", "--recipe.search.steps=3")
    assert (done.returncode, done.stdout, done.stderr) == (0, "3 1\n", "")
    assert probe("--recipe", "recipe.py:smoke").stdout == "100 1\n"
    assert probe("--fault=code").returncode == 3
    assert refusal(probe("--fault=user")) == "error: first second\n"
    assert refusal(probe("--fault=memory")) == "error: out of memory: no 3 GiB\n"
    bug = probe("--fault=bug")
    assert bug.returncode == 1 and "Traceback" in bug.stderr
    help_text = probe("--help").stdout
    assert "Run:\n  --out" in help_text and "--recipe.FIELD" in help_text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--recipe.search.stesp=3"], "field 'search.stesp'. Did you mean 'search.steps'?"),
        (["--recipe.sed", "3"], "unknown recipe field 'sed'. Did you mean 'seed'?"),
        (["--recipe.serch.steps=3"], "Did you mean 'search.steps'?"),
        (["--recipe.search.steps=abc"], "--recipe.search.steps=abc"),
        (["--recipe.search.rate=fast"], "--recipe.search.rate=fast"),
        (["--recipe.search.fast=maybe"], "--recipe.search.fast=maybe"),
        (["--recipe.search=3"], "recipe.search"),
        (["--recipe.seed"], "recipe.seed"),
        (["--out=none/file"], "'none/file': No such file"),
    ],
)
def test_recipe_overrides(probe, arguments, words):
    assert words in refusal(probe("--recipe=recipe.py", *arguments))


def test_missing_recipe(probe):
    for rest in ([], ["--recipe.seed=3"]):
        assert "'none.py' does not exist" in refusal(probe("--recipe=none.py", *rest))
    assert "needs --recipe=FILE" in refusal(probe("--recipe.seed=3"))
    assert "before" in refusal(probe("--recipe.seed=3", "--recipe=recipe.py"))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def get_config():\n    return 1 / 0\n", "line 2: ZeroDivisionError: division by zero"),
        ("def get_config():\n    raise ValueError('a\\nb')\n", "line 2: ValueError: a b"),
        ("def get_config():\n    return open('gone.csv')\n", "line 2: FileNotFoundError"),
        ("import nonexistent_module\n", "line 1: ModuleNotFoundError"),
        ("def get_config(:\n", "line 1: SyntaxError"),
        ("x = 1\n", "get_config"),
        ("x = 1\nopen('gone.csv')\n", "gone.csv"),
    ],
)
def test_fault_inside_the_recipe(probe, tmp_path, body, words):
    (tmp_path / "bad.py").write_text(body)
    assert words in refusal(probe("--recipe=bad.py"))


@pytest.mark.parametrize("body", ["pass", "return {'seed': 1}"])
def test_recipe_that_is_no_config(probe, tmp_path, body):
    (tmp_path / "bad.py").write_text(f"def get_config():\n    {body}\n")
    for rest in ([], ["--recipe.seed=3"]):
        assert "must return a ConfigDict" in refusal(probe("--recipe=bad.py", *rest))


def test_recipes_at_unusual_places(probe, tmp_path):
    """With colons in the path, frozen, and with a module beside the recipe."""
    folder = tmp_path / "2026-01-01T10:30"
    folder.mkdir()
    (folder / "my:recipe.py").write_text(
        "import beside\nfrom ml_collections import FrozenConfigDict\n"
        "def get_config(steps='7'):\n"
        "    return FrozenConfigDict(dict(seed=beside.SEED, search=dict(steps=int(steps))))\n"
    )
    (folder / "beside.py").write_text("SEED = 5\n")
    path = f"--recipe={folder.name}/my:recipe.py"
    assert probe(path).stdout == "7 5\n"
    assert probe(f"{path}:9", "--recipe.seed=6").stdout == "9 6\n"
    assert "none.py' does not exist" in refusal(probe(f"--recipe={folder.name}/none.py:9"))


def test_flag_files(probe, tmp_path):
    """Where a recipe is asked for too, whose flag looks at all arguments."""
    assert "No such file" in refusal(probe("--flagfile=none", "--recipe=recipe.py"))
    (tmp_path / "flags").write_text("--recipe=recipe.py\n--recipe.search.steps=4\n")
    assert probe("--flagfile=flags").stdout == "4 1\n"
    (tmp_path / "flags").write_text("--recipe=recipe.py\n--recipe.sed=4\n")
    assert "Did you mean 'seed'" in refusal(probe("--flagfile=flags"))


def test_help_without_docstrings(tmp_path):
    (tmp_path / "probe.py").write_text(PROBE)
    arguments = [sys.executable, "-OO", "probe.py", "--help"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "--recipe.FIELD" in done.stdout, done.stderr


def test_short_help_and_version(probe):
    assert probe("-h").stdout == probe("--help").stdout
    assert probe("--version").stdout == f"sedona_tf {sedona_tf.__version__}\n"


def test_interrupt(probe, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "probe.py", "--fault=interrupt"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "interrupted\n")
