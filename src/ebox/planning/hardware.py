"""Facts about accelerators that are not here: memory, peak speeds, the slices on offer. No prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Platform = Literal["tpu", "cuda", "cpu"]


@dataclass(frozen=True)
class Chip:
    """One accelerator, as its maker states it.

    TPU: the architecture pages of Cloud TPU (v4, v5e, v5p, v6e). A GB is counted as 1e9 bytes, which errs on the
    safe side. GPU: the data sheets of the SXM boards, and the device descriptions that XLA publishes for them.

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


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", "tpu", 32 * 10**9, 275e12, 1228e9),
        Chip("v5e", "tpu", 16 * 10**9, 197e12, 819e9),
        Chip("v5p", "tpu", 95 * 10**9, 459e12, 2765e9),
        Chip("v6e", "tpu", 32 * 10**9, 918e12, 1640e9),
        Chip("h100", "cuda", 80 * 10**9, 989e12, 3352e9),
        Chip("a100", "cuda", 80 * 10**9, 312e12, 2039e9),
        Chip("cpu", "cpu"),
    )
}

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
