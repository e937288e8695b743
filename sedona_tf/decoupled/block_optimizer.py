"""One optimizer a block, behind the face of a single one."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from sedona_tf.errors import UserError

__all__ = ["BlockOptimizer", "clone_optimizer"]


def clone_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """A new optimizer with the same settings, schedule included, and no state."""
    return optimizer.__class__.from_config(optimizer.get_config())


@keras.saving.register_keras_serializable(package="sedona_tf")
class BlockOptimizer(keras.optimizers.Optimizer):
    """K optimizers, one a block, that callbacks, saving and `compile` take for one.

    Blocks update at their own pace, so each has its own count of iterations and its own position
    in a learning-rate schedule. Setting `learning_rate` sets all of them; reading it gives the last
    block's, whose loss is the one that `fit` reports.

    Args:
        optimizers: one a block, from the input to the head.

    Example:
        >>> import keras
        >>> optimizer = BlockOptimizer([keras.optimizers.SGD(0.1) for _ in range(3)])
        >>> optimizer.learning_rate = 0.01
        >>> [round(float(each.learning_rate), 4) for each in optimizer.optimizers]
        [0.01, 0.01, 0.01]
    """

    def __init__(
        self, optimizers: Sequence[keras.optimizers.Optimizer], name: str = "block_optimizer"
    ) -> None:
        if not optimizers:
            raise UserError("optimizers must hold at least one optimizer. Received: none")
        super().__init__(learning_rate=0.0, name=name)
        self.optimizers = list(optimizers)

    @property
    def variables(self) -> list[keras.Variable]:
        """The blocks' optimizers' variables, block by block."""
        return [variable for each in self.optimizers for variable in each.variables]

    @property
    def iterations(self) -> keras.Variable:
        """Steps of the last block."""
        return self.optimizers[-1].iterations

    @iterations.setter
    def iterations(self, variable) -> None:  # the base class sets its own, which is never used
        pass

    @property
    def learning_rate(self):
        """The last block's learning rate; setting it sets every block's."""
        return self.optimizers[-1].learning_rate

    @learning_rate.setter
    def learning_rate(self, value) -> None:
        for each in self.optimizers:
            each.learning_rate = value

    def apply(self, grads, trainable_variables=None) -> None:
        """Refused: a decoupled model applies each block's gradients by the block's optimizer."""
        raise UserError("BlockOptimizer has no step of its own; use optimizers[k].apply.")

    def save_own_variables(self, store) -> None:
        """Nothing: the blocks' optimizers are saved as its children."""

    def load_own_variables(self, store) -> None:
        """Nothing, see `save_own_variables`."""

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {"optimizers": [serialize(each) for each in self.optimizers], "name": self.name}

    @classmethod
    def from_config(cls, config: dict, custom_objects=None) -> BlockOptimizer:
        load = keras.saving.deserialize_keras_object
        optimizers = [load(each, custom_objects=custom_objects) for each in config["optimizers"]]
        return cls(optimizers, name=config["name"])
