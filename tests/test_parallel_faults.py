"""Faults of groups that need more than a kill: at the start, on the disk, on the line, and unlike tasks."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ebox.diagnosis.parity import make_dataset
from ebox.workers.contract import EXIT_LOST, LOOPBACK, Membership
from groups import LONG, command_of, environment, largest_difference, wait_until, workers_of

pytestmark = pytest.mark.slow

STALLS = {**LONG, "parallel.stall_seconds": 6}
needs_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None, reason="needs Linux, root and iproute2"
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data"))


def _start(command: list[str], member: Membership | None = None) -> subprocess.Popen[str]:
    variables = {**environment(), **({} if member is None else member.variables())}
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _end(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
        process.communicate()


def _has_checkpoint(out: Path) -> bool:
    return any(out.glob("checkpoints/step-*"))


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    process = _start(command_of(dataset, out, STALLS, "--processes", "2"))
    output = process.communicate(timeout=200)[0]
    assert process.returncode == 0, output
    return out


def test_a_worker_killed_in_its_first_moments_is_started_again(dataset: Path, tmp_path: Path, undisturbed: Path):
    process = _start(command_of(dataset, tmp_path / "run", STALLS, "--processes", "2"))
    try:
        wait_until(lambda: len(workers_of(process)) == 2)
        workers_of(process)[0].kill()
        output = process.communicate(timeout=200)[0]
    finally:
        _end(process)
    assert process.returncode == 0, output
    assert "starting again with 2 workers from the beginning" in output
    assert largest_difference(undisturbed, tmp_path / "run") == 0.0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_group_that_is_told_to_stop_at_its_start_stops_and_goes_on_later(
    dataset: Path, tmp_path: Path, undisturbed: Path, number: int, code: int
):
    process = _start(command_of(dataset, tmp_path / "run", STALLS, "--processes", "2"))
    try:
        wait_until(lambda: len(workers_of(process)) == 2)
        workers = workers_of(process)
        process.send_signal(number)
        output = process.communicate(timeout=60)[0]
    finally:
        _end(process)
    assert process.returncode == code, output
    assert "Traceback" not in output
    assert not any(worker.is_running() for worker in workers)
    flags = ("--processes", "2", *(("--resume",) if (tmp_path / "run").exists() else ()))
    again = _start(command_of(dataset, tmp_path / "run", STALLS, *flags))
    output = again.communicate(timeout=200)[0]
    assert again.returncode == 0, output
    assert largest_difference(undisturbed, tmp_path / "run") == 0.0


def test_tasks_with_unlike_settings_are_refused_at_the_start(dataset: Path, tmp_path: Path):
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        address = f"{LOOPBACK}:{probe.getsockname()[1]}"
    commands = [command_of(dataset, tmp_path / "run", {"train.learning_rate": rate}) for rate in (1e-3, 2e-3)]
    tasks = [_start(command, Membership(address, number, 2)) for number, command in enumerate(commands)]
    try:
        outputs = [task.communicate(timeout=100)[0] for task in tasks]
    finally:
        _end(*tasks)
    assert [task.returncode for task in tasks] == [2, 2], outputs
    for output in outputs:
        assert "process 1 has train.learning_rate = 0.002, and process 0 has 0.001" in output
        assert "Traceback" not in output
    assert not _has_checkpoint(tmp_path / "run")


@needs_root
def test_a_disk_that_fills_up_ends_with_an_error_and_loses_no_checkpoint(
    dataset: Path, tmp_path: Path, undisturbed: Path
):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=True)
    try:
        out = disk / "run"
        process = _start(command_of(dataset, out, STALLS, "--processes", "2"))
        try:
            wait_until(lambda: _has_checkpoint(out) or process.poll() is not None)
            filler = disk / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(4096))
            output = process.communicate(timeout=100)[0]
        finally:
            _end(process)
        assert process.returncode == 2, output
        assert "No space left on device" in output
        assert "free some space" in output
        assert "Traceback" not in output
        filler.unlink()
        again = _start(command_of(dataset, out, STALLS, "--processes", "2", "--resume"))
        output = again.communicate(timeout=200)[0]
        assert again.returncode == 0, output
        assert largest_difference(undisturbed, out) == 0.0
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@contextlib.contextmanager
def _two_nodes() -> Iterator[list[list[str]]]:
    """Two network namespaces joined by a link: what to begin a command with to run it in either."""
    spaces = ["eboxtest0", "eboxtest1"]
    hosts = [Path("/etc/netns") / space / "hosts" for space in spaces]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        for space, place, number in zip(spaces, hosts, (1, 2), strict=True):
            ip("netns", "add", space)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"127.0.0.1 localhost\n10.79.0.{number} {socket.gethostname()}\n")
        ip("link", "add", "eth0", "netns", spaces[0], "type", "veth", "peer", "name", "eth0", "netns", spaces[1])
        for space, number in zip(spaces, (1, 2), strict=True):
            ip("-n", space, "addr", "add", f"10.79.0.{number}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "link", "set", "lo", "up")
        yield [["ip", "netns", "exec", space] for space in spaces]
    finally:
        for space, place in zip(spaces, hosts, strict=True):
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)
            shutil.rmtree(place.parent, ignore_errors=True)


@needs_root
def test_a_cut_line_is_noticed_and_costs_nothing_but_time(dataset: Path, tmp_path: Path, undisturbed: Path):
    out = tmp_path / "run"
    with _two_nodes() as nodes:
        for flags in ((), ("--resume",)):
            tasks = [
                _start([*node, *command_of(dataset, out, STALLS, *flags)], Membership("10.79.0.1:12790", number, 2))
                for number, node in enumerate(nodes)
            ]
            try:
                if not flags:
                    wait_until(lambda: _has_checkpoint(out))
                    subprocess.run([*nodes[1], "ip", "link", "set", "eth0", "down"], check=True)
                    cut = time.monotonic()
                outputs = [task.communicate(timeout=100)[0] for task in tasks]
            finally:
                _end(*tasks)
            codes = [task.returncode for task in tasks]
            if flags:
                assert codes == [0, 0], outputs
            else:
                assert time.monotonic() - cut < 30.0
                # Where JAX's own heartbeat is first, it aborts.
                assert set(codes) <= {EXIT_LOST, -signal.SIGABRT}, outputs
                assert "the connection to it is cut" in "".join(outputs)
                assert not (out / "model").exists()
                subprocess.run([*nodes[1], "ip", "link", "set", "eth0", "up"], check=True)
    assert largest_difference(undisturbed, out) == 0.0
