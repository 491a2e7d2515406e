"""What the tests of groups of real processes share: a small problem, commands, and looking at workers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from safetensors.numpy import load_file

import processes
from ebox.diagnosis.parity import SETTINGS as CERTIFICATE

# That of the certificate, seen more often.
SETTINGS = {**CERTIFICATE, "train.validations": 2, "train.log_every_steps": 10}
# Long enough to be hit in the middle.
LONG = {"train.max_steps": 600, "train.checkpoint_every_steps": 100, "train.validations": 1}


def command_of(dataset: Path, out: Path, settings: Mapping[str, object], *flags: str) -> list[str]:
    chosen = [part for key, value in {**SETTINGS, **settings}.items() for part in ("--set", f"{key}={value}")]
    return processes.ebox("train", dataset, "--out", out, *chosen, *flags)


def train(
    dataset: Path, out: Path, settings: Mapping[str, object], *flags: str, ends: int = 0, seconds: float = 300.0
) -> processes.Started:
    return processes.run(command_of(dataset, out, settings, *flags), ends=ends, seconds=seconds)


@contextmanager
def training(
    dataset: Path, out: Path, settings: Mapping[str, object], *flags: str, ends: int = 0, seconds: float = 300.0
) -> Iterator[processes.Started]:
    """A training that is under way: its first checkpoint stands."""
    with processes.started(command_of(dataset, out, settings, *flags), ends=ends, seconds=seconds) as process:
        process.wait_until(lambda: has_checkpoint(out))
        yield process


def has_checkpoint(out: Path) -> bool:
    return any(out.glob("checkpoints/step-*"))


def workers_of(process: processes.Started) -> list[psutil.Process]:
    """The workers that live now, in order; one that ends while it is looked at is none."""
    found: dict[str, psutil.Process] = {}
    for one in process.children():
        with contextlib.suppress(psutil.Error):
            if "ebox.verbs.train_worker" in one.cmdline():
                found[one.environ()["EBOX_PROCESS"]] = one
    return [found[number] for number in sorted(found)]


def weights(run: Path) -> dict[str, np.ndarray]:
    return load_file(run / "model" / "tensors.safetensors")


def largest_difference(one: Path, other: Path) -> float:
    first, second = weights(one), weights(other)
    assert set(first) == set(second)
    return max(float(np.abs(first[key] - second[key]).max() / max(np.abs(first[key]).max(), 1e-12)) for key in first)
