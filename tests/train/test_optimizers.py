"""K optimizers behind the face of one."""

from __future__ import annotations

import keras
import pytest

from sedona_tf.errors import UserError
from sedona_tf.train.optimizers import BlockOptimizer, follower


def test_reads_the_last_and_sets_all():
    each = [keras.optimizers.SGD(rate, momentum=0.5) for rate in (0.25, 0.5)]
    optimizer = BlockOptimizer(each)
    weights = [keras.Variable([1.0]) for _ in each]
    for one, weight in zip(each, weights, strict=True):
        one.build([weight])
    each[1].apply([keras.ops.ones(1)], [weights[1]])
    assert int(optimizer.iterations) == 1 and int(each[0].iterations) == 0
    assert float(optimizer.learning_rate) == 0.5
    optimizer.learning_rate = 0.125
    assert [float(one.learning_rate) for one in each] == [0.125, 0.125]
    assert optimizer.variables == [*each[0].variables, *each[1].variables]
    with pytest.raises(UserError, match="step"):
        optimizer.apply([keras.ops.ones(1)], [weights[0]])


def test_settings_survive_the_config():
    rate = keras.optimizers.schedules.CosineDecay(0.1, 20)
    given = BlockOptimizer([keras.optimizers.SGD(rate, momentum=0.5)] * 2, name="both")
    found = BlockOptimizer.from_config(given.get_config())
    assert found.name == "both" and len(found.of_blocks) == 2
    for one in found.of_blocks:
        assert one.get_config() == given.of_blocks[0].get_config()
        assert one is not given.of_blocks[0]
    with pytest.raises(UserError, match="optimizer"):
        BlockOptimizer([])


class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule as in tutorials, which cannot be serialized."""

    def __call__(self, step):
        return 0.1 / (keras.ops.cast(step, "float32") + 1.0)


@pytest.mark.parametrize("rate", [0.1, Warmup(), lambda: 0.1])
def test_a_follower_has_the_settings_and_the_learning_rate_of_its_leader(rate):
    leader = keras.optimizers.AdamW(rate, weight_decay=0.5, beta_1=0.25)
    leader.exclude_from_weight_decay(var_names=["beta"])
    other = follower(leader)
    weights = [keras.Variable([1.0], name=name) for name in ("gamma", "beta")]
    plain = [keras.Variable([1.0], name=name) for name in ("gamma", "beta")]
    twin = keras.optimizers.AdamW(
        rate if not isinstance(rate, Warmup) else 0.1, weight_decay=0.5, beta_1=0.25
    )
    twin.exclude_from_weight_decay(var_names=["beta"])
    gradients = [keras.ops.ones(1), keras.ops.ones(1)]
    other.apply(gradients, weights)
    twin.apply(gradients, plain)
    for mine, theirs in zip(weights, plain, strict=True):
        assert float(mine[0]) == float(theirs[0])
    if isinstance(rate, Warmup):  # at the follower's own step
        assert float(other.learning_rate) == pytest.approx(0.05)
        assert float(leader.learning_rate) == pytest.approx(0.1)
    elif not callable(rate):
        leader.learning_rate.assign(0.0)
        assert float(other.learning_rate) == 0.0


def test_an_optimizer_that_has_no_config_is_refused_with_what_to_do():
    class Own(keras.optimizers.SGD):
        def __init__(self, network):
            super().__init__(0.1)

    with pytest.raises(UserError, match="one a block"):
        follower(Own(None))
