"""Every kind of file, damaged or foreign: one line, the same content, or the one before.

`FLIPS` (20) is how many copies of each file get flipped bits.
"""

from __future__ import annotations

import json
import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from robustness import damage_files as damage

from sedona_tf.errors import UserError
from sedona_tf.report.page import render_page
from sedona_tf.report.read_run import Training

FLIPS = int(os.environ.get("FLIPS", 20))
ENVELOPE = ("format", "version")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 1e308, 5e-324, -0.0])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ROUTINE = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    return {kind.name: kind for kind in damage.kinds(tmp_path_factory.mktemp("kinds"))}


def test_damage_is_told_of_or_changes_nothing(kinds):
    rng, every = random.Random(0), {}
    for kind in kinds.values():
        every[kind.name], faults = damage.attack(kind, 64, FLIPS, rng)
        assert not faults
    assert sum(counts.total() for counts in every.values()) > 500
    for name, counts in every.items():
        assert counts[damage.FELL_BACK if kinds[name].older else damage.REFUSED] > 15, name


NAMES = [
    "plan",
    "decoupling",
    "costs",
    "cost cache",
    "resolved recipe",
    "data record",
    "history",
    "metrics",
    "trial records",
    "tuner's state",
]


def read(kind) -> object:
    """What the kind's file holds; None if it is refused in one line that says where."""
    try:
        return kind.read()
    except UserError as error:
        assert "\n" not in str(error) and str(kind.path.parent) in str(error)
        return None


@pytest.mark.parametrize("name", NAMES)
@ROUTINE
@given(data=st.data())
def test_any_json_is_read_or_refused(kinds, name, data):
    """One value of the file, at any depth, becomes something else."""
    kind = kinds[name]
    whole = kind.path.read_bytes()
    stored = json.loads(whole)
    content = {key: value for key, value in stored.items() if key not in ENVELOPE}
    inner, key = content, data.draw(st.sampled_from(sorted(content)))
    while isinstance(inner[key], dict | list) and inner[key] and data.draw(st.integers(0, 3)):
        inner = inner[key]
        keys = sorted(inner) if isinstance(inner, dict) else range(len(inner))
        key = data.draw(st.sampled_from(keys))
    inner[key] = data.draw(JSON)
    try:
        kind.path.write_text(json.dumps({**stored, **content}))
        found = read(kind)
        if name == "metrics" and found is not None:
            assert render_page(None, [Training("folder", found, None)])
    finally:
        kind.path.write_bytes(whole)


@ROUTINE
@given(value=JSON, name=st.sampled_from(NAMES))
def test_any_other_json_is_refused(kinds, name, value):
    kind = kinds[name]
    whole = kind.path.read_bytes()
    envelope = {name: json.loads(whole)[name] for name in ENVELOPE}
    try:
        for content in (value, {**envelope, "content": value}):
            kind.path.write_text(json.dumps(content))
            assert read(kind) is None
    finally:
        kind.path.write_bytes(whole)
