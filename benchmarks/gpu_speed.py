"""Training speed on one GPU against PyTorch: same network, batch and data, in turn, in one run.

    .venv/bin/python -m pip install --editable '.[cuda]' torch lightning
    python benchmarks/gpu_speed.py [--rounds 5] [--batches 64,512,4096]

The ways to train the residual network on the real TAL1 sequences (random ones of the same size without the data):

- ebox: its loop, random strand and shift included, batches gathered on the host from base codes;
- eager: a plain PyTorch loop, one-hot tensors already on the GPU, no augmentation;
- compiled: the same, with forward and backward pass by `torch.compile` and CUDA graphs.

Each in float32 (all bits: no TF32) and in bfloat16 (PyTorch: autocast). Every way is a process of its own, which
compiles and warms up first; then they are timed one after another, round by round, while the others rest. What the
GPU can do at most is measured too: a large matrix product, and a large copy. The share of the roofline is the time
that the step's matrix products or its least memory traffic would take at those rates, the longer one, over the time
taken. Last, `ebox train` with its defaults learns the real set once in each precision: the time to a validation AUROC,
from the start of training, so with compilation and validations. Writes results/gpu_speed.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from ebox.datasets.build import build_dataset
from ebox.datasets.sources import DatasetSources
from ebox.settings.reading import make_config
from machine import describe_machine, find_data, keep, summarise

FILTERS, LENGTH, POOLED = 128, 200, 50
WIDTHS = (5, 3, 3)
EXAMPLES_A_ROUND = 400_000
MOST_STEPS = 480
START_SECONDS = 400.0
GOAL_AUROC = 0.95
Work = Callable[[int], None]


@dataclass(frozen=True)
class Way:
    """One way to train."""

    program: str
    precision: str
    batch: int

    @property
    def name(self) -> str:
        """As printed and kept."""
        return f"{self.program} {self.precision} {self.batch}"

    @property
    def steps(self) -> int:
        """Steps of one round, in whole dispatches of ebox."""
        return max(48, min(MOST_STEPS, EXAMPLES_A_ROUND // self.batch) // 48 * 48)


def load() -> tuple[np.ndarray, np.ndarray]:
    """Codes and labels, shuffled."""
    from training_speed import load_examples

    codes, labels = load_examples()
    order = np.random.default_rng(0).permutation(len(codes))
    return codes[order], labels[order]


def prepare_ebox(way: Way) -> Work:
    """Ebox's own loop."""
    from training_speed import prepare_loop

    train = {"batch_size": way.batch, "precision": way.precision}
    config = make_config({"model": {"num_filters": FILTERS}, "train": train, "parallel": {"platform": "gpu"}})
    return prepare_loop(*load(), config)


def prepare_torch(way: Way) -> Work:
    """A PyTorch loop with everything on the GPU."""
    import torch
    from torch.nn import functional

    from training_speed import make_network

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    codes, labels = load()
    table = torch.cat([torch.eye(4), torch.zeros(1, 4)])
    inputs = table[torch.from_numpy(codes.astype(np.int64))].transpose(1, 2).contiguous().cuda()
    targets = torch.from_numpy(labels.astype(np.float32)).cuda()
    network = make_network(FILTERS).cuda()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2, fused=True)

    def loss_of(rows: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=way.precision == "bfloat16"):
            logits = network(inputs[rows])[:, 0]
        return functional.binary_cross_entropy_with_logits(logits.float(), targets[rows])

    measured = torch.compile(loss_of, mode="reduce-overhead") if way.program == "compiled" else loss_of

    def work(steps: int) -> None:
        order = torch.empty(0, dtype=torch.int64, device="cuda")
        for _ in range(steps):
            if len(order) < way.batch:
                order = torch.randperm(len(inputs), device="cuda")
            rows, order = order[: way.batch], order[way.batch :]
            loss = measured(rows.contiguous())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        torch.cuda.synchronize()

    return work


def serve(way: Way, pipe: Connection) -> None:
    """Get ready, then make a round whenever asked, and say how long it took."""
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    try:
        work = (prepare_ebox if way.program == "ebox" else prepare_torch)(way)
        work(96)
        pipe.send("ready")
        while pipe.recv():
            began = time.perf_counter()
            work(way.steps)
            pipe.send(time.perf_counter() - began)
    except Exception:  # noqa: BLE001 - sent to the parent, which prints it
        pipe.send(traceback.format_exc(limit=-3))


def hear(pipe: Connection, seconds: float | None = None) -> Any:
    """The message of a process, or that it is late or has ended."""
    try:
        return pipe.recv() if pipe.poll(seconds) else "not ready in time"
    except EOFError:
        return "the process ended"


def measure(ways: list[Way], rounds: int) -> dict[Way, list[float]]:
    """Seconds a step of each way, round by round; a way that fails is reported and left out."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = dict[Way, Connection](), []
    for way in ways:
        pipes[way], theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(way, theirs), daemon=True))
        processes[-1].start()
        theirs.close()
    latest, seconds = time.monotonic() + START_SECONDS, dict[Way, list[float]]()
    for way in ways:
        said = hear(pipes[way], max(0.0, latest - time.monotonic()))
        if said == "ready":
            seconds[way] = []
        else:
            print(f"{way.name} failed: {said}", flush=True)
            pipes[way].close()
            processes[ways.index(way)].terminate()
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        for way in list(seconds):
            pipes[way].send(True)
            took = hear(pipes[way], START_SECONDS)
            if isinstance(took, str):
                print(f"{way.name} failed in round {number + 1}: {took}", flush=True)
                del seconds[way]
            else:
                seconds[way].append(took / way.steps)
    for process in processes:
        process.terminate()
        process.join()
    return seconds


def find_ceilings() -> dict[str, float]:
    """Operations a second of a large matrix product in both precisions, and bytes a second of a large copy."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False

    def time_of(act: Callable[[], Any], repeats: int) -> float:
        for _ in range(3):
            act()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(repeats):
            act()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3 / repeats

    found, size = dict[str, float](), 8192
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        matrix = torch.randn(size, size, device="cuda", dtype=dtype)
        found[name] = 2 * size**3 / time_of(lambda matrix=matrix: matrix @ matrix, 10)
    source = torch.randn(1 << 29, device="cuda")
    target = torch.empty_like(source)
    found["bytes"] = 2 * 4 * (1 << 29) / time_of(lambda: target.copy_(source), 10)
    return found


def find_floor(way: Way, ceilings: dict[str, float]) -> float:
    """The least seconds that a step can take: for its matrix products, or for what it must move.

    At least this is moved: each of the four feature maps after pooling is written and read once forward; backward, it
    and its gradient are read and a gradient is written. Everything else is taken to stay on the chip.
    """
    products = 2 * 2 * LENGTH * 15 * 4 * FILTERS
    products += sum(3 * 2 * POOLED * width * FILTERS * FILTERS for width in WIDTHS)
    moved = 5 * (1 + len(WIDTHS)) * POOLED * FILTERS * (2 if way.precision == "bfloat16" else 4)
    return way.batch * max(products / ceilings[way.precision], moved / ceilings["bytes"])


def learn(dataset: Path, out: Path, precision: str) -> dict[str, Any]:
    """Train once by the command line, validated every epoch; seconds count from the start of the training loop."""
    command = [sys.executable, "-m", "ebox", "train", str(dataset), "--out", str(out), "--platform", "gpu"]
    settings = [f"train.precision='{precision}'", "train.validations=12"]
    began = time.perf_counter()
    subprocess.run([*command, *(part for one in settings for part in ("--set", one))], check=True, capture_output=True)
    whole = time.perf_counter() - began
    entries = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    seen = [(entry["seconds"], entry["auroc"]) for entry in entries if entry["kind"] == "validation"]
    return {
        "precision": precision,
        "seconds_of_the_command": whole,
        "seconds_to_first_log_entry": entries[0]["seconds"],
        "seconds_to_auroc": next((seconds for seconds, auroc in seen if auroc >= GOAL_AUROC), None),
        "seconds_to_last_validation": seen[-1][0],
        "final_validation_auroc": seen[-1][1],
    }


def learn_both(folder: Path) -> list[dict[str, Any]]:
    """Learn the real set in both precisions."""
    data = find_data() / "tal1"
    build_dataset(
        make_config({}).data,
        folder / "data",
        DatasetSources(positives=data / "bound.fa.gz", negatives=(data / "unbound_matched.fa.gz",)),
    )
    return [learn(folder / "data", folder / precision, precision) for precision in ("float32", "bfloat16")]


def describe_gpu() -> dict[str, Any]:
    """The GPU and its software."""
    import torch

    properties = torch.cuda.get_device_properties(0)
    return {"name": properties.name, "memory_bytes": properties.total_memory, "cuda": torch.version.cuda}


def main() -> None:
    """Measure in turn, print the ratios, keep."""
    parser = argparse.ArgumentParser(description="Training speed on one GPU against PyTorch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", default="64,512,4096")
    options = parser.parse_args()
    print(describe_machine(), describe_gpu(), flush=True)
    batches = [int(batch) for batch in options.batches.split(",")]
    ways = [
        Way(program, precision, batch)
        for batch in batches
        for precision in ("float32", "bfloat16")
        for program in ("ebox", "eager", "compiled")
    ]
    seconds = measure(ways, options.rounds)
    ceilings = find_ceilings()
    print({name: f"{rate:.3g}" for name, rate in ceilings.items()})
    kept = []
    for way, found in seconds.items():
        ebox = seconds.get(Way("ebox", way.precision, way.batch), [])
        rates = summarise([way.batch / value for value in found])
        share = find_floor(way, ceilings) / summarise(found)["median"]
        ratio = None
        if way.program != "ebox" and ebox:
            ratio = summarise([theirs / mine for mine, theirs in zip(ebox, found, strict=True)])
        shown = "" if ratio is None else f"  ebox is {ratio['median']:.2f} times as fast"
        print(
            f"{way.name:<24} {rates['median']:10,.0f} sequences/s ({rates['min']:,.0f} to {rates['max']:,.0f}), "
            f"{share:.3f} of the roofline{shown}",
            flush=True,
        )
        kept.append(
            {
                "program": way.program,
                "precision": way.precision,
                "batch_size": way.batch,
                "steps_a_round": way.steps,
                "sequences_per_second": rates,
                "share_of_roofline": share,
                "ebox_times_as_fast": ratio,
            }
        )
    with tempfile.TemporaryDirectory() as temporary:
        learned = learn_both(Path(temporary))
    for facts in learned:
        print(facts, flush=True)
    facts = {
        "gpu": describe_gpu(),
        "goal_auroc": GOAL_AUROC,
        "learned": learned,
        "filters": FILTERS,
        "measured_ceilings_per_second": ceilings,
        "ways": kept,
    }
    keep("gpu_speed", facts)


if __name__ == "__main__":
    main()
