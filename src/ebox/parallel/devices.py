"""Which devices work, and the mesh that they form. Asked for what is absent: an error with the remedy, no fallback."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ebox.config import ParallelConfig
from ebox.errors import InputError

DATA_AXIS = "data"
Tree = TypeVar("Tree")

_INSTALL = {
    "gpu": 'install the CUDA build of JAX with `pip install "ebox[cuda]"`, and see `ebox doctor`',
    "tpu": 'on a TPU machine, install `pip install "ebox[tpu]"`, and see `ebox doctor`',
    "cpu": "unset JAX_PLATFORMS, or let it contain cpu",
}


def find_devices(config: ParallelConfig) -> list[jax.Device]:
    """Give the local devices that are to work, all of one platform.

    Raises:
        InputError: the platform asked for is absent, or has fewer devices than asked for.
    """
    devices = _all_devices(config.platform)
    if config.platform == "auto" and devices[0].platform == "cpu" and is_gpu_visible():
        warnings.warn(
            f"this machine has an NVIDIA GPU, but this JAX can't use it, so this is the CPU; {_INSTALL['gpu']}",
            RuntimeWarning,
            stacklevel=2,
        )
    wanted = len(devices) if config.devices is None else config.devices
    if wanted > len(devices):
        raise InputError(
            f"parallel.devices asks for {wanted} devices, and there are {len(devices)} of platform "
            f"{devices[0].platform!r}",
            remedy=_more_devices(devices[0].platform, wanted),
        )
    return devices[:wanted]


def make_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """Line the devices up on the axis `data`."""
    return Mesh(np.array(devices), (DATA_AXIS,))


def is_gpu_visible() -> bool:
    """Whether the operating system shows an NVIDIA GPU, with or without a JAX that can use it."""
    return Path("/dev/nvidia0").exists() or Path("/proc/driver/nvidia/version").exists()


def _all_devices(platform: Literal["auto", "cpu", "gpu", "tpu"]) -> list[jax.Device]:
    try:
        return jax.local_devices() if platform == "auto" else jax.local_devices(backend=platform)
    except RuntimeError as error:
        name = "JAX" if platform == "auto" else f"no {platform.upper()} that JAX"
        problem = f"{name} can use was found: {str(error).splitlines()[0]}"
        raise InputError(problem, remedy=_INSTALL["cpu" if platform == "auto" else platform]) from None


def _more_devices(platform: str, wanted: int) -> str:
    if platform == "cpu":
        return (
            "a CPU counts as one device that uses all cores; "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={wanted} "
            "splits it, for testing"
        )
    return "ask for fewer, or see `ebox doctor` for what is there"


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Put a copy of every array on every device of the mesh.

    Through NumPy, since a put may alias its source, and donating the one would then delete the other.
    """
    sharding = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: jax.device_put(np.array(leaf), sharding), tree)


def choose_convolution(platform: str) -> Literal["im2col", "native"]:
    """Columns and a matrix product on CPU, the compiler's own convolution elsewhere; equal to rounding."""
    return "im2col" if platform == "cpu" else "native"
