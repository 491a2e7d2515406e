"""The end of a crew of this machine, and the threads of its collectives, without starting a process."""

from __future__ import annotations

import os
import selectors
import sys
import threading
from types import SimpleNamespace
from typing import Any

import jax
import pytest
from jaxlib import _jax

from ebox.workers import local_crew, processes
from ebox.workers.contract import Pipe
from ebox.workers.local_crew import LocalCrew, StartedWorker
from ebox.workers.processes import CalmCollectives, join_group
from processes import PlayedProcess


class _EndingProcess(PlayedProcess):
    """A played process that ends by itself at a moment of a played clock."""

    def __init__(self, handle: int, ends_at: float) -> None:
        super().__init__(handle)
        self.ends_at, self.now = ends_at, 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self.ends_at and self.code is None:
            self.code = 0
            os.close(self.handle)


@pytest.mark.parametrize(("seconds", "ends_at", "code"), [(5.0, 0.2, 0), (0.2, 5.0, -9), (0.0, 5.0, -9)])
def test_a_crew_that_is_ended_may_end_by_itself_for_a_while(
    monkeypatch: pytest.MonkeyPatch, seconds: float, ends_at: float, code: int
):
    reading, writing = os.pipe()
    played = _EndingProcess(writing, ends_at)
    monkeypatch.setattr(local_crew, "time", SimpleNamespace(monotonic=lambda: played.now, sleep=played.sleep))
    crew = object.__new__(LocalCrew)
    crew.workers, crew.selector = [StartedWorker(played, reading, 0.0)], selectors.DefaultSelector()
    assert crew.codes() == [None]
    Pipe(writing).send("prepared", {})
    assert crew.end(seconds) == [{"kind": "prepared"}]
    assert crew.codes() == [code]


def test_a_group_waits_as_long_for_a_heartbeat_as_a_watch_does_by_default(monkeypatch: pytest.MonkeyPatch):
    asked: dict[str, Any] = {}
    monkeypatch.setenv("EBOX_IN_GROUP", "")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: False)
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)
    monkeypatch.setattr(processes, "_prepare_gloo", lambda host: None)
    monkeypatch.setattr(jax.distributed, "initialize", lambda **options: asked.update(options))
    assert join_group() is True
    assert asked == {"heartbeat_timeout_seconds": 25, "initialization_timeout": 300}


@pytest.mark.parametrize(("host", "options"), [("127.0.0.1", {"hostname": "127.0.0.1"}), ("10.0.0.1", {}), ("", {})])
def test_collectives_are_made_calm_once_and_on_loopback_alone_where_the_group_is(
    monkeypatch: pytest.MonkeyPatch, host: str, options: dict[str, str]
):
    monkeypatch.setattr(_jax, "make_gloo_tcp_collectives", lambda **given: given)
    processes._prepare_gloo(host)
    processes._prepare_gloo("127.0.0.1")
    assert _jax.make_gloo_tcp_collectives(a=1) == {"a": 1, **options}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux schedules threads by themselves")
def test_only_threads_that_the_collectives_start_become_batch_threads():
    done, threads = threading.Event(), [threading.Thread(target=lambda: done.wait()) for _ in range(2)]
    threads[0].start()
    before = [os.sched_getscheduler(number) for number in (0, threads[0].native_id or 0)]
    try:
        made = CalmCollectives(lambda **options: threads[1].start() or options, {"hostname": "x"})(a=1)
        assert made == {"a": 1, "hostname": "x"}
        assert os.sched_getscheduler(threads[1].native_id or 0) == os.SCHED_BATCH
        assert [os.sched_getscheduler(number) for number in (0, threads[0].native_id or 0)] == before
    finally:
        done.set()
        for thread in threads:
            thread.join()
