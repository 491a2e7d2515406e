"""The certificate that 1 and N workers train the same model: a fixed problem, trained here in both ways."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ebox.errors import EXIT_BAD_INPUT, InputError
from ebox.progress import Progress, quiet
from ebox.settings.reading import DataConfig, format_config, make_config, read_config
from ebox.storage import run_folder
from ebox.storage.publishing import read_json
from ebox.storage.stamps import PARITY, write_stamped
from ebox.workers.contract import TrainTask, WorkerArguments

TOLERANCE = 1e-6
STEPS = 50
# More processes than this on one machine prove nothing new.
MOST_PROCESSES, MOST_DEVICES = 4, 30
# A small residual network on planted motifs. Batches of 30 from 203 examples leave a tail; everything random is on.
# A high rate would make the training chaotic, so that rounding errors grow with any number of workers.
SETTINGS: Mapping[str, Any] = {
    "model.num_filters": 8,
    "model.filter_width_bp": 7,
    "model.dense_units": "[8]",
    "model.dilations": "[2]",
    "model.position_basis": 3,
    "train.seed": 3,
    "train.batch_size": 30,
    "train.max_steps": STEPS,
    "train.validations": 1,
    "train.steps_per_dispatch": 4,
    "train.learning_rate": 1e-3,
    "train.negatives_per_positive": "none",
    "train.mutation_rate": 0.01,
    "train.deletion_rate": 0.3,
    "train.insertion_rate": 0.3,
    "train.translocation_rate": 0.3,
    "train.inversion_rate": 0.3,
    "train.noise": 0.1,
    "train.mixup_alpha": 0.4,
    "train.originals_fraction": 0.2,
    "train.ema_decay": 0.9,
    "train.precision": "float32",
}


@dataclass(frozen=True)
class ParityCase:
    """One way to train, compared with one worker.

    Args:
        workers: Number of workers.
        kind: What they are: devices of one process, or processes.
        relative_difference: That of all trained parameters as one vector, |a - b| / |a| (2-norm), or that of all
            running moments if it is larger.
        rerun_is_equal: Whether a second training gives the same bits.
    """

    workers: int
    kind: str
    relative_difference: float
    rerun_is_equal: bool

    @property
    def holds(self) -> bool:
        """Whether the model is the same within rounding, and a rerun gives the same bits."""
        return self.relative_difference <= TOLERANCE and self.rerun_is_equal


@dataclass(frozen=True)
class ParityResult:
    """All ways that were tried, and the machine."""

    cases: tuple[ParityCase, ...]
    environment: dict[str, Any]
    overrides: tuple[str, ...] = ()
    path: Path | None = None

    @property
    def holds(self) -> bool:
        """Whether all of them give the same model."""
        return all(case.holds for case in self.cases)

    def facts(self) -> dict[str, Any]:
        """All facts in the form of JSON, as docs/formats.md describes."""
        return {
            "steps": STEPS,
            "tolerance": TOLERANCE,
            "overrides": list(self.overrides),
            "holds": self.holds,
            "cases": [asdict(case) for case in self.cases],
            "environment": self.environment,
        }


def certify_parity(
    worker_arguments: WorkerArguments,
    workers: Sequence[int] = (2, 4, 8),
    *,
    platform: str = "cpu",
    overrides: Sequence[str] = (),
    progress: Progress = quiet,
) -> ParityResult:
    """Train a fixed problem for 50 steps with one worker and with several, twice each, and compare the models.

    Args:
        worker_arguments: What starts a training in a separate process.
        workers: Numbers of workers to try, as devices of one process and, up to four, as processes.
        platform: cpu: the devices are parts of the processor; gpu or tpu: the devices of this machine.
        overrides: What differs from the settings of the problem, as `section.key=value`.
        progress: Called with a phrase, the number done, and the total number.

    Raises:
        InputError: bad overrides, or a training failed; the message contains its errors.
    """
    # Checked here, so that an error appears once, before anything is trained.
    read_config(overrides=_list_settings(overrides))
    most = _count_devices(platform, max(workers))
    ways = [("devices", number) for number in workers if number <= most]
    ways += [("processes", number) for number in workers if number <= MOST_PROCESSES]
    with tempfile.TemporaryDirectory(prefix="ebox-parity-") as temporary:
        folder = Path(temporary)
        make_dataset(folder)

        def train(kind: str, number: int, name: str) -> dict[str, np.ndarray]:
            own = f"parallel.platform={platform}", f"parallel.{kind}={number}"
            config = read_config(overrides=_list_settings((*overrides, *own)))
            task = TrainTask(str(folder / "dataset"), str(folder / f"{kind}-{number}-{name}"), format_config(config))
            devices = number if kind == "devices" and platform == "cpu" else 1
            return _train(worker_arguments(task), Path(task.out), devices, f"{number} {kind}")

        alone, cases = train("devices", 1, "first"), []
        environment = read_json(folder / "devices-1-first" / run_folder.ENVIRONMENT)
        for done, (kind, number) in enumerate(ways, start=1):
            first, again = train(kind, number, "first"), train(kind, number, "again")
            equal = all((first[key] == again[key]).all() for key in first)
            cases.append(ParityCase(number, kind, relative_difference(alone, first), equal))
            progress("training 1 against N", done, len(ways))
    kept = ("ebox", "python", "packages", "platform", "devices", "cpu", "num_cores")
    return ParityResult(tuple(cases), {key: environment[key] for key in kept}, tuple(overrides))


def write_parity(result: ParityResult, path: Path, *, overwrite: bool = True) -> None:
    """Publish the certificate as JSON."""
    write_stamped(path, PARITY, result.facts(), overwrite=overwrite)


def read_numbers(text: str) -> tuple[int, ...]:
    """Numbers of workers from a text such as `2,4,8`.

    Raises:
        InputError: something that is not a number, or a number that is too small or too large for a group.
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(2 <= number <= MOST_DEVICES for number in numbers):
        raise InputError(
            f"{text!r} is not a list of numbers of workers from 2 to {MOST_DEVICES}", remedy="write, for example, 2,4,8"
        )
    return numbers


def _count_devices(platform: str, wanted: int) -> int:
    """How many devices one process can have; a processor can be divided into any number."""
    if platform == "cpu":
        return wanted
    from ebox.mesh.devices import find_local_devices

    return len(find_local_devices(make_config({"parallel": {"platform": platform}}).parallel))


def make_dataset(folder: Path) -> Path:
    """Make a small problem, where half of the sequences contain CAGATG somewhere; return its dataset folder."""
    from ebox.datasets.build import build_dataset
    from ebox.datasets.sources import DatasetSources
    from ebox.sequences import write_fasta

    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (290, 48), np.uint8)
    for row in codes[:145]:
        start = rng.integers(0, 42)
        row[start : start + 6] = [1, 0, 2, 0, 3, 2]
    for name, rows in (("bound", codes[:145]), ("unbound", codes[145:])):
        write_fasta(folder / f"{name}.fa", [f"{name}{number}" for number in range(len(rows))], rows)
    sources = DatasetSources(positives=folder / "bound.fa", negatives=(folder / "unbound.fa",))
    build_dataset(DataConfig(), folder / "dataset", sources)
    return folder / "dataset"


def _train(arguments: Sequence[str], out: Path, devices: int, which: str) -> dict[str, np.ndarray]:
    """Train in a separate process, on a processor that is divided into devices; return the model's parameters."""
    from safetensors.numpy import load_file

    from ebox.models.tensors import TENSORS

    done = subprocess.run(
        [sys.executable, *arguments], env=_environment(devices), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise InputError(
            f"the training with {which} failed: {done.stderr.strip()[-500:]}",
            # The message of an error that a user can act on says what to do.
            remedy=None if done.returncode == EXIT_BAD_INPUT else "run `ebox doctor`, and try fewer --workers",
        )
    return load_file(out / run_folder.MODEL / TENSORS)


def _list_settings(more: Sequence[str]) -> list[str]:
    """The settings of the problem, followed by `more`, each as `section.key=value`."""
    return [*(f"{key}={value}" for key, value in SETTINGS.items()), *more]


def _environment(host_devices: int) -> dict[str, str]:
    """The environment of this process, with the processor divided into `host_devices`."""
    flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", ""))
    if host_devices > 1:
        flags += f" --xla_force_host_platform_device_count={host_devices}"
    return {**os.environ, "XLA_FLAGS": flags.strip()}


def relative_difference(
    one: Mapping[str, Float[np.ndarray, ...]], other: Mapping[str, Float[np.ndarray, ...]]
) -> float:
    """The relative difference of the trained parameters as one vector, or of the running moments if it is larger."""

    def of(keys: Sequence[str]) -> float:
        first, second = (
            np.concatenate([np.ravel(arrays[key]).astype(float) for key in keys]) for arrays in (one, other)
        )
        return float(np.linalg.norm(first - second) / np.linalg.norm(first))

    moments = [key for key in one if ".running." in key]
    return max(of(keys) for keys in ([key for key in one if key not in moments], moments) if keys)
