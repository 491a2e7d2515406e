"""What a compiler says of the step on chips that are not here: compiled once for a kind of chip, kept, and derived.

The program of a chip depends on its share of the batch; with more chips its operations and bytes change by 0.1 %
(measured: docs/planning.md). What changes is how normalisation exchanges: few chips gather all moments, many meet in
sums. So each kind is compiled for two slices with two shares of the batch: the line through both gives operations,
bytes and memory of any share, and each gives the exchange of its size of slice. The answers are kept in a folder,
under a key of everything that could change them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.errors import InputError
from ebox.planning.hardware import SLICES
from ebox.planning.topologies import Topology, check_compiler, parse_topology
from ebox.progress import Progress, quiet
from ebox.settings.reading import Config
from ebox.storage.publishing import write_json
from ebox.version import __version__

if TYPE_CHECKING:
    from ebox.planning.compilation import CompilationResult

# Examples of a chip in the two programs: of the small slice, and of the large one.
SHARES = (32, 256)
LEAST_CHIPS, MOST_CHIPS = 4, 256
ALL, NONE = "all", "none"
_COMPILED = {
    "v4": ("v4:2x2x1", "v4:2x4x4"),
    "v5p": ("v5p:2x2x1", "v5p:2x4x4"),
    "v5e": ("v5e:2x2", "v5e:4x8"),
    "v6e": ("v6e:2x2", "v6e:4x8"),
}
_COMPILERS = ("jax", "jaxlib", "libtpu")


@dataclass(frozen=True)
class SliceFigures:
    """Of one chip in a step, as lines over its examples.

    Args:
        chip: Its kind, such as `v5e`.
        compiled: The slices that were compiled.
        bytes_an_example: Bytes that it moves for an example.
        fixed_bytes: Bytes that it moves whatever its share.
        flops_an_example: Operations for an example.
        memory_an_example: Bytes of memory for an example.
        fixed_memory: Bytes of memory whatever its share.
        exchanges: Chips of a compiled slice, collectives one after another in a step there, bytes of their arrays.
        versions: Of the compilers.
    """

    chip: str
    compiled: tuple[str, ...]
    bytes_an_example: float | None
    fixed_bytes: float
    flops_an_example: float | None
    memory_an_example: float
    fixed_memory: float
    exchanges: tuple[tuple[int, int, int], ...]
    versions: dict[str, str]

    def memory_bytes(self, examples: int) -> float:
        """Memory that a chip needs for its share of the batch."""
        return self.fixed_memory + self.memory_an_example * examples

    def exchange(self, num_chips: int) -> tuple[int, int]:
        """Collectives and bytes of a step: those of the largest compiled slice that is not larger."""
        chosen = max(self.exchanges, key=lambda one: (one[0] <= num_chips, one[0] if one[0] <= num_chips else -one[0]))
        return chosen[1], chosen[2]

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> SliceFigures:
        """Read it back from JSON."""
        exchanges = tuple((chips, messages, size) for chips, messages, size in facts["exchanges"])
        return SliceFigures(**{**facts, "compiled": tuple(facts["compiled"]), "exchanges": exchanges})


def read_slices(text: str) -> tuple[Topology, ...]:
    """The slices that a text names: `all` of 4 to 256 chips, `none`, or `v5e:2x2,v4:2x2x1`.

    Raises:
        InputError: no such topology, or none of a TPU; the message says which there are.
    """
    if text.strip().lower() == NONE:
        return ()
    if text.strip().lower() == ALL:
        every = (parse_topology(f"{kind}:{layout}") for kind, layouts in SLICES.items() for layout in layouts)
        return tuple(one for one in every if LEAST_CHIPS <= one.num_chips <= MOST_CHIPS)
    chosen = tuple(parse_topology(name) for name in text.split(","))
    other = next((one for one in chosen if one.chip.platform != "tpu"), None)
    if other is not None:
        raise InputError(
            f"{other.name} is no slice of a TPU",
            remedy="name slices with --slices, such as v5e:2x2,v4:2x2x1; GPUs and processors come from the prices",
        )
    return chosen


def compile_slices(
    kinds: Sequence[str],
    config: Config,
    form: tuple[int, int],
    folder: Path,
    *,
    processes: int,
    progress: Progress = quiet,
) -> dict[str, SliceFigures]:
    """The figures of kinds of chips, from the folder where they are kept, else compiled and kept.

    Args:
        kinds: Such as `v5e`.
        config: The settings of the training; its batch does not matter.
        form: Length and tracks of the examples.
        folder: Where answers are kept.
        processes: Compilations at a time.
        progress: Called with a phrase, the number done, and the total number.

    Raises:
        InputError: the compiler is not installed, or a compilation failed.
    """
    found = find_kept(kinds, config, form, folder)
    missing = [kind for kind in kinds if kind not in found]
    if not missing:
        return found
    for kind in missing:
        check_compiler(parse_topology(_COMPILED[kind][0]))
    compiled = _compile_all(missing, config, form, processes, progress)
    for kind in missing:
        found[kind] = _draw_lines(kind, compiled[kind])
        write_json(folder / f"{_key(kind, config, form)}.json", asdict(found[kind]))
    return found


def find_kept(kinds: Sequence[str], config: Config, form: tuple[int, int], folder: Path) -> dict[str, SliceFigures]:
    """The figures that are kept already; a file that can't be read counts as none.

    Args:
        kinds: Such as `v5e`.
        config: The settings of the training; its batch does not matter.
        form: Length and tracks of the examples.
        folder: Where answers are kept.
    """
    found = {}
    for kind in kinds:
        try:
            text = (folder / f"{_key(kind, config, form)}.json").read_text(encoding="utf-8")
            found[kind] = SliceFigures.from_facts(json.loads(text))
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return found


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where answers of compilers are kept: ebox in the cache folder of the user."""
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ebox" / "slices"


def _key(kind: str, config: Config, form: tuple[int, int]) -> str:
    """A name that differs where anything differs that the program depends on."""
    from ebox.workers.machine import find_versions

    train = config.train.model_dump(mode="json", exclude={"batch_size", "seed"})
    facts = {
        "ebox": __version__,
        "versions": find_versions(_COMPILERS),
        "model": config.model.model_dump(mode="json"),
        "train": train,
        "parallel": config.parallel.model_dump(mode="json", include={"exchange", "sync", "hierarchical", "rank"}),
        "form": form,
        "shares": SHARES,
    }
    text = json.dumps(facts, sort_keys=True)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def _compile_all(
    kinds: Sequence[str], config: Config, form: tuple[int, int], processes: int, progress: Progress
) -> dict[str, dict[int, CompilationResult]]:
    """Compile every kind with both shares, several at a time, each in a process of its own."""
    from ebox.planning.compilation import StepShape
    from ebox.planning.isolation import compile_for_topology

    shape = StepShape(*form, config.train.steps_per_dispatch)
    found: dict[str, dict[int, CompilationResult]] = {kind: {} for kind in kinds}
    with ThreadPoolExecutor(max_workers=processes) as pool:
        jobs = {}
        for kind in kinds:
            for name, share in zip(_COMPILED[kind], SHARES, strict=True):
                topology = parse_topology(name)
                train = config.train.model_copy(update={"batch_size": share * topology.num_chips})
                changed = config.model_copy(update={"train": train})
                jobs[pool.submit(compile_for_topology, topology, changed, shape)] = (kind, share)
        progress("compiling for slices", 0, len(jobs))
        try:
            for done, job in enumerate(as_completed(jobs), 1):
                kind, share = jobs[job]
                found[kind][share] = job.result()
                progress("compiling for slices", done, len(jobs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def _draw_lines(kind: str, compiled: Mapping[int, CompilationResult]) -> SliceFigures:
    low, high = (compiled[share] for share in SHARES)
    moved = _line(low.accessed_bytes, high.accessed_bytes)
    fixed_memory, memory = _line(float(low.memory.total), float(high.memory.total))
    return SliceFigures(
        chip=kind,
        compiled=_COMPILED[kind],
        bytes_an_example=moved[1],
        fixed_bytes=0.0 if moved[0] is None else moved[0],
        flops_an_example=_line(low.flops, high.flops)[1],
        memory_an_example=0.0 if memory is None else memory,
        fixed_memory=0.0 if fixed_memory is None else fixed_memory,
        exchanges=(_count_exchange(low), _count_exchange(high)),
        versions=dict(high.versions),
    )


def _count_exchange(found: CompilationResult) -> tuple[int, int, int]:
    inside = [one for one in found.collectives if one.in_step]
    return found.num_chips, sum(one.count for one in inside), sum(one.num_bytes for one in inside)


def _line(low: float | None, high: float | None) -> tuple[float | None, float | None]:
    """Value at 0 and slope of the line through the two shares, neither below 0; None: not counted."""
    if low is None or high is None:
        return None, None
    slope = max(0.0, (high - low) / (SHARES[1] - SHARES[0]))
    return max(0.0, low - slope * SHARES[0]), slope
