"""Typed JSON files: what passes, what does not, and that it is told in one line."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sedona_tf import json_file
from sedona_tf.errors import UserError
from sedona_tf.json_file import Amount, Fraction, Json, Name, PositiveInt, WholeNumber


class Part(json_file.Checked, frozen=True):
    size: PositiveInt


class Thing(json_file.Checked, frozen=True, tag_field="format", tag="sedona_tf.thing"):
    b: float = 0.1
    a: tuple[int | None, ...] = (1, None)
    name: Name = "x"
    whole: WholeNumber = 0
    amount: Amount = 0.0
    fraction: Fraction = 0.0
    parts: tuple[Part, ...] = ()
    rest: dict[str, Json] = {}


class Other(json_file.Typed, frozen=True, tag_field="format", tag="sedona_tf.other"):
    a: int


def content(**changes) -> dict[str, Any]:
    return {"format": "sedona_tf.thing", "version": 1, **changes}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "thing.json"


def refusal(path, *types, **given) -> str:
    with pytest.raises(UserError) as caught:
        json_file.load(path, *(types or (Thing,)), **given)
    message = str(caught.value)
    assert str(path) in message and message.isprintable()
    return message


def test_the_bytes_of_a_file(path):
    json_file.save(path, Other(3), indent=None)
    assert path.read_bytes() == b'{"format": "sedona_tf.other", "version": 1, "a": 3}\n'
    json_file.save(path, Other(3))
    assert path.read_bytes().startswith(b'{\n "format"')  # one space a level


@settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_read_back_bit_for_bit(path, value):
    json_file.save(path, Thing(b=value, rest={"deep": [value]}))
    found = json_file.load(path, Thing)
    for each in (found.b, found.rest["deep"][0]):
        assert each == value and math.copysign(1, each) == math.copysign(1, value)


def test_a_file_is_of_one_of_the_types(path):
    json_file.save(path, Other(3))
    assert json_file.load(path, Thing, Other) == Other(3)
    assert "format" in refusal(path, Thing)
    path.write_text('{"version": 1, "a": 3}')
    assert "format" in refusal(path, Other)


def test_a_checksum_of_earlier_versions_is_passed_over(path):
    path.write_text(json.dumps(content(b=2, old=1, checksum="0")))
    assert json_file.load(path, Thing, ignored=("old",)) == Thing(b=2)
    assert "`old`" in refusal(path)


def test_order_white_space_and_a_byte_order_mark_do_not_count(path):
    for encoding in ("utf-8", "utf-8-sig"):  # the latter as editors on Windows write it
        path.write_text(json.dumps(content(name="é"), sort_keys=True, indent=7), encoding)
        assert json_file.load(path, Thing) == Thing(name="é")


def test_the_longest_file(path):
    json_file.save(path, Thing())
    size = path.stat().st_size
    assert json_file.load(path, Thing, max_bytes=size) == Thing()
    assert "it is over 0 MiB" in refusal(path, max_bytes=size - 1)
    path.write_bytes(b" " * (json_file.MAX_BYTES + 1))
    assert "it is over 16 MiB" in refusal(path)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"[]", b"null", b"\xff\xfe{}", b"9" * 5000, b'{"a": "\\ud800"}'),
        *(b"[" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        '{"format": "sedona_tf.thing", "version": 1}'.encode("utf-16"),
        *(b'{"format": "sedona_tf.thing", "version": 1, "b": %s}' % b for b in (b"NaN", b"1e999")),
        b'{"format": "sedona_tf.thing", "version": 1, "two\\nlines\\u001b": 1}',
        b'{"format": "sedona_tf.thing", "version": 1, "%s": 1}' % (b"x" * 100_000),
    ],
    ids=range(14),
)
def test_other_files_are_refused_in_one_line(path, data):
    path.write_bytes(data)
    assert len(refusal(path)) < 1000


@pytest.mark.parametrize("version", [0, 2, -5, 1.0, "1", True, None, 10**4000])
def test_other_versions_are_refused(path, version):
    path.write_text(json.dumps(content(version=version)).replace('"version": null,', ""))
    assert "version" in refusal(path)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"b": "1"}, "`$.b`"),
        ({"b": True}, "`$.b`"),
        ({"a": [1, 2.5]}, "`$.a[1]`"),
        ({"a": {}}, "`$.a`"),
        ({"more": 1}, "`more`"),
        ({"whole": -1}, "`$.whole`"),
        ({"whole": 2**63}, "`$.whole`"),
        ({"amount": -1e-300}, "`$.amount`"),
        ({"amount": 1e301}, "`$.amount`"),
        ({"fraction": 1 + 2**-52}, "`$.fraction`"),
        ({"parts": [{"size": 1}, {"size": 0}]}, "`$.parts[1].size`"),
        ({"parts": [{"size": 2**31}]}, "`$.parts[0].size`"),
        ({"parts": [{"size": 1, "more": 1}]}, "`more`"),
        ({"parts": [{}]}, "`size`"),
        *(({"name": name}, "`$.name`") for name in ("", "x" * 201, "a\n", "\u2028", "\u202e", 3)),
    ],
)
def test_the_wrong_field_is_named(path, changes, place):
    path.write_text(json.dumps(content(**changes)))
    assert place in refusal(path)
    if place != "`more`":
        with pytest.raises(ValueError, match=next(iter(changes))):
            Thing(**changes)


def test_the_last_values_that_pass():
    Thing(name="x" * 200, whole=2**63 - 1, amount=1e300, fraction=1, parts=(Part(2**31 - 1),))


def test_what_python_makes_is_as_a_file_has_it():
    given = {"tuple": (1, {"x": [2]})}
    thing = Thing(np.float32(0.5), np.array([1, 2]), parts=[{"size": 3}, Part(4)], rest=given)
    assert thing == Thing(0.5, (1, 2), parts=(Part(3), Part(4)), rest={"tuple": [1, {"x": [2]}]})
    assert type(thing.b) is float and type(thing.a[0]) is int
    thing.rest["tuple"][1]["x"].append(3)
    assert given == {"tuple": (1, {"x": [2]})}
    assert thing.to_dict()["parts"] == [{"size": 3}, {"size": 4}]
    with pytest.raises(AttributeError):
        thing.b = 1.0
    with pytest.raises(ValueError, match="fraction"):
        msgspec.structs.replace(thing, fraction=2.0)


def test_what_is_no_json_is_refused_by_name():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in (object(), math.nan, math.inf, deep):
        with pytest.raises(ValueError, match="rest must be JSON-ready"):
            Thing(rest={"x": value})


def test_missing_files_and_folders(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.json")
    assert "cannot be read" in refusal(tmp_path)
