"""Decouplings made by hand, to compare a searched one with: equal blocks, one kind of net."""

from __future__ import annotations

from sedona_tf.errors import UserError, unknown_name
from sedona_tf.plans.architecture import Backbone
from sedona_tf.plans.decoupling import AuxiliaryOptions, Decoupling

__all__ = ["BASELINES", "METHODS", "baseline", "require_plan", "uniform"]

BASELINES: dict[str, AuxiliaryOptions] = {
    "dgl": {"kind": "mlp_sr"},
    "predsim": {"kind": "predsim"},
}
"""Method to auxiliary net: DGL (Belilovsky et al., 2020), PredSim (Nokland and Eidnes, 2019)."""

METHODS = ("sedona", "backprop", *BASELINES)
"""All ways to train: by a searched plan, end to end, or by a baseline."""


def require_plan(method: str, plan: object) -> None:
    """Refuses a method without the plan that it needs, or with one that it does not use.

    Args:
        method: one of `METHODS`.
        plan: the plan that was given, or None.

    Raises:
        UserError: if the plan is missing, is not used, or the method is unknown.
    """
    if method not in METHODS:
        raise UserError(unknown_name("method", method, METHODS))
    if method == "sedona" and plan is None:
        raise UserError("method 'sedona' needs a plan: pass --plan.")
    if method != "sedona" and plan is not None:
        raise UserError(f"method '{method}' takes no plan; leave --plan out.")


def baseline(method: str, backbone: Backbone, num_blocks: int) -> Decoupling:
    """A published baseline's decoupling: uniform cuts, the method's auxiliary net at each.

    Args:
        method: a key of `BASELINES`. PredSim is defined on plain labels: train its head without
            label smoothing too.
        backbone: see `uniform`.
        num_blocks: see `uniform`.

    Raises:
        UserError: for an unknown method or a number of blocks out of range.
    """
    if method not in BASELINES:
        raise UserError(unknown_name("baseline", method, list(BASELINES)))
    return uniform(backbone, num_blocks, BASELINES[method])


def uniform(backbone: Backbone, num_blocks: int, auxiliary: AuxiliaryOptions) -> Decoupling:
    """Cuts a backbone into blocks of as equal a number of units as possible.

    Block k of K ends after unit `floor(k L / K)`. So sizes differ by one at most, and the longer
    blocks are spread over the network rather than gathered at one end; the last block is one of
    the longer ones, the first one of the shorter: 16 units in 3 blocks are 5, 5 and 6.

    Args:
        backbone: of L units; only its name and their number count.
        num_blocks: K, from 1 (no cut) to L (a cut after every unit but the last).
        auxiliary: the auxiliary net at every cut.

    Returns:
        The decoupling.

    Raises:
        UserError: if K is out of range.

    Example:
        >>> from types import SimpleNamespace
        >>> toy = SimpleNamespace(name="toy", units=range(8))
        >>> uniform(toy, 3, {"kind": "mlp_sr"}).blocks()
        [(1, 2), (3, 5), (6, 8)]
    """
    num_units = len(backbone.units)
    if type(num_blocks) is not int or not 1 <= num_blocks <= num_units:
        raise UserError(
            f"the number of blocks must be between 1 and {num_units}, the number of units "
            f"of {backbone.name}. Received: {num_blocks}"
        )
    cuts = tuple(k * num_units // num_blocks for k in range(1, num_blocks))
    return Decoupling(
        backbone.name,
        num_units,
        cuts,
        (auxiliary,) * len(cuts),
        provenance={"method": "uniform cuts"},
    )
