"""Which row of the hardware table a device is, by the name that JAX gives it; a name that is not listed is no row."""

from __future__ import annotations

# As JAX prints `device_kind`: NVIDIA's product names, and the names of libtpu.
KINDS = {
    "Tesla T4": "T4",
    "NVIDIA L4": "L4",
    "NVIDIA L40S": "L40S",
    "Tesla V100-PCIE-16GB": "V100-PCIe-16GB",
    "NVIDIA A100-SXM4-40GB": "A100-40GB-SXM",
    "NVIDIA A100-SXM4-80GB": "A100-80GB-SXM",
    "NVIDIA H100 PCIe": "H100-80GB-PCIe",
    "NVIDIA H100 80GB HBM3": "H100-80GB-SXM",
    "NVIDIA H200": "H200-SXM",
    "NVIDIA B200": "B200-SXM",
    "TPU v2": "TPU-v2",
    "TPU v3": "TPU-v3",
    "TPU v4": "TPU-v4",
    "TPU v5 lite": "TPU-v5e",
    "TPU v5e": "TPU-v5e",
    "TPU v5": "TPU-v5p",
    "TPU v5p": "TPU-v5p",
    "TPU v6 lite": "TPU-v6e",
    "TPU v6e": "TPU-v6e",
}


def find_hardware(device_kind: str) -> str | None:
    """The name in the hardware table, such as `H200-SXM`; None for a processor, and for what is not listed."""
    return KINDS.get(device_kind)
