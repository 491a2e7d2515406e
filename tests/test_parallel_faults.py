"""Faults of groups that need more than a kill: at the start, on the disk, on the line, and unlike tasks."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest

import processes
from ebox.diagnosis.parity import make_dataset
from ebox.errors import EXIT_LOST
from ebox.workers.contract import LOOPBACK, Membership
from groups import LONG, command_of, has_checkpoint, largest_difference, train, workers_of

pytestmark = pytest.mark.slow

# Where JAX's own heartbeat is first, it aborts.
LOST = (EXIT_LOST, -signal.SIGABRT)
STALLS = {**LONG, "parallel.stall_seconds": 6}
needs_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None, reason="needs Linux, root and iproute2"
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train(dataset, out, STALLS, "--processes", "2")
    return out


def test_a_worker_killed_in_its_first_moments_is_started_again(dataset: Path, tmp_path: Path, undisturbed: Path):
    command = command_of(dataset, tmp_path / "run", STALLS, "--processes", "2")
    with processes.started(command, ends=0) as process:
        process.wait_until(lambda: len(workers_of(process)) == 2)
        workers_of(process)[0].kill()
    assert "starting again with 2 workers from the beginning" in process.output
    assert largest_difference(undisturbed, tmp_path / "run") == 0.0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_group_that_is_told_to_stop_at_its_start_stops_and_goes_on_later(
    dataset: Path, tmp_path: Path, undisturbed: Path, number: int, code: int
):
    command = command_of(dataset, tmp_path / "run", STALLS, "--processes", "2")
    with processes.started(command, ends=code) as process:
        process.wait_until(lambda: len(workers_of(process)) == 2)
        workers = workers_of(process)
        process.send_signal(number)
        assert "Traceback" not in process.finish(60.0)
        assert not any(map(processes.lives, workers))
    flags = ("--processes", "2", *(("--resume",) if (tmp_path / "run").exists() else ()))
    train(dataset, tmp_path / "run", STALLS, *flags)
    assert largest_difference(undisturbed, tmp_path / "run") == 0.0


def test_tasks_with_unlike_settings_are_refused_at_the_start(dataset: Path, tmp_path: Path):
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        address = f"{LOOPBACK}:{probe.getsockname()[1]}"
    commands = [command_of(dataset, tmp_path / "run", {"train.learning_rate": rate}) for rate in (1e-3, 2e-3)]
    tasks = []
    with contextlib.ExitStack() as stack:
        for number, command in enumerate(commands):
            variables = Membership(address, number, 2).variables()
            tasks.append(stack.enter_context(processes.started(command, ends=2, variables=variables)))
    for task in tasks:
        assert "process 1 has train.learning_rate = 0.002, and process 0 has 0.001" in task.output
        assert "Traceback" not in task.output
    assert not has_checkpoint(tmp_path / "run")


@needs_root
def test_a_disk_that_fills_up_ends_with_an_error_and_loses_no_checkpoint(
    dataset: Path, tmp_path: Path, undisturbed: Path
):
    disk = tmp_path / "disk"
    disk.mkdir()
    processes.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)])
    try:
        out, filler = disk / "run", disk / "filler"
        with processes.started(command_of(dataset, out, STALLS, "--processes", "2"), ends=2) as process:
            process.wait_until(lambda: has_checkpoint(out))
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(4096))
        assert "No space left on device" in process.output
        assert "free some space" in process.output
        assert "Traceback" not in process.output
        filler.unlink()
        train(dataset, out, STALLS, "--processes", "2", "--resume")
        assert largest_difference(undisturbed, out) == 0.0
    finally:
        processes.run(["umount", "-l", str(disk)])


def _ip(*words: str, ends: int | Collection[int] = 0) -> None:
    processes.run(["ip", *words], ends=ends)


@contextlib.contextmanager
def _two_nodes() -> Iterator[list[list[str]]]:
    """Two network namespaces joined by a link: what to begin a command with to run it in either."""
    spaces = ["eboxtest0", "eboxtest1"]
    hosts = [Path("/etc/netns") / space / "hosts" for space in spaces]

    try:
        for space, place, number in zip(spaces, hosts, (1, 2), strict=True):
            _ip("netns", "add", space)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"127.0.0.1 localhost\n10.79.0.{number} {socket.gethostname()}\n")
        _ip("link", "add", "eth0", "netns", spaces[0], "type", "veth", "peer", "name", "eth0", "netns", spaces[1])
        for space, number in zip(spaces, (1, 2), strict=True):
            _ip("-n", space, "addr", "add", f"10.79.0.{number}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")
            _ip("-n", space, "link", "set", "lo", "up")
        yield [["ip", "netns", "exec", space] for space in spaces]
    finally:
        for space, place in zip(spaces, hosts, strict=True):
            # 1: it was not made.
            _ip("netns", "del", space, ends=(0, 1))
            shutil.rmtree(place.parent, ignore_errors=True)


@contextlib.contextmanager
def _start_both(
    nodes: Sequence[Sequence[str]], command: Sequence[str], ends: int | Collection[int]
) -> Iterator[list[processes.Started]]:
    """The two processes of a group, each on a node of its own."""
    tasks = []
    with contextlib.ExitStack() as stack:
        for number, node in enumerate(nodes):
            variables = Membership("10.79.0.1:12790", number, len(nodes)).variables()
            tasks.append(stack.enter_context(processes.started([*node, *command], ends=ends, variables=variables)))
        yield tasks


@needs_root
def test_a_cut_line_is_noticed_and_costs_nothing_but_time(dataset: Path, tmp_path: Path, undisturbed: Path):
    out = tmp_path / "run"
    with _two_nodes() as nodes:
        with _start_both(nodes, command_of(dataset, out, STALLS), LOST) as tasks:
            tasks[0].wait_until(lambda: has_checkpoint(out))
            processes.run([*nodes[1], "ip", "link", "set", "eth0", "down"])
            cut = time.monotonic()
            outputs = [task.finish(100.0) for task in tasks]
            assert time.monotonic() - cut < 30.0
        assert "the connection to it is cut" in "".join(outputs)
        assert not (out / "model").exists()
        processes.run([*nodes[1], "ip", "link", "set", "eth0", "up"])
        with _start_both(nodes, command_of(dataset, out, STALLS, "--resume"), 0):
            pass
    assert largest_difference(undisturbed, out) == 0.0
