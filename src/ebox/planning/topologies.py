"""Topologies by name (`v5e:4x4`, `h100:8`, `cpu:4`), and their devices, which may be absent.

Only `make_topology_mesh` loads JAX, and it needs the variables of `topology_environment` set before that: libtpu
reads them when it is loaded.
"""

from __future__ import annotations

import difflib
import importlib.util
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebox.errors import InputError, install_command, pip_command
from ebox.planning.hardware import CHIPS, GPUS_PER_HOST, MOST_CHIPS, SLICES, Chip, describe_gpu

if TYPE_CHECKING:
    from jax.sharding import Mesh

_COMPILERS = {"tpu": ("libtpu",), "cuda": ("jax_cuda13_plugin", "jax_cuda12_plugin")}


@dataclass(frozen=True)
class Topology:
    """Chips and their layout: TPUs in a grid or a cube, GPUs and CPU devices in a row."""

    name: str
    chip: Chip
    shape: tuple[int, ...]

    @property
    def num_chips(self) -> int:
        """The number of chips."""
        return math.prod(self.shape)


def parse_topology(name: str) -> Topology:
    """Read a name such as `v5e:4x4`, `v4:2x2x1`, `h100:8` or `cpu:4`.

    Raises:
        InputError: not such a name, an unknown chip, or a slice that is not on offer; the message says which are.
    """
    text = name.strip().lower()
    kind, colon, layout = text.partition(":")
    if kind not in CHIPS:
        raise InputError(f"there is no accelerator {kind!r} in the topology {name!r}", remedy=_suggest_chip(text))
    if not colon or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", layout):
        raise InputError(f"the topology {name!r} doesn't say how many chips", remedy=_suggest_shape(kind))
    shape = tuple(int(size) for size in layout.split("x"))
    _check_shape(name, kind, shape)
    return Topology(f"{kind}:{layout}", CHIPS[kind], shape)


def check_compiler(topology: Topology) -> None:
    """Raise InputError if the compiler for the chips of a topology is not installed."""
    if topology.chip.platform == "cpu":
        return
    platform = topology.chip.platform
    modules = _COMPILERS[platform]
    if all(importlib.util.find_spec(module) is None for module in modules):
        raise InputError(
            f"compiling for {topology.name} needs {modules[0]}, which is not installed",
            remedy=_install_compiler(platform),
        )


def _install_compiler(platform: str) -> str:
    """The command that installs the compiler; it needs no accelerator."""
    from importlib.metadata import version

    if platform == "tpu":
        return f"{install_command(platform)}; it brings libtpu, and needs no TPU"
    wheels = (f"{name}=={version('jax')}" for name in ("jax-cuda13-plugin", "jax-cuda13-pjrt"))
    return f"{install_command(platform)}; without a GPU, two wheels do: {pip_command('--no-deps', *wheels)}"


def topology_environment(topology: Topology, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that compiles for a topology, made from the environment of this process.

    With it libtpu asks no metadata server, writes no log, and shares the machine with other libtpu processes; JAX runs
    on the CPU, with the N devices of `cpu:N`. Compiled programs are not kept: a cache would have to load them.
    """
    dropped = {"JAX_COMPILATION_CACHE_DIR", "LIBTPU_INIT_ARGS", "JAX_PLATFORM_NAME"}
    kept = {key: value for key, value in environment.items() if key not in dropped}
    kept |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    if topology.chip.platform == "cpu":
        kept["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={topology.num_chips}"
    elif topology.chip.platform == "cuda":
        kept["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
    else:
        kept |= {
            "TPU_SKIP_MDS_QUERY": "1",
            "TPU_ACCELERATOR_TYPE": _accelerator_type(topology),
            "TPU_WORKER_HOSTNAMES": "localhost",
            "TPU_WORKER_ID": "0",
            "TPU_LOG_DIR": "disabled",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        }
    return kept


def make_topology_mesh(topology: Topology) -> Mesh:
    """Arrange the devices of a topology on the axis `data`; for TPUs and GPUs they are only descriptions.

    Raises:
        InputError: the compiler doesn't know the topology.
    """
    import jax

    from ebox.mesh import make_mesh

    if topology.chip.platform == "cpu":
        return make_mesh(jax.local_devices(backend="cpu"))
    try:
        return make_mesh(_describe_devices(topology))
    except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError) as error:
        raise InputError(
            f"the compiler does not know the topology {topology.name}: {str(error).splitlines()[0]}",
            remedy=_suggest_shape(topology.chip.name),
        ) from None


def _describe_devices(topology: Topology) -> Any:
    from jax.experimental.topologies import get_topology_desc

    if topology.chip.platform == "cuda":
        per_host = min(topology.num_chips, GPUS_PER_HOST)
        layout = f"1x{topology.num_chips // per_host}x{per_host}"
        target = describe_gpu(topology.chip.name)
        return get_topology_desc(platform="cuda", topology_name="", target_config=target, topology=layout).devices
    # A chip of v4 and v5p has two cores that work as one device, as on the real machine.
    settings: dict[str, Any] = {"chip_config_name": "megacore" if topology.chip.name in {"v4", "v5p"} else "default"}
    if topology.num_chips == 1:
        settings["chips_per_host_bounds"] = (1, 1, 1)
    return get_topology_desc(platform="tpu", topology_name=topology.name, **settings).devices


def _accelerator_type(topology: Topology) -> str:
    """The cloud's own name: for v4 and v5p it counts cores, two in each chip; for the others it counts chips."""
    chip, count = topology.chip.name, topology.num_chips
    return {"v4": f"v4-{2 * count}", "v5p": f"v5p-{2 * count}", "v5e": f"v5litepod-{count}"}.get(chip, f"v6e-{count}")


def _check_shape(name: str, kind: str, shape: tuple[int, ...]) -> None:
    count = math.prod(shape)
    if kind not in SLICES:
        whole_hosts = kind == "cpu" or count <= GPUS_PER_HOST or count % GPUS_PER_HOST == 0
        if len(shape) != 1 or count > MOST_CHIPS or not whole_hosts:
            raise InputError(f"the topology {name!r} is not on offer", remedy=_suggest_shape(kind))
        return
    text = "x".join(str(size) for size in shape)
    cubes = kind in {"v4", "v5p"} and len(shape) == 3 and all(size % 4 == 0 for size in shape)
    if text not in SLICES[kind] and not (cubes and count <= MOST_CHIPS):
        raise InputError(f"there is no {kind} slice {text}", remedy=_suggest_shape(kind, count))


def _suggest_chip(text: str) -> str:
    """The nearest name, and a slice for a name of the cloud, such as `v5litepod-16`."""
    found = re.fullmatch(r"(v4|v5p|v5litepod|v5e|v6e)-(\d+)", text)
    if found is not None:
        kind = found[1].replace("litepod", "e")
        return _suggest_shape(kind, int(found[2]) // (2 if kind in {"v4", "v5p"} else 1))
    near = difflib.get_close_matches(text.partition(":")[0], CHIPS, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}There are {', '.join(CHIPS)}; write for example v5e:4x4, v4:2x2x1 or h100:8"


def _suggest_shape(kind: str, count: int | None = None) -> str:
    if kind == "cpu":
        return f"write cpu:4 for 4 devices of this processor, at most {MOST_CHIPS}"
    if kind not in SLICES:
        return f"write {kind}:1 to {kind}:{GPUS_PER_HOST} for one host, or a multiple of {GPUS_PER_HOST} for several"
    fitting = [text for text in SLICES[kind] if math.prod(map(int, text.split("x"))) == count]
    names = [f"{kind}:{text}" for text in fitting or SLICES[kind]]
    more = "; larger ones are multiples of 4 in each direction" if kind in {"v4", "v5p"} and not fitting else ""
    return f"write {' or '.join(names) if fitting else 'one of ' + ', '.join(names)}{more}"
