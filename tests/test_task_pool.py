"""A pool of worker processes: every task is done once, a lost worker is replaced, and none outlives the pool."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

import processes
from ebox.errors import InputError
from ebox.workers.task_pool import TaskPool

# Answers with the double; dies where it is told to, once or always.
WORKER = """
import json, os, sys
from pathlib import Path
from ebox.workers.contract import Pipe
pipe = Pipe.from_environment()
for line in sys.stdin:
    task = json.loads(line)
    if "mark" in task and not Path(task["mark"]).exists():
        Path(task["mark"]).touch()
        os._exit(9)
    if task.get("dies"):
        os._exit(7)
    if task.get("refuses"):
        pipe.send("error", {"problem": "no GPU", "file": None, "line": None, "record": None, "remedy": "buy one"})
        os._exit(2)
    pipe.send("steps", {"task": task["task"], "steps": 1})
    pipe.send("done", {"task": task["task"], "double": 2 * task["value"], "pid": os.getpid()})
"""


def make_pool(folder: Path, count: int = 2) -> TaskPool:
    return TaskPool(processes.python(WORKER), count, folder / "logs", {"PYTHONPATH": os.environ.get("PYTHONPATH", "")})


def run(pool: TaskPool, tasks: list[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    ended: dict[int, Mapping[str, Any]] = {}

    def take(number: int, message: Mapping[str, Any]) -> None:
        if message["kind"] in ("done", "lost"):
            assert number not in ended
            ended[number] = message

    try:
        assert pool.run(tasks, take, lambda: False)
    finally:
        pool.end()
    return ended


def test_every_task_is_done_once_by_few_workers(tmp_path: Path):
    ended = run(make_pool(tmp_path), [{"value": value} for value in range(7)])
    assert [ended[number]["double"] for number in range(7)] == [0, 2, 4, 6, 8, 10, 12]
    pids = {message["pid"] for message in ended.values()}
    assert 1 <= len(pids) <= 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_task_whose_worker_is_lost_goes_to_another(tmp_path: Path):
    ended = run(make_pool(tmp_path), [{"value": 1}, {"value": 2, "mark": str(tmp_path / "mark")}, {"value": 3}])
    assert [ended[number]["double"] for number in range(3)] == [2, 4, 6]


def test_a_task_that_kills_its_workers_is_given_up(tmp_path: Path):
    ended = run(make_pool(tmp_path, 1), [{"value": 1, "dies": True}, {"value": 2}])
    assert ended[0]["kind"] == "lost"
    assert ended[0]["exit_code"] == 7
    assert Path(ended[0]["log"]).exists()
    assert ended[1]["double"] == 4


def test_an_error_of_a_worker_ends_all_with_its_words(tmp_path: Path):
    with pytest.raises(InputError, match="no GPU") as caught:
        run(make_pool(tmp_path), [{"value": 1, "refuses": True}, {"value": 2}])
    assert caught.value.remedy == "buy one"


def test_a_pool_that_is_stopped_kills_its_workers(tmp_path: Path):
    pool, pids = make_pool(tmp_path, 1), []

    def take(number: int, message: Mapping[str, Any]) -> None:
        pids.extend([message["pid"]] if message["kind"] == "done" else [])

    assert not pool.run([{"value": value} for value in range(200)], take, lambda: bool(pids))
    assert 0 < len(pids) < 200
    assert not psutil.pid_exists(pids[0])


def test_a_worker_of_a_search_ends_when_the_search_is_gone(tmp_path: Path):
    """The worker itself: it reads no task, only that there will be none."""
    program = (
        "import sys, threading, queue, time\nfrom ebox.verbs.tune_worker import _read_tasks\n"
        "threading.Thread(target=_read_tasks, args=(queue.Queue(),), daemon=True).start()\ntime.sleep(60)"
    )
    began = time.monotonic()
    processes.run(processes.python(program), ends=76)
    assert time.monotonic() - began < 30.0
