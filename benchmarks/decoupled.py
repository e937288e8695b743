r"""Speed and memory of decoupled training against end to end.

Usage: python benchmarks/decoupled.py speed [--turns 6] [--blocks 2]
       python benchmarks/decoupled.py memory [--turns 6] [--device GPU:0 --width 64 --batch 512]

speed: a residual network of 16 equal units, cut into K blocks of equal cost, batch 128, 32x32.
    The cuts are closed by DGL's nets, or by separable ones (--auxiliary), which cost about a unit.
    end_to_end_1, end_to_end_all: Keras fit on one core and on K; pipelined, lockstep: K devices of
    one process, one thread an operation; workers: K servers on loopback, one core each.
    Targets for K = 2: workers at least 1.8 and pipelined at least 1.6 times end_to_end_1; pipelined
    at least as fast as end_to_end_all.
memory: peak memory; K = 4 in lockstep on one device, cut where memory balances, against end to end
    at the same batch, for the same network and for ResNet-50; and end to end with
    keras.layers.BatchNormalization, which keeps more than ours. `memory_ratio` is of all that
    training takes beyond the built model, on a CPU tracing and kernels' code included;
    `activations_ratio` of what a batch of two images does not take yet. Target: at most 0.4, at the
    same speed.

Every configuration is a process of its own. All of them are made ready first and then take turns of
a few steps, since the speed of a shared machine drifts within minutes; ratios are of one turn.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

from sedona_tf.environment.kernels import choose_kernels, usable_cores

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
choose_kernels()

READY = "ready"


def configurations(blocks: int) -> dict[str, dict]:
    """What the contenders are: so many blocks, a core allowed to each, or four on one device."""
    cores = allowed_cores()[:blocks]
    devices = [f"CPU:{index}" for index in range(blocks)]
    split = {"blocks": blocks, "cores": cores}
    return {
        "end_to_end_1": {"blocks": 1, "cores": cores[:1]},
        "end_to_end_all": {"blocks": 1, "cores": cores},
        "pipelined": {**split, "devices": devices},
        "lockstep": {**split, "devices": devices, "schedule": "lockstep"},
        "workers": {**split, "workers": True},
        "end_to_end": {"blocks": 1, "cores": cores},
        "keras_end_to_end": {"blocks": 1, "cores": cores, "keras": True},
        "four_blocks": {"blocks": 4, "cores": cores, "schedule": "lockstep"},
    }


# Of the equal net where time balances, the net at the cut included; of the others evenly, and of
# ResNet-50 where memory balances: its activations are larger at the bottom.
CUTS = {
    ("equal16", 2): {"mlp_sr": (8,), "separable": (7,)},
    ("resnet18", 2): dict.fromkeys(("mlp_sr", "separable"), (4,)),
    ("vgg11", 2): dict.fromkeys(("mlp_sr", "separable"), (4,)),
    ("equal16", 4): dict.fromkeys(("mlp_sr", "separable"), (4, 8, 12)),
    ("resnet18", 4): dict.fromkeys(("mlp_sr", "separable"), (2, 4, 6)),
    ("vgg11", 4): dict.fromkeys(("mlp_sr", "separable"), (2, 4, 6)),
    ("resnet50", 4): dict.fromkeys(("mlp_sr", "separable"), (1, 3, 7)),
}


def build(name: str, width: int = 16):
    """The benchmark's backbone."""
    import keras

    from sedona_tf import backbones
    from sedona_tf.backbones.backbone import Backbone
    from sedona_tf.backbones.part import build_part
    from sedona_tf.backbones.resnet import _Unit

    if name != "equal16":
        return backbones.build(name, (32, 32, 3), 10, width=width)
    units, shape = [], (32, 32, 3)
    for index in range(16):
        unit = _Unit(width, 1, False, width, None if units else "small")
        units.append(build_part(f"unit_{index + 1}", shape, unit))
        shape = units[-1].output_shape[1:]

    def head(x):
        return keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x))

    return Backbone(units, build_part("head", shape, head), narrow_auxiliary=False, name=name)


def held_mb(device: str) -> float:
    """MB that this process has taken and not given back, or that it held at most of a GPU."""
    if "GPU" in device:
        return peak_mb(device)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_mb(device: str) -> float:
    """MB that this process held at most so far, of a GPU or in resident memory."""
    if "GPU" in device:
        import tensorflow as tf

        return tf.config.experimental.get_memory_info(device)["peak"] / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def keep_to(cores: Sequence[int], threads: int = 1) -> None:
    """Keeps this process, before TensorFlow is imported, to some cores and off all GPUs.

    Args:
        cores: as many operations run at once.
        threads: of an operation.
    """
    os.sched_setaffinity(0, cores)
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
    os.environ["TF_NUM_INTEROP_THREADS"] = str(len(cores))
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def allowed_cores() -> list[int]:
    """Cores that this process may run on."""
    return sorted(os.sched_getaffinity(0))


def child(arguments) -> None:
    """Trains one configuration; prints its figures whenever it is asked for a turn."""
    settings = configurations(arguments.blocks)[arguments.child]
    devices = settings.get("devices", [arguments.device])
    if "GPU" not in arguments.device:
        threads = len(settings["cores"]) // len(devices) if not settings.get("workers") else 1
        keep_to(settings["cores"], max(threads, 1))
    import keras
    import tensorflow as tf

    from sedona_tf import decouple, plans
    from sedona_tf.backbones import resnet

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * len(devices),
    )
    if settings.get("workers"):
        from sedona_tf.cluster import connect

        devices = connect(arguments.cluster)
    keras.utils.set_random_seed(0)
    if settings.get("keras"):
        from keras_twins import keras_normalization

        resnet.BatchNormalization = keras_normalization
    backbone = build(arguments.backbone, arguments.width)
    blocks = settings["blocks"]
    cuts = CUTS[arguments.backbone, blocks][arguments.auxiliary] if blocks > 1 else ()
    depth = {"depth": 1} if arguments.auxiliary == "separable" else {}
    auxiliary = ({"kind": arguments.auxiliary, **depth},) * len(cuts)
    decoupling = plans.Decoupling(backbone.name, len(backbone.units), cuts, auxiliary)
    model = decouple(
        backbone, decoupling, devices=devices, schedule=settings.get("schedule", "pipelined")
    )
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))

    def fit(steps: int, batch: int) -> float:
        """Seconds a step, once every block has work: without filling and draining the pipeline."""
        ends = []

        def tick(_, logs) -> None:
            if len(ends) in (blocks - 1, blocks - 1 + steps):
                float(logs["loss"])  # a GPU's queue is done
            ends.append(time.perf_counter())

        clock = keras.callbacks.LambdaCallback(on_train_batch_end=tick)
        images = tf.random.stateless_normal((batch, 32, 32, 3), (0, 1))
        labels = tf.random.stateless_uniform((batch,), (0, 2), maxval=10, dtype=tf.int32)
        # Autotuning would sleep at the end of the data, up to as long as the whole run.
        options = tf.data.Options()
        options.autotune.enabled = False
        data = (
            tf.data.Dataset.from_tensors((images, labels))
            .repeat(steps + blocks)
            .with_options(options)
        )
        model.fit(data, verbose=0, shuffle=False, callbacks=[clock])
        return (ends[-1] - ends[-1 - steps]) / steps

    before = held_mb(arguments.device)
    if arguments.what == "memory":
        fit(1, 2)
    traced = held_mb(arguments.device)
    fit(2, arguments.batch)

    def turn() -> dict:
        seconds = fit(arguments.steps, arguments.batch)
        peak = peak_mb(arguments.device)
        figures = {"above_start_mb": peak - before, "activations_mb": peak - traced}
        return {"step_s": seconds, "peak_mb": peak} | figures

    take_turns(turn)


def take_turns(turn: Callable[[], dict]) -> None:
    """In a child: says that it is ready, then prints a turn's figures for every line it reads."""
    print(READY, flush=True)
    for _ in sys.stdin:
        print(json.dumps(turn()), flush=True)


class Child:
    """A process that does what it is for in turns; see `take_turns`."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self._line(READY)

    def turn(self) -> dict:
        """Figures of one turn."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self._line("{"))

    def close(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    def _line(self, start: str) -> str:
        for line in self.process.stdout:
            if line.startswith(start):
                return line
        self.errors.seek(0)
        raise SystemExit(f"{self.name} failed:\n{self.errors.read()[-2000:]}")


@contextlib.contextmanager
def contenders(names: Sequence[str], arguments, backbone: str) -> Iterator[dict[str, Child]]:
    """Configurations by name, ready to train in turns."""
    with contextlib.ExitStack() as stack:
        found = {}
        for name in names:
            command = [__file__, arguments.what, "--child", name, "--backbone", backbone]
            command += ["--batch", str(arguments.batch), "--steps", str(arguments.steps)]
            command += ["--auxiliary", arguments.auxiliary, "--width", str(arguments.width)]
            command += ["--blocks", str(arguments.blocks), "--device", arguments.device]
            if name == "workers":
                command += ["--cluster", stack.enter_context(workers(arguments.blocks))]
            found[name] = stack.enter_context(contextlib.closing(Child(name, command)))
        yield found


@contextlib.contextmanager
def workers(count: int) -> Iterator[str]:
    """Addresses of workers on loopback, one core each."""
    ports = [free_port() for _ in range(count)]
    command = [sys.executable, "-m", "sedona_tf.worker"]
    started = [
        subprocess.Popen(
            ["taskset", "-c", str(core), *command, f"--port={port}"],
            env=os.environ
            | dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")
            | {"CUDA_VISIBLE_DEVICES": "-1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for core, port in zip(allowed_cores(), ports, strict=False)
    ]
    try:
        time.sleep(15)
        yield ",".join(f"127.0.0.1:{port}" for port in ports)
    finally:
        for worker in started:
            worker.kill()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        return each.getsockname()[1]


def median(values: list[float]) -> float:
    """Rounded to three places."""
    return round(statistics.median(values), 3)


def ratio(turns: list[dict], base: str, field: str) -> float:
    """Median of four blocks' figures, of those of `base`."""
    return median([turn["four_blocks"][field] / turn[base][field] for turn in turns])


def main() -> None:
    """Measures and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["speed", "memory"])
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--auxiliary", default="mlp_sr", choices=["mlp_sr", "separable"])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--backbone", default="equal16", help=argparse.SUPPRESS)
    parser.add_argument("--blocks", type=int, default=2, choices=[2, 4], help="speed: K")
    parser.add_argument("--device", default="CPU:0", help="memory: where, CPU:0 or GPU:0")
    parser.add_argument("--backbones", default="equal16,resnet50", help="memory: of which networks")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--cluster", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    if arguments.what == "speed" and len(allowed_cores()) < arguments.blocks:
        parser.error(f"{arguments.blocks} blocks need as many cores")
    result: dict = {"machine": f"{platform.machine()}, {usable_cores()} cores"}
    if arguments.what == "speed":
        names = ["end_to_end_1", "end_to_end_all", "lockstep", "pipelined", "workers"]
        turns = []
        with contenders(names, arguments, "equal16") as children:
            for _ in range(arguments.turns):
                turns.append({name: child.turn()["step_s"] for name, child in children.items()})
                print(turns[-1], file=sys.stderr, flush=True)
        result["step_s"] = {name: median([turn[name] for turn in turns]) for name in names}
        for name, base in (
            ("workers", "end_to_end_1"),
            ("pipelined", "end_to_end_1"),
            ("lockstep", "end_to_end_1"),
            ("pipelined", "end_to_end_all"),
        ):
            ratios = [turn[base] / turn[name] for turn in turns]
            result[f"{name}_over_{base}"] = {
                "median": median(ratios),
                "range": [round(min(ratios), 3), round(max(ratios), 3)],
            }
    else:
        names = ["four_blocks", "end_to_end", "keras_end_to_end"]
        for backbone in arguments.backbones.split(","):
            with contenders(names, arguments, backbone) as children:
                turns = [
                    {name: child.turn() for name, child in children.items()}
                    for _ in range(arguments.turns)
                ]
            result[backbone] = {
                f"{name}_{unit}": median([turn[name][field] for turn in turns])
                for unit, field in (("mb", "above_start_mb"), ("step_s", "step_s"))
                for name in names
            }
            for base in names[1:]:
                result[backbone][f"of_{base}"] = {
                    "memory_ratio": ratio(turns, base, "above_start_mb"),
                    "activations_ratio": ratio(turns, base, "activations_mb"),
                    "step_ratio": ratio(turns, base, "step_s"),
                }
            print(result, file=sys.stderr, flush=True)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
