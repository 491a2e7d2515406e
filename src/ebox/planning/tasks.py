"""An option of a plan as a file that trains with it: a SkyPilot task, a SLURM script, or a Ray job.

Each goes on where a machine that was taken back left off, and ends where `ebox train` says that a person must look.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebox.errors import EXIT_LOST, EXIT_RESUMABLE, InputError
from ebox.planning.hardware import Hardware
from ebox.settings.reading import read_config
from ebox.storage.publishing import publish_file
from ebox.workers.contract import COORDINATOR, NUM_PROCESSES, PROCESS

Option = Mapping[str, Any]
# Where the members of a group that SkyPilot starts meet, on the first machine.
PORT = 29400
MOST_RESTARTS = 10
# What a person need not look at; 134 is how JAX itself ends a process that lost another one.
AGAIN = (EXIT_RESUMABLE, EXIT_LOST, 134)
# How `ebox` names what SkyPilot and its settings name otherwise.
_CLOUDS = {"GCP": "gcp", "Lambda": "lambda", "Nebius": "nebius", "AWS": "aws"}
_PLATFORMS = {"cuda": "gpu", "tpu": "tpu", "cpu": "cpu"}
_EXTRAS = {"cuda": "[cuda]", "tpu": "[tpu]", "cpu": ""}


@dataclass(frozen=True)
class Task:
    """One training to write down.

    Args:
        dataset: The dataset folder; SkyPilot sends it, the others read it at the same path.
        out: The run folder; with SkyPilot a folder of this name is kept in a bucket.
        overrides: Settings of the training, each `section.key=value`.
        package: A wheel of ebox, or its source, that SkyPilot installs; None: the source that this ebox runs from.
    """

    dataset: Path
    out: Path
    overrides: tuple[str, ...] = ()
    package: Path | None = None

    @property
    def name(self) -> str:
        """A name that clouds and schedulers take: small letters, digits and dashes, and one for each run folder."""
        words = re.sub("[^a-z0-9]+", "-", self.out.name.lower()).strip("-")[:40].strip("-")
        digest = hashlib.sha256(str(self.out.absolute()).encode("utf-8", "replace")).hexdigest()[:8]
        return f"ebox-{words}-{digest}" if words else f"ebox-{digest}"


def format_skypilot(option: Option, task: Task, hardware: Hardware | None) -> str:
    """A task for `sky jobs launch`, which keeps the run folder in a bucket and starts again after an interruption.

    Args:
        option: Facts of an option of a plan.
        task: The training.
        hardware: The row of its device.

    Raises:
        InputError: a machine that one owns, a device that SkyPilot has no name for, or no ebox to install.
    """
    _check(option, task, "skypilot", hardware)
    dataset, run = "~/ebox-dataset", "/ebox-runs"
    package = _find_package(task)
    target = "~/ebox-source" if package.is_dir() else f"~/{package.name}"
    extra = _EXTRAS[option["platform"]]
    install = f"{target}{extra}" if package.is_dir() else f"ebox{extra} @ file://$HOME/{package.name}"
    resources: dict[str, Any] = {"infra": _CLOUDS.get(option["provider"]), **_name_devices(option, hardware)}
    resources["use_spot"] = option["price_kind"] == "spot"
    resources["job_recovery"] = {"max_restarts_on_errors": 0, "recover_on_exit_codes": list(AGAIN)}
    command = _train_command(option, task, "$HOME/ebox-env/bin/ebox", "$HOME/ebox-dataset", f"{run}/{task.name}")
    lines = [
        f"# {_describe(option)}",
        f"# sky jobs launch {task.name}.yaml; the run folder is kept in the bucket {task.name}.",
        f"name: {task.name}",
        f"num_nodes: {option['num_machines']}",
        f"resources: {_yaml({key: value for key, value in resources.items() if value is not None})}",
        "file_mounts:",
        f"  {_yaml(dataset)}: {_yaml(str(task.dataset.absolute()))}",
        f"  {_yaml(target)}: {_yaml(str(package.absolute()))}",
        f"  {_yaml(run)}: {_yaml({'name': task.name, 'mode': 'MOUNT_CACHED', 'persistent': True})}",
        *_block(
            "setup", ["command -v uv || pip install uv", "uv venv --python 3.12 ~/ebox-env", _install_command(install)]
        ),
        *_block("run", [*_group_lines(option), command]),
    ]
    return "\n".join(lines) + "\n"


def format_slurm(option: Option, task: Task, hardware: Hardware | None) -> str:
    """A script for `sbatch`, in whose environment `ebox` is; datasets and runs lie on a disk that all nodes share.

    Args:
        option: Facts of an option of a plan.
        task: The training.
        hardware: The row of its device.

    Raises:
        InputError: TPU slices, which SLURM does not give.
    """
    _check(option, task, "slurm", hardware)
    machines, each = option["num_machines"], _devices_each(option)
    is_gpu = option["platform"] == "cuda"
    cores = None if hardware is None else hardware.num_cores
    place = [f"--gpus-per-node={each}"] if is_gpu else [f"--cpus-per-task={cores}"] if cores else ["--exclusive"]
    # srun's code is the greatest of its tasks: that of those that it killed (137) hides why.
    again = " | ".join(map(str, AGAIN if machines == 1 else (*AGAIN, 137)))
    train = _train_command(option, task, "ebox", str(task.dataset), str(task.out))
    lines = [
        "#!/bin/bash",
        f"# {_describe(option)}",
        f"#SBATCH --job-name={task.name} --nodes={machines} --ntasks-per-node=1 {' '.join(place)}",
        f"#SBATCH --time={_limit_minutes(option)}",
        "# SIGTERM a minute before the limit: the training saves, ends with 75, and is put into the queue again.",
        "#SBATCH --signal=TERM@60",
        "#SBATCH --requeue --open-mode=append --output=%x-%j.out",
    ]
    if is_gpu and machines > 1 and each > 1:
        lines += [
            "# Without it JAX takes the first GPU of each task alone.",
            f"export JAX_LOCAL_DEVICE_IDS={','.join(map(str, range(each)))}",
        ]
    lines += [
        "# Without these srun waits for a hung task until the time limit.",
        f"srun --kill-on-bad-exit=1 --wait=60 {train}",
        "code=$?",
        "case $code in",
        f'  {again}) [ "${{SLURM_RESTART_COUNT:-0}}" -lt {MOST_RESTARTS} ] && scontrol requeue "$SLURM_JOB_ID" ;;',
        "esac",
        "exit $code",
    ]
    return "\n".join(lines) + "\n"


def format_ray(option: Option, task: Task, hardware: Hardware | None) -> str:
    """A Python program that hands a training to a Ray cluster as a job, and follows it.

    Args:
        option: Facts of an option of a plan.
        task: The training.
        hardware: The row of its device.

    Raises:
        InputError: TPU slices, which ebox does not train on through Ray.
    """
    _check(option, task, "ray", hardware)
    cores = None if hardware is None else hardware.num_cores
    places = [f"parallel.workers={option['num_devices']}", "parallel.cluster=auto"]
    places += ["parallel.worker_gpus=1"] if option["platform"] == "cuda" else ["parallel.worker_gpus=0"]
    places += [f"parallel.worker_cpus={cores}"] if cores and option["platform"] == "cpu" else []
    train = _train_command(option, task, "ebox", str(task.dataset), str(task.out), places)
    again = " | ".join(map(str, AGAIN))
    entrypoint = "\n".join(
        [
            f"for attempt in {' '.join(map(str, range(1 + MOST_RESTARTS)))}; do",
            f"  {train}",
            "  code=$?",
            f"  case $code in {again}) sleep 10 ;; *) exit $code ;; esac",
            "done",
            "exit $code",
        ]
    )
    return f'''#!/usr/bin/env python3
"""Hand a training of ebox to a Ray cluster: python {task.name}.py [ADDRESS]; it needs the package ray[default]."""

# {_describe(option)}
import asyncio
import sys

from ray.job_submission import JobSubmissionClient

ENTRYPOINT = {entrypoint!a}


async def follow(client: JobSubmissionClient, job: str) -> None:
    async for lines in client.tail_job_logs(job):
        print(lines, end="")


client = JobSubmissionClient(sys.argv[1] if len(sys.argv) > 1 else None)
job = client.submit_job(entrypoint=ENTRYPOINT, metadata={{"name": {task.name!a}}})
print(job)
asyncio.run(follow(client, job))
sys.exit(0 if client.get_job_status(job) == "SUCCEEDED" else 1)
'''


Format = Callable[[Option, Task, Hardware | None], str]
# What a file is written with, and how its name ends.
TASKS: dict[str, tuple[Format, str]] = {
    "skypilot": (format_skypilot, ".yaml"),
    "slurm": (format_slurm, ".sh"),
    "ray": (format_ray, ".py"),
}


def write_task(
    kind: str, option: Option, task: Task, hardware: Hardware | None, folder: Path, *, overwrite: bool = False
) -> Path:
    """Write the file of an option into a folder.

    Args:
        kind: `skypilot`, `slurm` or `ray`.
        option: Facts of an option of a plan.
        task: The training.
        hardware: The row of its device.
        folder: Where to write.
        overwrite: Whether to replace a file that is there.

    Raises:
        InputError: what the kind can't do, a setting that is not allowed, or a file that is there.
    """
    write, ending = TASKS[kind]
    text = write(option, task, hardware)
    path = folder / f"{task.name}{ending}"
    with publish_file(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _check(option: Option, task: Task, kind: str, hardware: Hardware | None) -> None:
    """Raise InputError for what a kind of file can't do."""
    for text in (str(task.dataset), str(task.out), *task.overrides):
        if any(letter == "\0" or 0xD800 <= ord(letter) <= 0xDFFF for letter in text):
            raise InputError(f"{text!r} can't stand in a script", remedy="give it another name, of UTF-8 letters")
    if option["sync"] == "async" and kind != "ray":
        raise InputError(
            "trainings with sync = async run on Ray alone", remedy="write a Ray job, or choose another sync"
        )
    if option["platform"] == "tpu" and kind != "skypilot":
        raise InputError(f"TPU slices are not had through {kind}", remedy="write a SkyPilot task for them")
    if kind == "skypilot" and option["price_kind"] == "owned":
        raise InputError("a machine that one owns needs no cloud", remedy="write a SLURM script or a Ray job for it")
    if kind == "skypilot" and option["platform"] != "cpu" and (hardware is None or hardware.skypilot is None):
        raise InputError(
            f"SkyPilot's name of {option['hardware']} is not known",
            remedy=f'write skypilot = "NAME" under [hardware.{option["hardware"]}] in a file for --prices',
        )


def _describe(option: Option) -> str:
    """The option as a line of comment."""
    place = "" if option["provider"] is None else f" at {option['provider']}"
    words = f"{option['id']}: {option['num_devices']} x {option['hardware']}{place}, batch {option['batch_size']}"
    return "".join(letter if letter.isprintable() else " " for letter in words)


def _devices_each(option: Option) -> int:
    return -(-int(option["num_devices"]) // int(option["num_machines"]))


def _settings(option: Option) -> list[str]:
    """The settings by which an option differs from others."""
    return [
        f"train.batch_size={int(option['batch_size'])}",
        f"train.precision={option['precision']}",
        f"parallel.exchange={option['exchange']}",
        f"parallel.sync={option['sync']}",
        f"parallel.platform={_PLATFORMS[option['platform']]}",
    ]


def _train_command(
    option: Option, task: Task, program: str, dataset: str, out: str, places: list[str] | None = None
) -> str:
    """The command, quoted for a shell, with settings that it takes; what begins with $HOME is found there."""
    settings = [*task.overrides, *_settings(option), *(places or ())]
    read_config(None, settings)
    words = [f"--out={out}", "--resume", *(f"--set={setting}" for setting in settings), "--"]
    return " ".join([_quote(program), "train", *map(shlex.quote, words), _quote(dataset)])


def _quote(path: str) -> str:
    home, rest = ("$HOME", path.removeprefix("$HOME")) if path.startswith("$HOME/") else ("", path)
    return f'"{home}"{shlex.quote(rest)}' if home else shlex.quote(rest)


def _name_devices(option: Option, hardware: Hardware | None) -> dict[str, Any]:
    """The devices of a machine as SkyPilot names them; it counts the cores of some TPUs."""
    each = _devices_each(option)
    if option["platform"] == "cpu":
        cores = None if hardware is None else hardware.num_cores
        return {} if cores is None else {"cpus": str(cores)}
    assert hardware is not None
    if option["platform"] == "tpu":
        return {"accelerators": f"{hardware.skypilot}-{each * hardware.skypilot_cores}"}
    return {"accelerators": f"{hardware.skypilot}:{each}"}


def _group_lines(option: Option) -> list[str]:
    """The variables by which machines that SkyPilot started find each other; hosts of a TPU slice know each other."""
    if option["num_machines"] == 1 or option["platform"] == "tpu":
        return []
    return [
        f'export {COORDINATOR}="$(echo "$SKYPILOT_NODE_IPS" | head -n1):{PORT}"',
        f'export {PROCESS}="$SKYPILOT_NODE_RANK" {NUM_PROCESSES}="$SKYPILOT_NUM_NODES"',
    ]


def _limit_minutes(option: Option) -> int:
    """Twice the longest time that the plan expects of one training, and ten minutes; a day where it expects none."""
    seconds = option.get("jobs", {}).get("one", {}).get("seconds", {}).get("high")
    return 1440 if seconds is None else 10 + math.ceil(2.0 * seconds / 60.0)


def _find_package(task: Task) -> Path:
    """The wheel or the source of ebox."""
    package = Path(__file__).parents[3] if task.package is None else task.package
    is_source = package.is_dir() and (package / "pyproject.toml").is_file()
    if not is_source and package.suffix != ".whl":
        raise InputError(
            "is neither a wheel of ebox nor its source, which other machines need",
            file=package,
            remedy="give the folder with the pyproject.toml of ebox, or a wheel that was built from it",
        )
    return package


def _install_command(requirement: str) -> str:
    """The installation of ebox into its environment; `~` and `$HOME` are those of the other machine."""
    text = requirement.replace("~/", "$HOME/", 1)
    before, _, after = text.partition("$HOME/")
    first = shlex.quote(before) if before else ""
    return f'uv pip install --python ~/ebox-env/bin/python {first}"$HOME"/{shlex.quote(after)}'


def _yaml(value: Any) -> str:
    """A value in the JSON form of YAML, with letters beyond its reach as YAML escapes them."""
    text = json.dumps(value, ensure_ascii=True)
    pairs = r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})"
    text = re.sub(pairs, lambda found: f"\\U{_join_pair(int(found[1], 16), int(found[2], 16)):08x}", text)
    return text.replace("\x7f", "\\x7f")


def _join_pair(high: int, low: int) -> int:
    return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)


def _block(key: str, lines: list[str]) -> list[str]:
    """A text of several lines: as it is where YAML takes it so, else as one escaped text."""
    text = "\n".join(lines)
    if all(letter.isprintable() for letter in text.replace("\n", "")):
        return [f"{key}: |", *(f"  {line}" for line in text.split("\n"))]
    return [f"{key}: {_yaml(text)}"]
