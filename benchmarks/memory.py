"""Memory and time for 2 million sequences of 200 bp: building the dataset, audit included, and training on it.

    python benchmarks/memory.py [--sequences 2000000] [--steps 2000]

Writes two FASTA files (444 MB in all) to a temporary folder, builds and trains with the command line, and reads the
greatest resident memory of each command from the operating system.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ebox.sequences import write_fasta
from machine import describe_machine, keep

LENGTH = 200


def write_sequences(path: Path, count: int, seed: int) -> None:
    """Random sequences; the positives hold CAGATG in the middle."""
    codes = np.random.default_rng(seed).integers(0, 4, (count, LENGTH), np.uint8)
    if seed:
        codes[:, 97:103] = [1, 0, 2, 0, 3, 2]
    write_fasta(path, [f"s{seed}_{number}" for number in range(count)], codes)


def measure(*arguments: str | Path) -> dict[str, float]:
    """Run a command of ebox; its wall time and greatest resident memory."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "ebox", *map(str, arguments)])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"ebox {arguments[0]} failed")
    return {"seconds": time.perf_counter() - began, "max_resident_bytes": usage.ru_maxrss * 1024}


def main() -> None:
    """Build, train, print."""
    parser = argparse.ArgumentParser(description="Memory and time for millions of sequences")
    parser.add_argument("--sequences", type=int, default=2_000_000)
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    print(describe_machine())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for seed, name in enumerate(("negatives.fa", "positives.fa")):
            write_sequences(folder / name, options.sequences // 2, seed)
        results = {
            "build": measure(
                *("build", "--positives", folder / "positives.fa", "--negatives", folder / "negatives.fa"),
                *("--out", folder / "dataset"),
            ),
            "train": measure(
                *("train", folder / "dataset", "--out", folder / "run", "--set", f"train.max_steps={options.steps}"),
                *("--set", "model.num_filters=32", "--set", "train.validations=1"),
            ),
        }
    for name, facts in results.items():
        print(f"{name}: {facts['seconds']:.0f} s, {facts['max_resident_bytes'] / 2**30:.2f} GiB resident at most")
    keep("memory", {"sequences": options.sequences, "length_bp": LENGTH, "steps": options.steps, **results})


if __name__ == "__main__":
    main()
