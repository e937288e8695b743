"""Shows where a plan cuts the network, for one or several numbers of blocks.

Usage:
  python -m sedona_tf.decode --plan PLAN --blocks K[,K...] [--json]

Examples:
  python -m sedona_tf.decode --plan plan.json --blocks 4
  python -m sedona_tf.decode --plan fashion_mnist_resnet18 --blocks 2,4,8 --json

Exit code: 0, or 2 with one line on stderr if something given is wrong.
"""

from __future__ import annotations

import json
from typing import Any

from absl import flags

from sedona_tf import command_line
from sedona_tf.errors import UserError
from sedona_tf.plans.plan import Plan
from sedona_tf.reporting.table import decoupling_table
from sedona_tf.shipped import plan_file

__all__ = ["command", "main"]


def define_flags() -> None:
    """Declares the flags; not at import, since two commands share some names."""
    flags.DEFINE_string(
        "plan", None, "file of a plan, or a name such as fashion_mnist_resnet18.", required=True
    )
    flags.DEFINE_list("blocks", None, "numbers of blocks K, separated by commas.", required=True)
    flags.DEFINE_boolean(
        "json", False, "print JSON instead of a table: an object, or a list for several K."
    )


def main() -> None:
    """Prints the decouplings that the flags ask for."""
    plan = Plan.load(plan_file(flags.FLAGS.plan))
    blocks = _numbers(flags.FLAGS.blocks)
    if not flags.FLAGS.json:
        print(decoupling_table(plan, blocks))
        return
    described = [_describe(plan, num_blocks) for num_blocks in blocks]
    print(json.dumps(described[0] if len(described) == 1 else described, indent=1))


def _numbers(texts: list[str]) -> list[int]:
    for text in texts:
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise UserError(f"--blocks must be whole numbers, such as 2,4,8. Received: '{text}'")
    if not texts:
        raise UserError("--blocks must name at least one number of blocks. Received: none")
    return [int(text) for text in texts]


def _describe(plan: Plan, num_blocks: int) -> dict[str, Any]:
    decoupling = plan.decode(num_blocks)
    described = decoupling.to_dict()
    del described["provenance"]  # the plan's, pages of it
    return {
        **described,
        "blocks": decoupling.blocks(),
        "cut_probability": [plan.cut_probability[unit - 1] for unit in decoupling.cut_after],
    }


def command() -> None:
    """The command `sedona-decode`."""
    define_flags()
    command_line.run(main, __doc__)


if __name__ == "__main__":
    command()
