"""What the tests of groups of real processes share: a small problem, commands, and looking at workers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from safetensors.numpy import load_file

from ebox.diagnosis.parity import SETTINGS as CERTIFICATE

# That of the certificate, seen more often.
SETTINGS = {**CERTIFICATE, "train.validations": 2, "train.log_every_steps": 10}
# Long enough to be hit in the middle.
LONG = {"train.max_steps": 600, "train.checkpoint_every_steps": 100, "train.validations": 1}


def command_of(dataset: Path, out: Path, settings: Mapping[str, object], *flags: str) -> list[str]:
    chosen = [part for key, value in {**SETTINGS, **settings}.items() for part in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", "ebox", "train", str(dataset), "--out", str(out), *chosen, *flags]


def environment() -> dict[str, str]:
    """One device a process, as a user has it."""
    return {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}


def train(dataset: Path, out: Path, settings: Mapping[str, object], *flags: str) -> subprocess.CompletedProcess[str]:
    command = command_of(dataset, out, settings, *flags)
    return subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=300)


@contextmanager
def started(dataset: Path, out: Path, settings: Mapping[str, object], *flags: str) -> Iterator[subprocess.Popen[str]]:
    """A training that is under way: its first checkpoint stands."""
    command = command_of(dataset, out, settings, *flags)
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_until(lambda: process.poll() is not None or len(list(out.glob("checkpoints/step-*"))) > 0)
        assert process.poll() is None, process.communicate()[0]
        yield process
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
        # A test that took the output has waited for its end too.
        if process.stdout is not None and not process.stdout.closed:
            process.communicate()


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The workers that live now, in order; one that ends while it is looked at is none."""
    found: dict[str, psutil.Process] = {}
    for one in psutil.Process(process.pid).children():
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
