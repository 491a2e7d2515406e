"""What the processes of a group tell each other on the host, and which of them writes files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Num

from ebox.errors import EXIT_LOST, InputError, explain_memory
from ebox.workers.watch import leave

Tree = TypeVar("Tree")


def is_chief() -> bool:
    """Whether this process writes the files: the first of the group, or the only one."""
    return jax.process_index() == 0


def to_host(tree: Tree) -> Tree:
    """Copy whole global arrays to the host of every process; all processes must call it together."""

    def fetch(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
            return np.array(leaf)
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(fetch, tree)


def gather_rows(rows: Num[np.ndarray, row * rest], count: int) -> Num[np.ndarray, all * rest]:
    """Join, in order, the rows that each process computed for its part of `count` (by `own_part`)."""
    if jax.process_count() == 1:
        return rows
    from jax.experimental import multihost_utils

    size = -(-count // jax.process_count())
    padded = np.zeros((size, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return np.asarray(multihost_utils.process_allgather(padded)).reshape(-1, *rows.shape[1:])[:count]


def own_part(count: int) -> slice:
    """This process's part of `count` rows."""
    size = -(-count // jax.process_count())
    return slice(jax.process_index() * size, min(count, (jax.process_index() + 1) * size))


@contextlib.contextmanager
def memory_explained() -> Iterator[None]:
    """Raise InputError, with what to do, where a device has too little memory for what is done in the block."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        short = explain_memory(error)
        if short is None:
            raise
        raise short from None


@contextlib.contextmanager
def leave_when_others_are_lost() -> Iterator[None]:
    """End this process at once if what the processes do together fails because another one is gone.

    Raises:
        InputError: a device has too little memory.
    """
    try:
        with memory_explained():
            yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        leave(EXIT_LOST, f"lost another process of the group; `--resume` continues from the last checkpoint\n{error}")


def wait_for_all(name: str) -> None:
    """Wait until every process of the group has called this."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def check_alike(facts: Mapping[str, Any]) -> None:
    """Raise InputError if a process of the group has other facts than the first: settings, data, versions."""
    if jax.process_count() == 1:
        return
    text = json.dumps(facts, sort_keys=True).encode()
    sizes = _all_of(np.array([len(text)], np.int32))[:, 0]
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(text)] = np.frombuffer(text, np.uint8)
    everybody = [json.loads(row[:size].tobytes()) for row, size in zip(_all_of(padded), sizes.tolist(), strict=True)]
    for number, other in enumerate(everybody):
        for key in sorted(set(everybody[0]) | set(other)):
            if everybody[0].get(key) != other.get(key):
                raise InputError(
                    f"process {number} has {key} = {other.get(key)}, and process 0 has {everybody[0].get(key)}",
                    remedy="start all processes with the same ebox, the same settings and the same dataset",
                )


def _all_of(values: Num[np.ndarray, " number"]) -> Num[np.ndarray, "process number"]:
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(values))
