"""The real train step compiled ahead of time, for devices that may be absent, and what the compiler says of it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ebox.errors import InputError
from ebox.mesh.devices import DATA_AXIS, make_mesh
from ebox.models.architectures import build_model
from ebox.models.network import Network, is_trainable
from ebox.planning.programs import Collective, read_collectives
from ebox.settings.reading import Config
from ebox.training.augmentation import Partners
from ebox.training.batches import Chunk, Shares
from ebox.training.state import TrainState, make_hyperparameters
from ebox.training.step import NUM_SIGNALS, build_run_chunk, make_plan
from ebox.workers.machine import find_versions

if TYPE_CHECKING:
    from jax.stages import Compiled, Lowered

# Steps of the schedule, which is data of the step and does not change the program.
_ANY_STEPS = 100
_COMPILERS = ("jax", "jaxlib", "libtpu", "jax-cuda13-plugin", "jax-cuda12-plugin")


@dataclass(frozen=True)
class StepShape:
    """What the program depends on besides the settings: the length and tracks of examples, and steps per dispatch."""

    length_bp: int
    num_tracks: int
    chunk_steps: int


@dataclass(frozen=True)
class ChipMemory:
    """Bytes of one chip's memory, as the compiler planned them; `shared` is the outputs that reuse arguments."""

    arguments: int
    outputs: int
    shared: int
    temporaries: int
    code: int

    @property
    def total(self) -> int:
        """All that memory must hold at once; outputs that take over the memory of arguments count once."""
        return self.arguments + self.outputs - self.shared + self.temporaries + self.code


@dataclass(frozen=True)
class CompilationResult:
    """A compiled train step, and what it will need of each chip.

    Args:
        device_kind: The compiler's name for the chip.
        num_chips: Devices of the mesh.
        num_hosts: Machines that the devices belong to.
        batch_size: Examples in a step, by the settings.
        batch_per_chip: Places for examples on each chip, padding included.
        precision: Number type of the compute: `float32` or `bfloat16`.
        num_parameters: Trained numbers.
        gradient_bytes: Size of the gradient in float32.
        collectives: What passes between the chips, the largest first.
        memory: Memory of one chip.
        flops: Operations of one step on one chip.
        flops_from: `compiler`: counted in the compiled program. `program`: counted before compilation, where the
            compiler doesn't count (CUDA).
        accessed_bytes: Bytes moved between chip and memory in one step, by the compiler's count; None: not counted.
        lower_seconds: Time of tracing and lowering.
        compile_seconds: Time of compilation.
        versions: Versions of the compilers.
    """

    device_kind: str
    num_chips: int
    num_hosts: int
    batch_size: int
    batch_per_chip: int
    precision: str
    num_parameters: int
    gradient_bytes: int
    collectives: tuple[Collective, ...]
    memory: ChipMemory
    flops: float | None
    flops_from: Literal["compiler", "program"]
    accessed_bytes: float | None
    lower_seconds: float
    compile_seconds: float
    versions: dict[str, str]

    def facts(self) -> dict[str, Any]:
        """All fields in the form of JSON."""
        return asdict(self)

    @staticmethod
    def from_facts(facts: dict[str, Any]) -> CompilationResult:
        """Read it back from JSON."""
        collectives = tuple(Collective(**one) for one in facts["collectives"])
        return CompilationResult(**{**facts, "collectives": collectives, "memory": ChipMemory(**facts["memory"])})


def compile_train_step(mesh: Mesh, config: Config, shape: StepShape) -> CompilationResult:
    """Compile the train step of `config` for the devices of a mesh, from shapes alone.

    Args:
        mesh: A mesh of any devices, also those of a topology (`make_topology_mesh`).
        config: The settings, of which the sections model and train matter.
        shape: Length and tracks of the examples, and steps in a dispatch.

    Raises:
        InputError: the sequences are too short for the network, or the step needs more memory than a chip has.
    """
    platform = mesh.devices.flat[0].platform
    began = time.perf_counter()
    lowered = _lower(mesh, config, shape, platform)
    lowered_at = time.perf_counter()
    compiled = _compile(lowered)
    done = time.perf_counter()
    flops, flops_from, accessed = count_work(compiled, mesh, config, shape)
    trained = jax.tree.leaves(_abstract_weights(config, shape))
    batch = _shares(config, mesh).padded_batch_size
    return CompilationResult(
        device_kind=mesh.devices.flat[0].device_kind,
        num_chips=mesh.size,
        num_hosts=len({device.process_index for device in mesh.devices.flat}),
        batch_size=config.train.batch_size,
        batch_per_chip=batch // mesh.size,
        precision=jnp.dtype(make_plan(config, mesh, platform).schedule.pass_plan.dtype).name,
        num_parameters=sum(leaf.size for leaf in trained),
        gradient_bytes=sum(leaf.size * leaf.dtype.itemsize for leaf in trained),
        collectives=read_collectives(compiled.as_text() or ""),
        memory=read_memory(compiled),
        flops=flops,
        flops_from=flops_from,
        accessed_bytes=accessed,
        lower_seconds=lowered_at - began,
        compile_seconds=done - lowered_at,
        versions=find_versions(_COMPILERS),
    )


def _lower(mesh: Mesh, config: Config, shape: StepShape, platform: str) -> Lowered:
    """The step as the training loop builds it, with shapes instead of arrays; only this function knows how."""
    plan = make_plan(config, mesh, platform)
    run: Any = build_run_chunk(mesh, plan, shape.chunk_steps)
    state: TrainState = plan.schedule.start(_any_network(config, shape))
    everywhere, by_device = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(DATA_AXIS))
    placed = _place(state.with_carried(None), everywhere).with_carried(_place(state.carried, by_device))
    signals = jax.ShapeDtypeStruct((mesh.size, NUM_SIGNALS), jnp.float32, sharding=by_device)
    hyper = jax.eval_shape(lambda: make_hyperparameters(config.train, _ANY_STEPS, 1.0))
    count = jax.ShapeDtypeStruct((), jnp.int32)
    rows = (shape.chunk_steps, _shares(config, mesh).padded_batch_size)
    chunk = _place_chunk(mesh, rows, shape, has_partners=config.train.mixup_alpha > 0.0)
    lowered: Lowered = run.lower(placed, chunk, signals, *(_place(tree, everywhere) for tree in (hyper, count)))
    return lowered


def _shares(config: Config, mesh: Mesh) -> Shares:
    return Shares(config.train.batch_size, mesh.size, config.train.device_batch_size)


def _abstract_network(config: Config, shape: StepShape) -> Network:
    network: Network = eqx.filter_eval_shape(lambda: _any_network(config, shape))
    return network


def _any_network(config: Config, shape: StepShape) -> Network:
    return build_model(config.model, shape.num_tracks, shape.length_bp, np.random.default_rng(0))


def _abstract_weights(config: Config, shape: StepShape) -> Network:
    """Shapes of the trained arrays, which are those of a gradient too."""

    def choose(network: Network) -> Network:
        return eqx.filter(network, is_trainable(network))

    weights: Network = eqx.filter_eval_shape(choose, _abstract_network(config, shape))
    return weights


def _place_chunk(mesh: Mesh, rows: tuple[int, int], shape: StepShape, *, has_partners: bool) -> Any:
    by_example = NamedSharding(mesh, PartitionSpec(None, DATA_AXIS))

    def make() -> Chunk:
        codes, targets = (jnp.zeros((*rows, size), jnp.uint8) for size in (shape.length_bp, shape.num_tracks))
        partners = Partners(codes, targets) if has_partners else None
        return Chunk(codes, targets, jnp.zeros(rows, jnp.bool), jnp.zeros((rows[0], 2), jnp.float32), partners)

    chunk = jax.eval_shape(make)
    known = _place(chunk.known, NamedSharding(mesh, PartitionSpec()))
    return eqx.tree_at(lambda tree: tree.known, _place(chunk, by_example), known)


def _place(tree: Any, sharding: NamedSharding) -> Any:
    arrays, static = eqx.partition(tree, _is_array_like)
    placed = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), arrays)
    return eqx.combine(placed, static)


def _is_array_like(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def _compile(lowered: Lowered) -> Compiled:
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        first = str(error).splitlines()[0]
        if "RESOURCE_EXHAUSTED" not in first:
            raise
        raise InputError(
            f"the step doesn't fit the memory of a chip; the compiler says: {first.partition(': ')[2]}",
            remedy="set train.batch_size smaller, use more chips, or a chip with more memory",
        ) from None


def read_memory(compiled: Compiled) -> ChipMemory:
    """What the compiler planned of the memory of one chip."""
    found: Any = compiled.memory_analysis()
    return ChipMemory(
        arguments=found.argument_size_in_bytes,
        outputs=found.output_size_in_bytes,
        shared=found.alias_size_in_bytes,
        temporaries=found.temp_size_in_bytes,
        code=found.generated_code_size_in_bytes,
    )


def count_work(
    compiled: Compiled, mesh: Mesh, config: Config, shape: StepShape
) -> tuple[float | None, Literal["compiler", "program"], float | None]:
    """Operations and bytes of one step on one chip: both analyses count the body of a loop, which is a step, once.

    Args:
        compiled: The compiled step.
        mesh: What it was compiled for.
        config: The settings.
        shape: Length and tracks of the examples, and steps in a dispatch.
    """
    found: Any = compiled.cost_analysis()
    if found and found.get("flops", 0.0) > 0.0:
        return float(found["flops"]), "compiler", float(found["bytes accessed"])
    # One CPU device represents one chip: the same program with the chip's share of the batch, never compiled.
    share = _shares(config, mesh).padded_batch_size // mesh.size
    train = config.train.model_copy(update={"batch_size": share})
    alone = make_mesh(jax.local_devices(backend="cpu")[:1])
    platform = mesh.devices.flat[0].platform
    lowered = _lower(alone, config.model_copy(update={"train": train}), shape, platform)
    counted: Any = lowered.cost_analysis()
    return (float(counted["flops"]) if counted else None), "program", None
