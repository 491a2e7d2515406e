"""Energy of fake counters: RAPL files as Linux writes them, and a fake of NVIDIA's library."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ebox.diagnosis.power import NvmlReader, RaplReader, Recorder, find_driver, find_reader

RANGE_UJ = 1_000_000


def make_zone(root: Path, name: str, says: str, energy: int = 0) -> Path:
    zone = root / name
    zone.mkdir(parents=True)
    (zone / "name").write_text(f"{says}\n")
    (zone / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (zone / "energy_uj").write_text(f"{energy}\n")
    return zone


@contextmanager
def burning(watts: Callable[[float], float], write: Callable[[float], None]) -> Iterator[Callable[[], float]]:
    """Write the joules of a power over time; yields what tells the exact integral until now."""
    began, stop = time.perf_counter(), threading.Event()
    joules, last = 0.0, began

    def step() -> None:
        nonlocal joules, last
        now = time.perf_counter()
        joules += (now - last) * (watts(last - began) + watts(now - began)) / 2
        last = now
        write(joules)

    def work() -> None:
        while not stop.wait(0.001):
            step()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield lambda: joules
    finally:
        stop.set()
        thread.join()


def wave(seconds: float) -> float:
    return 20.0 + 10.0 * math.sin(9.0 * seconds)


def write_whole(file: Path, text: str) -> None:
    """As the kernel: a reader sees the old or the new number."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.rename(file)


def test_recorded_energy_is_the_integral_of_the_power_through_the_ends_of_the_counter(tmp_path: Path):
    zone = make_zone(tmp_path, "intel-rapl:0", "package-0")
    reader = RaplReader.find(tmp_path)
    assert reader is not None
    ends = 0

    def write(joules: float) -> None:
        nonlocal ends
        ends = int(joules * 1e6) // RANGE_UJ
        write_whole(zone / "energy_uj", f"{int(joules * 1e6) % RANGE_UJ}\n")

    with burning(wave, write) as integral:
        begun = integral()
        with Recorder(reader, 0.005) as recorder:
            time.sleep(0.7)
        burnt = integral() - begun
    used = recorder.energy
    assert used is not None
    assert ends >= 10
    assert used.joules == pytest.approx(burnt, rel=0.05)
    assert used.joules / used.seconds == pytest.approx(used.spread.median, rel=0.05)


def test_packages_are_added_and_zones_inside_them_are_not(tmp_path: Path):
    packages = [make_zone(tmp_path, f"intel-rapl:{number}", f"package-{number}") for number in range(2)]
    others = [make_zone(tmp_path, "intel-rapl:0:0", "core"), make_zone(tmp_path, "intel-rapl:2", "psys")]
    (tmp_path / "intel-rapl").mkdir()
    reader = find_reader("cpu", [], tmp_path)
    assert isinstance(reader, RaplReader)
    for zone, energy in zip((*packages, *others), (300_000, 200_000, 90_000, 900_000), strict=True):
        (zone / "energy_uj").write_text(str(energy))
    assert reader.joules() == pytest.approx(0.5)
    (packages[0] / "energy_uj").write_text("100000")
    assert reader.joules() == pytest.approx(0.5 + 0.8)


def test_a_package_that_is_there_twice_counts_once(tmp_path: Path):
    msr = make_zone(tmp_path, "intel-rapl:0", "package-0", 5_000)
    mmio = make_zone(tmp_path, "intel-rapl-mmio:0", "package-0", 4_000)
    reader = RaplReader.find(tmp_path)
    assert reader is not None
    (msr / "energy_uj").write_text("305000")
    (mmio / "energy_uj").write_text("304000")
    assert reader.joules() == pytest.approx(0.3)


def test_dies_with_the_counter_of_their_package_count_once_and_dies_with_their_own_are_added(tmp_path: Path):
    energies = {"package-0-die-0": 7e9, "package-0-die-1": 7e9 + 900, "package-1-die-0": 7e9, "package-1-die-1": 2e9}
    zones = [
        make_zone(tmp_path, f"intel-rapl:{number}", name, int(energy))
        for number, (name, energy) in enumerate(energies.items())
    ]
    reader = RaplReader.find(tmp_path)
    assert reader is not None
    for zone, energy in zip(zones, energies.values(), strict=True):
        (zone / "energy_uj").write_text(str(int(energy) + 100_000))
    assert reader.joules() == pytest.approx(0.3)


@pytest.mark.parametrize("state", ["absent", "empty", "unreadable"])
def test_counters_that_can_not_be_read_are_none_and_not_guessed(tmp_path: Path, state: str):
    if state == "unreadable":
        (make_zone(tmp_path, "intel-rapl:0", "package-0") / "energy_uj").unlink()
    root = tmp_path / "absent" if state == "absent" else tmp_path
    assert find_reader("cpu", [], root) is None
    with Recorder(None) as recorder:
        pass
    assert recorder.energy is None


class FakeError(Exception):
    """An error of the library."""


class FakeNotSupportedError(FakeError):
    """The GPU has no such counter."""


def make_library(read_joules: Callable[[str], float] | None, read_watts: Callable[[str], float]) -> Any:
    """A `pynvml` with two GPUs; without joules, as before Volta."""

    def energy(handle: str) -> int:
        if read_joules is None:
            raise FakeNotSupportedError
        return int(read_joules(handle) * 1e3)

    def by_index(index: int) -> str:
        if index > 1:
            raise FakeError("no such GPU")
        return f"GPU-{index}"

    return SimpleNamespace(
        NVMLError=FakeError,
        NVMLError_NotSupported=FakeNotSupportedError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=by_index,
        nvmlDeviceGetHandleByUUID=lambda name: name,
        nvmlDeviceGetTotalEnergyConsumption=energy,
        nvmlDeviceGetPowerUsage=lambda handle: int(read_watts(handle) * 1e3),
        nvmlSystemGetDriverVersion=lambda: "570.86",
    )


def test_counters_of_gpus_are_added_from_the_start_of_the_reader(monkeypatch: pytest.MonkeyPatch):
    joules = {"GPU-0": 5000.0, "GPU-1": 70.0}
    monkeypatch.setitem(sys.modules, "pynvml", make_library(lambda handle: joules[handle], lambda handle: 0.0))
    both, one = find_reader("gpu", ["0", "GPU-1"]), find_reader("gpu", ["1"])
    assert isinstance(both, NvmlReader)
    assert one is not None
    joules.update({"GPU-0": 5100.0, "GPU-1": 90.0})
    assert (both.joules(), one.joules()) == (pytest.approx(120.0), pytest.approx(20.0))
    assert find_driver() == "570.86"


def test_powers_are_integrated_where_a_gpu_counts_no_energy():
    now = 0.0
    library = make_library(None, lambda handle: wave(now))
    reader = NvmlReader(library, ["GPU-0"], clock=lambda: now)
    for number in range(1, 101):
        now = 0.02 * number
        found = reader.joules()
    assert found == pytest.approx(20.0 * 2.0 + 10.0 / 9.0 * (1.0 - math.cos(9.0 * 2.0)), rel=0.05)


def test_without_library_or_gpu_nothing_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pynvml", make_library(None, lambda handle: 0.0))
    assert find_reader("gpu", ["7"]) is None
    assert find_reader("gpu", []) is None
    assert find_reader("tpu", ["0"]) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_reader("gpu", ["0"]) is None
