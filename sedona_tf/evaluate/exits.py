"""Evaluation: how often each exit of a decoupled model, and each ensemble of them, is wrong."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

from sedona_tf.files import atomic_write
from sedona_tf.plans import Decoupling

__all__ = ["Evaluation"]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Errors of a `DecoupledModel` of K blocks on a data set, as fractions from 0 to 1.

    Attributes:
        decoupling: of the model.
        num_images: how many images the errors are of.
        exits: `(K-1,)`, of the auxiliary nets' own predictions (early exits), from the input up.
        head: of the head's.
        ensembles: `(K-1,)`, of the head with the last 1, 2, ..., K-1 auxiliary nets, uncalibrated.
        calibrated_ensembles: `(K-1,)`, the same with the classifiers at their temperatures; None
            if there are none. A temperature changes no single classifier's error.
        temperatures: `(K,)`, the auxiliary nets' and the head's; None if there are none.

    Example:
        >>> halves = Decoupling("toy", 4, cut_after=(2,), auxiliary=({"kind": "mlp_sr"},))
        >>> found = Evaluation(halves, num_images=100, exits=(0.2,), head=0.1, ensembles=(0.12,))
        >>> found.to_dict()["errors"]["exits"]
        [0.2]
    """

    decoupling: Decoupling
    num_images: int
    exits: tuple[float, ...]
    head: float
    ensembles: tuple[float, ...]
    calibrated_ensembles: tuple[float, ...] | None = None
    temperatures: tuple[float, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as JSON-ready data, with the cuts and auxiliary nets it is of."""
        return {
            "backbone": self.decoupling.backbone,
            "num_units": self.decoupling.num_units,
            "cut_after": list(self.decoupling.cut_after),
            "auxiliary": [dict(options) for options in self.decoupling.auxiliary],
            "num_images": self.num_images,
            "errors": {
                "exits": list(self.exits),
                "head": self.head,
                "ensembles": list(self.ensembles),
                "calibrated_ensembles": _listed(self.calibrated_ensembles),
            },
            "temperatures": _listed(self.temperatures),
        }

    def described(self, split: str, trained: tuple[int, int]) -> dict[str, Any]:
        """The contents of the file that `save` writes.

        Args:
            split: name of the images' split, for example `"test"`.
            trained: steps that the model has been trained for, and those of the whole training.
        """
        step, steps = trained
        return {"split": split, "step": step, "steps": steps, **self.to_dict()}

    def save(self, path: str | os.PathLike[str], split: str, trained: tuple[int, int]) -> None:
        """Writes the evaluation as JSON, all or nothing.

        Args:
            path: the file; an existing one is replaced.
            split: noted in the file, see `described`.
            trained: noted in the file, see `described`.

        Raises:
            UserError: if it cannot be written.
        """
        with atomic_write(path) as file:
            file.write((json.dumps(self.described(split, trained), indent=1) + "\n").encode())


def _listed(values: tuple[float, ...] | None) -> list[float] | None:
    return None if values is None else list(values)
