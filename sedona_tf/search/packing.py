"""Many tensors as one flat vector and back: loops carry one state instead of thousands."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

__all__ = ["Packing"]


class Packing:
    """How a list of groups of variables lies in one flat vector.

    Args:
        groups: the variables, group by group; all of one floating-point type.
    """

    def __init__(self, groups: Sequence[Sequence[keras.Variable]]) -> None:
        self.variables = [variable for group in groups for variable in group]
        self._counts = [len(group) for group in groups]
        self._shapes = [tuple(variable.shape) for variable in self.variables]
        self._sizes = [math.prod(shape) for shape in self._shapes]
        dtypes = {keras.backend.standardize_dtype(v.dtype) for v in self.variables}
        if len(dtypes) > 1:
            raise ValueError(f"variables must share one type. Received: {sorted(dtypes)}")
        self.dtype = dtypes.pop() if dtypes else keras.config.floatx()

    @property
    def size(self) -> int:
        """Length of the vector."""
        return sum(self._sizes)

    def read(self) -> tf.Tensor:
        """The variables' present values as one vector `(size,)`."""
        return self.pack([tf.convert_to_tensor(variable.value) for variable in self.variables])

    def pack(self, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        """Joins tensors, one a variable and shaped like it, into a vector `(size,)`."""
        if not tensors:
            return tf.zeros((0,), self.dtype)
        return tf.concat([tf.reshape(tensor, (-1,)) for tensor in tensors], 0)

    def split(self, vector: tf.Tensor) -> list[tf.Tensor]:
        """The inverse of `pack`."""
        if not self._sizes:
            return []
        pieces = tf.split(vector, self._sizes)
        return [tf.reshape(piece, shape) for piece, shape in zip(pieces, self._shapes, strict=True)]

    def unpack(self, vector: tf.Tensor) -> list[list[tf.Tensor]]:
        """As `split`, group by group."""
        tensors = iter(self.split(vector))
        return [[next(tensors) for _ in range(count)] for count in self._counts]
