"""What decouplings are predicted to take, as a plain-text table."""

from __future__ import annotations

from collections.abc import Sequence

from sedona_tf.plans.decoupling import Decoupling
from sedona_tf.profile.costs import Costs
from sedona_tf.profile.simulator import end_to_end
from sedona_tf.report.tables import aligned

__all__ = ["predicted_table"]


def predicted_table(costs: Costs, decouplings: Sequence[Decoupling]) -> str:
    """What pipelines of decouplings are predicted to take, one line each.

    Args:
        costs: of the network and the candidates.
        decouplings: of this network.

    Raises:
        UserError: if the costs are of something else.
    """
    alone = end_to_end(costs).seconds
    rows = []
    for decoupling in decouplings:
        seconds = [block.seconds for block in costs.of(decoupling)]
        rows.append(
            (
                str(decoupling.num_blocks),
                ", ".join(f"{1000 * each:.1f}" for each in seconds),
                f"{alone / max(seconds):.2f}",
            )
        )
    headings = ("K", "predicted step of each block (ms)", "predicted speed-up, a device a block")
    measured = f"Predictions from parts measured on {costs.device}, batch {costs.batch_size}:"
    return "\n".join([measured, "", *aligned(headings, rows)])
