"""Plan files: exact round trip, refusal of everything else, all-or-nothing writing."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sedona_tf.errors import UserError
from sedona_tf.plans import Decoupling, Plan

FINITE = st.floats(allow_nan=False, allow_infinity=False)
ROUTINE = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def make_plan(alpha=((0.1, -0.2), (1.5, 0.0)), beta=((0.0, 1.0), (2.0, -1.0)), **changes) -> Plan:
    fields = {
        "backbone": "toy",
        "units": tuple((f"unit{i + 1}", (8, 8, 4 + i)) for i in range(len(alpha) + 1)),
        "candidates": ({"kind": "separable", "depth": 1}, {"kind": "separable", "depth": 2}),
        "alpha": alpha,
        "beta": beta,
        "provenance": {"seed": 7, "recipe": {"search": {"steps": 10, "lr": 0.1}}},
    }
    return Plan(**{**fields, **changes})


def write(path, **changes) -> None:
    """A plan's file with changed fields; None removes one."""
    content = {"format": "sedona_tf.plan", "version": 1, **make_plan().to_dict(), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def refusal(path, backbone=None) -> str:
    with pytest.raises(UserError) as caught:
        Plan.load(path, backbone)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


@ROUTINE
@given(st.data())
def test_round_trip_is_exact(tmp_path, data):
    rows = data.draw(st.integers(0, 5))
    matrix = st.lists(st.tuples(FINITE, FINITE), min_size=rows, max_size=rows)
    plan = make_plan(data.draw(matrix), data.draw(matrix))
    plan.save(tmp_path / "plan.json")
    loaded = Plan.load(tmp_path / "plan.json")
    assert loaded == plan
    # == cannot tell -0.0 from 0.0; repr can
    assert repr(loaded) == repr(plan)


def test_softmax_against_the_definition():
    plan = make_plan()
    for p, (local, backprop) in zip(plan.cut_probability, plan.alpha, strict=True):
        expected = math.exp(local) / (math.exp(local) + math.exp(backprop))
        assert p == pytest.approx(expected, abs=1e-15)
    assert plan.candidate_weights[0][1] == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-15)
    assert plan.candidate_names == ("separable(depth=1)", "separable(depth=2)")
    extreme = make_plan(((1.7e308, -1.7e308), (-1.7e308, 1.7e308)))
    assert extreme.cut_probability == (1.0, 0.0)


def test_any_flipped_byte_of_the_structure_is_refused(tmp_path):
    """An even bit turns no character of JSON's own into another of them, but digits and names."""
    path = tmp_path / "plan.json"
    make_plan().save(path)
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        if data[position] in b'{}[]:,"':
            refusal(path)
        else:
            with contextlib.suppress(UserError):  # and nothing else
                Plan.load(path)


def test_an_edited_plan_loads(tmp_path):
    """Also under the checksum of an earlier version, which was that of the content before."""
    path = tmp_path / "plan.json"
    write(path, checksum="0" * 64)
    path.write_text(path.read_text().replace("1.5", "2.5"))
    assert Plan.load(path).alpha == ((0.1, -0.2), (2.5, 0.0))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": "sedona_tf.plan"'])
def test_not_a_plan(tmp_path, content):
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    refusal(path)


def test_is_read_where_only_the_standard_library_for_all_systems_is(tmp_path):
    """On Windows there is neither `fcntl` nor any other module of Unix alone."""
    missing = ["fcntl", "grp", "posix", "pwd", "resource", "syslog", "termios"]
    plan = Path(__file__).parents[2] / "saved_plans/fashion_mnist_resnet18.json"
    code = (
        "import sys, os, pathlib, subprocess, tempfile\n"
        f"for name in {missing}: sys.modules[name] = None\n"
        "from sedona_tf.errors import UserError\n"
        "from sedona_tf.files import locked\n"
        "from sedona_tf.plans import Plan\n"
        "plan = Plan.load(sys.argv[1])\n"
        "plan.decode(4).save(sys.argv[2])\n"
        "try:\n    locked(sys.argv[3]).__enter__()\n"
        "except UserError: print('no locks', os.path.exists(sys.argv[3]))\n"
    )
    arguments = [plan, tmp_path / "decoupling.json", tmp_path / "run"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout == "no locks False\n"
    assert Decoupling.load(tmp_path / "decoupling.json").num_blocks == 4


def test_missing_file_and_folder(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.json")
    assert "cannot be read" in refusal(tmp_path)
    assert "unknown plan" in refusal("null\0byte")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alpha": None}, "alpha"),
        ({"extra": 1}, "extra"),
        ({"backbone": 3}, "backbone"),
        ({"units": []}, "units"),
        ({"units": [["a", [1]], ["b"], ["c", [1]]]}, "units[1]"),
        ({"units": [["a", [1]], ["b", [0]], ["c", [1]]]}, "units[1]"),
        ({"units": [["a", [1]], ["b", [1]]]}, "alpha must have the shape (1, 2)"),
        ({"candidates": []}, "candidates"),
        ({"candidates": ["separable"]}, "candidates[0]"),
        ({"candidates": [{"kind": "a"}, {"depth": 1}]}, "number 2"),
        ({"candidates": [{"kind": 1}, {"kind": "b"}]}, "number 1"),
        ({"candidates": [{"kind": "a", "depth": [1]}, {"kind": "b"}]}, "candidates[0]"),
        ({"candidates": [{"kind": "a", "": 1}, {"kind": "b"}]}, "candidates[0]"),
        ({"candidates": [{"kind": "a"}]}, "beta must have the shape (2, 1)"),
        ({"alpha": [[0, 0], [0, 0, 0]]}, "alpha[1]"),
        ({"alpha": [[0, 0], [0, "0"]]}, "alpha[1][1]"),
        ({"alpha": [[0, 0]]}, "alpha must have the shape (2, 2)"),
        ({"beta": [[0, 0], [0]]}, "beta must have the shape (2, 2)"),
        ({"beta": [[0, 0], [0, 10**400]]}, "out of range"),
        ({"provenance": []}, "provenance"),
    ],
    ids=range(20),
)
def test_wrong_fields(tmp_path, changes, words):
    path = tmp_path / "plan.json"
    write(path, **changes)
    assert words in refusal(path)
    if "extra" not in changes and None not in changes.values():
        with pytest.raises(ValueError):
            make_plan(**changes)


@pytest.mark.parametrize("option", [2**31 - 1, 1 - 2**31, 0, -0.5, 1e300, True, "a"])
def test_plain_options(option):
    net = {"kind": "a", "b": option}
    assert make_plan(candidates=(net, net)).candidates == (net, net)


@pytest.mark.parametrize("option", [2**31, -(2**31), math.inf, math.nan, None, "", "\n"])
def test_other_options(option):
    with pytest.raises(ValueError, match="candidates"):
        make_plan(candidates=({"kind": "a"}, {"kind": "a", "b": option}))


def test_scores_may_be_arrays_and_must_be_finite():
    scores = np.array([[1, 2.5], [0.25, 0]], np.float32)
    assert make_plan(alpha=scores).alpha == ((1.0, 2.5), (0.25, 0.0))
    for number in (math.nan, -math.inf, "1", True, None):
        with pytest.raises(ValueError, match="alpha"):
            make_plan(((number, 0.0), (0.0, 0.0)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELD = st.sampled_from(["units", "candidates", "alpha", "beta", "backbone", "provenance"])


@ROUTINE
@given(value=JSON, field=FIELD)
def test_fuzzed_json_gives_only_user_errors(tmp_path, value, field):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(value))
    refusal(path)
    try:
        write(path, **{field: value})
    except ValueError:  # not even JSON: NaN
        return
    try:
        Plan.load(path)
    except UserError as error:
        assert "\n" not in str(error)


@ROUTINE
@given(st.binary(max_size=200))
def test_fuzzed_bytes_give_only_user_errors(tmp_path, data):
    path = tmp_path / "plan.json"
    path.write_bytes(data)
    refusal(path)


def fake_backbone(*units):
    return SimpleNamespace(
        units=[SimpleNamespace(name=name, output_shape=(None, *shape)) for name, shape in units]
    )


def test_architecture(tmp_path):
    path = tmp_path / "plan.json"
    plan = make_plan()
    plan.save(path)
    assert Plan.fingerprint(fake_backbone(*plan.units)) == plan.units
    assert Plan.load(path, fake_backbone(*plan.units)) == plan
    first, second, third = plan.units
    wide = refusal(path, fake_backbone(first, ("unit2", (8, 8, 99)), ("other", (1,))))
    assert "unit 2 is 'unit2' (8, 8, 5)" in wide and "(8, 8, 99)" in wide
    assert "unit 3" in refusal(path, fake_backbone(first, second))
    assert "unit 4" in refusal(path, fake_backbone(first, second, third, ("more", (1,))))


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch, function):
    path = tmp_path / "plan.json"
    make_plan().save(path)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, function, full)
    with pytest.raises(UserError, match="No space left") as caught:
        make_plan(((9.0, 9.0), (9.0, 9.0))).save(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["plan.json"]


def test_file_size_limit_leaves_the_old_file(tmp_path):
    """A write that really fails half-way, in a process that may write 4 KiB a file."""
    path = tmp_path / "plan.json"
    make_plan().save(path)
    before = path.read_bytes()
    script = (
        "import resource, signal, sys\n"
        "from sedona_tf.plans import Plan\n"
        "plan = Plan.load(sys.argv[1])\n"
        "plan.provenance['long'] = 'x' * 100_000\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "plan.save(sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True)
    assert "UserError: cannot write" in done.stderr and "File too large" in done.stderr
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["plan.json"]


def test_unwritable_place(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        make_plan().save(tmp_path / "none" / "plan.json")
    with pytest.raises(UserError, match="cannot write"):
        make_plan().save(tmp_path)


def test_needs_no_tensorflow():
    script = "import sys, sedona_tf.plans; print({'tensorflow', 'keras'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_an_indifferent_plan_prefers_nothing():
    plan = make_plan()
    found = Plan.indifferent("toy", plan.units, list(plan.candidates))
    assert (found.units, found.candidates) == (plan.units, plan.candidates)
    assert found.cut_probability == (0.5, 0.5)
    assert found.candidate_weights == ((0.5, 0.5), (0.5, 0.5))
    assert Plan.indifferent("toy", plan.units[:1], plan.candidates).alpha == ()
