"""An evaluation as a file."""

from __future__ import annotations

import json

import pytest

from sedona_tf.evaluate.exits import Evaluation
from sedona_tf.plans import Decoupling

FOUND = Evaluation(
    Decoupling("toy", 4, (1, 3), ({"kind": "mlp_sr"}, {"kind": "separable", "depth": 2})),
    num_images=100,
    exits=(0.5, 0.25),
    head=0.125,
    ensembles=(0.12, 0.11),
)


@pytest.mark.parametrize("calibrated", [False, True])
def test_the_file_says_it_plainly(calibrated, tmp_path):
    more = {"calibrated_ensembles": (0.1, 0.09), "temperatures": (1.5, 2.0, 0.5)}
    found = Evaluation(**{**vars(FOUND), **(more if calibrated else {})})
    found.save(tmp_path / "evaluation.json", "test", (30, 40))
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {
        "split": "test",
        "step": 30,
        "steps": 40,
        "backbone": "toy",
        "num_units": 4,
        "cut_after": [1, 3],
        "auxiliary": [{"kind": "mlp_sr"}, {"kind": "separable", "depth": 2}],
        "num_images": 100,
        "errors": {
            "exits": [0.5, 0.25],
            "head": 0.125,
            "ensembles": [0.12, 0.11],
            "calibrated_ensembles": [0.1, 0.09] if calibrated else None,
        },
        "temperatures": [1.5, 2.0, 0.5] if calibrated else None,
    }


def test_is_not_changed_afterwards():
    with pytest.raises(AttributeError):
        FOUND.head = 0.0
