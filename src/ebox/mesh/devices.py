"""Which devices work, and the mesh that they form. An absent device is an error with a remedy; there is no fallback."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ebox.errors import InputError, install_command
from ebox.settings.reading import ParallelConfig
from ebox.workers.processes import MeetingError

# The axis `data` has two levels: nodes, and the devices of a node. Both together are the data axis.
NODE_AXIS, DEVICE_AXIS = "node", "device"
DATA_AXIS = (NODE_AXIS, DEVICE_AXIS)
Tree = TypeVar("Tree")


def find_devices(config: ParallelConfig) -> list[jax.Device]:
    """Return the devices of all processes that the settings ask for, all of one platform, process by process.

    Raises:
        InputError: the platform is absent, or has fewer devices than the settings ask for.
    """
    devices = _all_devices(config.platform)
    if config.platform == "auto" and devices[0].platform == "cpu" and is_gpu_visible():
        warnings.warn(
            f"this machine has an NVIDIA GPU, but this JAX can't use it, so the CPU is used; {_describe_remedy('gpu')}",
            RuntimeWarning,
            stacklevel=2,
        )
    groups: dict[int, list[jax.Device]] = {}
    for device in sorted(devices, key=lambda device: (device.process_index, device.id)):
        groups.setdefault(device.process_index, []).append(device)
    fewest = min(len(group) for group in groups.values())
    wanted = fewest if config.devices is None else config.devices
    if wanted > fewest:
        raise InputError(
            f"parallel.devices asks for {wanted} devices, and there are {fewest} of platform {devices[0].platform!r}",
            remedy=_more_devices(devices[0].platform, wanted),
        )
    return [device for group in groups.values() for device in group[:wanted]]


def find_local_devices(config: ParallelConfig) -> list[jax.Device]:
    """Return the devices of `find_devices` that belong to this process."""
    return [device for device in find_devices(config) if device.process_index == jax.process_index()]


def make_mesh(devices: Sequence[jax.Device], node_devices: int | None = None) -> Mesh:
    """Arrange the devices on the axis `data`, with one row for each node.

    Args:
        devices: The devices that work, in the order of their shares of a batch.
        node_devices: How many devices a node has; None: those of one process are a node.

    Raises:
        InputError: the devices can't be cut into nodes of that size.
    """
    processes = len({device.process_index for device in devices})
    size = len(devices) // processes if node_devices is None else node_devices
    if len(devices) % size:
        raise InputError(
            f"{len(devices)} devices can't be cut into nodes of {size}",
            remedy="set parallel.node_devices to a divisor of the number of devices",
        )
    return Mesh(np.array(devices).reshape(-1, size), DATA_AXIS)


def is_gpu_visible() -> bool:
    """Whether the operating system shows an NVIDIA GPU, with or without a JAX that can use it."""
    return Path("/dev/nvidia0").exists() or Path("/proc/driver/nvidia/version").exists()


def _all_devices(platform: Literal["auto", "cpu", "gpu", "tpu"]) -> list[jax.Device]:
    try:
        return jax.devices() if platform == "auto" else jax.devices(platform)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        if jax.distributed.is_initialized() and "UNAVAILABLE" in reason:
            # The processes of a group tell each other their devices; one of them is gone, and has said why.
            raise MeetingError(f"another process of the group is gone: {reason}") from None
        name = "nothing" if platform == "auto" else f"no {platform.upper()}"
        problem = f"{name} that JAX can use was found: {reason}"
        raise InputError(problem, remedy=_describe_remedy(platform)) from None


def _describe_remedy(platform: str) -> str:
    """How the devices of a platform are got."""
    if platform == "gpu":
        return f"install the CUDA build of JAX with `{install_command('cuda')}`, and see `ebox doctor`"
    if platform == "tpu":
        return f"on a TPU machine, `{install_command('tpu')}`, and see `ebox doctor`"
    return "unset JAX_PLATFORMS, or let it contain cpu"


def _more_devices(platform: str, wanted: int) -> str:
    if platform == "cpu":
        return (
            "a CPU counts as one device that uses all cores; "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={wanted} "
            "splits it, for testing"
        )
    return "ask for fewer, or see `ebox doctor` for what is there"


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Put a copy of every array on every device of the mesh; every process has a copy of the same values.

    It goes through NumPy, since a put may alias its source, and donating one would then delete the other.
    """
    return put(tree, NamedSharding(mesh, PartitionSpec()))


def put(tree: Tree, sharding: NamedSharding) -> Tree:
    """Make global arrays from this process's part of them: its rows of a sharded axis, all of a replicated array."""
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.array(leaf)), tree)


def choose_convolution(platform: str) -> Literal["winograd", "native"]:
    """Tiles and columns on CPU, the compiler's own convolution elsewhere; they differ only by rounding."""
    return "winograd" if platform == "cpu" else "native"
