"""Kills searches at random moments and inside writes, and resumes them, over and over.

Usage: python benchmarks/kill_search.py [--kills 20] [--inside 20] [--signals 0] [--seed 0]

See killing.py for how; alpha and beta of every search must be those of an undisturbed one bit for
bit. Prints one JSON object. Exit code 1 if anything differs or a resumed search fails. The
searches are those of scikit-learn's digits on ResNet-18 at width 4, with one thread an operation.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from killing import ROOT, Target, checkpoints, main

ARGUMENTS = [
    f"--recipe={ROOT / 'recipes/digits.py'}",
    "--recipe.search.space.depth=(1,)",
    "--recipe.search.inner_steps=1",
    "--recipe.search.pretraining_steps=60",
    "--recipe.search.steps=25",
    "--recipe.search.snapshots=5",
    "--recipe.search.checkpoint_every=3",
    "--recipe.search.batch_size=16",
    "--recipe.search.validation_batch_size=16",
]


def phase(workdir: Path) -> str:
    """The newest checkpoint's phase, or "nothing saved"."""
    found = checkpoints(workdir)
    return found[-1].name.partition("-")[0] if found else "nothing saved"


def scores(workdir: Path) -> tuple:
    """Alpha and beta of a finished search."""
    plan = json.loads((workdir / "plan.json").read_text())
    return plan["alpha"], plan["beta"]


if __name__ == "__main__":
    sys.exit(main(Target("sedona_tf.search", ARGUMENTS, scores, phase), __doc__))
