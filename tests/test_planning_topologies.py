"""Topologies by name: what is read, what is refused, and what the refusal suggests."""

from __future__ import annotations

import math

import pytest

from ebox.errors import InputError
from ebox.planning.hardware import CHIPS, SLICES, describe_gpu
from ebox.planning.topologies import parse_topology, topology_environment


@pytest.mark.parametrize(
    ("name", "chip", "count"),
    [
        ("v5e:4x4", "v5e", 16),
        (" V4:2x2x1 ", "v4", 4),
        ("v5p:4x8x8", "v5p", 256),
        ("v5p:8x8x12", "v5p", 768),
        ("v6e:1x1", "v6e", 1),
        ("h100:8", "h100", 8),
        ("a100:64", "a100", 64),
        ("cpu:3", "cpu", 3),
    ],
)
def test_a_name_gives_the_chip_and_their_number(name: str, chip: str, count: int):
    topology = parse_topology(name)
    assert (topology.chip.name, topology.num_chips) == (chip, count)
    assert topology.name == name.strip().lower()


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("v5e", "v5e:4x4"),
        ("v5e:", "v5e:2x2"),
        ("v5e:4by4", "v5e:4x4"),
        ("v5e:2x8", "v5e:4x4"),
        ("v5e:0x4", "v5e:2x2"),
        ("v5e:32x32", "v5e:16x16"),
        ("v4:4x4", "v4:2x2x4"),
        ("v4:4x4x6", "multiples of 4"),
        ("v5litepod-16", "v5e:4x4"),
        ("v4-8", "v4:2x2x1"),
        ("v6e-256", "v6e:16x16"),
        ("h10:8", "'h100'"),
        ("h100:12", "multiple of 8"),
        ("h100:2x4", "h100:8"),
        ("cpu:100000", "cpu:4"),
        ("", "v5e:4x4"),
    ],
)
def test_a_name_that_is_none_is_refused_with_one_that_is(name: str, suggestion: str):
    with pytest.raises(InputError) as refusal:
        parse_topology(name)
    assert refusal.value.remedy is not None
    assert suggestion in refusal.value.remedy


def test_every_slice_that_is_suggested_can_be_read():
    for kind, shapes in SLICES.items():
        sizes = [parse_topology(f"{kind}:{shape}").num_chips for shape in shapes]
        assert sizes == sorted(sizes)
        assert sizes[-1] == 256


def test_the_environment_keeps_libtpu_offline_and_drops_what_would_disturb():
    before = {"HOME": "/h", "XLA_FLAGS": "--wrong", "JAX_COMPILATION_CACHE_DIR": "/c", "JAX_PLATFORMS": "tpu"}
    environment = topology_environment(parse_topology("v4:2x2x2"), before)
    assert environment["TPU_SKIP_MDS_QUERY"] == "1"
    assert environment["TPU_LOG_DIR"] == "disabled"
    assert environment["TPU_ACCELERATOR_TYPE"] == "v4-16"
    assert (environment["HOME"], environment["JAX_PLATFORMS"], environment["XLA_FLAGS"]) == ("/h", "cpu", "")
    assert "JAX_COMPILATION_CACHE_DIR" not in environment
    assert topology_environment(parse_topology("v5e:4x4"), {})["TPU_ACCELERATOR_TYPE"] == "v5litepod-16"
    assert "device_count=6" in topology_environment(parse_topology("cpu:6"), before)["XLA_FLAGS"]


def test_peaks_and_memories_are_plausible():
    for chip in CHIPS.values():
        if chip.platform == "cpu":
            continue
        assert chip.peak_flops is not None
        assert chip.memory_bytes_per_second is not None
        assert chip.memory_bytes is not None
        # Operations that a byte from memory must serve: 100 to 600 for every accelerator of these years.
        assert 100 < chip.peak_flops / chip.memory_bytes_per_second < 600
        assert 16e9 <= chip.memory_bytes <= 100e9


@pytest.mark.parametrize("name", ["h100", "a100"])
def test_a_gpu_is_described_in_the_units_of_its_chip(name: str):
    lines = [line.split(":") for line in describe_gpu(name).splitlines() if line.count(":") == 1]
    facts = {key.strip(): value.strip() for key, value in lines}
    chip = CHIPS[name]
    assert chip.memory_bytes is not None
    assert chip.memory_bytes_per_second is not None
    assert math.isclose(int(facts["device_memory_size"]), chip.memory_bytes, rel_tol=0.08)
    assert math.isclose(int(facts["memory_bandwidth"]), chip.memory_bytes_per_second, rel_tol=0.01)
