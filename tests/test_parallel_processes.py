"""Groups of real processes: the same model as one, and failures that end in recovery or a clear error."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import psutil
import pytest

import processes
from ebox.diagnosis.parity import make_dataset, relative_difference
from ebox.errors import EXIT_LOST, InputError
from ebox.mesh.devices import find_devices
from ebox.settings.reading import ParallelConfig
from ebox.workers.contract import LOOPBACK, Membership, read_membership
from ebox.workers.local_crew import share_cores, share_gpus
from ebox.workers.processes import CalmCollectives, MeetingError, is_cluster_task
from groups import (
    LONG,
    largest_difference,
    train,
    training,
    weights,
    workers_of,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def alone(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    train(dataset, out, {})
    return out


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two workers that nobody disturbs."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train(dataset, out, LONG, "--processes", "2")
    return out


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_give_the_model_of_one(dataset: Path, tmp_path: Path, alone: Path, processes: int):
    done = train(dataset, tmp_path / "run", {}, "--processes", str(processes))
    assert relative_difference(weights(alone), weights(tmp_path / "run")) < 1e-6
    # Offsets that start at zero are small after 50 steps, so of them alone it is more.
    assert largest_difference(alone, tmp_path / "run") < 5e-6
    facts = (tmp_path / "run" / "environment.json").read_text()
    assert f'"num_processes": {processes}' in facts
    assert "step 50/50" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_with_whole_groups_give_the_model_of_one(dataset: Path, tmp_path: Path, processes: int):
    # Batches of 32 hold four groups of 8.
    settings = {"train.batch_statistics": "group", "train.group_examples": 8, "train.batch_size": 32}
    train(dataset, tmp_path / "alone", settings)
    train(dataset, tmp_path / "run", settings, "--processes", str(processes))
    assert relative_difference(weights(tmp_path / "alone"), weights(tmp_path / "run")) < 1e-6
    messages = json.loads((tmp_path / "run" / "training.json").read_text())["communication"]["messages"]
    assert len(messages) == 1


@pytest.mark.slow
def test_a_killed_worker_leaves_no_trace_in_the_model(dataset: Path, tmp_path: Path, undisturbed: Path):
    with training(dataset, tmp_path / "run", LONG, "--processes", "2") as process:
        listening = {
            connection.laddr.ip
            for worker in workers_of(process)
            for connection in worker.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening
        assert all(_is_loopback(address) for address in listening)
        workers_of(process)[1].kill()
        output = process.finish(200)
    assert "worker 1 was ended by signal 9 (SIGKILL); starting again with 2 workers from step-" in output
    assert largest_difference(undisturbed, tmp_path / "run") == 0.0


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    return (address if mapped is None else mapped).is_loopback


@pytest.mark.slow
def test_a_hung_worker_is_noticed_and_leaves_no_trace_in_the_model(dataset: Path, tmp_path: Path, undisturbed: Path):
    settings = {**LONG, "parallel.stall_seconds": 6}
    with training(dataset, tmp_path / "run", settings, "--processes", "2") as process:
        workers_of(process)[1].send_signal(signal.SIGSTOP)
        began = time.monotonic()
        process.wait_until(lambda: len(workers_of(process)) == 0 or _restarted(tmp_path / "run"))
        assert time.monotonic() - began < 30.0
        output = process.finish(200)
    assert "gave no sign of life" in output
    assert largest_difference(undisturbed, tmp_path / "run") == 0.0


def _restarted(run: Path) -> bool:
    return (run / "logs" / "worker-0.log").read_text().count("Rank 0 is connected") > 1


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_group_that_is_told_to_stop_saves_and_goes_on_later(
    dataset: Path, tmp_path: Path, undisturbed: Path, number: int, code: int
):
    with training(dataset, tmp_path / "run", LONG, "--processes", "2", ends=code) as process:
        process.send_signal(number)
        output = process.finish(100)
    assert "--resume" in output
    assert not (tmp_path / "run" / "model").exists()
    train(dataset, tmp_path / "run", LONG, "--processes", "2", "--resume")
    assert largest_difference(undisturbed, tmp_path / "run") == 0.0


@pytest.mark.slow
def test_a_group_that_is_killed_whole_goes_on_later_and_leaves_no_worker(
    dataset: Path, tmp_path: Path, undisturbed: Path
):
    with training(dataset, tmp_path / "run", LONG, "--processes", "2", ends=-signal.SIGKILL) as process:
        workers = workers_of(process)
        assert len(workers) == 2
        process.send_signal(signal.SIGKILL)
    assert not any(map(processes.lives, workers))
    train(dataset, tmp_path / "run", LONG, "--processes", "2", "--resume")
    assert largest_difference(undisturbed, tmp_path / "run") == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("exchange", ["int8", "powersgd"])
def test_what_an_exchange_owes_survives_a_kill(dataset: Path, tmp_path: Path, exchange: str):
    flags = ("--processes", "2", "--exchange", exchange, "--rank", "1")
    train(dataset, tmp_path / "whole", LONG, *flags)
    with training(dataset, tmp_path / "run", LONG, *flags) as process:
        workers_of(process)[0].kill()
    assert largest_difference(tmp_path / "whole", tmp_path / "run") == 0.0


@pytest.mark.slow
def test_workers_that_fail_again_and_again_end_with_an_error(dataset: Path, tmp_path: Path):
    settings = {**LONG, "parallel.max_restarts": 1}
    with training(dataset, tmp_path / "run", settings, "--processes", "2", ends=1) as process:
        workers_of(process)[0].kill()
        process.wait_until(lambda: _restarted(tmp_path / "run"))
        workers_of(process)[0].kill()
        output = process.finish(100)
    assert "started again 1 times already" in output
    assert "Traceback" not in output
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


@pytest.mark.slow
def test_a_group_goes_on_with_fewer_workers(dataset: Path, tmp_path: Path):
    flags = ("--processes", "3", "--min-workers", "2", "--set", "parallel.max_restarts=8")
    with training(dataset, tmp_path / "run", LONG, *flags) as process:
        for _ in range(3):
            before = workers_of(process)
            before[-1].kill()
            process.wait_until(
                lambda before=before: len(workers_of(process)) >= 2 and not set(before) & set(workers_of(process))
            )
            if len(workers_of(process)) == 2:
                break
        output = process.finish(200)
    assert "starting again with 2 workers" in output


@pytest.mark.slow
def test_bad_settings_of_a_worker_come_back_as_one_message(dataset: Path, tmp_path: Path):
    done = train(dataset, tmp_path / "run", {"parallel.devices": 7}, "--processes", "2", ends=2)
    assert "parallel.devices asks for 7 devices" in done.stderr
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "flags", "found"),
    [
        ({"train.batch_size": 2}, ("--processes", "3"), "can't be shared by 3 workers"),
        ({}, ("--processes", "2", "--min-workers", "3"), "min_workers = 3 is more than"),
        ({}, ("--processes", "0"), "parallel.processes"),
        ({}, ("--exchange", "int4"), "'int4' is not one of 'exact'"),
        (
            {"train.batch_statistics": "group", "train.group_examples": 10, "train.device_batch_size": 8},
            (),
            "which are no whole groups of 10",
        ),
    ],
)
def test_impossible_groups_are_refused_before_anything_is_written(
    dataset: Path, tmp_path: Path, settings: Mapping[str, object], flags: tuple[str, ...], found: str
):
    done = train(dataset, tmp_path / "run", settings, *flags, ends=2)
    assert found in done.stderr
    assert not list((tmp_path / "run").glob("*"))


def test_fewer_gpus_than_processes_are_refused(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    done = train(dataset, tmp_path / "run", {}, "--processes", "2", ends=2)
    assert "there are 2 processes, and the number of GPUs is 1" in done.stderr
    assert "--processes 1, or --platform cpu" in done.stderr
    assert not list((tmp_path / "run").glob("*"))


def test_cores_are_dealt_out_without_overlap():
    cores = [share_cores(number, 2).get("EBOX_CORES", "") for number in range(2)]
    dealt = [core for text in cores for core in text.split(",") if core]
    assert len(dealt) == len(set(dealt))


def test_gpus_are_dealt_out_in_order():
    shown = {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}
    assert [share_gpus(shown, number, 2)["CUDA_VISIBLE_DEVICES"] for number in range(2)] == ["4,5", "6,7"]
    assert share_gpus({"CUDA_VISIBLE_DEVICES": "0"}, 0, 2) == {}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, False),
        ({"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_NUM_TASKS": "4"}, True),
        ({"SLURM_STEP_NODELIST": "n1", "SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({}, False),
    ],
)
def test_tasks_of_a_cluster_are_told_from_a_lone_process(environment: dict[str, str], expected: bool):
    assert is_cluster_task(environment) is expected


@pytest.mark.parametrize(("in_group", "found"), [(True, MeetingError), (False, InputError)])
def test_a_process_that_lost_another_one_while_it_looked_for_devices_says_so(
    monkeypatch: pytest.MonkeyPatch, in_group: bool, found: type[InputError]
):
    def fail() -> list[jax.Device]:
        raise RuntimeError("Unable to initialize backend 'cpu': UNAVAILABLE: recvmsg:Connection reset by peer")

    monkeypatch.setattr(jax, "devices", fail)
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: in_group)
    with pytest.raises(InputError, match="reset by peer") as caught:
        find_devices(ParallelConfig())
    assert type(caught.value) is found
    assert caught.value.exit_code == (EXIT_LOST if in_group else 2)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux schedules threads by themselves")
def test_the_threads_of_the_collectives_do_not_preempt_the_computation():
    done, found = threading.Event(), []

    def make(*, hostname: str) -> str:
        thread = threading.Thread(target=done.wait)
        thread.start()
        found.append(thread)
        return hostname

    assert CalmCollectives(make, {"hostname": LOOPBACK})() == LOOPBACK
    try:
        assert os.sched_getscheduler(found[0].native_id) == os.SCHED_BATCH
        assert os.sched_getscheduler(0) == os.SCHED_OTHER
    finally:
        done.set()
        found[0].join()


def test_a_membership_is_read_back():
    membership = Membership("10.0.0.1:4000", 1, 3)
    assert read_membership(membership.variables()) == membership
    assert read_membership({}) is None


@pytest.mark.parametrize(
    "environment",
    [
        {"EBOX_COORDINATOR": "host:1"},
        {"EBOX_COORDINATOR": "host", "EBOX_PROCESS": "0", "EBOX_NUM_PROCESSES": "2"},
        {"EBOX_COORDINATOR": "host:1", "EBOX_PROCESS": "2", "EBOX_NUM_PROCESSES": "2"},
        {"EBOX_COORDINATOR": "host:1", "EBOX_PROCESS": "one", "EBOX_NUM_PROCESSES": "2"},
    ],
)
def test_half_a_membership_is_refused(environment: dict[str, str]):
    with pytest.raises(InputError, match="EBOX_"):
        read_membership(environment)
