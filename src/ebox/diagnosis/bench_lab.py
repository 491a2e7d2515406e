"""What the parts of a bench share: the training that is measured, what is known of it, and how a process is asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebox.diagnosis.bench_plan import ExpectedTimes
from ebox.diagnosis.bench_probe import ProbeArguments, Request
from ebox.diagnosis.bench_process import make_environment, run_process
from ebox.diagnosis.bench_work import Work
from ebox.settings.reading import Config, format_config
from ebox.workers.contract import WorkerArguments


@dataclass(frozen=True)
class Starters:
    """What starts the processes of a bench: those that train as `ebox train` does, and those that measure."""

    training: WorkerArguments
    probe: ProbeArguments


@dataclass(frozen=True)
class Lab:
    """One bench.

    Args:
        starters: What starts its processes.
        dataset: A dataset folder.
        config: The settings of the training.
        work: What is measured.
        times: How long it takes.
        folder: A folder for what is not kept.
    """

    starters: Starters
    dataset: Path
    config: Config
    work: Work
    times: ExpectedTimes
    folder: Path

    @property
    def log(self) -> Path:
        """What the processes print."""
        return self.folder / "log.txt"

    @property
    def platform(self) -> str:
        """`cpu`, `cuda` or `tpu`."""
        return str(self.work.facts["device"]["platform"])

    @property
    def precision(self) -> str:
        """The number type that the settings mean here."""
        low = "float32" if self.platform == "cpu" else "bfloat16"
        return low if self.config.train.precision == "auto" else self.config.train.precision

    def probe(self, kind: str, take: Callable[[Mapping[str, Any]], None], **facts: Any) -> None:
        """Measure in a process of its own, which finds what earlier ones compiled.

        Args:
            kind: What, as `bench_probe.Request` lists it.
            take: Called with each result, and whatever else the process tells.
            facts: What this kind needs.
        """
        request = Request(kind, str(self.dataset.resolve()), format_config(self.config), time.time(), facts)
        environment = make_environment(self.folder / "compiled")
        run_process(self.starters.probe(request), environment, self.log, take, self.times.tick)
