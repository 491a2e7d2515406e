"""What communication costs on one machine: two workers that train together, against two that train alone.

    python benchmarks/processes.py [--rounds 5] [--ways "default;groups"]

Each worker has a core of its own. Together they share a global batch; alone each takes batches of half the size, so the
work of a worker is the same. The rounds alternate, and the ratio is taken round by round. The ways to train differ in
what they send: the default sends the gradient and the moments of every batch normalisation, forward and backward, at
every step; with groups, which here are the halves of the batch, only the gradient. Writes results/processes.json.
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
from typing import Any

from ebox.datasets.build import build_dataset
from ebox.datasets.sources import DatasetSources
from ebox.settings.reading import make_config
from machine import describe_machine, find_data, keep, summarise

EXAMPLES = 20_480
GROUPS = "train.batch_statistics='group'"
# Name, global batch, settings of the group.
WAYS: dict[str, tuple[int, tuple[str, ...]]] = {
    "default": (64, ()),
    "groups": (64, (GROUPS,)),
    "groups, batch of 128": (128, (GROUPS,)),
    "batch of 256": (256, ()),
    "delayed, groups": (64, ("parallel.sync='delayed'", GROUPS)),
    "local": (64, ("parallel.sync='local'",)),
}


def start(
    dataset: Path, out: Path, batch: int, *more: str, core: int | None = None, settings: tuple[str, ...] = ()
) -> subprocess.Popen[bytes]:
    """Start a training with the default network."""
    command = [sys.executable, "-m", "ebox", "train", str(dataset), "--out", str(out), "--overwrite"]
    steps = EXAMPLES // (batch if core is None else 2 * batch)
    length = [f"train.max_steps={steps}", "train.validations=1", f"train.log_every_steps={steps // 10}"]
    length += ["train.checkpoint_every_seconds=1000", f"train.batch_size={batch}"]
    chosen = [part for setting in (*length, *settings) for part in ("--set", setting)]
    pin = [] if core is None else ["taskset", "-c", str(core)]
    return subprocess.Popen([*pin, *command, *chosen, *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def rate_of(run: Path) -> float:
    """Sequences a second between the first and the last log entry, without start and validation."""
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rates = [entry["sequences_per_second"] for entry in entries if entry["kind"] == "train"][1:]
    return len(rates) / sum(1.0 / rate for rate in rates)


def measure(dataset: Path, folder: Path, cores: list[int], way: str) -> tuple[float, float]:
    """Rates of two workers together, and of two alone added up."""
    batch, settings = WAYS[way]
    together = start(dataset, folder / "together", batch, "--processes", "2", settings=settings)
    if together.wait():
        raise SystemExit("the group failed")
    alone = [start(dataset, folder / f"alone{core}", batch // 2, core=core) for core in cores]
    codes = [process.wait() for process in alone]
    if any(codes):
        raise SystemExit("a lone worker failed")
    return rate_of(folder / "together"), sum(rate_of(folder / f"alone{core}") for core in cores)


def summarise_way(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    """Rates and their ratio."""
    return {
        "together_sequences_per_second": summarise([together for together, _ in pairs]),
        "alone_sequences_per_second": summarise([alone for _, alone in pairs]),
        "efficiency": summarise([together / alone for together, alone in pairs]),
    }


def main() -> None:
    """Alternate, print, keep."""
    parser = argparse.ArgumentParser(description="Communication efficiency of two workers on one machine")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", default=";".join(WAYS), help=f"of {'; '.join(WAYS)}")
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    cores, ways = sorted(os.sched_getaffinity(0))[:2], options.ways.split(";")
    data, pairs = find_data() / "tal1", {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        build_dataset(
            make_config({}).data,
            folder / "data",
            DatasetSources(positives=data / "bound.fa.gz", negatives=(data / "unbound_matched.fa.gz",)),
        )
        for _ in range(options.rounds):
            for way in ways:
                began = time.perf_counter()
                together, alone = measure(folder / "data", folder, cores, way)
                pairs[way].append((together, alone))
                print(
                    f"{way:<18} together {together:,.0f}, alone {alone:,.0f} sequences/s: {together / alone:.3f} "
                    f"({time.perf_counter() - began:.0f} s)",
                    flush=True,
                )
    found = {way: summarise_way(measured) for way, measured in pairs.items()}
    for way, facts in found.items():
        ratio = facts["efficiency"]
        print(f"{way:<18} {ratio['median']:.3f} ({ratio['min']:.3f} to {ratio['max']:.3f}, n = {ratio['n']})")
    ways_kept = {way: {"batch_size": WAYS[way][0], "settings": WAYS[way][1], **facts} for way, facts in found.items()}
    keep("processes", {"processes": 2, "examples": EXAMPLES, "ways": ways_kept})


if __name__ == "__main__":
    main()
