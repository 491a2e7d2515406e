"""Workers on a Ray cluster: the model of local workers, recovery from lost workers and seats, and clear refusals."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from ebox.config import make_config
from ebox.errors import InputError
from ebox.parallel.cluster import connect
from ebox.parity import make_dataset
from ebox.publishing import read_json
from groups import LONG, command_of, environment, largest_difference, train, wait_until

TWO = ("--cluster", "local", "--workers", "2")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes of this machine, without Ray."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    done = train(dataset, out, LONG, "--processes", "2")
    assert done.returncode == 0, done.stderr
    return out


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'pip install "ebox\[cluster\]"'), connect("auto"):
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


@pytest.mark.slow
def test_an_address_without_a_cluster_is_an_error_with_the_remedy(dataset: Path, tmp_path: Path):
    pytest.importorskip("ray")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    done = train(dataset, tmp_path / "run", {}, "--cluster", address, "--workers", "2")
    assert done.returncode == 2, done.stderr
    assert "ray start --head" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_more_workers_than_there_is_room_for_are_refused(dataset: Path, tmp_path: Path):
    pytest.importorskip("ray")
    room = {"parallel.worker_cpus": psutil.cpu_count() or 1}
    done = train(dataset, tmp_path / "run", room, *TWO)
    assert done.returncode == 2, done.stderr
    assert "no room for 2 workers" in done.stderr
    assert "Traceback" not in done.stderr


def _worker(process: psutil.Process) -> bool:
    return "ebox.worker" in process.cmdline()


def _seat(process: psutil.Process) -> bool:
    return "Seat" in " ".join(process.cmdline())


def _descendants(process: subprocess.Popen[str], wanted: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            found += [child] if wanted(child) else []
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("wanted", "reason"), [(_worker, "SIGKILL"), (_seat, "lost with its machine")])
def test_a_lost_worker_or_machine_leaves_no_trace_in_the_model(
    wanted: Callable[[psutil.Process], bool], reason: str, dataset: Path, tmp_path: Path, undisturbed: Path
):
    pytest.importorskip("ray")
    out = tmp_path / "run"
    command = command_of(dataset, out, LONG, *TWO)
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_until(lambda: process.poll() is not None or any(out.glob("checkpoints/step-*")))
        before = _descendants(process, _worker)
        assert len(before) == 2
        _descendants(process, wanted)[-1].kill()
        output = process.communicate(timeout=300)[0]
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0, output
    assert reason in output
    assert "starting again with 2 workers from step-" in output
    assert largest_difference(undisturbed, out) == 0.0
    wait_until(lambda: not any(worker.is_running() for worker in before))


@pytest.mark.slow
def test_a_training_on_a_cluster_that_is_told_to_stop_is_saved_and_goes_on(
    dataset: Path, tmp_path: Path, undisturbed: Path
):
    pytest.importorskip("ray")
    out = tmp_path / "run"
    process = subprocess.Popen(
        command_of(dataset, out, LONG, *TWO),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_until(lambda: process.poll() is not None or any(out.glob("checkpoints/step-*")))
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 75, output
    assert time.monotonic() - began < 60
    again = train(dataset, out, LONG, *TWO, "--resume")
    assert again.returncode == 0, again.stderr
    assert largest_difference(undisturbed, out) == 0.0


@pytest.mark.slow
def test_an_asynchronous_training_goes_on_without_the_worker_it_lost(dataset: Path, tmp_path: Path):
    pytest.importorskip("ray")
    out = tmp_path / "run"
    command = command_of(dataset, out, LONG, *TWO, "--sync", "async")
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_until(lambda: process.poll() is not None or any(out.glob("checkpoints/step-*")))
        actors = _descendants(process, lambda one: "GradientActor" in " ".join(one.cmdline()))
        assert len(actors) == 2
        actors[0].kill()
        output = process.communicate(timeout=300)[0]
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0, output
    assert "steps late on average" in output
    facts = read_json(out / "training.json")
    assert facts["steps"] == LONG["train.max_steps"]
    assert facts["communication"]["staleness"]["max"] <= 4
    assert sum(facts["communication"]["gradients_by_worker"]) >= facts["steps"]


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
