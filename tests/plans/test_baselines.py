"""Uniform cuts, and a decoupling as all that a decoupled network needs beside its backbone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from sedona_tf import backbones
from sedona_tf.auxiliary import Candidate, build_auxiliary, kinds
from sedona_tf.backbones import resnet, vgg
from sedona_tf.errors import UserError
from sedona_tf.plans import BASELINES, Decoupling, baseline, uniform

SAVED = Path(__file__).parents[2] / "saved_plans" / "published"


def toy(num_units: int) -> SimpleNamespace:
    return SimpleNamespace(name="toy", units=range(num_units))


@pytest.mark.parametrize("num_units", range(1, 18))
def test_blocks_are_as_equal_as_possible(num_units):
    for num_blocks in range(1, num_units + 1):
        found = uniform(toy(num_units), num_blocks, {"kind": "mlp_sr"})
        sizes = [last - first + 1 for first, last in found.blocks()]
        assert len(sizes) == num_blocks and sum(sizes) == num_units
        assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 1
        # spread: any run of blocks is within one unit of its share
        for start in range(num_blocks):
            for end in range(start + 1, num_blocks + 1):
                share = (end - start) * num_units / num_blocks
                assert abs(sum(sizes[start:end]) - share) < 1


def test_rounding_as_documented():
    assert uniform(toy(16), 4, {"kind": "mlp_sr"}).cut_after == (4, 8, 12)
    assert uniform(toy(16), 3, {"kind": "mlp_sr"}).cut_after == (5, 10)
    assert uniform(toy(33), 16, {"kind": "mlp_sr"}).blocks()[-1] == (31, 33)


@pytest.mark.parametrize("num_blocks", [0, -1, 9, True, 2.0, "2"])
def test_out_of_range(num_blocks):
    with pytest.raises(UserError, match="1 and 8"):
        uniform(toy(8), num_blocks, {"kind": "mlp_sr"})


def test_unknown_baseline():
    with pytest.raises(UserError, match="'dgl'"):
        baseline("dlg", toy(8), 2)


def auxiliaries(decoupling: Decoupling, backbone) -> list:
    """All that a decoupled model takes from a decoupling."""
    return [
        build_auxiliary(Candidate.from_dict(options), backbone, unit - 1, f"aux_{unit}")
        for unit, options in zip(decoupling.cut_after, decoupling.auxiliary, strict=True)
    ]


@pytest.mark.parametrize("method", BASELINES)
def test_baseline_builds_on_a_backbone(method, tmp_path):
    backbone = backbones.build("resnet18", (8, 8, 1), num_classes=10, width=4)
    baseline(method, backbone, 4).save(tmp_path / "decoupling.json")
    found = Decoupling.load(tmp_path / "decoupling.json", backbone, 4)
    assert found.blocks() == [(1, 2), (3, 4), (5, 6), (7, 8)]
    nets = auxiliaries(found, backbone)
    assert [net.input_shape for net in nets] == [
        backbone.units[unit].output_shape for unit in (1, 3, 5)
    ]
    logits = kinds[found.auxiliary[0]["kind"]].logits
    assert all(logits(net.output).shape == (None, 10) for net in nets)


@pytest.mark.parametrize("stem", ["small", "imagenet"])
def test_published_decoupling_serves_either_stem(stem):
    backbone = backbones.build("resnet50", (32, 32, 3), num_classes=7, width=4, stem=stem)
    found = Decoupling.load(SAVED / "resnet50_k4.json", backbone, 4)
    assert found.blocks() == [(1, 10), (11, 11), (12, 12), (13, 16)]
    assert [net.output_shape for net in auxiliaries(found, backbone)] == [(None, 7)] * 3


def test_published_decouplings_have_our_backbones_units():
    for path in SAVED.iterdir():
        found = Decoupling.load(path)
        stages = {
            **{f"resnet{depth}": sum(blocks) for depth, (blocks, _) in resnet.STAGES.items()},
            **{f"vgg{depth}": sum(counts) for depth, counts in vgg.STAGES.items()},
        }
        assert found.num_units == stages[found.backbone]
