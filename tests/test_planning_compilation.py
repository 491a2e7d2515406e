"""The real train step compiled ahead of time: here for CPU devices, and for TPUs and GPUs that nobody has."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

from ebox.diagnosis.findings import DoctorResult
from ebox.errors import InputError
from ebox.mesh.devices import make_mesh
from ebox.models.architectures import build_model
from ebox.models.network import count_parameters
from ebox.models.normalisation import GATHERED_DEVICES
from ebox.planning.compilation import ChipMemory, CompilationResult, StepShape, compile_train_step
from ebox.planning.examination import TopologyNote, TopologyResult, examine_topology
from ebox.planning.hardware import SLICES
from ebox.planning.isolation import compile_for_topology
from ebox.planning.topologies import parse_topology
from ebox.reporting.languages import english
from ebox.settings.reading import Config, read_config
from ebox.storage.notes import note
from ebox.training.step import NUM_SIGNALS
from ebox.verbs.doctor import describe_topology

SHAPE = StepShape(length_bp=200, num_tracks=1, chunk_steps=16)
SMALL = (
    "model.architecture=motif",
    "model.num_filters=8",
    "model.batch_norm=false",
    "train.batch_size=16",
)

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed: the extra tpu brings it (no TPU is needed)",
)
needs_cuda_compiler = pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda13_plugin") is None,
    reason="the CUDA compiler is not installed: pip install --no-deps jax-cuda13-plugin jax-cuda13-pjrt "
    "of the version of jax (no GPU is needed)",
)


@cache
def compiled(name: str, *overrides: str) -> CompilationResult:
    return compile_for_topology(parse_topology(name), read_config(overrides=overrides), SHAPE)


def exchanged(result: CompilationResult) -> int:
    return sum(one.num_bytes for one in result.collectives if one.in_step)


def parameters(config: Config) -> int:
    return count_parameters(build_model(config.model, SHAPE.num_tracks, SHAPE.length_bp, np.random.default_rng(0)))


def check_exact_exchange(result: CompilationResult) -> None:
    """Without batch statistics, only the gradient travels in a step; losses and signals once a dispatch."""
    (reduction,) = (one for one in result.collectives if one.in_step)
    assert (reduction.kind, reduction.dtype, reduction.group_size) == ("all-reduce", "f32", result.num_chips)
    assert reduction.num_bytes == result.gradient_bytes
    seldom = [one for one in result.collectives if not one.in_step]
    assert {one.kind for one in seldom} == {"all-reduce"}
    assert sum(one.num_bytes for one in seldom) == 4 * (2 * SHAPE.chunk_steps + NUM_SIGNALS)


def check_real_step(result: CompilationResult, memory_bytes: int) -> None:
    """The default network: one all-reduce carries the gradient, and little else is exchanged."""
    assert result.num_parameters == 198_337
    assert result.gradient_bytes == 4 * 198_337
    # Few chips gather the moments of all; many meet in sums.
    kinds = {"all-reduce", "all-gather"} if result.num_chips <= GATHERED_DEVICES else {"all-reduce"}
    assert {one.kind for one in result.collectives} == kinds
    assert {one.dtype for one in result.collectives} == {"f32"}
    assert all(one.group_size == result.num_chips for one in result.collectives)
    largest = max(one.largest_bytes for one in result.collectives)
    assert largest == pytest.approx(result.gradient_bytes, rel=1e-3)
    # The rest: moments for batch normalisation forward, which grow with the chips that gather them, and sums back.
    statistics = 0.01 * (1 + min(result.num_chips, GATHERED_DEVICES)) * result.gradient_bytes
    assert result.gradient_bytes < exchanged(result) < result.gradient_bytes + statistics
    assert 0 < result.memory.total < memory_bytes
    # It is planned to hold the state with its two moments and its average.
    assert result.memory.arguments > 4 * result.gradient_bytes


@pytest.mark.parametrize("devices", [2, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 8))])
def test_the_exchange_on_cpu_devices_is_the_gradient_in_float32(devices: int):
    config = read_config(overrides=SMALL)
    result = compile_train_step(make_mesh(jax.local_devices()[:devices]), config, SHAPE)
    assert result.num_parameters == parameters(config)
    assert result.gradient_bytes == 4 * parameters(config)
    assert (result.num_chips, result.batch_per_chip, result.precision) == (devices, 16 // devices, "float32")
    if devices == 1:
        assert exchanged(result) <= result.gradient_bytes
    else:
        check_exact_exchange(result)


@pytest.mark.slow
def test_operations_fall_with_the_share_of_a_chip():
    config = read_config(overrides=SMALL)
    one, two = (compile_train_step(make_mesh(jax.local_devices()[:count]), config, SHAPE) for count in (1, 2))
    assert one.flops is not None
    assert two.flops is not None
    assert one.flops / two.flops == pytest.approx(2.0, rel=0.1)
    # The first layer alone: 2 operations for each weight, place and example, forward and for its own gradient.
    assert one.flops > 2 * 2 * 16 * 200 * 15 * 4 * 8


@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_padded_and_said():
    result = examine_topology("cpu:3", config=read_config(overrides=SMALL))
    assert result.compilation.batch_per_chip == 6
    notes = [english.say(note) for note in result.notes]
    assert any("leaves 2 of 18 places empty" in note and "train.batch_size=18" in note for note in notes)
    assert any("--for" in note for note in notes)
    assert result.fits
    assert result.least_seconds is None
    check_exact_exchange(result.compilation)
    assert result.sent_bytes == pytest.approx(result.exchanged_bytes * 4 / 3)


@pytest.mark.slow
def test_facts_come_back_from_json_unchanged():
    result = compiled("cpu:2", *SMALL)
    assert CompilationResult.from_facts(result.facts()) == result


@pytest.mark.slow
def test_a_step_larger_than_a_chip_is_said_not_to_fit():
    memory = ChipMemory(arguments=15 * 10**9, outputs=3 * 10**9, shared=2 * 10**9, temporaries=2 * 10**8, code=0)
    compilation = replace(compiled("cpu:2", *SMALL), memory=memory)
    assumed = note(TopologyNote.ASSUMED_DATA, {"length_bp": 200})
    result = TopologyResult(parse_topology("v5e:2x2"), compilation, 200, (assumed,))
    assert memory.total == 16_200_000_000
    assert not result.fits
    assert not DoctorResult((), result).healthy
    words = describe_topology(result)
    assert "101.25% of 16 GB: DOES NOT FIT" in words
    assert "note: examples of 200 bp and one track were assumed" in words
    assert TopologyResult(parse_topology("v6e:2x2"), compilation, 200, ()).fits
    # The roofline is the slower of computing and of moving bytes.
    compute, moving = (replace(compilation, flops=flops, accessed_bytes=8.19e8) for flops in (1.97e12, 1e6))
    times = [replace(result, compilation=one).least_seconds for one in (compute, moving)]
    assert times == pytest.approx([1e-2, 1e-3])


def test_too_short_sequences_are_refused_from_the_other_process():
    with pytest.raises(InputError, match="shorter than the first layer needs"):
        compile_for_topology(parse_topology("cpu:2"), Config(), StepShape(10, 1, 4))


def test_a_compilation_that_takes_too_long_is_ended():
    began = time.monotonic()
    with pytest.raises(InputError, match=r"took longer than 0.5 s"):
        compile_for_topology(parse_topology("cpu:2"), Config(), SHAPE, timeout_seconds=0.5)
    assert time.monotonic() - began < 5.0


def test_a_missing_compiler_is_named_before_anything_runs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name, package in (("v5e:4x4", r"-m pip install 'jax\[tpu\]>="), ("h100:8", "jax-cuda13-plugin")):
        with pytest.raises(InputError, match=package):
            examine_topology(name, Path("no such dataset"))


@needs_libtpu
@pytest.mark.slow
def test_a_small_step_compiles_for_a_tpu_with_the_exact_exchange():
    result = compiled("v5e:2x2", *SMALL)
    check_exact_exchange(result)
    assert (result.device_kind, result.num_chips, result.num_hosts) == ("TPU v5 lite", 4, 1)
    assert result.precision == "bfloat16"
    assert result.gradient_bytes == compiled("cpu:2", *SMALL).gradient_bytes


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "hosts"),
    [
        ("v4:2x2x1", 1),
        ("v4:4x8x8", 64),
        ("v5e:2x2", 1),
        ("v5e:4x4", 4),
        ("v5e:8x16", 32),
        ("v5e:16x16", 64),
        ("v5p:2x2x1", 1),
        ("v5p:4x8x8", 64),
        ("v6e:2x2", 1),
        ("v6e:16x16", 64),
    ],
)
def test_the_real_step_compiles_for_tpus_exchanges_its_gradient_and_fits(name: str, hosts: int):
    topology = parse_topology(name)
    result = compiled(name, f"train.batch_size={64 * topology.num_chips}")
    assert topology.chip.memory_bytes is not None
    check_real_step(result, topology.chip.memory_bytes)
    assert (result.num_chips, result.num_hosts, result.batch_per_chip) == (topology.num_chips, hosts, 64)
    # 3.8 GFLOP for 64 examples of 200 bp, whatever the chip.
    assert result.flops == pytest.approx(3.88e9, rel=0.03)


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("name", [f"{kind}:{shape}" for kind in SLICES for shape in SLICES[kind]])
def test_every_slice_that_is_suggested_compiles(name: str):
    topology = parse_topology(name)
    result = compiled(name, *SMALL)
    assert result.num_chips == topology.num_chips
    if result.num_chips > 1:
        check_exact_exchange(result)


@needs_libtpu
@pytest.mark.slow
def test_a_step_that_no_chip_can_hold_is_refused_with_the_compilers_words():
    with pytest.raises(InputError, match=r"doesn't fit the memory of a chip.*exceeds available"):
        compiled("v5e:1x1", "train.batch_size=1000000")


@needs_cuda_compiler
@pytest.mark.slow
def test_a_small_step_compiles_for_gpus_with_the_exact_exchange():
    result = compiled("h100:4", *SMALL)
    check_exact_exchange(result)
    assert "H100" in result.device_kind
    assert result.flops_from == "program"


@needs_cuda_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "hosts"), [("h100:1", 1), ("h100:8", 1), ("h100:16", 2), ("h100:256", 32), ("a100:8", 1)]
)
def test_the_real_step_compiles_for_gpus_exchanges_its_gradient_and_fits(name: str, hosts: int):
    topology = parse_topology(name)
    result = compiled(name, f"train.batch_size={64 * topology.num_chips}")
    assert topology.chip.memory_bytes is not None
    assert result.num_hosts == hosts
    # 64 examples are convolved by columns there, which takes a little more than the compilers' own convolutions.
    assert result.flops == pytest.approx(3.93e9, rel=0.03)
    if topology.num_chips > 1:
        check_real_step(result, topology.chip.memory_bytes)


@pytest.mark.slow
def test_planning_uses_the_shapes_of_the_dataset(tmp_path: Path):
    from ebox.datasets.build import build_dataset
    from ebox.datasets.sources import DatasetSources

    generator = np.random.default_rng(0)
    letters = np.array(list("ACGT"))
    for name in ("positives", "negatives"):
        rows = ("".join(letters[generator.integers(0, 4, 60)]) for _ in range(120))
        (tmp_path / f"{name}.fa").write_text("".join(f">{name}{place}\n{row}\n" for place, row in enumerate(rows)))
    negatives = (tmp_path / "negatives.fa",)
    build_dataset(
        Config().data, tmp_path / "data", DatasetSources(positives=tmp_path / "positives.fa", negatives=negatives)
    )
    result = examine_topology("cpu:2", tmp_path / "data", read_config(overrides=SMALL))
    assert result.length_bp == 60
    assert not any("--for" in english.say(note) for note in result.notes)
    with pytest.raises(InputError, match="no such dataset folder"):
        examine_topology("cpu:2", tmp_path / "none", read_config(overrides=SMALL))
