"""Training by workers, with nobody started: what is refused, what workers are told, and what their words lead to."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from ebox.errors import InputError
from ebox.models.network import Network
from ebox.settings.reading import Config, ParallelConfig, make_config, read_config_text
from ebox.storage.publishing import write_json
from ebox.training import group
from ebox.training.group import GradientActor, gradient_pool, parallel_of_server, train_in_group
from ebox.workers import local_crew, supervision
from ebox.workers.contract import TrainTask
from ebox.workers.ray_crew import Demand
from ebox.workers.ray_pool import Here
from ebox.workers.supervision import GroupPlan

Play = Callable[[GroupPlan, Callable[[Mapping[str, Any]], None], Callable[[str], None]], object]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No launcher, no scheduler and no GPU, and the result that a training would leave."""
    for name in ("EBOX_COORDINATOR", "EBOX_PROCESS", "EBOX_NUM_PROCESSES", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(group, "read_result", lambda folder: f"the result of {folder.name}")


class PlayedCrew:
    """Notes what it is started with."""

    started: list[tuple[list[str], int, Path, dict[str, str]]]

    def __init__(self, command: list[str], count: int, logs: Path, environment: Mapping[str, str]) -> None:
        self.started.append((command, count, logs, dict(environment)))


def _train(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    play: Play,
    *,
    resume: bool = False,
    overwrite: bool = False,
    entries: list[tuple[Any, int]] | None = None,
    **parallel: Any,
) -> Any:
    """Train in a group that `play` stands for."""
    monkeypatch.setattr(supervision, "supervise", play)
    monkeypatch.setattr(PlayedCrew, "started", [], raising=False)
    monkeypatch.setattr(local_crew, "LocalCrew", PlayedCrew)
    seen = [] if entries is None else entries
    return train_in_group(
        folder / "data",
        folder / "run",
        make_config({"parallel": {"processes": 2, **parallel}}),
        resume=resume,
        overwrite=overwrite,
        on_entry=lambda entry, num_steps: seen.append((entry, num_steps)),
        command=["ebox", "train"],
        worker_arguments=lambda task: ["-m", "worker", task.write()],
    )


def _task(place: int) -> TrainTask:
    """The task that the crew of this place was started with."""
    (program, *arguments), _, _, _ = PlayedCrew.started[place]
    assert (program, arguments[:2]) == (sys.executable, ["-m", "worker"])
    return TrainTask.read(arguments[2])


def test_workers_are_told_the_task_and_started_as_the_settings_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    plans = []

    def play(plan: GroupPlan, take: Any, on_restart: Any) -> None:
        plans.append(plan)
        plan.start(2, lambda: False)

    more = {"min_workers": 1, "max_restarts": 7, "stall_seconds": 9.0}
    assert _train(monkeypatch, tmp_path, play, **more) == "the result of run"
    task = _task(0)
    assert (task.dataset, task.out) == (str(tmp_path / "data"), str(tmp_path / "run"))
    assert (task.resume, task.overwrite, task.command) == (False, False, ("ebox", "train"))
    assert read_config_text(task.config).parallel.processes == 2
    plan, (_, count, logs, _) = plans[0], PlayedCrew.started[0]
    assert (plan.num_workers, plan.min_workers, plan.max_restarts, plan.stall_seconds) == (2, 1, 7, 9.0)
    assert plan.logs == logs == tmp_path / "run" / "logs"
    assert count == 2


def test_workers_share_what_they_compile_unless_the_user_says_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    found = []

    def play(plan: GroupPlan, take: Any, on_restart: Any) -> None:
        plan.start(2, lambda: False)
        variables = PlayedCrew.started[0][3]
        found.append({name: Path(value).is_dir() for name, value in variables.items()})

    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    _train(monkeypatch, tmp_path, play)
    assert not Path(PlayedCrew.started[0][3]["JAX_COMPILATION_CACHE_DIR"]).exists()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/somewhere")
    _train(monkeypatch, tmp_path, play)
    assert found == [{"JAX_COMPILATION_CACHE_DIR": True}, {}]


@pytest.mark.parametrize(("resume", "overwrite"), [(False, False), (False, True), (True, False)])
def test_once_the_folder_is_cleared_an_attempt_goes_on_with_what_is_in_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, resume: bool, overwrite: bool
):
    for name in ("step-000000010", "step-000000020"):
        (tmp_path / "run" / "checkpoints" / name).mkdir(parents=True)
    newest = []

    def play(plan: GroupPlan, take: Any, on_restart: Any) -> None:
        plan.start(2, lambda: False)
        newest.append(plan.newest_checkpoint())
        take({"kind": "prepared"})
        newest.append(plan.newest_checkpoint())
        plan.start(2, lambda: False)

    _train(monkeypatch, tmp_path, play, resume=resume, overwrite=overwrite)
    assert (_task(0).resume, _task(0).overwrite) == (resume, overwrite)
    assert (_task(1).resume, _task(1).overwrite) == (True, False)
    # What stands there before it is cleared is of another training.
    assert newest == ["step-000000020" if resume else None, "step-000000020"]


def test_a_group_without_a_checkpoint_has_no_newest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    newest = []
    _train(monkeypatch, tmp_path, lambda plan, take, warn: newest.append(plan.newest_checkpoint()), resume=True)
    assert newest == [None]


def test_what_workers_tell_reaches_who_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def play(plan: GroupPlan, take: Any, on_restart: Any) -> None:
        take({"kind": "entry", "entry": {"step": 10}, "num_steps": 50})
        take({"kind": "warning", "text": "look out"})
        take({"kind": "something newer"})
        on_restart("starting again")

    entries: list[tuple[Any, int]] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _train(monkeypatch, tmp_path, play, entries=entries)
    assert entries == [({"step": 10}, 50)]
    assert [(str(one.message), one.category) for one in caught] == [
        ("look out", RuntimeWarning),
        ("starting again", RuntimeWarning),
    ]


@pytest.mark.parametrize(
    ("settings", "variables", "problem"),
    [
        ({"train": {"batch_size": 1}}, {}, "a batch of 1 can't be shared by 2 workers"),
        ({"parallel": {"min_workers": 3}}, {}, "min_workers = 3 is more than the number of workers, 2"),
        ({}, {"OMPI_COMM_WORLD_SIZE": "2"}, "one of several tasks of a cluster's job"),
        ({}, {"CUDA_VISIBLE_DEVICES": "0"}, "there are 2 processes, and the number of GPUs is 1"),
        ({"parallel": {"platform": "gpu"}}, {"CUDA_VISIBLE_DEVICES": "0"}, "the number of GPUs is 1"),
    ],
)
def test_groups_that_can_not_be_are_refused(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], variables: dict[str, str], problem: str
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=problem):
        group._check_counts(_config(settings))


@pytest.mark.parametrize(
    ("settings", "gpus"),
    [
        ({"train": {"batch_size": 2}, "parallel": {"min_workers": 2}}, ""),
        ({}, "0,1"),
        ({"parallel": {"platform": "cpu"}}, "0"),
        # The GPUs of a cluster are counted there.
        ({"parallel": {"processes": 1, "cluster": "auto", "workers": 2}}, "0"),
    ],
)
def test_groups_that_can_be_are_not_refused(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], gpus: str):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    group._check_counts(_config(settings))


def _config(settings: Mapping[str, Any]) -> Config:
    return make_config({**settings, "parallel": {"processes": 2, **settings.get("parallel", {})}})


def test_the_result_of_a_group_is_read_from_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.undo()
    facts = {
        "steps": 50,
        "epochs": 1.5,
        "seconds": 2.0,
        "sequences_per_second": 9.0,
        "num_parameters": 7,
        "communication": {},
        "calibration": [],
        "ensemble": {},
    }
    write_json(tmp_path / "training.json", {**facts, "stopped": "steps", "best_step": 40, "format": "x"})

    network = object.__new__(Network)
    monkeypatch.setattr("ebox.models.files.load_model", lambda folder: SimpleNamespace(network=network))
    result: Any = group.read_result(tmp_path)
    assert (result.steps, result.epochs, result.best_step) == (50, 1.5, 40)
    assert (result.folder, result.network) == (tmp_path, network)


def test_the_server_leaves_the_devices_to_its_workers():
    for platform, expected in (("cpu", "cpu"), ("gpu", "auto"), ("tpu", "auto"), ("auto", "auto")):
        parallel = parallel_of_server(ParallelConfig(platform=platform, devices=4, node_devices=2))
        assert (parallel.platform, parallel.devices, parallel.node_devices) == (expected, 1, None)


def test_only_an_asynchronous_training_has_a_pool(tmp_path: Path):
    with gradient_pool(tmp_path, "print", make_config({"parallel": {"processes": 2}})) as pool:
        assert pool is None


ASYNC = {"parallel": {"sync": "async", "cluster": "local", "workers": 3, "min_workers": 2, "max_restarts": 5}}


class PlayedPool:
    made: list[tuple[Any, ...]]
    ended = 0

    def __init__(self, *args: Any) -> None:
        self.made.append(args)

    def __class_getitem__(cls, item: Any) -> type[PlayedPool]:
        return cls

    def end(self) -> None:
        PlayedPool.ended += 1


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    @contextmanager
    def connect(address: str) -> Any:
        yield None

    monkeypatch.setattr("ebox.workers.ray_connection.connect", connect)
    monkeypatch.setattr("ebox.workers.ray_pool.RayPool", PlayedPool)
    monkeypatch.setattr(Demand, "of", lambda parallel: HERE.demand)
    monkeypatch.setattr(PlayedPool, "made", [], raising=False)
    monkeypatch.setattr(PlayedPool, "ended", 0)
    return PlayedPool.made


@pytest.mark.parametrize(("least", "expected"), [(2, 2), (None, 1)])
def test_an_asynchronous_training_has_its_workers_as_long_as_it_lasts(
    pools: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    least: int | None,
    expected: int,
):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    config = make_config({"parallel": {**ASYNC["parallel"], "min_workers": least}})
    with pytest.raises(KeyError), gradient_pool(tmp_path, "print", config) as pool:
        assert isinstance(pool, PlayedPool)
        assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
        assert PlayedPool.ended == 0
        raise KeyError
    assert PlayedPool.ended == 1
    assert "XLA_PYTHON_CLIENT_PREALLOCATE" not in os.environ
    ((actor, _, limits, _, dataset, fingerprint, *_),) = pools
    assert (actor, dataset, fingerprint) == (GradientActor, str(tmp_path), "print")
    assert (limits.count, limits.least, limits.max_restarts) == (3, expected, 5)


@pytest.mark.parametrize(
    "variables",
    [
        {"EBOX_COORDINATOR": "127.0.0.1:1", "EBOX_PROCESS": "0", "EBOX_NUM_PROCESSES": "2"},
        {"OMPI_COMM_WORLD_SIZE": "2"},
    ],
)
def test_a_task_of_a_group_is_no_server(
    pools: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str]
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="one of several tasks"), gradient_pool(tmp_path, "x", make_config(ASYNC)):
        pass
    assert pools == []


class _Computer:
    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.asked = error, []  # type: Exception | None, list[int]

    def compute(self, ticket: int, weights: list[Any]) -> Any:
        self.asked.append(ticket)
        if self.error is not None:
            raise self.error
        return ticket


HERE = Here(Demand(2, 0), 0, 1)


def _actor(monkeypatch: pytest.MonkeyPatch, computer: _Computer) -> tuple[GradientActor, list[str]]:
    calls: list[str] = []
    monkeypatch.setattr(Here, "take", lambda self: calls.append("take"))
    monkeypatch.setattr(GradientActor, "_prepare", lambda self: calls.append("prepare") or computer)
    return GradientActor("data", "print", "1", ""), calls


def test_a_worker_of_the_server_takes_its_place_once_and_then_computes(monkeypatch: pytest.MonkeyPatch):
    computer = _Computer()
    actor, calls = _actor(monkeypatch, computer)
    for ticket in (7, 8):
        assert actor.compute(ticket, [], HERE) == ticket
    assert calls == ["take", "prepare"]
    assert computer.asked == [7, 8]


@pytest.mark.parametrize(
    ("text", "error"),
    [("RESOURCE_EXHAUSTED: out of memory", InputError), ("INTERNAL: broken", jax.errors.JaxRuntimeError)],
)
def test_a_worker_whose_memory_is_used_up_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, text: str, error: type[Exception]
):
    actor, _ = _actor(monkeypatch, _Computer(jax.errors.JaxRuntimeError(text)))
    with pytest.raises(error):
        actor.compute(1, [], HERE)
