"""Faults: runs of two workers, in each of which a random one is killed at a random time, against an undisturbed run.

    python benchmarks/faults.py [--runs 20] [--processes 2]

Counts the runs that finish, and those whose model equals the undisturbed one to the bit. Writes results/faults.json.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from machine import describe_machine, keep, summarise

SETTINGS = {
    "model.num_filters": 16,
    "train.max_steps": 600,
    "train.checkpoint_every_steps": 48,
    "train.validations": 3,
    "parallel.max_restarts": 3,
}


def train(dataset: Path, out: Path, processes: int) -> subprocess.Popen[str]:
    """Start a training."""
    settings = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "ebox", "train", str(dataset), "--out", str(out)]
    return subprocess.Popen(
        [*command, *settings, "--processes", str(processes)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The workers that are alive."""
    try:
        children = psutil.Process(process.pid).children()
        return [child for child in children if "ebox.verbs.train_worker" in child.cmdline()]
    except psutil.Error:
        return []


def disturb(process: subprocess.Popen[str], seconds: float, choice: random.Random) -> str:
    """Kill a random worker after some seconds, and say which."""
    time.sleep(seconds)
    found = workers_of(process)
    if not found:
        return "none to kill"
    victim = choice.choice(found)
    number = victim.environ().get("EBOX_PROCESS", "?")
    victim.kill()
    return f"worker {number} after {seconds:.1f} s"


def main() -> None:
    """Run them all."""
    parser = argparse.ArgumentParser(description="Recovery from killed workers")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    choice, outcomes = random.Random(0), []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ebox = [sys.executable, "-m", "ebox"]
        subprocess.run([*ebox, "simulate", "--motif", "MA0140.3", "--out", str(folder / "sim")], check=True)
        sources = ["--positives", f"{folder}/sim/positives.fa", "--negatives", f"{folder}/sim/negatives.fa"]
        subprocess.run([*ebox, "build", *sources, "--out", str(folder / "data")], check=True, capture_output=True)
        began = time.perf_counter()
        undisturbed = train(folder / "data", folder / "undisturbed", options.processes)
        print(undisturbed.communicate()[0], flush=True)
        whole = time.perf_counter() - began
        expected = (folder / "undisturbed" / "model" / "tensors.safetensors").read_bytes()
        for number in range(options.runs):
            out, began = folder / f"run{number}", time.perf_counter()
            process = train(folder / "data", out, options.processes)
            what = disturb(process, choice.uniform(1.0, 0.95 * whole), choice)
            text = process.communicate()[0]
            model = out / "model" / "tensors.safetensors"
            outcomes.append(
                {
                    "killed": what,
                    "finished": process.returncode == 0,
                    "equal": model.exists() and model.read_bytes() == expected,
                    "restarts": text.count("starting again"),
                    "seconds": time.perf_counter() - began,
                }
            )
            print(outcomes[-1], flush=True)
    finished, equal = (sum(outcome[key] for outcome in outcomes) for key in ("finished", "equal"))
    hit = sum(outcome["restarts"] > 0 for outcome in outcomes)
    print(f"{options.runs} runs, {hit} had to start again, {finished} finished, {equal} equal the undisturbed model")
    keep(
        "faults",
        {
            "processes": options.processes,
            "settings": SETTINGS,
            "undisturbed_seconds": whole,
            "runs": options.runs,
            "started_again": hit,
            "finished": finished,
            "equal": equal,
            "seconds": summarise([outcome["seconds"] for outcome in outcomes]),
            "outcomes": outcomes,
        },
    )


if __name__ == "__main__":
    main()
