"""Packing: where each variable lies in the vector."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from sedona_tf.search.packing import Packing


def test_groups_lie_one_after_the_other():
    one, two = keras.Variable([[1.0, 2.0, 3.0]]), keras.Variable(4.0)
    three = keras.Variable([[5.0], [6.0]])
    packing = Packing([[one, two], [], [three]])
    assert packing.size == 6 and packing.dtype == "float32"
    vector = packing.read()
    assert vector.numpy().tolist() == [1, 2, 3, 4, 5, 6]
    pieces = packing.split(vector)
    assert [piece.numpy().tolist() for piece in pieces] == [[[1, 2, 3]], 4, [[5], [6]]]
    assert [len(group) for group in packing.unpack(vector)] == [2, 0, 1]
    np.testing.assert_array_equal(packing.pack(pieces), vector)


def test_nothing_to_pack():
    packing = Packing([[], []])
    assert packing.size == 0 and packing.read().shape == (0,)
    assert packing.split(packing.read()) == [] and packing.unpack(packing.read()) == [[], []]


def test_one_type_only():
    with pytest.raises(ValueError, match="share one type"):
        Packing([[keras.Variable(1.0)], [keras.Variable(1.0, dtype="float64")]])
