"""Decoding with costs: the best cuts for a given slowest block, exactly.

The score of a decoupling is the sum, over its cuts, of the cut probability times the candidate's
weight relative to the best one's: what `decode` maximises. The time of a pipeline is that of its
slowest block. Both at their best exclude each other, and in between lies a front: no decoupling
has a better score at that time. Dynamic programming over (block, last unit) finds the best score
below a limit of time and memory; lowering the limit step by step gives the whole front.
"""

from __future__ import annotations

import dataclasses
import math

import msgspec
import numpy as np

from sedona_tf.errors import UserError
from sedona_tf.plans import TIE_TOLERANCE, Decoupling, Plan
from sedona_tf.profile.costs import Costs

__all__ = ["Choice", "choose", "decode", "front"]

SCORE_ROUNDING = 1e-12
"""By which sums of the same scores in another order may differ."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """A decoupling on the front.

    Attributes:
        cut_after: `(K-1,)` 1-based units.
        candidates: `(K-1,)` indices of the auxiliary nets.
        score: see the module.
        slowest_s: seconds of a training step of its slowest block.
        peak_bytes: of the block that takes most, see `PartCost.resident_bytes`.
    """

    cut_after: tuple[int, ...]
    candidates: tuple[int, ...]
    score: float
    slowest_s: float
    peak_bytes: int


def decode(
    plan: Plan,
    num_blocks: int,
    costs: Costs,
    *,
    balance: float = 0.0,
    max_slowdown: float | None = None,
    max_memory: float | None = None,
) -> Decoupling:
    """Where to cut for so many blocks, given what they cost.

    Ties of the scores go to the faster pipeline; the other arguments trade score for speed.

    Args:
        plan: the searched scores.
        num_blocks: K, from 1 to L.
        costs: of the plan's network and candidates.
        balance: see `choose`.
        max_slowdown: see `choose`.
        max_memory: bytes that no block may exceed.

    Raises:
        UserError: if K or another argument is out of range, the costs are of something else, or
            no decoupling fits.
    """
    plain = plan.decode(num_blocks)
    choices = front(plan, costs, num_blocks, max_memory)
    chosen = choose(choices, balance, max_slowdown, TIE_TOLERANCE)
    return msgspec.structs.replace(
        plain,
        cut_after=chosen.cut_after,
        auxiliary=tuple(plan.candidates[index] for index in chosen.candidates),
        ties=(),
        provenance={**plan.provenance, "decoded_for": costs.device, "score": chosen.score},
    )


def front(
    plan: Plan, costs: Costs, num_blocks: int, max_memory: float | None = None
) -> list[Choice]:
    """All decouplings for K blocks that none beats in both score and slowest block.

    Args:
        plan: the searched scores.
        costs: of the plan's network and candidates.
        num_blocks: K, from 1 to L.
        max_memory: bytes that no block may exceed; None: any.

    Returns:
        From the best score to the fastest; scores and times fall strictly.

    Raises:
        UserError: if K is out of range, the costs are of something else, or no decoupling fits.
    """
    costs.require(plan)
    scores = _scores(plan)
    seconds, memory = _segments(costs)
    max_memory = math.inf if max_memory is None else max_memory
    allowed = memory <= max_memory
    found: list[Choice] = []
    limit = math.inf
    while True:
        best = _best(scores, allowed & (seconds < limit), num_blocks)
        if best is None:
            break
        cuts, chosen, score = best
        blocks = costs.blocks(cuts, chosen)
        slowest = max(block.seconds for block in blocks)
        peak = max(block.resident_bytes for block in blocks)
        if found and score >= found[-1].score - SCORE_ROUNDING:
            found.pop()
        found.append(Choice(cuts, chosen, score, slowest, peak))
        limit = max(
            seconds[low, high, candidate]
            for low, high, candidate in zip(
                (0, *cuts), (*cuts, costs.num_units), (*chosen, 0), strict=True
            )
        )
    if not found:
        raise UserError(
            f"no decoupling into {num_blocks} blocks keeps every block within "
            f"{max_memory / 2**20:g} MiB."
        )
    return found


def choose(
    choices: list[Choice],
    balance: float = 0.0,
    max_slowdown: float | None = None,
    tolerance: float = 0.0,
) -> Choice:
    """One decoupling of a front.

    Args:
        choices: what `front` gave.
        balance: from 0, the score alone, to 1, the time alone: maximises
            `(1 - balance) score / best score - balance slowest / least slowest`.
        max_slowdown: from 1; the slowest block may take so many times the least that K blocks
            allow. None: any.
        tolerance: scores so little below the best count as equal, and the fastest of them wins.

    Raises:
        UserError: if an argument is out of range.
    """
    if not 0 <= balance <= 1:
        raise UserError(f"balance must be from 0 to 1. Received: {balance}")
    if max_slowdown is not None and not max_slowdown >= 1:
        raise UserError(f"the slowdown allowed must be at least 1. Received: {max_slowdown}")
    least = choices[-1].slowest_s
    if max_slowdown is not None:
        choices = [each for each in choices if each.slowest_s <= max_slowdown * least]
    best_score = choices[0].score or 1.0

    def objective(each: Choice) -> float:
        return (1 - balance) * each.score / best_score - balance * each.slowest_s / (least or 1.0)

    lowest = max(map(objective, choices)) - (1 - balance) * tolerance / best_score
    near = [each for each in choices if objective(each) >= lowest]
    return min(near, key=lambda each: each.slowest_s)


def _scores(plan: Plan) -> np.ndarray:
    """`(L-1, M)`: what a cut after a unit, closed by a candidate, adds to the score."""
    p, weights = np.array(plan.cut_probability), np.array(plan.candidate_weights)
    return p[:, None] * (weights / weights.max(axis=1, keepdims=True))


def _segments(costs: Costs) -> tuple[np.ndarray, np.ndarray]:
    """Seconds and bytes `(L, L+1, M)` of a block of units low+1 to high; infinite if empty."""
    count, candidates = costs.num_units, max(len(costs.candidates), 1)
    closing = [*costs.auxiliary_costs, (costs.head_cost,) * candidates]
    shape = (count, count + 1, candidates)
    seconds, memory = np.full(shape, np.inf), np.full(shape, np.inf)
    for low in range(count):
        time, size = 0.0, 0
        for high in range(low + 1, count + 1):
            time += costs.unit_costs[high - 1].seconds
            size += costs.unit_costs[high - 1].resident_bytes
            for index, each in enumerate(closing[high - 1]):
                seconds[low, high, index] = time + each.seconds
                memory[low, high, index] = size + each.resident_bytes
    return seconds, memory


def _best(
    scores: np.ndarray, allowed: np.ndarray, num_blocks: int
) -> tuple[tuple[int, ...], tuple[int, ...], float] | None:
    """The best score with allowed blocks only: cuts, candidates, score; None if there is none."""
    count = allowed.shape[0]
    end_scores = np.pad(scores, ((1, 1), (0, 0)))  # neither input nor head adds to the score
    of_blocks = np.where(allowed, end_scores[None], -np.inf)  # (low, high, candidate)
    candidate, of_blocks = of_blocks.argmax(axis=2), of_blocks.max(axis=2)
    best = np.where(np.arange(count + 1) == 0, 0.0, -np.inf)  # of the units so far, by their number
    begins = []
    for _ in range(num_blocks):
        sums = best[:count, None] + of_blocks
        begins.append(sums.argmax(axis=0))
        best = sums.max(axis=0)
    if not np.isfinite(best[count]):
        return None
    edges = [count]
    for begin in reversed(begins):
        edges.append(int(begin[edges[-1]]))
    edges.reverse()
    cuts = tuple(edges[1:-1])
    chosen = tuple(int(candidate[low, high]) for low, high in zip(edges, edges[1:-1], strict=False))
    return cuts, chosen, float(best[count])
