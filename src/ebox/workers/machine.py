"""The machine and the software of a run, as facts to store with its results."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from ebox.version import __version__

if TYPE_CHECKING:
    import jax

PACKAGES = ("jax", "jaxlib", "equinox", "optax", "numpy", "polars", "safetensors", "scikit-learn", "pysam")


def describe_environment(devices: Sequence[jax.Device], command: Sequence[str]) -> dict[str, Any]:
    """List versions, devices, processor, memory and the command; no host name, no user name."""
    import jax

    return {
        "ebox": __version__,
        "python": platform.python_version(),
        "packages": find_versions(PACKAGES),
        "platform": f"{platform.system()} {platform.machine()}",
        "devices": [{"id": device.id, "kind": device.device_kind, "platform": device.platform} for device in devices],
        "num_processes": jax.process_count(),
        "cpu": find_cpu_name(),
        "num_cores": count_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "command": list(command),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def find_versions(packages: Sequence[str]) -> dict[str, str]:
    """The versions of those `packages` that are installed."""
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def count_cores() -> int:
    """The number of cores that this process may use."""
    return len(list_cores())


def list_cores() -> list[int]:
    """The cores that this process may use, by their numbers."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def find_cpu_name() -> str:
    """The processor's own name, if the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
