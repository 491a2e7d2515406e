"""What communication costs on one machine: two workers that train together, against two that train alone.

    python benchmarks/processes.py [--rounds 5]

Each worker has a core of its own. Together they share batches of 64; alone each takes batches of 32, so the work of a
worker is the same. The rounds alternate, and the ratio is taken round by round. Writes
results/processes.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ebox.config import make_config
from ebox.datasets.build import build_dataset
from machine import describe_machine, find_data, keep, summarise

STEPS = 480


def start(dataset: Path, out: Path, *more: str, core: int | None = None) -> subprocess.Popen[bytes]:
    """Start a training with the default network."""
    command = [sys.executable, "-m", "ebox.cli", "train", str(dataset), "--out", str(out), "--overwrite"]
    settings = [f"train.max_steps={STEPS}", "train.validations=1", "train.log_every_steps=48"]
    settings.append("train.checkpoint_every_seconds=1000")
    chosen = [part for setting in settings for part in ("--set", setting)]
    pin = [] if core is None else ["taskset", "-c", str(core)]
    return subprocess.Popen([*pin, *command, *chosen, *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def rate_of(run: Path) -> float:
    """Sequences a second between the first and the last log entry, without start and validation."""
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rates = [entry["sequences_per_second"] for entry in entries if entry["kind"] == "train"][1:]
    return len(rates) / sum(1.0 / rate for rate in rates)


def measure(dataset: Path, folder: Path, cores: list[int]) -> tuple[float, float]:
    """Rates of two workers together, and of two alone added up."""
    together = start(dataset, folder / "together", "--processes", "2")
    if together.wait():
        raise SystemExit("the group failed")
    alone = [start(dataset, folder / f"alone{core}", "--set", "train.batch_size=32", core=core) for core in cores]
    codes = [process.wait() for process in alone]
    if any(codes):
        raise SystemExit("a lone worker failed")
    return rate_of(folder / "together"), sum(rate_of(folder / f"alone{core}") for core in cores)


def main() -> None:
    """Alternate, print, keep."""
    parser = argparse.ArgumentParser(description="Communication efficiency of two workers on one machine")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    cores = sorted(os.sched_getaffinity(0))[:2]
    data, pairs = find_data() / "tal1", []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        build_dataset(
            make_config({}).data,
            folder / "data",
            positives=data / "bound.fa.gz",
            negatives=(data / "unbound_matched.fa.gz",),
        )
        for _ in range(options.rounds):
            began = time.perf_counter()
            pairs.append(measure(folder / "data", folder, cores))
            together, alone = pairs[-1]
            print(
                f"together {together:,.0f}, alone {alone:,.0f} sequences/s: {together / alone:.3f} "
                f"({time.perf_counter() - began:.0f} s)",
                flush=True,
            )
    ratio = summarise([together / alone for together, alone in pairs])
    print(f"efficiency {ratio['median']:.3f} ({ratio['min']:.3f} to {ratio['max']:.3f}, n = {ratio['n']})")
    keep(
        "processes",
        {
            "processes": 2,
            "steps": STEPS,
            "batch_size_together": 64,
            "batch_size_alone": 32,
            "together_sequences_per_second": summarise([together for together, _ in pairs]),
            "alone_sequences_per_second": summarise([alone for _, alone in pairs]),
            "efficiency": ratio,
        },
    )


if __name__ == "__main__":
    main()
