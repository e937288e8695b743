"""Cuts, costs and groups against brute force and published numbers."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest

from sedona_tf.backbones.cuts import group, multiply_adds, single_tensors, unit_ends
from sedona_tf.backbones.graph import graph_of


def random_graph(seed: int) -> tuple[keras.Model, dict[str, list[str]]]:
    """Additions of random earlier tensors; returns the arguments' names of each layer, too."""
    rng = np.random.default_rng(seed)
    tensors = {"images": keras.Input((2, 2, 1), name="images")}
    arguments: dict[str, list[str]] = {}
    unused = {"images"}
    for index in range(14):
        near = list(tensors)[-4:]
        chosen = list(rng.choice(near, size=min(len(near), rng.integers(1, 3)), replace=False))
        if index == 13:
            chosen = sorted({*chosen, *unused})
        name = f"sum_{index}"
        summands = [tensors[one] for one in chosen]
        # One layer cannot add one tensor to nothing.
        layer = keras.layers.Add if len(chosen) > 1 else keras.layers.Identity
        tensors[name] = layer(name=name)(summands if len(chosen) > 1 else summands[0])
        arguments[name] = chosen
        unused = (unused | {name}) - set(chosen)
    output = keras.layers.Flatten(name="flat")(tensors[name])
    arguments["flat"] = [name]
    return keras.Model(tensors["images"], output), arguments


def reachable(arguments: dict[str, list[str]], output: str, without: str) -> bool:
    """Whether the images still reach the output once an operation is gone."""
    if output == without:
        return False
    return output == "images" or any(
        reachable(arguments, name, without) for name in arguments[output]
    )


@pytest.mark.parametrize("seed", range(6))
def test_single_tensors_are_those_without_which_nothing_passes(seed):
    model, arguments = random_graph(seed)
    graph = graph_of(model)
    found = [graph.calls[index].operation.name for index, _ in single_tensors(graph)]
    expected = {name for name in arguments if not reachable(arguments, "flat", without=name)}
    assert set(found) == expected and found[-1] == "flat"


def test_counts_of_multiply_adds():
    """MobileNet's at 224x224: 569 million (Howard et al., 2017, table 4)."""
    model = keras.applications.MobileNet(weights=None)
    assert multiply_adds(graph_of(model).calls) == 568_740_352


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_the_best(seed):
    rng = np.random.default_rng(seed)
    costs = [int(cost) for cost in rng.integers(0, 30, 8)]
    for count in range(1, 10):
        ends = group(costs, count)
        assert len(ends) == min(count, 8) and ends[-1] == 7 and ends == sorted(set(ends))
        ways = itertools.combinations(range(7), len(ends) - 1)
        assert dearest(costs, ends) == min(dearest(costs, [*way, 7]) for way in ways)


def dearest(costs, ends) -> int:
    starts = [0, *(end + 1 for end in ends)]
    return max(sum(costs[a:b]) for a, b in itertools.pairwise(starts))


def test_units_end_after_what_finishes_them():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.ZeroPadding2D(1, name="pad"),
            keras.layers.Conv2D(4, 3, name="conv_1"),
            keras.layers.BatchNormalization(name="bn"),
            keras.layers.PReLU(name="prelu"),
            keras.layers.MaxPooling2D(2, name="pool"),
            keras.layers.Dropout(0.1, name="dropout"),
            keras.layers.Conv2D(4, 1, activation="relu", name="conv_2"),
            keras.layers.Reshape((16, 4), name="tokens"),
            keras.layers.Dense(5, name="of_tokens"),
            keras.layers.Reshape((4, 4, 5), name="maps"),
            keras.layers.GlobalAveragePooling2D(keepdims=True, name="mean"),
            keras.layers.Conv2D(3, 1, name="conv_3"),
            keras.layers.Flatten(name="flatten"),
        ]
    )
    graph = graph_of(model)
    names = [graph.calls[index].operation.name for index, _ in unit_ends(graph)]
    assert names == ["dropout", "conv_2", "maps"]


def test_the_head_has_the_classifier():
    """As in SqueezeNet: a convolution scores the classes, pooling alone follows."""
    model = keras.Sequential([keras.Input((8, 8, 1))])
    for index in range(4):
        model.add(keras.layers.Conv2D(3, 1, name=f"conv_{index}"))
    model.add(keras.layers.GlobalAveragePooling2D())
    graph = graph_of(model)
    names = [graph.calls[index].operation.name for index, _ in unit_ends(graph)]
    assert names == ["conv_0", "conv_1", "conv_2"]
