"""Which device each block lives on, and moving its variables there.

A device is a name of TensorFlow's: `CPU:1`, `GPU:0`, or, on another host that runs
`python -m sedona_tf.worker`, `/job:worker/task:1/device:CPU:0`. Nothing else tells one host from
several: TensorFlow's runtime moves the activations.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from sedona_tf.errors import UserError

__all__ = ["assign_devices", "device_spec", "exists", "make_cpu_devices", "move", "spread"]

MOST = 64
"""Logical CPU devices that are made at most; further names are then found not to exist."""


def make_cpu_devices(count: int) -> None:
    """Makes so many logical devices, `CPU:0` and so on, of this process' CPU.

    Call it at a program's start, before TensorFlow makes its first tensor. `choose_kernels` divides
    the cores among the devices.

    Args:
        count: of devices; at most `MOST` are made.

    Raises:
        UserError: if TensorFlow has been used and has other devices.
    """
    try:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * min(count, MOST),
        )
    except RuntimeError as error:
        raise UserError(
            f"{count} CPU devices must be made before TensorFlow is first used: {error}"
        ) from error


def assign_devices(devices: str | Sequence[str], num_blocks: int) -> list[str]:
    """The device of each block; neighbouring blocks share one where there are fewer devices.

    Args:
        devices: `"auto"`: all GPUs if there is one, else all logical CPUs, of the workers if this
            process is connected to any (see `connect`); or names.
        num_blocks: K.

    Returns:
        K names.

    Raises:
        UserError: if a device does not exist.

    Example:
        >>> assign_devices(["CPU:0"], 2)
        ['CPU:0', 'CPU:0']
    """
    known = [device.name for device in tf.config.list_logical_devices()]
    if isinstance(devices, str):
        if devices != "auto":
            devices = devices.split(",")
        else:
            on = [name for name in known if name.startswith("/job:worker/")] or known
            found = [[name for name in on if f":{kind}:" in name] for kind in ("GPU", "CPU")]
            devices = found[0] or found[1]
    devices = [name.strip() for name in devices]
    if not devices or not all(devices):
        raise UserError("devices must name at least one device. Received: none")
    full = {_full(name) for name in known}
    for name in devices:
        if _full(name) not in full:
            raise UserError(
                f"device '{name}' does not exist. There are: {', '.join(sorted(known))}. Call "
                "sedona_tf.make_cpu_devices at a program's start to make several of one CPU."
            )
    return [devices[index] for index in spread(num_blocks, len(devices))]


def spread(num_blocks: int, num_devices: int) -> list[int]:
    """Each block's device, from 0: neighbours share one where there are fewer devices than blocks.

    Example:
        >>> spread(4, 2), spread(2, 4)
        ([0, 0, 1, 1], [0, 1])
    """
    used = min(num_devices, num_blocks)
    return [index * used // num_blocks for index in range(num_blocks)]


def device_spec(name: str) -> tf.DeviceSpec:
    """The parts of a device's name, this process' job, host and task where it does not say.

    Raises:
        UserError: if it is no name of a device.

    Example:
        >>> device_spec("GPU:1").device_type, device_spec("/job:worker/task:0/device:CPU:0").job
        ('GPU', 'worker')
    """
    try:
        spec = tf.DeviceSpec.from_string(name if name.startswith("/") else f"/device:{name}")
    except ValueError as error:
        raise UserError(f"'{name}' is not the name of a device: {error}") from error
    here = tf.DeviceSpec.from_string("/job:localhost/replica:0/task:0")
    return here.make_merged_spec(spec)


def exists(name: str) -> bool:
    """Whether this process has a device of that name."""
    known = {_full(device.name) for device in tf.config.list_logical_devices()}
    return _full(name) in known


def _full(name: str) -> str:
    """A device's name with job, host and task, as a variable gives it."""
    return device_spec(name).to_string()


def move(variables: Sequence[keras.Variable], device: str) -> None:
    """Moves variables to a device, in place: whoever shares them goes on sharing them.

    Keras gives a variable no way to move, so the tensor behind it is made anew; functions traced
    before would go on with the old one.
    """
    there = _full(device)
    for variable in variables:
        value = variable.value
        if _full(value.device or "CPU:0") == there:
            continue
        with tf.device(device):
            variable._value = tf.Variable(
                tf.identity(value),
                dtype=value.dtype,
                trainable=value.trainable,
                name=value.name.split(":")[0],
            )
        # Optimizers know a variable by this: one that has trained it already goes on doing so.
        variable.value._unique_id = value._unique_id
