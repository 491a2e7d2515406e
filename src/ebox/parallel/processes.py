"""The processes that train together: how one finds the others, and what they tell each other on the host.

A process is alone, a member of a group that a launcher of ebox started (the variables below say which), or one of the
tasks of a cluster's job, which JAX finds by itself under SLURM, MPI, Kubernetes and on Cloud TPU.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Num

from ebox.errors import InputError, explain_memory
from ebox.parallel.watching import EXIT_LOST, leave

Tree = TypeVar("Tree")
COORDINATOR, PROCESS, NUM_PROCESSES = "EBOX_COORDINATOR", "EBOX_PROCESS", "EBOX_NUM_PROCESSES"
LOOPBACK = "127.0.0.1"
# Set once a process has joined: it must then leave at once when it fails, since a normal exit waits for the others.
IN_GROUP = "EBOX_IN_GROUP"


class MeetingError(InputError):
    """The processes of a group did not find each other, or one was lost before they had begun."""

    exit_code = EXIT_LOST


@dataclass(frozen=True)
class Membership:
    """Where a process stands in its group."""

    coordinator: str
    process: int
    num_processes: int

    @property
    def host(self) -> str:
        """The address of the first process, without the port."""
        return self.coordinator.rpartition(":")[0]

    def variables(self) -> dict[str, str]:
        """The environment that tells a started process."""
        numbers = {PROCESS: str(self.process), NUM_PROCESSES: str(self.num_processes)}
        return {COORDINATOR: self.coordinator, **numbers}


def read_membership(environment: Mapping[str, str]) -> Membership | None:
    """What the launcher said, if there was one.

    Raises:
        InputError: it said only a part, or something that is no number.
    """
    given = {name: environment.get(name) for name in (COORDINATOR, PROCESS, NUM_PROCESSES)}
    if not any(given.values()):
        return None
    remedy = f"set {COORDINATOR} (host:port), {PROCESS} (from 0) and {NUM_PROCESSES} together, or none of them"
    try:
        process, count = int(given[PROCESS] or ""), int(given[NUM_PROCESSES] or "")
    except ValueError:
        raise InputError(f"{PROCESS} and {NUM_PROCESSES} are not both numbers", remedy=remedy) from None
    host, _, port = (given[COORDINATOR] or "").rpartition(":")
    if not host or not port.isdigit() or not 0 <= process < count:
        raise InputError(
            f"{COORDINATOR}={given[COORDINATOR]}, {PROCESS}={process}, {NUM_PROCESSES}={count} don't describe a group",
            remedy=remedy,
        )
    return Membership(given[COORDINATOR] or "", process, count)


def is_member() -> bool:
    """Whether the environment of this process describes a group."""
    return read_membership(os.environ) is not None


def is_on_loopback() -> bool:
    """Whether a launcher told this process to meet the others on this machine alone; all of a group are told alike."""
    membership = read_membership(os.environ)
    return membership is not None and membership.host == LOOPBACK


def is_cluster_task(environment: Mapping[str, str]) -> bool:
    """Whether this process is one of several tasks that a scheduler started together."""
    if "SLURM_STEP_NODELIST" in environment:
        return int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1
    if int(environment.get("OMPI_COMM_WORLD_SIZE", "1")) > 1 or int(environment.get("PMI_SIZE", "1")) > 1:
        return True
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        return True
    return "," in environment.get("TPU_WORKER_HOSTNAMES", "")


def join_group(*, heartbeat_seconds: float = 25.0, start_seconds: float = 300.0) -> bool:
    """Meet the other processes, where there are any; before JAX looks at its devices. Whether there are.

    Raises:
        InputError: the others did not come in time.
    """
    membership = read_membership(os.environ)
    if jax.distributed.is_initialized():
        return True
    if membership is None and not is_cluster_task(os.environ):
        return False
    # ebox itself decides when to save and leave on SIGTERM.
    jax.config.update("jax_enable_preemption_service", False)
    seconds: dict[str, Any] = {
        "heartbeat_timeout_seconds": max(10, round(heartbeat_seconds)),
        "initialization_timeout": max(10, round(start_seconds)),
    }
    _prepare_gloo("" if membership is None else membership.host)
    try:
        if membership is None:
            jax.distributed.initialize(**seconds)
        else:
            _join_by_address(membership, seconds)
    except (RuntimeError, ValueError) as error:
        raise MeetingError(
            f"the group of processes did not come together: {str(error).splitlines()[0]}",
            remedy="see that all processes were started, with the same address of the first one, and can reach it",
        ) from None
    os.environ[IN_GROUP] = "1"
    return True


def _join_by_address(membership: Membership, seconds: dict[str, Any]) -> None:
    port = membership.coordinator.rpartition(":")[2]
    bind = f"{LOOPBACK if membership.host == LOOPBACK else '[::]'}:{port}"
    jax.distributed.initialize(
        membership.coordinator,
        membership.num_processes,
        membership.process,
        coordinator_bind_address=bind,
        **seconds,
    )


def _prepare_gloo(host: str) -> None:
    """Have the CPU collectives of JAX (Gloo) listen on loopback alone in a group of one machine, and wait politely.

    By itself Gloo takes the address of the host's name. And its thread polls its sockets without rest while a message
    is there that this process does not want yet: on a core of one's own a message cost 4 ms, a tick of the scheduler.
    As a batch thread, which does not preempt the computation, it costs 0.14 ms. (At idle priority it costs as little,
    but 65 ms where other programs use the cores.)
    """
    from jaxlib import _jax

    make = _jax.make_gloo_tcp_collectives
    if isinstance(make, CalmCollectives):
        return
    _jax.make_gloo_tcp_collectives = CalmCollectives(make, {"hostname": LOOPBACK} if host == LOOPBACK else {})


@dataclass(frozen=True)
class CalmCollectives:
    """Makes the collectives, and schedules the threads that this starts as batch threads."""

    make: Callable[..., Any]
    options: Mapping[str, Any]

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Make them, with the arguments of JAX and the options."""
        before = _list_threads()
        collectives = self.make(*args, **options, **self.options)
        for thread in _list_threads() - before:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
        return collectives


def _list_threads() -> set[int]:
    """The threads of this process; none where the system does not say."""
    tasks = Path("/proc/self/task")
    return {int(task.name) for task in tasks.iterdir()} if tasks.is_dir() else set()


def is_chief() -> bool:
    """Whether this process writes the files: the first of the group, or the only one."""
    return jax.process_index() == 0


def to_host(tree: Tree) -> Tree:
    """Bring global arrays to the host of every process, whole; all processes must call it together."""

    def fetch(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable or leaf.is_fully_replicated:
            return np.array(leaf)
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))

    return jax.tree.map(fetch, tree)


def gather_rows(rows: Num[np.ndarray, row * rest], count: int) -> Num[np.ndarray, all * rest]:
    """Join the rows that each process worked out of its part of `count` (see `own_part`), in order."""
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
def leave_when_others_are_lost() -> Iterator[None]:
    """End this process at once where what the processes do together fails, since another one is gone.

    Raises:
        InputError: the memory of a device did not suffice.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        short = explain_memory(error)
        if short is not None:
            raise short from None
        if jax.process_count() == 1:
            raise
        leave(EXIT_LOST, f"lost another process of the group; `--resume` goes on from the last checkpoint\n{error}")


def wait_for_all(name: str) -> None:
    """Wait until every process of the group has come here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def check_alike(facts: Mapping[str, Any]) -> None:
    """Raise InputError when a process of the group brings other facts than the first: settings, data, versions."""
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
