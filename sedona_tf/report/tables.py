"""Tables: the layout of plain-text ones, and the rows that texts and the page share."""

from __future__ import annotations

from collections.abc import Sequence

from sedona_tf.plans import Decoupling, Plan, candidate_name

__all__ = ["aligned", "classifier_rows", "decoupling_rows", "decoupling_table", "ensemble_rows"]


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: headings, a rule, then the rows; all columns start below one another."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        return "  ".join(cells).rstrip()

    return [line(row) for row in (headings, ["-" * width for width in widths], *rows)]


def decoupling_table(plan: Plan, decouplings: Sequence[Decoupling]) -> str:
    """Describes the decouplings of a plan, one line a block.

    Args:
        plan: the searched scores.
        decouplings: what it was decoded to.

    Returns:
        Lines without a newline at the end. The weight is that of the auxiliary net among the
        candidates, the cut probability that of the unit that the block ends with.
    """
    groups = [decoupling_rows(plan, decoupling) for decoupling in decouplings]
    headings = ("K", "block", "units", "auxiliary net", "weight", "cut probability")
    heading, rule, *table = aligned(headings, [row for rows in groups for row in rows])
    title = f"{plan.backbone}: {plan.num_units} units, {len(plan.candidates)} candidates a unit"
    lines = [title, "", heading, rule]
    for decoupling, rows in zip(decouplings, groups, strict=True):
        lines += table[: len(rows)]
        del table[: len(rows)]
        lines += [f"   tie: {tie}" for tie in decoupling.ties]
    return "\n".join(lines)


def decoupling_rows(plan: Plan, decoupling: Decoupling) -> list[list[str]]:
    """K, block, units, auxiliary net, weight and cut probability of each block.

    K stands in the first row only.
    """
    rows = [
        [str(decoupling.num_blocks) if number == 0 else "", *row]
        for number, row in enumerate(_block_rows(decoupling))
    ]
    for row, cut, net in zip(rows, decoupling.cut_after, decoupling.auxiliary, strict=False):
        weight = plan.candidate_weights[cut - 1][plan.candidates.index(net)]
        row += [f"{weight:.3f}", f"{plan.cut_probability[cut - 1]:.4f}"]
    rows[-1] += ["-", "-"]
    return rows


def classifier_rows(
    decoupling: Decoupling, errors: Sequence[float], temperatures: Sequence[float] | None
) -> list[list[str]]:
    """Block, units, classifier, error in per cent and temperature of each exit.

    Args:
        decoupling: of K blocks.
        errors: `(K,)` from 0 to 1, the head's last.
        temperatures: `(K,)`; None if there are none.
    """
    shown = ["-"] * len(errors) if temperatures is None else [f"{t:.3f}" for t in temperatures]
    return [
        [*row, _percent(error), temperature]
        for row, error, temperature in zip(_block_rows(decoupling), errors, shown, strict=True)
    ]


def ensemble_rows(plain: Sequence[float], calibrated: Sequence[float] | None) -> list[list[str]]:
    """Members, error and calibrated error in per cent of each ensemble.

    Args:
        plain: `(K-1,)` errors from 0 to 1, of the head with the last 1, ..., K-1 auxiliary nets.
        calibrated: `(K-1,)` the same at the temperatures; None if there are none.
    """
    scaled = [None] * len(plain) if calibrated is None else calibrated
    names = ["auxiliary net", *(f"{count} auxiliary nets" for count in range(2, len(plain) + 1))]
    return [
        [f"head and last {name}", *map(_percent, errors)]
        for name, *errors in zip(names, plain, scaled, strict=False)
    ]


def _block_rows(decoupling: Decoupling) -> list[list[str]]:
    """Number, units and classifier of each block."""
    names = [*map(candidate_name, decoupling.auxiliary), "(head)"]
    return [
        [str(block), str(first) if first == last else f"{first}-{last}", name]
        for block, ((first, last), name) in enumerate(
            zip(decoupling.blocks(), names, strict=True), 1
        )
    ]


def _percent(error: float | None) -> str:
    return f"{'-':>6}" if error is None else f"{100 * error:6.2f}"
