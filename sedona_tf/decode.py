r"""Shows where a plan cuts the network, for one or several numbers of blocks.

Usage:
  python -m sedona_tf.decode --plan PLAN --blocks K[,K...] [--json]
  python -m sedona_tf.decode --plan PLAN --blocks K --costs COSTS [--max_slowdown X]

Examples:
  python -m sedona_tf.decode --plan plan.json --blocks 4
  python -m sedona_tf.decode --plan fashion_mnist_resnet18 --blocks 2,4,8 --json
  python -m sedona_tf.decode --plan plan.json --blocks 4 --costs costs.json --max_slowdown 1.1 \
      --output balanced.json

With --costs (see python -m sedona_tf.profile) ties go to the faster pipeline, and the flags below
it trade score for speed. --output writes one decoupling, for train --plan.

Exit code: 0, or 2 with one line on stderr if something given is wrong.
"""

from __future__ import annotations

import json
from typing import Any

from absl import flags

from sedona_tf import command_line
from sedona_tf.command_line.blocks_flag import numbers_of_blocks
from sedona_tf.command_line.path_flag import define_path
from sedona_tf.errors import UserError
from sedona_tf.plans.decoupling import Decoupling
from sedona_tf.plans.plan import Plan
from sedona_tf.profile import cost_aware
from sedona_tf.profile.costs import Costs
from sedona_tf.profile.table import predicted_table
from sedona_tf.report.tables import decoupling_table
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
    define_path("costs", None, "file that python -m sedona_tf.profile wrote.")
    flags.DEFINE_float("balance", 0.0, "from 0, the score alone, to 1, the speed alone.", 0.0, 1.0)
    flags.DEFINE_float(
        "max_slowdown", None, "times the least possible that the slowest block may take.", 1.0
    )
    flags.DEFINE_float("max_memory", None, "MiB that no block may exceed.", 0.0)
    define_path("output", None, "file of the decoupling to write; for one K.")


def main() -> None:
    """Prints the decouplings that the flags ask for."""
    given = flags.FLAGS
    plan = Plan.load(plan_file(given.plan))
    blocks = numbers_of_blocks(given.blocks)
    costs = None if given.costs is None else Costs.load(given.costs)
    limit = None if given.max_memory is None else given.max_memory * 2**20
    trade = {"balance": given.balance, "max_slowdown": given.max_slowdown, "max_memory": limit}
    if costs is None:
        if given.balance or given.max_slowdown is not None or limit is not None:
            raise UserError("balance and limits need --costs: see python -m sedona_tf.profile.")
        decouplings = [plan.decode(number) for number in blocks]
    else:
        decouplings = [cost_aware.decode(plan, number, costs, **trade) for number in blocks]
    if given.output is not None:
        if len(decouplings) > 1:
            raise UserError("--output takes one number of blocks.")
        decouplings[0].save(given.output)
    if not given.json:
        print(decoupling_table(plan, decouplings))
        if costs is not None:
            print(f"\n{predicted_table(costs, decouplings)}")
        return
    described = [_describe(plan, decoupling, costs) for decoupling in decouplings]
    print(json.dumps(described[0] if len(described) == 1 else described, indent=1))


def _describe(plan: Plan, decoupling: Decoupling, costs: Costs | None) -> dict[str, Any]:
    described = decoupling.to_dict()
    del described["provenance"]  # the plan's, pages of it
    if costs is not None:
        described["predicted_block_seconds"] = [block.seconds for block in costs.of(decoupling)]
    return {
        **described,
        "num_blocks": decoupling.num_blocks,
        "blocks": decoupling.blocks(),
        "cut_probability": [plan.cut_probability[unit - 1] for unit in decoupling.cut_after],
    }


def command() -> None:
    """The command `python -m sedona_tf.decode`."""
    define_flags()
    command_line.run(main, __doc__)


if __name__ == "__main__":
    command()
