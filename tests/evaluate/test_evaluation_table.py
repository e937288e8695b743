"""The tables say what the evaluation says."""

from __future__ import annotations

import dataclasses
import json

import pytest

from sedona_tf.errors import UserError
from sedona_tf.evaluate.exits import Evaluation
from sedona_tf.evaluate.table import evaluation_table
from sedona_tf.plans import Decoupling

NET = {"kind": "separable", "depth": 2}
EVALUATION = Evaluation(
    decoupling=Decoupling("toy", 8, (3, 4), (NET, {"kind": "predsim"})),
    num_images=10000,
    exits=(0.5, 0.25),
    head=0.0512,
    ensembles=(0.1, 0.2),
    calibrated_ensembles=(0.05, 1.0),
    temperatures=(1.5, 0.25, 12.0),
)


def test_whole_table():
    assert evaluation_table(EVALUATION, "test") == (
        "toy: 8 units, 3 blocks; 10,000 test images\n"
        "\n"
        "block  units  classifier          error (%)  temperature\n"
        "-----  -----  ------------------  ---------  -----------\n"
        "1      1-3    separable(depth=2)   50.00     1.500\n"
        "2      4      predsim              25.00     0.250\n"
        "3      5-8    (head)                5.12     12.000\n"
        "\n"
        "ensemble                        error (%)  calibrated (%)\n"
        "------------------------------  ---------  --------------\n"
        "head and last auxiliary net      10.00       5.00\n"
        "head and last 2 auxiliary nets   20.00     100.00"
    )


def test_without_temperatures_and_with_one_block():
    plain = dataclasses.replace(EVALUATION, calibrated_ensembles=None, temperatures=None)
    lines = evaluation_table(plain).splitlines()
    assert lines[0] == "toy: 8 units, 3 blocks; 10,000 images"
    assert [line.split()[-1] for line in (*lines[4:7], *lines[10:])] == ["-"] * 5
    (stopped, *_), (whole, *_) = (
        evaluation_table(plain, "test", (step, 4_000)).splitlines() for step in (3_000, 4_000)
    )
    assert whole == "toy: 8 units, 3 blocks; 10,000 test images"
    assert stopped == f"{whole}; not whole: step 3,000 of 4,000"
    one = Evaluation(Decoupling("toy", 8, (), ()), 1, (), 1.0, (), (), (2.0,))
    assert evaluation_table(one, "test").splitlines() == [
        "toy: 8 units, 1 block; 1 test images",
        "",
        "block  units  classifier  error (%)  temperature",
        "-----  -----  ----------  ---------  -----------",
        "1      1-8    (head)      100.00     2.000",
    ]


def test_file(tmp_path):
    path = tmp_path / "evaluation.json"
    EVALUATION.save(path, "test", (7, 7))
    assert json.loads(path.read_text()) == {
        "split": "test",
        "step": 7,
        "steps": 7,
        "backbone": "toy",
        "num_units": 8,
        "cut_after": [3, 4],
        "auxiliary": [NET, {"kind": "predsim"}],
        "num_images": 10000,
        "errors": {
            "exits": [0.5, 0.25],
            "head": 0.0512,
            "ensembles": [0.1, 0.2],
            "calibrated_ensembles": [0.05, 1.0],
        },
        "temperatures": [1.5, 0.25, 12.0],
    }
    with pytest.raises(UserError, match="cannot write"):
        EVALUATION.save(tmp_path / "none" / "evaluation.json", "test", (7, 7))
