"""Reading a compiled program: which collectives it holds, of what type, how many bytes.

The text is XLA's HLO, the same for CPU, GPU and TPU. A collective counts once for each place in the text, so one in
the body of a loop counts once for each turn.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ebox.planning.collective_costs import sent_share

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_HEADER = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_COLLECTIVE = re.compile(rf"^\s*(?:ROOT )?%?[\w.\-]+ = (.*?) ({'|'.join(KINDS)})(-start)?\(")
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_CALLED_LISTS = re.compile(r"(?:branch_computations|called_computations)=\{([^}]*)\}")
_BODY = re.compile(r"\bbody=%?([\w.\-]+)")
_GROUP = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_GROUP_LIST = re.compile(r"replica_groups=\[(\d+),(\d+)\]")
# The form in XLA of JAX 0.12: mesh['node'=2,'device'=4] {'device'}.
_GROUP_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}")


@dataclass(frozen=True)
class Collective:
    """Collectives of one kind and type in a program.

    Args:
        kind: `all-reduce`, `all-gather`, `reduce-scatter`, `all-to-all` or `collective-permute`.
        dtype: The compiler's name of the type: `f32`, `bf16`, `s8`.
        count: Number of places.
        num_bytes: Size of the whole arrays on one chip, all places together.
        largest_bytes: Size at the largest place.
        group_size: Chips that take part in each; 0 means all of them.
        in_step: Whether it runs in every step; the others run once in a dispatch.
    """

    kind: str
    dtype: str
    count: int
    num_bytes: int
    largest_bytes: int
    group_size: int
    in_step: bool

    def sent_bytes(self, num_chips: int) -> float:
        """Bytes that one chip sends for them when links are used as well as possible."""
        return self.num_bytes * sent_share(self.kind, self.group_size or num_chips)


def read_collectives(text: str) -> tuple[Collective, ...]:
    """Find the collectives in the text of a compiled program, the largest first."""
    computations = dict(_iter_computations(text))
    in_step = _reach(computations, {name for lines in computations.values() for name in _find(_BODY, lines)})
    counts: Counter[tuple[str, str, int, bool]] = Counter()
    sizes: Counter[tuple[str, str, int, bool]] = Counter()
    largest: dict[tuple[str, str, int, bool], int] = {}
    for name, lines in computations.items():
        for kind, group, parts in _iter_collectives(lines):
            # One place may carry several types; each counts as one place.
            for dtype, num_bytes in parts.items():
                key = (kind, dtype, group, name in in_step)
                counts[key] += 1
                sizes[key] += num_bytes
                largest[key] = max(largest.get(key, 0), num_bytes)
    found = [
        Collective(
            kind, dtype, count, sizes[kind, dtype, group, inside], largest[kind, dtype, group, inside], group, inside
        )
        for (kind, dtype, group, inside), count in counts.items()
    ]
    return tuple(sorted(found, key=lambda one: (not one.in_step, -one.num_bytes, one.kind, one.dtype)))


def _iter_computations(text: str) -> Iterator[tuple[str, list[str]]]:
    """Name and lines of each computation; a program is a list of them."""
    name, lines = "", list[str]()
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header is not None:
            name, lines = header[1], []
        elif line.startswith("}") and name:
            yield name, lines
            name = ""
        elif name:
            lines.append(line)


def _reach(computations: dict[str, list[str]], first: set[str]) -> set[str]:
    """Names of `first` and of all computations that they call, directly or through others."""
    reached, waiting = set[str](), list(first)
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        lines = computations.get(name, [])
        listed = [part.strip(" %") for group in _find(_CALLED_LISTS, lines) for part in group.split(",")]
        waiting += [*_find(_CALLED, lines), *listed]
    return reached


def _find(pattern: re.Pattern[str], lines: list[str]) -> list[str]:
    return [found for line in lines for found in pattern.findall(line)]


def _iter_collectives(lines: list[str]) -> Iterator[tuple[str, int, Counter[str]]]:
    """Kind, group size and bytes by type of each collective."""
    for line in lines:
        found = _COLLECTIVE.match(line)
        if found is None:
            continue
        kind, group = found[2], _group_size(line)
        arrays = _ARRAY.findall(found[1])
        if found[3] and (kind in {"all-gather", "collective-permute"} or found[1].startswith("((")):
            # The asynchronous forms list their operands too, before the results (those of reductions in a separate
            # tuple, XLA of JAX 0.11), and contexts of a permutation.
            arrays = [array for array in arrays if array[0] != "u32" or array[1]]
            arrays = arrays[len(arrays) // 2 :]
        sizes: Counter[str] = Counter()
        for dtype, dimensions in arrays:
            sizes[dtype] += _count_bytes(dtype, dimensions) * (group if kind == "reduce-scatter" else 1)
        yield kind, group, sizes


def _group_size(line: str) -> int:
    listed, shaped, meshed = _GROUP.search(line), _GROUP_LIST.search(line), _GROUP_MESH.search(line)
    if listed is not None:
        return len(listed[1].split(","))
    if meshed is not None:
        sizes = dict(axis.split("=") for axis in meshed[1].split(","))
        return math.prod(int(sizes[axis.strip()]) for axis in meshed[2].split(",") if axis.strip())
    return int(shaped[2]) if shaped is not None else 0


def _count_bytes(dtype: str, dimensions: str) -> int:
    width = re.search(r"\d+", dtype)
    bits = 8 if width is None else int(width[0])  # only truth values carry no width in their name
    elements = 1
    for size in dimensions.split(","):
        elements *= int(size) if size else 1
    return elements * bits // 8
