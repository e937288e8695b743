"""Which decoupling a run may be resumed with."""

from __future__ import annotations

import msgspec
import pytest

from sedona_tf.errors import UserError
from sedona_tf.plans import Decoupling
from sedona_tf.train.build import TRAINED_AS
from sedona_tf.train.resume import require_same_decoupling

NETS = ({"kind": "mlp_sr"}, {"kind": "mlp_sr"})
RUN = Decoupling("toy", 8, (2, 5), NETS, provenance={TRAINED_AS: "dgl"})


def test_the_same_one(tmp_path):
    RUN.save(tmp_path / "decoupling.json")
    require_same_decoupling(tmp_path, RUN)
    elsewhere = {TRAINED_AS: "dgl", "recipe": {"seed": 3}}  # where it comes from does not matter
    require_same_decoupling(tmp_path, msgspec.structs.replace(RUN, provenance=elsewhere))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"provenance": {TRAINED_AS: "predsim"}},
            "not predsim with 3 blocks cut after 2, 5;",
        ),
        ({"cut_after": (2, 4)}, "not dgl with 3 blocks cut after 2, 4;"),
        ({"cut_after": (2,), "auxiliary": NETS[:1]}, "not dgl with 2 blocks cut after 2;"),
        ({"cut_after": (), "auxiliary": ()}, "not dgl with 1 block;"),
        ({"auxiliary": (NETS[0], {"kind": "predsim"})}, "with other auxiliary nets;"),
    ],
)
def test_another_one(changes, words, tmp_path):
    RUN.save(tmp_path / "decoupling.json")
    with pytest.raises(UserError) as caught:
        require_same_decoupling(tmp_path, msgspec.structs.replace(RUN, **changes))
    start = f"{tmp_path} holds a run of dgl with 3 blocks cut after 2, 5, "
    assert str(caught.value).startswith(f"{start}{words}")
