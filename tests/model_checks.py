"""What every decoupled model must hold to, on whatever it was built from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from sedona_tf import DecoupledModel
from sedona_tf.environment.process_settings import DECOUPLED_GRAPH_OPTIONS, process_settings


def values(variables) -> list[np.ndarray]:
    return [variable.numpy() for variable in variables]


def assert_equal(first, second) -> None:
    for mine, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def step_of(model: DecoupledModel, batch: tuple) -> Callable:
    """One training step, traced once.

    The batch's size is in the graph, so that TensorFlow could fold it into means, differently in
    the two schedules; recipes' data fix it too.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    specifications = [tf.TensorSpec(each.shape, each.dtype) for each in batch]
    function = tf.function(
        lambda *data: model.train_step(data), input_signature=specifications, autograph=False
    )

    def step(*data):
        with process_settings(graph_optimizer=DECOUPLED_GRAPH_OPTIONS):  # as `fit` does
            return function(*data)

    return step


def assert_no_gradient_passes_a_cut(model: DecoupledModel, images: tf.Tensor) -> None:
    """A block's logits depend on its own units' weights and on no others'.

    Changes the moving statistics.
    """
    sources = [
        [v.value for unit in b.units for v in unit.trainable_variables] for b in model.blocks
    ]
    with tf.GradientTape(persistent=True) as tape:
        logits = model.block_logits(images, training=True)
    for index, each in enumerate(logits):
        for other, gradients in enumerate(tape.gradient(each, sources)):
            assert all((g is None) == (other != index) for g in gradients)


def assert_learns_from_below_only(
    model: DecoupledModel, step: Callable, batch: tuple, index: int
) -> None:
    """A step changes every part, and other weights in block `index` change no block below it.

    Bit for bit, moving statistics and the optimizers' included; the model is then as it was.
    """
    state = [*model.variables, *model.optimizer.variables]
    start = values(state)
    parts = [part for block in model.blocks for part in block.parts]
    optimizers = getattr(model.optimizer, "of_blocks", [model.optimizer])

    def restart() -> None:
        for variable, value in zip(state, start, strict=True):
            variable.assign(value)

    def learnt(factor: float) -> list[list[np.ndarray]]:
        restart()
        for variable in model.blocks[index].trainable_variables:
            variable.assign(factor * variable)
        before = [values(part.trainable_variables) for part in parts]
        step(*batch)
        after = [values(part.trainable_variables) for part in parts]
        for old, new in zip(before, after, strict=True):
            assert any(np.any(mine != theirs) for mine, theirs in zip(old, new, strict=True))
        return [
            values([*block.variables, *optimizer.variables])
            for block, optimizer in zip(model.blocks, optimizers, strict=True)
        ]

    first, second = learnt(1.0), learnt(1.5)
    for mine, theirs in zip(first[:index], second[:index], strict=True):
        assert_equal(mine, theirs)
    restart()


def assert_pipelined_is_lockstep_delayed(
    lockstep: DecoupledModel, step: Callable, pipelined: DecoupledModel, batches: Sequence[tuple]
) -> None:
    """Bit for bit: after t steps block k has the weights that it has after t - k in lockstep.

    Args:
        lockstep: a model.
        step: its step.
        pipelined: its like, of the same weights.
        batches: of equal shapes.
    """
    history = [[values(block.variables) for block in lockstep.blocks]]
    for batch in batches:
        step(*batch)
        history.append([values(block.variables) for block in lockstep.blocks])
    run = step_of(pipelined, batches[0])
    for done, batch in enumerate(batches, 1):
        run(*batch)
        for delay, block in enumerate(pipelined.blocks):
            assert_equal(values(block.variables), history[max(done - delay, 0)][delay])
    pipelined.drain()
    assert_equal(values(pipelined.variables), values(lockstep.variables))
    assert_equal(values(pipelined.optimizer.variables), values(lockstep.optimizer.variables))
    assert not any(buffer.full.numpy() for buffer in pipelined.buffers)
