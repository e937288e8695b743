r"""Cost of a hypergradient step against ordinary training steps of the same supernet.

Usage: python benchmarks/hypergradient.py [--backbone resnet18] [--batch 32] [--inner_steps 5]

Memory by T: for T in 1 5 20; do python benchmarks/hypergradient.py --only_hypergradient \
    --inner_steps $T --repeats 1; done
Deep: python benchmarks/hypergradient.py --backbone resnet152 --batch 8 --validation_batch 8 \
    --only_hypergradient --repeats 1

Targets (ResNet-18, width 16, 32x32, 4 candidates, batch 32, validation batch 128, T = 5): at most
20 training steps; a training step at most 0.75 of one with keras.layers.BatchNormalization. The
variants take turns in one process; figures are medians of warm steps, ratios of the same turns.
On a machine with a GPU they run on it; CUDA_VISIBLE_DEVICES=-1 hides it.
A first step, tracing included, under 60 s; aims: 3.5 s a step, 2.2 GB after the first.
ResNet-152 at T = 5 inside 20 GB and 10 minutes. Memory grows with T only by the states.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time

from sedona_tf.environment.kernels import choose_kernels, usable_cores

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
choose_kernels()

import numpy as np
import tensorflow as tf
from decoupled import peak_mb
from keras_twins import keras_normalization, keras_pointwise_pool

from sedona_tf import backbones
from sedona_tf.auxiliary import candidates_from, separable
from sedona_tf.backbones import resnet, vgg
from sedona_tf.search.field import State, relaxed_field
from sedona_tf.search.hypergradient import hypergradient
from sedona_tf.search.inner_optimizer import InnerOptimizer
from sedona_tf.search.supernet import Supernet


def supernet(arguments, of_keras: bool = False) -> Supernet:
    """The benchmark's supernet, or its twin with keras.layers.BatchNormalization."""
    if of_keras:
        for module in (resnet, vgg, separable):
            module.BatchNormalization = keras_normalization
        separable.PointwisePool = keras_pointwise_pool
    backbone = backbones.build(arguments.backbone, (32, 32, 3), 10, width=arguments.width)
    candidates = candidates_from([{"kind": "separable", "depth": m} for m in (1, 2, 3, 4)])
    return Supernet(backbone, candidates, smoothing=0.1)


def timed(function) -> float:
    """Seconds until the function's first result is there."""
    start = time.perf_counter()
    tf.nest.flatten(function())[0].numpy()
    return time.perf_counter() - start


def main() -> None:
    """Measures and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--validation_batch", type=int, default=128)
    parser.add_argument("--inner_steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only_hypergradient", action="store_true", help="no Keras twin: memory")
    arguments = parser.parse_args()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    steps, batch, valid = arguments.inner_steps, arguments.batch, arguments.validation_batch
    x = tf.random.stateless_normal((steps, batch, 32, 32, 3), (0, 1))
    y = tf.random.stateless_uniform((steps, batch), (0, 2), maxval=10, dtype=tf.int32)
    x_valid = tf.random.stateless_normal((valid, 32, 32, 3), (0, 3))
    y_valid = tf.random.stateless_uniform((valid,), (0, 4), maxval=10, dtype=tf.int32)

    def functions(net: Supernet):
        cuts = net.num_units - 1
        p, b = tf.fill((cuts,), 0.5), tf.fill((cuts, 4), 0.25)
        seeds = tuple(tf.convert_to_tensor(seed.value) for seed in net.seeds)
        state = State(net.weights.read(), net.statistics.read(), seeds)
        velocity = tf.zeros_like(state.weights)
        optimizer = InnerOptimizer()

        @tf.function(autograph=False)
        def train():
            field = relaxed_field(net, state, p, b, x[0], y[0])
            return optimizer.step(state.weights, velocity, field.gradients, 0.01), field.statistics

        @tf.function(autograph=False)
        def hyper():
            return hypergradient(
                net, optimizer, state, velocity, p, b, (x, y), (x_valid, y_valid), 0.01
            )

        return train, hyper

    device = "GPU:0" if tf.config.list_physical_devices("GPU") else "CPU:0"
    ours = functions(supernet(arguments))
    result = {
        "machine": f"{platform.machine()}, {usable_cores()} cores",
        "tensorflow": tf.__version__,
        **vars(arguments),
        "first_hypergradient_s": timed(ours[1]),
        "peak_memory_mb": peak_mb(device),
    }
    if arguments.only_hypergradient:
        seconds = [timed(ours[1]) for _ in range(arguments.repeats)]
        result["hypergradient_s"] = float(np.median(seconds))
        result["peak_memory_mb"] = peak_mb(device)
    if not arguments.only_hypergradient:
        theirs, _ = functions(supernet(arguments, of_keras=True))
        result["first_training_step_s"] = timed(ours[0])
        timed(theirs)
        rows = np.array(
            [[timed(ours[0]), timed(theirs), timed(ours[1])] for _ in range(arguments.repeats)]
        )
        result["training_step_s"], result["keras_training_step_s"], result["hypergradient_s"] = (
            np.median(rows, axis=0).tolist()
        )
        result["training_step_of_keras"] = float(np.median(rows[:, 0] / rows[:, 1]))
        result["hypergradient_of_training_step"] = float(np.median(rows[:, 2] / rows[:, 0]))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
