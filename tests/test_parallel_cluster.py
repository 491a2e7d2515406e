"""Workers on a Ray cluster: the model of local workers, recovery from lost workers and seats, and clear refusals."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

import processes
from ebox.datasets.folder import open_dataset
from ebox.diagnosis.parity import make_dataset
from ebox.errors import InputError, ResumableError, WorkersFailedError
from ebox.settings.reading import make_config
from ebox.storage.publishing import read_json
from ebox.training.group import GradientActor
from ebox.version import __version__
from ebox.workers.machine import list_cores
from ebox.workers.ray_connection import connect
from ebox.workers.ray_crew import Demand, share_of_cpus
from ebox.workers.supervision import GroupPlan, StartFailedError, supervise
from groups import LONG, largest_difference, train, training

# Not by importing it: what Ray takes over at its import is for ebox to set.
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: the extra cluster brings it")
TWO = ("--cluster", "local", "--workers", "2")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes of this machine, without Ray."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train(dataset, out, LONG, "--processes", "2")
    return out


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"python\S* -m pip install 'ray>="), connect("auto"):
        pass


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"workers": 2}, "cluster must say which"),
        ({"cluster": "auto", "processes": 2}, "workers says how many"),
        ({"cluster": "auto", "workers": 0}, "greater than 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object], problem: str):
    with pytest.raises(InputError, match=problem):
        make_config({"parallel": settings})


@pytest.mark.parametrize(
    ("cpus", "workers", "each"),
    [([8, 8], 3, 4), ([8, 8], 2, 8), ([16, 4], 3, 5), ([2], 2, 1), ([1], 2, 1), ([64], 1, 64), ([], 4, 1)],
)
def test_the_default_share_of_cpus_leaves_room_for_all(cpus: list[int], workers: int, each: int):
    assert share_of_cpus(cpus, workers) == each
    if each > 1:
        assert sum(one // each for one in cpus) >= workers


def test_workers_of_one_machine_have_cores_of_their_own():
    two = Demand(2, 0)
    cores = list_cores()
    if len(cores) >= 2:
        shares = [set(Demand(1, 0).cores(number, 2)) for number in range(2)]
        assert not shares[0] & shares[1]
    assert set(two.cores(0, len(cores) + 1)) == set(cores)
    assert two.variables() == {"CUDA_VISIBLE_DEVICES": ""}
    assert Demand(2, 1).variables() == {}


class _NoCrew:
    """A crew that is lost while it starts, `failures` times; then one that has done its work, but for odd numbers."""

    def __init__(self, failures: int, order: int | None = None) -> None:
        self.failures, self.order, self.counts = failures, order, []  # type: int, int | None, list[int]
        self.told: list[dict[str, Any]] = []

    def start(self, count: int, is_stopped: Callable[[], bool]) -> _NoCrew:
        self.counts.append(count)
        if self.order is not None:
            signal.raise_signal(self.order)
        if len(self.counts) <= self.failures:
            raise StartFailedError("was lost while it was started")
        if count % 2:
            raise InputError("they don't come out even")
        return self

    def listen(self, seconds: float) -> list[dict[str, Any]]:
        return []

    def codes(self) -> list[int | None]:
        return [0]

    def silences(self) -> list[float]:
        return [0.0]

    def send_signal(self, number: int) -> None:
        pass

    def end(self, seconds: float) -> list[dict[str, Any]]:
        return self.told


def _plan(crew: _NoCrew, **more: Any) -> GroupPlan:
    return GroupPlan(crew.start, 2, Path("logs"), lambda: None, **more)


def test_a_machine_lost_at_the_start_counts_as_a_failure_of_the_attempt():
    crew, told = _NoCrew(2), []  # type: _NoCrew, list[str]
    assert supervise(_plan(crew), lambda message: None, told.append) == 2
    assert len(told) == 2
    assert "was lost while it was started" in told[0]
    with pytest.raises(WorkersFailedError, match="already"):
        supervise(_plan(_NoCrew(9), max_restarts=1), lambda message: None, told.append)


def test_fewer_workers_that_are_no_group_make_way_for_still_fewer():
    crew, told = _NoCrew(2), []  # type: _NoCrew, list[str]
    plan = replace(_plan(crew), num_workers=4, min_workers=2)
    assert supervise(plan, lambda message: None, told.append) == 2
    assert crew.counts == [4, 4, 3, 2]
    assert told[-1] == "3 workers can't go on (they don't come out even); starting again with 2"
    # What is wrong from the start, or with the fewest, is an error.
    with pytest.raises(InputError, match="come out even"):
        supervise(replace(_plan(_NoCrew(0)), num_workers=3, min_workers=1), lambda message: None, told.append)
    with pytest.raises(InputError, match="come out even"):
        supervise(replace(_plan(_NoCrew(2)), num_workers=4, min_workers=3), lambda message: None, told.append)


def test_what_workers_told_last_is_heard():
    crew, heard = _NoCrew(0), []  # type: _NoCrew, list[Any]
    crew.told = [{"kind": "prepared"}]
    supervise(_plan(crew), heard.append, lambda text: None)
    assert heard == [{"kind": "prepared"}]


@pytest.mark.parametrize(("order", "error"), [(signal.SIGTERM, ResumableError), (signal.SIGINT, KeyboardInterrupt)])
def test_an_order_to_stop_while_workers_start_is_heeded(order: int, error: type[BaseException]):
    crew = _NoCrew(9, order)
    with pytest.raises(error):
        supervise(_plan(crew), lambda message: None, lambda text: None)
    assert crew.counts == [2]


# In a process of its own: Ray forks, which one that runs JAX must not.
LISTENERS = """
import json, os, signal
import psutil
from ebox.workers.ray_connection import connect

before = signal.getsignal(signal.SIGTERM)
with connect("local"):
    pass
with connect("local"):
    me = psutil.Process()
    listening = [
        (one.name(), connection.laddr.ip)
        for one in (me, *me.children(recursive=True))
        for connection in one.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
same = signal.getsignal(signal.SIGTERM) is before
print(json.dumps({"listening": listening, "same_handler": same, "token_left": "RAY_AUTH_TOKEN" in os.environ}))
"""


@needs_ray
@pytest.mark.slow
def test_a_local_cluster_listens_on_loopback_alone_and_leaves_no_handler():
    done = processes.run(processes.python(LISTENERS))
    found = json.loads(done.stdout.splitlines()[-1])
    assert any(name == "gcs_server" for name, _ in found["listening"])
    assert {ip.removeprefix("::ffff:") for _, ip in found["listening"]} == {"127.0.0.1"}
    assert found["same_handler"]
    assert not found["token_left"]


@needs_ray
@pytest.mark.slow
def test_an_address_without_a_cluster_is_an_error_with_the_remedy(dataset: Path, tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    done = train(dataset, tmp_path / "run", {}, "--cluster", address, "--workers", "2", ends=2)
    assert "ray start --head" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


@needs_ray
@pytest.mark.slow
def test_more_workers_than_there_is_room_for_are_refused(dataset: Path, tmp_path: Path):
    room = {"parallel.worker_cpus": psutil.cpu_count() or 1}
    done = train(dataset, tmp_path / "run", room, *TWO, ends=2)
    assert "no room for 2 workers" in done.stderr
    assert "Traceback" not in done.stderr


def _worker(process: psutil.Process) -> bool:
    return "ebox.verbs.train_worker" in process.cmdline()


def _seat(process: psutil.Process) -> bool:
    return "Seat" in " ".join(process.cmdline())


def _descendants(process: processes.Started, wanted: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    found = []
    for child in process.children(recursive=True):
        try:
            found += [child] if wanted(child) else []
        except psutil.Error:
            continue
    return found


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize(("wanted", "reason"), [(_worker, "SIGKILL"), (_seat, "lost with its machine")])
def test_a_lost_worker_or_machine_leaves_no_trace_in_the_model(
    wanted: Callable[[psutil.Process], bool], reason: str, dataset: Path, tmp_path: Path, undisturbed: Path
):
    out = tmp_path / "run"
    with training(dataset, out, LONG, *TWO) as process:
        before = _descendants(process, _worker)
        assert len(before) == 2
        _descendants(process, wanted)[-1].kill()
        output = process.finish()
    assert reason in output
    assert "starting again with 2 workers from step-" in output
    assert largest_difference(undisturbed, out) == 0.0
    assert not any(map(processes.lives, before))


@needs_ray
@pytest.mark.slow
def test_a_training_on_a_cluster_that_is_told_to_stop_is_saved_and_goes_on(
    dataset: Path, tmp_path: Path, undisturbed: Path
):
    out = tmp_path / "run"
    with training(dataset, out, LONG, *TWO, ends=75) as process:
        process.send_signal(signal.SIGTERM)
        process.finish(60)
    train(dataset, out, LONG, *TWO, "--resume")
    assert largest_difference(undisturbed, out) == 0.0


@needs_ray
@pytest.mark.slow
def test_an_asynchronous_training_goes_on_without_the_worker_it_lost(dataset: Path, tmp_path: Path):
    out = tmp_path / "run"
    with training(dataset, out, LONG, *TWO, "--sync", "async") as process:
        actors = _descendants(process, lambda one: "GradientActor" in " ".join(one.cmdline()))
        assert len(actors) == 2
        actors[0].kill()
        output = process.finish()
    assert re.search(r"worker \d is gone .*: starting another in its place", output)
    assert "steps late on average" in output
    facts = read_json(out / "training.json")
    assert facts["steps"] == LONG["train.max_steps"]
    assert facts["communication"]["staleness"]["max"] <= 4
    assert sum(facts["communication"]["gradients_by_worker"]) >= facts["steps"]


@needs_ray
@pytest.mark.slow
def test_an_asynchronous_training_ends_where_too_few_workers_are_left(dataset: Path, tmp_path: Path):
    more = ("--sync", "async", "--min-workers", "2", "--set", "parallel.max_restarts=0")
    with training(dataset, tmp_path / "run", LONG, *TWO, *more, ends=1) as process:
        _descendants(process, lambda one: "GradientActor" in " ".join(one.cmdline()))[0].kill()
        output = process.finish()
    assert "1 of 2 workers on the Ray cluster are left" in output


def test_a_worker_that_has_another_dataset_or_ebox_is_refused(dataset: Path):
    fingerprint = open_dataset(dataset).fingerprint
    with pytest.raises(InputError, match="has the dataset's fingerprint = "):
        GradientActor(str(dataset), "another", __version__, "").place()
    with pytest.raises(
        InputError, match=f"has ebox = {re.escape(__version__)}, and the machine that started it has 0.0.0"
    ):
        GradientActor(str(dataset), fingerprint, "0.0.0", "").place()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"sync": "async"}, "cluster must say which"),
        ({"sync": "async", "cluster": "local", "exchange": "int8"}, "exchange must be exact"),
    ],
)
def test_async_is_refused_where_it_makes_no_sense(settings: dict[str, object], problem: str):
    with pytest.raises(InputError, match=problem):
        make_config({"parallel": settings})
