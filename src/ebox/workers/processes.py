"""The processes that train together: how each finds the others.

A process is alone, a member of a group that a launcher of ebox started (variables say which), or one of the tasks of
a cluster's job, which JAX finds by itself under SLURM, MPI, Kubernetes and on Cloud TPU.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebox.errors import EXIT_LOST, InputError
from ebox.workers.contract import IN_GROUP, LOOPBACK, Membership, read_membership


class MeetingError(InputError):
    """The processes of a group did not find each other, or one was lost before they had begun."""

    exit_code = EXIT_LOST


def is_member() -> bool:
    """Whether the environment of this process describes a group."""
    return read_membership(os.environ) is not None


def is_on_loopback() -> bool:
    """Whether a launcher told this process to meet the others on loopback; it tells all of a group the same."""
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
    """Meet the other processes, if there are any, before JAX looks at its devices; return whether there are.

    Raises:
        InputError: the others did not come in time.
    """
    import jax

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
            f"the processes of the group did not find each other: {str(error).splitlines()[0]}",
            remedy="check that all processes were started with the same address of the first one, and can reach it",
        ) from None
    os.environ[IN_GROUP] = "1"
    return True


def _join_by_address(membership: Membership, seconds: dict[str, Any]) -> None:
    import jax

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
    """Make the CPU collectives of JAX (Gloo) listen only on loopback in a group of one machine, and wait politely.

    By default Gloo takes the address of the host's name, and its thread polls its sockets all the time while there is
    a message that this process does not need yet: with one core for each process a message took 4 ms, a tick of the
    scheduler. As a batch thread, which does not preempt the computation, it takes 0.14 ms. (At idle priority it takes
    the same, but 65 ms when other programs use the cores.)
    """
    from jaxlib import _jax

    make = _jax.make_gloo_tcp_collectives
    if isinstance(make, CalmCollectives):
        return
    _jax.make_gloo_tcp_collectives = CalmCollectives(make, {"hostname": LOOPBACK} if host == LOOPBACK else {})


@dataclass(frozen=True)
class CalmCollectives:
    """Makes the collectives, and makes the threads that this starts batch threads."""

    make: Callable[..., Any]
    options: Mapping[str, Any]

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Make the collectives, with the arguments of JAX and the options."""
        before = _list_threads()
        collectives = self.make(*args, **options, **self.options)
        for thread in _list_threads() - before:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
        return collectives


def _list_threads() -> set[int]:
    """The threads of this process; none if the system does not say."""
    tasks = Path("/proc/self/task")
    return {int(task.name) for task in tasks.iterdir()} if tasks.is_dir() else set()
