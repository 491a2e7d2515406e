"""Facts about devices that are not here: memory, peak speeds, power, the slices on offer. No prices."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from ebox.settings.fields import Settings

Platform = Literal["tpu", "cuda", "cpu"]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
DATA = Path(__file__).parent / "data"


class Hardware(Settings):
    """A kind of device: a GPU, a TPU chip, or a machine of processors. Its row stands in `data/hardware.toml`."""

    model_config = ConfigDict(strict=True)

    name: str = Field(description="what prices and profiles call it")
    platform: Platform = Field(description="tpu, cuda or cpu")
    chip: str | None = Field(None, description="its name in a topology, such as v5e")
    skypilot: str | None = Field(None, description="its name in SkyPilot")
    skypilot_cores: Count = Field(1, description="cores of a chip, where SkyPilot counts cores in the name of a slice")
    num_cores: Count | None = Field(None, description="virtual cores of the machine, of processors")
    memory_bytes: Count | None = Field(None, description="of one device")
    memory_bytes_per_second: Positive | None = Field(None, description="between the device and its memory")
    bf16_flops: Positive | None = Field(None, description="dense bfloat16 operations a second, at peak")
    fp32_flops: Positive | None = Field(None, description="float32 operations a second, at peak")
    watts: Positive | None = Field(None, description="power of one device")
    watts_kind: Literal["thermal_design", "measured_mean", "unpublished"] = Field(
        "unpublished", description="what the power is: the most by design, or a mean under load"
    )
    link_bytes_per_second: Positive | None = Field(None, description="between devices of one machine or slice")
    source: str = Field(description="where the figures are from")
    note: str = Field("", description="what else to know")
    unverified: tuple[str, ...] = Field((), strict=False, description="figures that no page confirmed")


@cache
def read_table(name: str) -> Mapping[str, Any]:
    """A table that comes with ebox, as plain values that nobody may change."""
    return tomllib.loads((DATA / name).read_text(encoding="utf-8"))


HARDWARE = {name: Hardware(name=name, **facts) for name, facts in read_table("hardware.toml")["hardware"].items()}


@dataclass(frozen=True)
class Chip:
    """One accelerator that ebox can compile for, as its maker states it.

    A GB is counted as 1e9 bytes, which errs on the safe side.

    Args:
        name: Its name in a topology: `v5e`, `h100`.
        platform: What compiles for it.
        memory_bytes: Memory of one chip; None: it uses that of the host.
        peak_flops: Dense bfloat16 operations per second of one chip.
        memory_bytes_per_second: Speed between the chip and its memory.
    """

    name: str
    platform: Platform
    memory_bytes: int | None = None
    peak_flops: float | None = None
    memory_bytes_per_second: float | None = None


_NAMED = {facts.chip: facts for facts in HARDWARE.values() if facts.chip is not None}
CHIPS = {
    name: Chip(name, facts.platform, facts.memory_bytes, facts.bf16_flops, facts.memory_bytes_per_second)
    for name, facts in ((name, _NAMED[name]) for name in ("v4", "v5e", "v5p", "v6e", "h100", "a100"))
} | {"cpu": Chip("cpu", "cpu")}

# Slices that Cloud TPU offers, up to 256 chips. v4 and v5p are cut from cubes of 4x4x4, so larger ones are whole cubes.
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8")
_SQUARES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
SLICES = {"v4": _CUBES, "v5p": _CUBES, "v5e": _SQUARES, "v6e": _SQUARES}

GPUS_PER_HOST = 8
MOST_CHIPS = 4096

# Facts about a GPU by which XLA's compiler chooses kernels, in the text form of its GpuTargetConfigProto.
_GPU_FACTS = {
    "h100": (132, 128, 233_472, 232_448, 3_352_320_000_000, 52_428_800, 1.98, 84_978_434_048, 9, "H100 80GB HBM3"),
    "a100": (108, 64, 167_936, 166_912, 2_039_040_000_000, 41_943_040, 1.41, 85_100_068_864, 8, "A100-SXM4-80GB"),
}


def describe_gpu(name: str) -> str:
    """The compiler's description of a GPU that isn't here.

    Both GPUs have 64 k registers and 2,048 threads in each core; the rest differs.
    """
    cores, lanes, shared, shared_most, bandwidth, cache, clock, memory, capability, full_name = _GPU_FACTS[name]
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: {shared_most}
  shared_memory_per_core: {shared}
  core_count: {cores}
  fpus_per_core: {lanes}
  memory_bandwidth: {bandwidth}
  l2_cache_size: {cache}
  clock_rate_ghz: {clock}
  device_memory_size: {memory}
  cuda_compute_capability {{ major: {capability} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "NVIDIA {full_name}"
"""
