"""K optimizers behind the face of one."""

from __future__ import annotations

import keras
import pytest

from sedona_tf.decoupled import BlockOptimizer
from sedona_tf.decoupled.block_optimizer import clone_optimizer
from sedona_tf.errors import UserError


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
    with pytest.raises(UserError, match="no step of its own"):
        optimizer.apply([keras.ops.ones(1)], [weights[0]])


def test_settings_survive_the_config():
    rate = keras.optimizers.schedules.CosineDecay(0.1, 20)
    given = BlockOptimizer([keras.optimizers.SGD(rate, momentum=0.5)] * 2, name="both")
    found = BlockOptimizer.from_config(given.get_config())
    assert found.name == "both" and len(found.optimizers) == 2
    for one in (*found.optimizers, clone_optimizer(given.optimizers[0])):
        assert one.get_config() == given.optimizers[0].get_config()
        assert one is not given.optimizers[0]
    with pytest.raises(UserError, match="at least one optimizer"):
        BlockOptimizer([])
