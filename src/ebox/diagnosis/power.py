"""Power and energy where the machine tells them: NVIDIA's library for its GPUs, the RAPL files of Linux for processors.

What can't be read is None; nothing is estimated from data sheets. A reader counts joules from its start; a `Recorder`
asks it every tenth of a second, because counters begin anew at their end and powers have to be added up.
"""

from __future__ import annotations

import abc
import importlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, final

from ebox.planning.profiles import Spread

POWERCAP = Path("/sys/class/powercap")
EVERY_SECONDS = 0.1
# Counters are renewed every few milliseconds (RAPL) to a tenth of a second (NVML): shorter windows would show that.
WINDOW_SECONDS = 0.5
# Dies whose counters, read one after the other, are this near have one counter: it holds many times that since boot.
MIRRORED_UJ = 1_000_000


class Reader(abc.ABC):
    """Joules that something has used since the reader was made."""

    source: Literal["nvml", "rapl"]
    covers: Literal["devices", "processors"]

    @abc.abstractmethod
    def joules(self) -> float:
        """Joules until now; it has to be asked more often than a counter begins anew."""


@final
class RaplReader(Reader):
    """The counters of the processor packages, in microjoules (Linux, powercap); they begin anew at their range.

    A package holds its cores and their graphics, so zones inside a package are not added to it. Counters that are
    there twice count once: `intel-rapl-mmio` reads the same packages another way, and on some AMD processors every die
    shows the counter of its whole package.

    Args:
        zones: A folder for each package.
    """

    source, covers = "rapl", "processors"

    def __init__(self, zones: Sequence[Path]) -> None:
        self._zones = list(zones)
        self._ranges = [_read_number(zone / "max_energy_range_uj") for zone in zones]
        self._last = [_read_number(zone / "energy_uj") for zone in zones]
        self._sum = 0

    @classmethod
    def find(cls, root: Path = POWERCAP) -> RaplReader | None:
        """A reader of all packages; None where there are none, or where this user may not read them."""
        zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if _is_package(zone)]
        try:
            return cls(_drop_mirrored(zones)) if zones else None
        except (OSError, ValueError):
            return None

    def joules(self) -> float:
        """Joules of all packages."""
        now = [_read_number(zone / "energy_uj") for zone in self._zones]
        for new, old, most in zip(now, self._last, self._ranges, strict=True):
            self._sum += new - old if new >= old else new + most - old
        self._last = now
        return self._sum / 1e6


@final
class NvmlReader(Reader):
    """The counters of GPUs in millijoules, or where a GPU has none (before Volta) its powers, added up.

    Args:
        library: The module `pynvml`, initialised.
        handles: A handle for each GPU.
        clock: Seconds, for powers.
    """

    source, covers = "nvml", "devices"

    def __init__(self, library: Any, handles: Sequence[Any], clock: Callable[[], float] = time.perf_counter) -> None:
        self._library, self._handles, self._clock = library, list(handles), clock
        self._sum, self._at, self._watts = 0.0, clock(), 0.0
        self._start = self._read_counters()
        if self._start is None:
            self._watts = self._read_watts()

    @classmethod
    def find(cls, gpus: Sequence[str]) -> NvmlReader | None:
        """A reader of GPUs by number or UUID; None without the library, without a GPU, or where nothing is told."""
        try:
            library = importlib.import_module("pynvml")
        except ImportError:
            return None
        try:
            library.nvmlInit()
            handles = [_find_handle(library, gpu) for gpu in gpus]
            return cls(library, handles) if handles else None
        except (library.NVMLError, ValueError):
            return None

    def joules(self) -> float:
        """Joules of all GPUs."""
        if self._start is not None:
            now = self._read_counters()
            assert now is not None
            return now - self._start
        now_at, watts = self._clock(), self._read_watts()
        self._sum += (now_at - self._at) * (watts + self._watts) / 2
        self._at, self._watts = now_at, watts
        return self._sum

    def _read_counters(self) -> float | None:
        try:
            return float(sum(self._library.nvmlDeviceGetTotalEnergyConsumption(one) for one in self._handles)) / 1e3
        except self._library.NVMLError_NotSupported:
            return None

    def _read_watts(self) -> float:
        return float(sum(self._library.nvmlDeviceGetPowerUsage(one) for one in self._handles)) / 1e3


def find_reader(platform: str, gpus: Sequence[str], root: Path = POWERCAP) -> Reader | None:
    """What tells the energy of the devices of a platform of JAX; None: not readable here.

    Args:
        platform: `gpu`, `cpu` or `tpu`, as JAX names it.
        gpus: The GPUs that compute, as CUDA_VISIBLE_DEVICES names them.
        root: The folder of the powercap files.
    """
    if platform == "gpu":
        return NvmlReader.find(gpus)
    return RaplReader.find(root) if platform == "cpu" else None


def find_driver() -> str | None:
    """The version of NVIDIA's driver, by its library or the file of its kernel module; None: there is none."""
    try:
        library = importlib.import_module("pynvml")
        library.nvmlInit()
        return str(library.nvmlSystemGetDriverVersion())
    except Exception:  # noqa: BLE001 - the library is absent or finds no driver, each with its own errors
        pass
    file = Path("/proc/driver/nvidia/version")
    words = file.read_text(encoding="utf-8", errors="replace").split() if file.is_file() else []
    return next((word for word in words if word.replace(".", "").isdigit() and "." in word), None)


@dataclass(frozen=True)
class EnergyUsed:
    """What was used: joules, seconds, and the power of each window of half a second or more."""

    joules: float
    seconds: float
    watts: tuple[float, ...]

    @property
    def spread(self) -> Spread:
        """The power over the windows."""
        return Spread.of(list(self.watts))


@final
class Recorder:
    """Records the energy while a `with` block runs; without a reader it records nothing.

    Args:
        reader: What tells the joules; None: not readable here.
        every_seconds: Time between two readings.
    """

    def __init__(self, reader: Reader | None, every_seconds: float = EVERY_SECONDS) -> None:
        self._reader, self._every = reader, every_seconds
        self._readings: list[tuple[float, float]] = []
        self._stop, self._thread = threading.Event(), threading.Thread(target=self._record, daemon=True)

    def __enter__(self) -> Recorder:
        if self._reader is not None:
            self._read()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is not None:
            self._stop.set()
            self._thread.join()
            self._read()

    def _record(self) -> None:
        while not self._stop.wait(self._every):
            self._read()

    def _read(self) -> None:
        assert self._reader is not None
        joules = self._reader.joules()
        self._readings.append((time.perf_counter(), joules))

    @property
    def energy(self) -> EnergyUsed | None:
        """What the block used; None without a reader."""
        if len(self._readings) < 2:
            return None
        (began, first), (ended, last) = self._readings[0], self._readings[-1]
        marks = [self._readings[0]]
        for reading in self._readings[1:]:
            # The last window is no shorter than the others.
            if reading[0] - marks[-1][0] >= WINDOW_SECONDS and ended - reading[0] >= WINDOW_SECONDS:
                marks.append(reading)
        marks.append(self._readings[-1])
        watts = tuple(max(0.0, after[1] - before[1]) / (after[0] - before[0]) for before, after in pairwise(marks))
        return EnergyUsed(last - first, ended - began, watts)


def _is_package(zone: Path) -> bool:
    """Whether a zone is a whole processor: `intel-rapl:0`, and not a zone inside it, `intel-rapl:0:1`, or psys."""
    name = zone / "name"
    try:
        return zone.name.count(":") == 1 and name.read_text(encoding="utf-8").strip().startswith("package")
    except OSError:
        return False


def _drop_mirrored(zones: Sequence[Path]) -> list[Path]:
    """The zones without dies whose counter is that of another die of their package, such as `package-0-die-1`."""
    kept: list[tuple[str, int, Path]] = []
    for zone in zones:
        package = (zone / "name").read_text(encoding="utf-8").strip().partition("-die-")[0]
        energy = _read_number(zone / "energy_uj")
        if not any(package == other and abs(energy - counted) < MIRRORED_UJ for other, counted, _ in kept):
            kept.append((package, energy, zone))
    return [zone for *_, zone in kept]


def _read_number(file: Path) -> int:
    return int(file.read_text(encoding="utf-8"))


def _find_handle(library: Any, gpu: str) -> Any:
    if gpu.startswith("GPU-"):
        return library.nvmlDeviceGetHandleByUUID(gpu)
    return library.nvmlDeviceGetHandleByIndex(int(gpu))
