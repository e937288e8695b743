r"""Predicted against measured: speed-up of K blocks on K one-core devices.

Usage: python benchmarks/check_predictions.py [--turns 6] [--blocks 2]
           [--backbones equal16,resnet18,vgg11]

Every turn measures, in a process each and with one thread an operation: end-to-end training on one
core, lockstep and pipelined training of K blocks on K devices (`benchmarks/decoupled.py`, which
says how they take turns); and the parts of the same network on one core, from which the same
three are predicted. Target: predicted speed-ups within 10 per cent of the measured ones,
medians of the turns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import sys

import decoupled

from sedona_tf.environment.kernels import usable_cores

NAMES = ("lockstep", "pipelined")


def print_predictions(arguments) -> None:
    """Measures a network's parts on one core, and prints predicted seconds a step, in turns."""
    decoupled.keep_to(decoupled.allowed_cores()[:1])
    from sedona_tf.auxiliary import Candidate
    from sedona_tf.profile.measure import measure_costs
    from sedona_tf.profile.predict import end_to_end, predict

    backbone = decoupled.build(arguments.child, arguments.width)
    cuts = decoupled.CUTS[arguments.child, arguments.blocks]["mlp_sr"]

    def turn() -> dict:
        costs = measure_costs(backbone, [Candidate("mlp_sr")], arguments.batch)
        blocks = costs.blocks(cuts, (0,) * len(cuts))
        steps = {name: predict(blocks, arguments.batch, name).step_s for name in NAMES}
        return {"end_to_end_1": end_to_end(costs).seconds} | steps

    decoupled.take_turns(turn)


def main() -> None:
    """Measures, predicts and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--backbones", default="equal16,resnet18,vgg11")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=2, choices=[2, 4])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print_predictions(arguments)
        return
    arguments.what, arguments.auxiliary, arguments.device = "speed", "mlp_sr", "CPU:0"
    result: dict = {"machine": f"{platform.machine()}, {usable_cores()} cores"}
    for backbone in arguments.backbones.split(","):
        turns = []
        command = [__file__, "--child", backbone, "--batch", str(arguments.batch)]
        command += ["--width", str(arguments.width), "--blocks", str(arguments.blocks)]
        with (
            decoupled.contenders(("end_to_end_1", *NAMES), arguments, backbone) as children,
            contextlib.closing(decoupled.Child(f"predicting {backbone}", command)) as predictor,
        ):
            for _ in range(arguments.turns):
                measured = {name: child.turn()["step_s"] for name, child in children.items()}
                turns.append({"measured": measured, "predicted": predictor.turn()})
                print(backbone, turns[-1], file=sys.stderr, flush=True)
        result[backbone] = {"cut_after": decoupled.CUTS[backbone, arguments.blocks]["mlp_sr"]}
        for name in NAMES:
            speedups = {
                kind: decoupled.median(
                    [turn[kind]["end_to_end_1"] / turn[kind][name] for turn in turns]
                )
                for kind in ("measured", "predicted")
            }
            error = speedups["predicted"] / speedups["measured"] - 1
            result[backbone][name] = {**speedups, "error": round(error, 3)}
        ratios = [
            turn["predicted"]["end_to_end_1"] / turn["measured"]["end_to_end_1"] for turn in turns
        ]
        result[backbone]["end_to_end_step_predicted_of_measured"] = decoupled.median(ratios)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
