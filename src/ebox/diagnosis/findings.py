"""What this machine has, what is missing, and the command that installs it."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ebox.errors import install_command

if TYPE_CHECKING:
    from ebox.diagnosis.preflight import PreflightResult
    from ebox.planning.examination import TopologyResult

State = Literal["ok", "missing", "warning"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor: what was checked, what was found, what to do."""

    topic: str
    state: State
    found: str
    remedy: str | None = None


@dataclass(frozen=True)
class DoctorResult:
    """All findings, in reading order, with what a training would take; or the findings on a topology."""

    findings: tuple[Finding, ...]
    topology: TopologyResult | None = None
    training: PreflightResult | None = None

    @property
    def healthy(self) -> bool:
        """Whether training can run here, or on the chips of the topology."""
        if self.topology is not None:
            return self.topology.fits
        return all(finding.state != "missing" for finding in self.findings if finding.topic in {"JAX", "devices"})


EXTRAS = {
    "pyjaspar": ("the whole of JASPAR by id", "jaspar"),
    "modiscolite": ("motif discovery", "explain"),
    "libtpu": ("TPUs", "tpu"),
    "ray": ("Ray clusters", "cluster"),
}


def look_around() -> tuple[Finding, ...]:
    """The findings on this machine."""
    import psutil

    from ebox.workers.machine import PACKAGES, count_cores, find_cpu_name, find_versions

    memory = psutil.virtual_memory()
    versions = ", ".join(f"{name} {version}" for name, version in find_versions(PACKAGES).items())
    return (
        _look_at_python(),
        Finding("packages", "ok", versions),
        Finding("processor", "ok", f"{find_cpu_name()}, {count_cores()} cores for this process"),
        Finding(
            "memory",
            "ok" if memory.available > 2**31 else "warning",
            f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free",
            None if memory.available > 2**31 else "ebox needs 2 GiB free for a data set of a million examples",
        ),
        _look_at_disk(),
        *_look_at_devices(),
        *_look_at_extras(),
    )


def _look_at_python() -> Finding:
    import platform

    from ebox.version import __version__

    return Finding("ebox", "ok", f"{__version__} on Python {platform.python_version()}, {platform.platform()}")


def _look_at_disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    if free < 1.0:
        return Finding("disk", "warning", f"{free:.2f} GiB free here", "free some space, or use another disk")
    return Finding("disk", "ok", f"{free:.0f} GiB free here")


def _look_at_devices() -> list[Finding]:
    """The devices that JAX can use, and a GPU that it can't use."""
    import jax

    from ebox.mesh.devices import is_gpu_visible

    try:
        devices = jax.local_devices()
    except RuntimeError as error:
        return [Finding("devices", "missing", str(error).splitlines()[0], "unset JAX_PLATFORMS, or install JAX again")]
    kinds = sorted({device.device_kind for device in devices})
    findings = [Finding("devices", "ok", f"{len(devices)} x {', '.join(kinds)} ({devices[0].platform})")]
    if devices[0].platform == "cpu" and is_gpu_visible():
        findings.append(
            Finding("GPU", "warning", "an NVIDIA GPU is here that this JAX can't use", install_command("cuda"))
        )
    elif devices[0].platform == "cpu":
        findings.append(Finding("GPU", "ok", "none on this machine; training runs on the CPU"))
    return findings


def _look_at_extras() -> list[Finding]:
    findings = []
    for module, (purpose, extra) in EXTRAS.items():
        present = importlib.util.find_spec(module) is not None
        found = f"{module} is installed" if present else f"not installed; needed only for {purpose}"
        remedy = None if present else install_command(extra)
        findings.append(Finding(purpose, "ok" if present else "warning", found, remedy))
    return findings
