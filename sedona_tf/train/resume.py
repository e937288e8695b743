"""Whether a resumed run trains the blocks that it was started with."""

from __future__ import annotations

from pathlib import Path

from sedona_tf.errors import UserError
from sedona_tf.plans import Decoupling
from sedona_tf.train.build import TRAINED_AS

__all__ = ["require_same_decoupling"]


def require_same_decoupling(workdir: Path, decoupling: Decoupling) -> None:
    """Refuses to go on with a run whose blocks are others.

    Args:
        workdir: of the run.
        decoupling: asked for now.

    Raises:
        UserError: saying what differs, or which file is damaged.
    """
    found = Decoupling.load(workdir / "decoupling.json")
    was, now = _described(found), _described(decoupling)
    if was != now or found.auxiliary != decoupling.auxiliary:
        other = f"not {now}" if was != now else "with other auxiliary nets"
        raise UserError(
            f"{workdir} holds a run of {was}, {other}; resume with its --method, --plan and "
            "--blocks, or take another --workdir."
        )


def _described(decoupling: Decoupling) -> str:
    method, count = decoupling.provenance.get(TRAINED_AS), decoupling.num_blocks
    cuts = f" cut after {', '.join(map(str, decoupling.cut_after))}" if count > 1 else ""
    return f"{method} with {count} block{'s' * (count > 1)}{cuts}"
