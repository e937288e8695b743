"""Fields of plans and decouplings: the last value that passes and the first that does not."""

from __future__ import annotations

import numpy as np
import pytest

from sedona_tf.plans.fields import (
    candidate_name,
    candidate_options,
    is_name,
    json_dict,
    matrix,
    unit_shapes,
)


def test_names_are_one_printable_line_of_200_characters():
    assert is_name("a") and is_name("x" * 200)
    assert not any(map(is_name, ("", "x" * 201, "a\n", "\u200b", 3, b"a")))


def test_sizes_are_positive_and_below_2_to_the_31():
    assert unit_shapes([["a", [1, 2**31 - 1]], ("b", ())]) == (("a", (1, 2**31 - 1)), ("b", ()))
    for size in (0, -1, 2**31, True, 1.0):
        with pytest.raises(ValueError, match="unit 2 has not"):
            unit_shapes([["a", [1]], ["b", [1, size]]])
    for pair in (["b"], ["b", [1], 1], "bc", [1, [1]], ["b", 1]):
        with pytest.raises(ValueError, match="unit 2 is not"):
            unit_shapes([["a", [1]], pair])


@pytest.mark.parametrize("option", [2**31 - 1, 1 - 2**31, 0, -0.5, 1e300, True, "a"])
def test_plain_options(option):
    assert candidate_options([{"kind": "a", "b": option}]) == ({"kind": "a", "b": option},)


@pytest.mark.parametrize("option", [2**31, -(2**31), float("inf"), float("nan"), None, "", "\n"])
def test_other_options(option):
    with pytest.raises(ValueError, match="'b' is not"):
        candidate_options([{"kind": "a"}, {"kind": "a", "b": option}])


def test_candidates_are_copies_and_at_least_so_many():
    given = [{"kind": "a"}]
    (copy,) = candidate_options(given)
    copy["b"] = 1
    assert given == [{"kind": "a"}]
    with pytest.raises(ValueError, match="candidates must be a list of at least 1"):
        candidate_options([])
    with pytest.raises(ValueError, match="nets must be a list of at least 2"):
        candidate_options(given, "nets", least=2)
    assert candidate_options((), least=0) == ()
    for item in ({"kind": 1}, {"kind": "a", "": 1}, {"kind": "a", 3: 1}, [("kind", "a")]):
        with pytest.raises(ValueError, match="number 2 is not"):
            candidate_options([*given, item])


def test_candidates_in_words():
    assert candidate_name({"kind": "mlp_sr"}) == "mlp_sr"
    assert candidate_name({"kind": "a", "b": 1, "c": "d"}) == "a(b=1, c=d)"


def test_matrices_may_be_arrays():
    found = matrix("alpha", np.array([[1, 2.5]]), 1, 2)
    assert found == ((1.0, 2.5),) and type(found[0][0]) is float
    assert matrix("alpha", [np.float32([0.5, 1])], 1, 2) == ((0.5, 1.0),)
    for value in ([[1, 2], [3, 4]], [[1]], [[1, 2, 3]], [{1: 2, 3: 4}], {"a": 1}, ["ab"], None):
        with pytest.raises(ValueError, match=r"alpha must have the shape \(1, 2\)"):
            matrix("alpha", value, 1, 2)
    for number in (True, "1", 10**400, -(10**400), float("nan"), float("-inf"), 1j, None):
        with pytest.raises(ValueError, match="alpha must hold finite numbers only"):
            matrix("alpha", [[1, number]], 1, 2)


def test_dictionaries_are_copied_as_a_file_would_give_them():
    given = {"a": (1, {"b": [2]})}
    found = json_dict("provenance", given)
    assert found == {"a": [1, {"b": [2]}]}
    found["a"][1]["b"].append(3)
    assert given == {"a": (1, {"b": [2]})}
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    for value in ({"a": {1, 2}}, {"a": float("nan")}, {"a": deep}):
        with pytest.raises(ValueError, match="provenance must be JSON-ready"):
            json_dict("provenance", value)
    with pytest.raises(ValueError, match="provenance must be a dictionary"):
        json_dict("provenance", [])
