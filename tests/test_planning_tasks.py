"""Tasks: what is written for SkyPilot, SLURM and Ray runs the training that the option means, whatever its names."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

import processes
from ebox.errors import InputError
from ebox.planning.prices import read_prices
from ebox.planning.tasks import TASKS, Task, format_ray, format_skypilot, format_slurm, write_task
from ebox.settings.reading import read_config

HARDWARE = read_prices().hardware
HOSTILE = "da ta'\"$(touch hacked)`touch hacked`;&\n  é\U0001f9ec*\\"
# Stands for a program: notes its name, arguments and variables, and ends with the next code of a list.
STUB = r"""#!/bin/sh
name=${0##*/}
printf '%s\0' "$name" "$@" "$EBOX_COORDINATOR|$EBOX_PROCESS|$EBOX_NUM_PROCESSES" >> "$STUBS/calls"
printf '\036\0' >> "$STUBS/calls"
case $name in
  srun) while [ "${1#--}" != "$1" ]; do shift; done; exec "$@" ;;
  ebox) read -r code rest < "$STUBS/codes"; echo "$rest" > "$STUBS/codes"; exit "$code" ;;
esac
"""


def option(**changes: Any) -> dict[str, Any]:
    facts = {
        "id": "nebius-h200-x1-spot-b64-exact",
        "offer": "nebius-h200",
        "provider": "Nebius",
        "hardware": "H200-SXM",
        "platform": "cuda",
        "price_kind": "spot",
        "num_devices": 1,
        "num_machines": 1,
        "batch_size": 64,
        "precision": "bfloat16",
        "exchange": "exact",
        "sync": "every-step",
        "jobs": {"one": {"seconds": {"value": 60.0, "low": 40.0, "high": 301.0}}},
    }
    return {**facts, **changes}


TPU = option(hardware="TPU-v5e", platform="tpu", provider="GCP", num_devices=16, price_kind="on_demand")
CPU = option(hardware="CPU-16-vCPU", platform="cpu", provider="GCP", num_devices=2, num_machines=2, precision="float32")


@pytest.fixture
def task(tmp_path: Path) -> Task:
    package = tmp_path / "source"
    package.mkdir()
    (package / "pyproject.toml").write_text("")
    return Task(tmp_path / HOSTILE, tmp_path / f"run {HOSTILE}", ("train.epochs=3", "data.track=a b'c"), package)


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """A folder of programs that only note how they were called."""
    folder = tmp_path / "stubs"
    folder.mkdir()
    for name in ("ebox", "srun", "scontrol", "sleep", "uv"):
        (folder / name).write_text(STUB)
        (folder / name).chmod(stat.S_IRWXU)
    (folder / "codes").write_text("0 " * 40)
    return folder


def run(command: list[str], stubs: Path, *, ends: int, **variables: str) -> list[list[str]]:
    """Run a command where the stubs stand first; the calls that they noted, each with its variables at the end."""
    path = f"{stubs}{os.pathsep}{os.environ['PATH']}"
    with processes.started(command, ends=ends, variables={"PATH": path, "STUBS": str(stubs), **variables}, cwd=stubs):
        pass
    assert not (stubs / "hacked").exists()
    calls = (stubs / "calls").read_text().split("\0\x1e\0")[:-1]
    return [call.split("\0") for call in calls]


def check_call(call: list[str], dataset: str, out: str, task: Task, facts: dict[str, Any]) -> None:
    """That a call of `ebox` trains what the option means."""
    words = call[:-1]
    assert words[:4] == ["ebox", "train", f"--out={out}", "--resume"]
    assert words[-2:] == ["--", dataset]
    settings = [word.removeprefix("--set=") for word in words[4:-2]]
    assert settings[: len(task.overrides)] == list(task.overrides)
    config = read_config(None, settings)
    assert (config.train.epochs, config.data.track) == (3.0, "a b'c")
    assert (config.train.batch_size, config.train.precision) == (facts["batch_size"], facts["precision"])
    assert (config.parallel.exchange, config.parallel.sync) == (facts["exchange"], "every-step")


@pytest.mark.parametrize("facts", [option(), CPU, option(num_devices=16, num_machines=2)], ids=["gpu", "cpu", "gpus"])
def test_a_slurm_script_trains_what_the_option_means(task: Task, stubs: Path, facts: dict[str, Any]):
    text = format_slurm(facts, task, HARDWARE[facts["hardware"]])
    script = stubs / "job.sh"
    script.write_text(text)
    started, trained = run(["bash", "-c", "bash -n job.sh && bash job.sh"], stubs, ends=0)
    assert started[0] == "srun"
    assert "--kill-on-bad-exit=1" in started
    check_call(trained, str(task.dataset), str(task.out), task, facts)


def test_a_slurm_job_goes_on_where_it_can(task: Task, stubs: Path):
    (stubs / "job.sh").write_text(format_slurm(option(), task, HARDWARE["H200-SXM"]))
    (stubs / "more.sh").write_text(format_slurm(option(num_machines=2, num_devices=2), task, HARDWARE["H200-SXM"]))
    cases = [("job", 75, 0), ("job", 76, 3), ("job", 134, 0), ("job", 75, 10), ("job", 2, 0), ("job", 1, 0)]
    cases += [("job", 0, 0), ("job", 137, 0), ("more", 137, 0)]
    (stubs / "codes").write_text(" ".join(str(code) for _, code, _ in cases))
    lines = (
        f"SLURM_JOB_ID={number} SLURM_RESTART_COUNT={restarts} bash {name}.sh; [ $? = {code} ] || exit 99"
        for number, (name, code, restarts) in enumerate(cases)
    )
    calls = run(["bash", "-c", "\n".join(lines)], stubs, ends=0)
    assert [call[:-1] for call in calls if call[0] == "scontrol"] == [
        ["scontrol", "requeue", number] for number in ("0", "1", "2", "8")
    ]


def test_a_slurm_script_asks_for_the_machines_of_the_option(task: Task):
    text = format_slurm(option(num_devices=16, num_machines=2), task, HARDWARE["H200-SXM"])
    asked = " ".join(line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH"))
    assert "--nodes=2 --ntasks-per-node=1 --gpus-per-node=8" in asked
    assert "--signal=TERM@60" in asked
    assert "--time=21 " in asked
    assert "export JAX_LOCAL_DEVICE_IDS=0,1,2,3,4,5,6,7\n" in text
    assert "--cpus-per-task=16" in format_slurm(CPU, task, HARDWARE["CPU-16-vCPU"])
    assert "--exclusive" in format_slurm({**CPU, "hardware": None}, task, None)


def test_a_ray_job_trains_what_the_option_means(task: Task, stubs: Path):
    facts = option(num_devices=4, num_machines=1)
    (stubs / "job.py").write_text(format_ray(facts, task, HARDWARE["H200-SXM"]))
    package = stubs / "ray" / "job_submission"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").write_text(
        "import subprocess\n"
        "class JobSubmissionClient:\n"
        "    def __init__(self, address): self.address = address\n"
        "    def submit_job(self, *, entrypoint, metadata):\n"
        "        self.code = subprocess.run(entrypoint, shell=True).returncode\n"
        "        return 'job'\n"
        "    async def tail_job_logs(self, job): yield 'log'\n"
        "    def get_job_status(self, job): return 'FAILED' if self.code else 'SUCCEEDED'\n"
    )
    (stubs / "codes").write_text("75 76 0")
    calls = run([sys.executable, str(stubs / "job.py")], stubs, ends=0, PYTHONPATH=str(stubs))
    calls = [call for call in calls if call[0] == "ebox"]
    assert len(calls) == 3
    for call in calls:
        check_call(call, str(task.dataset), str(task.out), task, facts)
    config = read_config(None, [word.removeprefix("--set=") for word in calls[0] if word.startswith("--set=")])
    assert (config.parallel.cluster, config.parallel.workers, config.parallel.worker_gpus) == ("auto", 4, 1)


@pytest.mark.parametrize("facts", [option(), TPU, CPU], ids=["gpu", "tpu", "cpu"])
def test_a_skypilot_task_trains_what_the_option_means(task: Task, stubs: Path, facts: dict[str, Any]):
    yaml = pytest.importorskip("yaml")
    read = yaml.safe_load(format_skypilot(facts, task, HARDWARE[facts["hardware"]]))
    assert set(read) == {"name", "num_nodes", "resources", "file_mounts", "setup", "run"}
    assert read["file_mounts"]["~/ebox-dataset"] == str(task.dataset)
    assert read["file_mounts"]["/ebox-runs"] == {"name": task.name, "mode": "MOUNT_CACHED", "persistent": True}
    home = stubs / "home"
    (home / "ebox-env" / "bin").mkdir(parents=True)
    shutil.copy(stubs / "ebox", home / "ebox-env" / "bin" / "ebox")
    variables = {
        "HOME": str(home),
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
        "SKYPILOT_NODE_RANK": "1",
        "SKYPILOT_NUM_NODES": "2",
    }
    (trained,) = run(["bash", "-c", read["run"]], stubs, ends=0, **variables)
    check_call(trained, f"{home}/ebox-dataset", f"/ebox-runs/{task.name}", task, facts)
    assert trained[-1] == ("10.0.0.1:29400|1|2" if facts is CPU else "||")


def test_a_skypilot_task_asks_for_the_machines_of_the_option(task: Task):
    yaml = pytest.importorskip("yaml")

    def resources(facts: dict[str, Any]) -> dict[str, Any]:
        return yaml.safe_load(format_skypilot(facts, task, HARDWARE[facts["hardware"]]))["resources"]

    spot = resources(option(num_devices=16, num_machines=2))
    assert (spot["infra"], spot["accelerators"], spot["use_spot"]) == ("nebius", "H200:8", True)
    assert spot["job_recovery"] == {"max_restarts_on_errors": 0, "recover_on_exit_codes": [75, 76, 134]}
    assert resources(TPU)["accelerators"] == "tpu-v5litepod-16"
    assert resources({**TPU, "hardware": "TPU-v4"})["accelerators"] == "tpu-v4-32"
    assert resources(CPU)["cpus"] == "16"
    assert not resources(TPU)["use_spot"]


@pytest.mark.parametrize(
    ("facts", "extra"), [(option(), "[cuda]"), (TPU, "[tpu]"), (CPU, "")], ids=["gpu", "tpu", "cpu"]
)
def test_skypilot_installs_ebox_with_what_the_device_needs(task: Task, stubs: Path, facts: dict[str, Any], extra: str):
    yaml = pytest.importorskip("yaml")
    wheel = stubs / "ebox-0.1.0-py3-none-any.whl"
    wheel.touch()
    packages = {
        Task(task.dataset, task.out, package=task.package): f"{stubs}/ebox-source{extra}",
        Task(task.dataset, task.out, package=wheel): f"ebox{extra} @ file://{stubs}/{wheel.name}",
    }
    for one, wanted in packages.items():
        (stubs / "calls").unlink(missing_ok=True)
        setup = yaml.safe_load(format_skypilot(facts, one, HARDWARE[facts["hardware"]]))["setup"]
        calls = run(["bash", "-c", setup], stubs, ends=0, HOME=str(stubs))
        python = f"{stubs}/ebox-env/bin/python"
        assert [call[:-1] for call in calls][-1] == ["uv", "pip", "install", "--python", python, wanted]


def test_an_odd_text_is_one_yaml_text(task: Task):
    yaml = pytest.importorskip("yaml")
    odd = Task(Path("/a\x7f\x85\u2028\tb"), task.out, package=task.package)
    read = yaml.safe_load(format_skypilot(option(), odd, HARDWARE["H200-SXM"]))
    assert read["file_mounts"]["~/ebox-dataset"] == str(odd.dataset)


def test_names_are_those_that_clouds_take(task: Task):
    for out in ("runs/TAL1", "runs/-", "runs/été", "x" * 300, "runs/a\nb"):
        name = Task(task.dataset, Path(out)).name
        assert len(name) <= 63
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert not name.endswith("-")
    assert Task(task.dataset, Path("a/run")).name != Task(task.dataset, Path("b/run")).name


@pytest.mark.parametrize(
    ("kind", "facts", "problem"),
    [
        ("slurm", TPU, "TPU slices are not had through slurm"),
        ("ray", TPU, "TPU slices are not had through ray"),
        ("slurm", option(sync="async"), "on Ray alone"),
        ("skypilot", option(price_kind="owned"), "needs no cloud"),
        ("skypilot", option(hardware="mine"), "SkyPilot's name of mine is not known"),
        ("slurm", option(exchange="gzip"), "parallel.exchange"),
    ],
)
def test_what_can_not_be_written_is_refused(task: Task, tmp_path: Path, kind: str, facts: dict[str, Any], problem: str):
    with pytest.raises(InputError, match=problem):
        write_task(kind, facts, task, HARDWARE.get(facts["hardware"]), tmp_path / "tasks")
    assert not (tmp_path / "tasks").exists()


@pytest.mark.parametrize("kind", TASKS)
def test_a_text_that_no_script_holds_and_a_bad_setting_are_refused(task: Task, tmp_path: Path, kind: str):
    for bad in (
        Task(Path("a\0b"), task.out),
        Task(Path("a\udc80"), task.out),
        Task(task.dataset, task.out, ("train.epoch=3",)),
    ):
        with pytest.raises(InputError, match=r"can't stand in a script|did you mean 'train.epochs'"):
            write_task(kind, option(), bad, HARDWARE["H200-SXM"], tmp_path / "tasks")


def test_other_machines_need_an_ebox_to_install(task: Task, tmp_path: Path):
    bare = Task(task.dataset, task.out, package=tmp_path / "stubs")
    with pytest.raises(InputError, match="neither a wheel of ebox nor its source"):
        format_skypilot(option(), bare, HARDWARE["H200-SXM"])
    own = Task(task.dataset, task.out)
    assert str(Path(__file__).parents[1]) in format_skypilot(option(), own, HARDWARE["H200-SXM"])


def test_a_file_that_is_there_stays(task: Task, tmp_path: Path):
    path = write_task("slurm", option(), task, HARDWARE["H200-SXM"], tmp_path / "tasks")
    assert path.name == f"{task.name}.sh"
    before = path.read_text()
    with pytest.raises(InputError):
        write_task("slurm", option(batch_size=32), task, HARDWARE["H200-SXM"], tmp_path / "tasks")
    assert path.read_text() == before
    write_task("slurm", option(batch_size=32), task, HARDWARE["H200-SXM"], tmp_path / "tasks", overwrite=True)
    assert "train.batch_size=32" in path.read_text()


@pytest.mark.slow
def test_a_slurm_script_really_trains(tmp_path: Path, stubs: Path):
    folder = tmp_path / "it's a run"
    make = ["--motif", "MA0140.3", "--set", "length_bp=60", "--set", "num_positives=60", "--set", "num_negatives=60"]
    with processes.started(processes.ebox("simulate", "--out", folder / "sim", *make), ends=0):
        pass
    files = ["--positives", folder / "sim" / "positives.fa", "--negatives", folder / "sim" / "negatives.fa"]
    with processes.started(processes.ebox("build", *files, "--out", folder / "data"), ends=0):
        pass
    (stubs / "ebox").write_text(f'#!/bin/sh\nexec {sys.executable} -m ebox "$@"\n')
    small = ("train.max_steps=4", "model.num_filters=4", "model.architecture=motif", "train.validations=1")
    facts = {**CPU, "num_devices": 1, "num_machines": 1, "batch_size": 16}
    task = Task(folder / "data", folder / "run", small)
    (stubs / "job.sh").write_text(format_slurm(facts, task, HARDWARE["CPU-16-vCPU"]))
    for _ in range(2):
        calls = run(["bash", "job.sh"], stubs, ends=0)
    assert [call[0] for call in calls] == ["srun", "srun"]
    config = read_config(folder / "run" / "config.toml")
    assert (config.train.batch_size, config.model.num_filters) == (16, 4)


def test_a_machine_that_one_owns_is_at_no_provider():
    text = format_slurm(option(provider=None, price_kind="owned"), Task(Path("data"), Path("run")), None)
    assert "1 x" in text.splitlines()[1]
    assert "None" not in text
