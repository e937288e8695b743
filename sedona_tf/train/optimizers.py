"""One optimizer a block, in the form of a single Keras optimizer."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from sedona_tf.errors import UserError, first_line
from sedona_tf.train.block import Block
from sedona_tf.train.placement import move

__all__ = ["BlockOptimizer", "block_optimizers", "follower"]

_EXCLUSIONS = "_exclude_from_weight_decay"
"""Begins the names of attributes of `exclude_from_weight_decay`, which `get_config` leaves out."""


class _FollowedRate(keras.optimizers.schedules.LearningRateSchedule):
    """The present learning rate of another optimizer; a schedule is taken at one's own step."""

    def __init__(self, leader: keras.optimizers.Optimizer) -> None:
        self.leader = leader

    def __call__(self, step):
        rate = self.leader._learning_rate
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            return rate(step)
        return self.leader.learning_rate

    def get_config(self) -> dict:
        raise NotImplementedError("A follower is saved with the optimizer that it follows.")


def follower(leader: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """A new optimizer with the settings of another, whose learning rate it follows.

    The follower reads the leader's learning rate at every step. So a new number, a schedule and a
    function hold for both. A schedule is taken at the follower's own step.

    Args:
        leader: the user's optimizer; its present settings are taken.

    Raises:
        UserError: if its class cannot be made from its `get_config`.

    Example:
        >>> leader = keras.optimizers.SGD(0.1, momentum=0.9)
        >>> other = follower(leader)
        >>> leader.learning_rate = 0.05
        >>> other.momentum, round(float(other.learning_rate), 4)
        (0.9, 0.05)
    """
    if isinstance(leader, keras.optimizers.LossScaleOptimizer):
        return keras.optimizers.LossScaleOptimizer(
            follower(leader.inner_optimizer),
            initial_scale=leader.initial_scale,
            dynamic_growth_steps=leader.dynamic_growth_steps,
            name=leader.name,
        )
    # `get_config` would serialize the learning rate, which not every schedule or function can be.
    settings = object.__new__(type(leader))
    vars(settings).update(vars(leader), _learning_rate=0.0)
    try:
        config = {**settings.get_config(), "learning_rate": _FollowedRate(leader)}
        made = type(leader).from_config(config)
    except Exception as error:  # the user's own class: anything can come out of it
        raise UserError(
            f"optimizer '{type(leader).__name__}' cannot be made once more from its get_config() "
            f"for every block: {first_line(error)}; give a list of optimizers, one a block."
        ) from error
    for name, value in vars(leader).items():
        if name.startswith(_EXCLUSIONS):
            vars(made)[name] = copy.copy(value)
    return made


def _take_state(
    mine: keras.optimizers.Optimizer, theirs: keras.optimizers.Optimizer, variables: Sequence
) -> None:
    """Copies an optimizer's counters, and its moments of some variables, to another of its kind."""
    if isinstance(theirs, keras.optimizers.LossScaleOptimizer):
        _take_state(mine.inner_optimizer, theirs.inner_optimizer, variables)
    indices = {id(variable): index for index, variable in enumerate(theirs._trainable_variables)}
    for name, target in vars(mine).items():
        source = vars(theirs).get(name)
        if isinstance(target, keras.Variable) and isinstance(source, keras.Variable):
            target.assign(source)
        elif (
            name != "_trainable_variables"
            and isinstance(target, list | tuple)
            and isinstance(source, list | tuple)
            and (len(target), len(source)) == (len(variables), len(indices))
        ):
            for variable, slot in zip(variables, target, strict=True):
                index = indices.get(id(variable))
                if isinstance(slot, keras.Variable) and index is not None:
                    slot.assign(source[index])


@keras.saving.register_keras_serializable(package="sedona_tf")
class BlockOptimizer(keras.optimizers.Optimizer):
    """K optimizers, one a block, that callbacks, saving and `compile` take for one.

    Blocks update at their own pace, so each has its own count of iterations and its own position
    in a learning-rate schedule. Setting `learning_rate` sets all of them; reading it gives the last
    block's, whose loss is the one that `fit` reports.

    Args:
        optimizers: one a block, from the input to the head.

    Attributes:
        leader: the optimizer that the others follow, see `following`; None for a user's list.

    Example:
        >>> import keras
        >>> optimizer = BlockOptimizer([keras.optimizers.SGD(0.1) for _ in range(3)])
        >>> optimizer.learning_rate = 0.01
        >>> [round(float(each.learning_rate), 4) for each in optimizer.of_blocks]
        [0.01, 0.01, 0.01]
    """

    # Keras' callbacks take an attribute `optimizers` for several models' and log each by its name.

    def __init__(
        self, optimizers: Sequence[keras.optimizers.Optimizer], name: str = "block_optimizer"
    ) -> None:
        if not optimizers:
            raise UserError("optimizers must hold at least one optimizer. Received: none")
        super().__init__(learning_rate=0.0, name=name)
        self.of_blocks = list(optimizers)
        self.leader: keras.optimizers.Optimizer | None = None
        self._blocks: list[Block] = []

    @classmethod
    def following(
        cls, leader: keras.optimizers.Optimizer, scaled: Sequence[bool], **kwargs
    ) -> BlockOptimizer:
        """The user's own optimizer for the last block, and followers of it for the others.

        Args:
            leader: the user's optimizer itself, so that the user can go on setting it.
            scaled: for each block, whether its loss is scaled, as half precision needs.
            **kwargs: see the class.
        """
        loss_scale = keras.optimizers.LossScaleOptimizer
        optimizers = [*(follower(leader) for _ in scaled[:-1]), leader]
        if not isinstance(leader, loss_scale):
            optimizers = [
                loss_scale(each) if wanted else each
                for each, wanted in zip(optimizers, scaled, strict=True)
            ]
        made = cls(optimizers, **kwargs)
        made.leader = leader
        return made

    def attach(self, blocks: Sequence[Block]) -> None:
        """Says whose optimizers these are, before `build`."""
        self._blocks = list(blocks)

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Makes every block's state on the block's device.

        An optimizer that has trained already keeps its state, and those that follow it take theirs
        from it.

        Args:
            variables: ignored; each block's own are used.
        """
        for block, each in zip(self._blocks, self.of_blocks, strict=True):
            own = block.trainable_variables
            with tf.device(block.device):
                if not each.built:
                    each.build(own)
                    last = self.of_blocks[-1]
                    if self.leader is not None and each is not last and self.leader.built:
                        inner = each if type(each) is type(self.leader) else each.inner_optimizer
                        _take_state(inner, self.leader, own)
            move(each.variables, block.device)
        self.built = True

    @property
    def variables(self) -> list[keras.Variable]:
        """The blocks' optimizers' variables, block by block."""
        return [variable for each in self.of_blocks for variable in each.variables]

    @property
    def iterations(self) -> keras.Variable:
        """Steps of the last block."""
        return self.of_blocks[-1].iterations

    @iterations.setter
    def iterations(self, variable) -> None:  # the base class sets its own, which is never used
        pass

    @property
    def learning_rate(self):
        """The last block's learning rate; setting it sets every block's."""
        return self.of_blocks[-1].learning_rate

    @learning_rate.setter
    def learning_rate(self, value) -> None:
        for each in [self.leader] if self.leader is not None else self.of_blocks:
            each.learning_rate = value

    def apply(self, grads, trainable_variables=None) -> None:
        """Refused: a decoupled model applies each block's gradients by the block's optimizer."""
        raise UserError("BlockOptimizer has no step of its own; use of_blocks[k].apply.")

    def finalize_variable_values(self, var_list) -> None:
        """Makes weights their average at the end of `fit`, for every block's optimizer."""
        for block, each in zip(self._blocks, self.of_blocks, strict=True):
            with tf.device(block.device):
                each.finalize_variable_values(block.trainable_variables)

    def save_own_variables(self, store) -> None:
        """Nothing: the blocks' optimizers are saved as its children."""

    def load_own_variables(self, store) -> None:
        """Nothing, see `save_own_variables`."""

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        if self.leader is None:
            return {"optimizers": [serialize(each) for each in self.of_blocks], "name": self.name}
        loss_scale = keras.optimizers.LossScaleOptimizer
        scaled = [isinstance(each, loss_scale) for each in self.of_blocks]
        return {"leader": serialize(self.leader), "scaled": scaled, "name": self.name}

    @classmethod
    def from_config(cls, config: dict, custom_objects=None) -> BlockOptimizer:
        def load(each):
            return keras.saving.deserialize_keras_object(each, custom_objects=custom_objects)

        if "leader" in config:
            return cls.following(load(config["leader"]), config["scaled"], name=config["name"])
        return cls([load(each) for each in config["optimizers"]], name=config["name"])


def block_optimizers(
    given: Any,
    blocks: Sequence[Block],
    present: keras.optimizers.Optimizer | None,
    auto_scale: bool,
) -> keras.optimizers.Optimizer:
    """What `compile` makes of the optimizer that it is given.

    Args:
        given: an optimizer, its name, or a list with one a block.
        blocks: from the input up.
        present: the model's optimizer until now; a second `compile` with its leader keeps it, with
            all that it has learnt.
        auto_scale: whether blocks that compute in float16 scale their losses.

    Returns:
        The user's own optimizer for one block; else a `BlockOptimizer`.

    Raises:
        UserError: if a list does not have K optimizers, or one cannot be made once more.
    """
    if isinstance(given, list | tuple):
        each = [keras.optimizers.get(one) for one in given]
        if len(each) != len(blocks):
            raise UserError(
                f"optimizer must hold one for each of the {len(blocks)} blocks. "
                f"Received: {len(each)}"
            )
        given = BlockOptimizer(each) if len(each) > 1 else each[0]
    if len(blocks) == 1:
        return given
    if not isinstance(given, BlockOptimizer):
        given = keras.optimizers.get(given)
        if isinstance(present, BlockOptimizer) and given is present.leader:
            given = present
        else:
            scaled = [auto_scale and block.in_half_precision for block in blocks]
            given = BlockOptimizer.following(given, scaled)
    given.attach(blocks)
    return given
