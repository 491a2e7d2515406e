"""What a worker and its supervisor say to each other, without a worker: the pipe, the variables, the meeting."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from ebox.errors import (
    EXIT_BAD_INPUT,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_LOST,
    EXIT_RESUMABLE,
    InputError,
    ResumableError,
    WorkersFailedError,
)
from ebox.workers import contract, local_crew, processes, watch
from ebox.workers.contract import Membership, Pipe, TrainTask, read_membership
from ebox.workers.local_crew import StartedWorker, find_free_port, list_gpus, share_cores, share_gpus
from ebox.workers.processes import MeetingError, is_cluster_task, is_member, is_on_loopback, join_group
from ebox.workers.watch import Watch
from processes import PlayedProcess


def test_exit_codes_are_those_that_are_documented():
    assert (EXIT_FAILED, EXIT_BAD_INPUT, EXIT_RESUMABLE, EXIT_LOST, EXIT_INTERRUPTED) == (1, 2, 75, 76, 130)
    assert (InputError.exit_code, WorkersFailedError.exit_code, ResumableError.exit_code) == (2, 1, 75)
    assert MeetingError.exit_code == 76


def test_a_task_is_read_back():
    task = TrainTask("data", "run", "[train]\nseed = 3\n", resume=True, command=("ebox", "train", "Söding"))
    assert TrainTask.read(task.write()) == task
    assert TrainTask.read(TrainTask("data", "run", "").write()) == TrainTask("data", "run", "", False, False, ())


class _Ended(Exception):
    pass


def _end(code: int) -> None:
    raise _Ended(code)


@pytest.fixture
def worker() -> Iterator[tuple[StartedWorker, Pipe, int]]:
    """The supervisor's end of a pipe, and the worker's; of a worker that runs until it is killed."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    made = StartedWorker(PlayedProcess(writing), reading, time.monotonic())
    yield made, Pipe(writing), writing
    if made.process.poll() is None:
        made.end()


def test_messages_come_whole_and_in_order_and_signs_of_life_are_left_out(worker: tuple[StartedWorker, Pipe, int]):
    started, pipe, writing = worker
    pipe.send("entry", {"step": 1})
    pipe.send("beat", {})
    os.write(writing, b'{"kind": "en')
    assert started.read() == [{"kind": "entry", "step": 1}]
    os.write(writing, b'try", "step": 2}\n')
    # More than is read at once.
    text = "x" * 40_000
    pipe.send("warning", {"text": text})
    assert started.read() == [{"kind": "entry", "step": 2}, {"kind": "warning", "text": text}]
    assert started.read() == []


def test_silence_counts_from_the_last_sign_of_life(worker: tuple[StartedWorker, Pipe, int]):
    started, pipe, _ = worker
    started.heard -= 30.0
    assert started.silence() >= 30.0
    assert started.read() == []
    assert started.silence() >= 30.0
    pipe.send("beat", {})
    assert started.read() == []
    assert started.silence() < 20.0


def test_the_last_words_of_a_worker_that_is_killed_are_heard(worker: tuple[StartedWorker, Pipe, int]):
    started, pipe, _ = worker
    pipe.send("prepared", {})
    assert started.end() == [{"kind": "prepared"}]
    assert not started.is_open
    assert started.silence() == 0.0


def test_a_worker_that_has_ended_is_not_killed():
    reading, writing = os.pipe()
    os.close(writing)
    assert StartedWorker(PlayedProcess(writing, code=0), reading, 0.0).end() == []


def test_a_worker_whose_supervisor_is_gone_ends(monkeypatch: pytest.MonkeyPatch):
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(os, "_exit", _end)
    with pytest.raises(_Ended, match=str(EXIT_LOST)):
        Pipe(writing).send("beat", {})
    os.close(writing)


# The exception that ends the thread.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_pipe_is_there_where_a_supervisor_gave_one_and_it_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch):
    def sleep(seconds: float) -> None:
        # Ends the thread, and it alone, after the second sign of life.
        slept.append(seconds)
        if len(slept) == 2:
            raise SystemExit

    slept: list[float] = []
    monkeypatch.setattr(contract, "time", SimpleNamespace(sleep=sleep))
    monkeypatch.delenv("EBOX_PIPE", raising=False)
    assert Pipe.from_environment() is None
    reading, writing = os.pipe()
    monkeypatch.setenv("EBOX_PIPE", str(writing))
    assert Pipe.from_environment() is not None
    for thread in threading.enumerate():
        if thread.name == "ebox-pipe":
            thread.join()
    assert os.read(reading, 100) == b'{"kind": "beat"}\n' * 2
    assert slept == [contract.BEAT_SECONDS] * 2
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    ("coordinator", "process", "count"),
    [
        ("host:", "0", "1"),
        (":1", "0", "1"),
        ("host:port", "0", "1"),
        ("host:1", "-1", "1"),
        ("host:1", "1", "1"),
        ("host:1", "0", "0"),
        ("host:1", "0", ""),
        ("host:1", "", "1"),
        ("", "0", "1"),
    ],
)
def test_what_describes_no_group_is_refused(coordinator: str, process: str, count: str):
    given = {"EBOX_COORDINATOR": coordinator, "EBOX_PROCESS": process, "EBOX_NUM_PROCESSES": count}
    with pytest.raises(InputError, match="EBOX_"):
        read_membership(given)


def test_a_group_of_one_is_a_group(monkeypatch: pytest.MonkeyPatch):
    for name, value in Membership("10.0.0.1:1", 0, 1).variables().items():
        monkeypatch.setenv(name, value)
    assert is_member()
    assert not is_on_loopback()
    monkeypatch.setenv("EBOX_COORDINATOR", "127.0.0.1:1")
    assert is_on_loopback()
    monkeypatch.setenv("EBOX_COORDINATOR", "0.0.0.0:1")
    assert not is_on_loopback()
    for name in Membership("10.0.0.1:1", 0, 1).variables():
        monkeypatch.delenv(name)
    assert not is_member()
    assert not is_on_loopback()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"PMI_SIZE": "2"}, True),
        ({"PMI_SIZE": "1", "OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"SLURM_STEP_NODELIST": "n1"}, False),
        ({"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_NUM_TASKS": "2"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, True),
        ({"JOB_COMPLETION_INDEX": "0"}, False),
    ],
)
def test_launchers_are_known_by_their_variables(environment: dict[str, str], expected: bool):
    assert is_cluster_task(environment) is expected


@pytest.fixture
def meeting(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What JAX is asked when a process joins a group; nobody is met."""
    asked: dict[str, Any] = {}
    for name in ("EBOX_COORDINATOR", "EBOX_PROCESS", "EBOX_NUM_PROCESSES", "EBOX_IN_GROUP"):
        monkeypatch.delenv(name, raising=False)
    # So that it is taken away again after the test.
    monkeypatch.setenv("EBOX_IN_GROUP", "")
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: False)
    monkeypatch.setattr(jax.config, "update", lambda name, value: asked.update({name: value}))
    monkeypatch.setattr(processes, "_prepare_gloo", lambda host: asked.update(gloo=host))

    def initialize(*address: Any, **options: Any) -> None:
        asked.update(address=address, **options)

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    return asked


def test_a_lone_process_meets_nobody(meeting: dict[str, Any]):
    assert join_group() is False
    assert meeting == {}
    assert os.environ["EBOX_IN_GROUP"] == ""


def test_one_that_has_met_the_others_does_not_meet_them_again(meeting: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    assert join_group() is True
    assert meeting == {}


@pytest.mark.parametrize(("host", "bind"), [("127.0.0.1", "127.0.0.1:4000"), ("10.0.0.1", "[::]:4000")])
def test_a_member_meets_the_others_where_it_was_told(
    meeting: dict[str, Any], monkeypatch: pytest.MonkeyPatch, host: str, bind: str
):
    for name, value in Membership(f"{host}:4000", 1, 3).variables().items():
        monkeypatch.setenv(name, value)
    assert join_group(heartbeat_seconds=28.4, start_seconds=2.0) is True
    assert meeting["address"] == (f"{host}:4000", 3, 1)
    assert meeting["coordinator_bind_address"] == bind
    assert (meeting["heartbeat_timeout_seconds"], meeting["initialization_timeout"]) == (28, 10)
    assert meeting["gloo"] == host
    assert meeting["jax_enable_preemption_service"] is False
    assert os.environ["EBOX_IN_GROUP"] == "1"


def test_the_tasks_of_a_cluster_find_each_other_by_themselves(meeting: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    assert join_group(heartbeat_seconds=3.0) is True
    assert (meeting["address"], meeting["gloo"]) == ((), "")
    assert (meeting["heartbeat_timeout_seconds"], meeting["initialization_timeout"]) == (10, 300)


def test_a_group_that_does_not_come_together_says_so(meeting: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    def fail(**options: Any) -> None:
        raise RuntimeError("DEADLINE_EXCEEDED: barrier\nmore lines")

    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(MeetingError, match=r"did not find each other: DEADLINE_EXCEEDED: barrier\n"):
        join_group()
    assert os.environ["EBOX_IN_GROUP"] == ""


@pytest.mark.parametrize(
    ("cores", "count", "shares"),
    [
        ([0, 1, 2, 3], 2, ["0,1", "2,3"]),
        ([4, 6, 9], 2, ["4", "6,9"]),
        ([0, 1], 2, ["0", "1"]),
        ([7], 2, [None, None]),
    ],
)
def test_cores_are_dealt_out_in_order_and_only_where_they_are_enough(
    monkeypatch: pytest.MonkeyPatch, cores: list[int], count: int, shares: list[str | None]
):
    monkeypatch.setattr(local_crew, "list_cores", lambda: cores)
    monkeypatch.setattr(local_crew.sys, "platform", "linux")
    assert [share_cores(number, count).get("EBOX_CORES") for number in range(count)] == shares
    monkeypatch.setattr(local_crew.sys, "platform", "darwin")
    assert share_cores(0, count) == {}


def test_gpus_are_those_that_the_process_may_see(monkeypatch: pytest.MonkeyPatch):
    assert list_gpus({"CUDA_VISIBLE_DEVICES": "4,GPU-8a"}) == ["4", "GPU-8a"]
    assert list_gpus({"CUDA_VISIBLE_DEVICES": ""}) == []
    found = [Path(f"/dev/nvidia{number}") for number in (1, 0)]
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(found))
    assert list_gpus({}) == ["0", "1"]


def test_gpus_are_shared_out_wholly_where_they_are_enough():
    shown = {"CUDA_VISIBLE_DEVICES": "a,b,c,d,e"}
    assert [share_gpus(shown, number, 3)["CUDA_VISIBLE_DEVICES"] for number in range(3)] == ["a", "b,c", "d,e"]
    assert share_gpus({"CUDA_VISIBLE_DEVICES": "a,b"}, 1, 2) == {"CUDA_VISIBLE_DEVICES": "b"}
    assert share_gpus({"CUDA_VISIBLE_DEVICES": "a"}, 0, 2) == share_gpus({"CUDA_VISIBLE_DEVICES": ""}, 0, 1) == {}


def test_a_free_port_is_one_to_listen_on():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", find_free_port("127.0.0.1")))


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


def _waits(monkeypatch: pytest.MonkeyPatch, steps: list[float], waited: float, rests: bool = False) -> bool:
    """Whether a watch of 6 seconds still waits, that long after steps at those times."""
    clock, looks = _Clock(), []  # type: _Clock, list[float]

    def sleep(seconds: float) -> None:
        if looks:
            raise _Ended
        looks.append(seconds)

    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=clock.monotonic, sleep=sleep))
    monkeypatch.setattr(watch.threading, "Thread", lambda **options: SimpleNamespace(start=lambda: None))
    monkeypatch.setattr(watch, "leave", lambda code, reason: _end(code))
    watched = Watch(6.0)
    for seconds in steps:
        clock.now += seconds
        watched.beat()
    if rests:
        watched.rest()
    clock.now += waited
    with pytest.raises(_Ended) as caught:
        watched._look()
    return caught.value.args != (EXIT_LOST,)


@pytest.mark.parametrize(
    ("steps", "waited", "waits"),
    [
        # Before the first step nothing is awaited.
        ([], 1e6, True),
        ([0.1], 5.9, True),
        ([0.1], 6.0, True),
        ([0.1], 6.1, False),
        # Ten times as long as the first, until one has been timed without the compilation.
        ([30.0], 299.0, True),
        ([30.0], 301.0, False),
        ([30.0, 1.0], 9.9, True),
        ([30.0, 1.0], 10.1, False),
        ([30.0, 2.0, 1.0], 19.9, True),
        ([30.0, 2.0, 1.0], 20.1, False),
    ],
)
def test_a_step_may_take_ten_times_as_long_as_the_slowest(
    monkeypatch: pytest.MonkeyPatch, steps: list[float], waited: float, waits: bool
):
    assert _waits(monkeypatch, steps, waited) is waits


def test_at_rest_nothing_is_awaited(monkeypatch: pytest.MonkeyPatch):
    assert _waits(monkeypatch, [0.1, 0.1], 1e6, rests=True)
