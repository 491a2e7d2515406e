"""Training over slow links: exchange, synchronisation and rate of the network, on four nodes that this machine plays.

    sudo python benchmarks/network.py [--ways "exact;int8"] [--epochs 4] [--rounds 1] [--seeds 0] [--name network]

Needs Linux, root and iproute2: every worker is `ebox train` in a network namespace with a shaped link of its own, and
finds the others as on a cluster. For each way to train, the real TAL1 set is trained once with a free network, which
gives the AUROC by step: what is learned does not depend on the rate of the links. Then it is timed with free links and
with each rate. Bytes are those that the interface of a worker counted, headers included, between two entries of the
log. The time to an AUROC is the steps to it times the seconds of a step. Four workers share the cores, so a step is
never faster than the work of all four on them. With --epochs 0 nothing is learned, and only steps are timed; with
--rounds 0 nothing is timed. The time to an AUROC is that of the first seed. Writes results/NAME.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebox.datasets.build import build_dataset
from ebox.datasets.sources import DatasetSources
from ebox.settings.reading import make_config
from ebox.workers.contract import Membership
from machine import describe_machine, find_data, keep, summarise
from scaling import SPACE, address, network, shape_links

NODES = 4
PORT = 12480
RATES = (None, "1gbit", "100mbit")
TIMED_STEPS = 288
LOG_STEPS = 48
GOAL_AUROC = 0.93

# Groups of 16, the examples of one worker: the gradient is the only message.
GROUPS = ("train.batch_statistics='group'", "train.group_examples=16")
WAYS: dict[str, tuple[str, ...]] = {
    "exact": (),
    "exact, groups": GROUPS,
    "half": ("parallel.exchange='half'", *GROUPS),
    "int8": ("parallel.exchange='int8'", *GROUPS),
    "topk": ("parallel.exchange='topk'", *GROUPS),
    "powersgd": ("parallel.exchange='powersgd'", *GROUPS),
    "exact, delayed": ("parallel.sync='delayed'", *GROUPS),
    "powersgd, delayed": ("parallel.exchange='powersgd'", "parallel.sync='delayed'", *GROUPS),
    "exact, local 16": ("parallel.sync='local'", "parallel.local_steps=16"),
    "int8, local 16": ("parallel.exchange='int8'", "parallel.sync='local'", "parallel.local_steps=16"),
}


@dataclass(frozen=True)
class Timing:
    """A stretch of steps: seconds, and bytes that one worker sent, for each."""

    step_seconds: float
    sent_bytes: float


@contextlib.contextmanager
def started(dataset: Path, out: Path, cache: Path, settings: list[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """One worker per node, on its share of the cores; all have ended afterwards."""
    cores, workers = sorted(os.sched_getaffinity(0)), list[subprocess.Popen[bytes]]()
    try:
        chosen = [part for setting in settings for part in ("--set", setting)]
        for node in range(NODES):
            member = Membership(f"{address(0)}:{PORT}", node, NODES)
            environment = {**os.environ, **member.variables(), "JAX_COMPILATION_CACHE_DIR": str(cache)}
            core = str(cores[node * len(cores) // NODES])
            program = [sys.executable, "-m", "ebox", "train", str(dataset), "--out", str(out), *chosen]
            inside = ["ip", "netns", "exec", f"{SPACE}{node}", "taskset", "-c", core, *program]
            with (out.parent / f"{out.name}-{node}.log").open("wb") as log:
                workers.append(subprocess.Popen(inside, env=environment, stdout=log, stderr=log))
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def finish(workers: list[subprocess.Popen[bytes]], out: Path) -> None:
    """Wait for all; if one fails, exit with what the first one printed."""
    codes = [worker.wait() for worker in workers]
    if any(codes):
        raise SystemExit(f"codes {codes}: {(out.parent / f'{out.name}-0.log').read_text()[-2000:]}")


def entries_of(out: Path, kind: str) -> list[dict[str, Any]]:
    """Present entries of the log of a run."""
    path = out / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return [entry for entry in found if entry["kind"] == kind]


def count_sent(node: int) -> int:
    """Bytes that a worker has sent: what the other end of its link has received."""
    return int(Path(f"/sys/class/net/eboxlink{node}/statistics/rx_bytes").read_text())


def time_steps(dataset: Path, folder: Path, settings: tuple[str, ...]) -> Timing:
    """Seconds and bytes per step between the second entry of the log and the last."""
    out = Path(tempfile.mkdtemp(dir=folder)) / "run"
    length = [f"train.max_steps={TIMED_STEPS}", "train.validations=1", f"train.log_every_steps={LOG_STEPS}"]
    length += ["train.checkpoint_every_seconds=1000"]
    marks: list[tuple[int, float, int]] = []
    with started(dataset, out, folder / "cache", [*length, *settings]) as workers:
        while any(worker.poll() is None for worker in workers):
            entries = entries_of(out, "train")
            if entries and (not marks or entries[-1]["step"] > marks[-1][0]):
                marks.append((entries[-1]["step"], entries[-1]["seconds"], count_sent(1)))
            time.sleep(0.01)
        finish(workers, out)
    # The first stretch holds the compilation, and after the last step comes the validation.
    (first, begun, before), (last, ended, after) = marks[1], marks[-2]
    return Timing((ended - begun) / (last - first), (after - before) / (last - first))


def learn(dataset: Path, folder: Path, settings: tuple[str, ...], epochs: int, seed: int) -> list[tuple[int, float]]:
    """Steps and validation AUROC of a training with free links."""
    out = Path(tempfile.mkdtemp(dir=folder)) / "run"
    length = [f"train.epochs={epochs}", f"train.validations={4 * epochs}", f"train.seed={seed}"]
    with started(dataset, out, folder / "cache", [*length, *settings]) as workers:
        finish(workers, out)
    return [(entry["step"], entry["auroc"]) for entry in entries_of(out, "validation")]


def describe(way: str, curves: list[list[tuple[int, float]]], times: dict[str, list[Timing]]) -> dict[str, Any]:
    """What is kept of one way to train: what was learned by the first seed, and the last AUROC of each."""
    curve = curves[0] if curves else []
    reached = next((step for step, auroc in curve if auroc >= GOAL_AUROC), None)
    links = {}
    for rate, found in times.items():
        seconds = summarise([timing.step_seconds for timing in found])
        links[rate] = {
            "step_seconds": seconds,
            "sent_bytes_a_step": summarise([timing.sent_bytes for timing in found]),
            "seconds_to_auroc": None if reached is None else reached * seconds["median"],
        }
    return {
        "settings": WAYS[way],
        "final_auroc": curve[-1][1] if curve else None,
        "final_aurocs": [one[-1][1] for one in curves],
        "best_auroc": max((auroc for _, auroc in curve), default=None),
        "steps_to_auroc": reached,
        "links": links,
    }


def show(found: dict[str, Any]) -> None:
    """The table."""
    exact = found.get("exact", {"links": {}})["links"].get("free")
    free = None if exact is None else exact["step_seconds"]["median"]
    for way, facts in found.items():
        if facts["final_aurocs"]:
            print(
                f"{way:<26} final AUROC by seed {', '.join(f'{one:.4f}' for one in facts['final_aurocs'])}", flush=True
            )
        for rate, link in facts["links"].items():
            seconds, sent = link["step_seconds"]["median"], link["sent_bytes_a_step"]["median"]
            share = f"{free / seconds:5.2f} of exact, free" if free else ""
            goal = "never" if link["seconds_to_auroc"] is None else f"{link['seconds_to_auroc']:.0f} s"
            learned = ""
            if facts["final_auroc"] is not None:
                learned = f"AUROC {GOAL_AUROC} after {goal}, final {facts['final_auroc']:.4f}"
            print(f"{way:<26} {rate:<8} {seconds * 1e3:7.1f} ms {sent / 1e3:9.1f} kB  {learned}  {share}", flush=True)


def main() -> None:
    """Learn once in each way, time it on every link, print, keep."""
    parser = argparse.ArgumentParser(description="Training over slow links on four emulated nodes")
    parser.add_argument("--ways", default=";".join(WAYS), help="separated by semicolons")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seeds", default="0", help="of what is learned, separated by commas")
    parser.add_argument("--name", default="network", help="of the result")
    options = parser.parse_args()
    machine, data, found = describe_machine(), find_data() / "tal1", dict[str, Any]()
    print(machine, flush=True)
    with tempfile.TemporaryDirectory(prefix="ebox-network-") as temporary:
        folder = Path(temporary)
        (folder / "cache").mkdir()
        build_dataset(
            make_config({}).data,
            folder / "data",
            DatasetSources(positives=data / "bound.fa.gz", negatives=(data / "unbound_matched.fa.gz",)),
        )
        for way in options.ways.split(";"):
            times: dict[str, list[Timing]] = {}
            for rate in RATES if options.rounds else ():
                with network(NODES):
                    if rate is not None:
                        shape_links(rate, NODES)
                    rounds = [time_steps(folder / "data", folder, WAYS[way]) for _ in range(options.rounds)]
                times["free" if rate is None else rate] = rounds
            curves = []
            for seed in map(int, options.seeds.split(",")) if options.epochs else ():
                with network(NODES):
                    curves.append(learn(folder / "data", folder, WAYS[way], options.epochs, seed))
            found[way] = describe(way, curves, times)
            show({way: found[way]})
    show(found)
    keep(
        options.name,
        {"nodes": NODES, "epochs": options.epochs, "goal_auroc": GOAL_AUROC, "timed_steps": TIMED_STEPS, "ways": found},
    )


if __name__ == "__main__":
    main()
