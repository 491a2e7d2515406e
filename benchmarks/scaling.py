"""How the time of a step grows with the workers: real steps over shaped links, the model fitted to them, its curve.

    sudo python benchmarks/scaling.py             measure, fit, predict; needs Linux, root and iproute2
    python benchmarks/scaling.py --again          fit and predict from the kept points

WORKERS processes train at once in every measurement, each in a network namespace with a shaped link of its own: as
groups of 1, of 2, and as one of 4. Each core so carries the same work whatever the size of the groups, and what
differs between the measurements is the exchange alone. Writes benchmarks/results/scaling.json and docs/scaling.svg.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from ebox.config import Config, read_config
from ebox.planning import (
    ScalingPoint,
    ScalingResult,
    StepCase,
    StragglerResult,
    compile_for_topology,
    fit_scaling,
    fit_stragglers,
    parse_topology,
    scaling_curve,
)
from ebox.planning.compilation import StepShape
from ebox.reporting.figures import draw_scaling
from machine import RESULTS, describe_machine, keep

WORKERS = 4
GROUPS = (1, 2, 4)
EXAMPLES = (8, 32)
RATES = {"1gbit": 125e6, "300mbit": 37.5e6, "100mbit": 12.5e6}
LENGTH_BP = 200
CHUNK_STEPS = 8
SECONDS = 6.0
SINGLE_STEPS = 120
PORT = 12470
CHART = Path(__file__).parents[1] / "docs" / "scaling.svg"


def settings(examples: int) -> Config:
    """The default training, with a batch of so many examples a worker."""
    return read_config(overrides=[f"train.batch_size={examples}"])


def command(*parts: str) -> None:
    """Run a command of the system; end with its words where it fails."""
    done = subprocess.run(parts, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(parts)}: {done.stderr.strip()}")


@contextlib.contextmanager
def network() -> Iterator[None]:
    """A bridge with one namespace a worker on it, in each of which the host name means the worker's own address."""
    command("ip", "link", "add", "eboxbr", "type", "bridge")
    try:
        command("ip", "link", "set", "eboxbr", "up")
        for worker in range(WORKERS):
            space, link = f"ebox{worker}", f"eboxv{worker}"
            command("ip", "netns", "add", space)
            command("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
            command("ip", "link", "set", link, "master", "eboxbr", "up")
            command("ip", "-n", space, "addr", "add", f"{address(worker)}/24", "dev", "eth0")
            command("ip", "-n", space, "link", "set", "eth0", "up")
            command("ip", "-n", space, "link", "set", "lo", "up")
            hosts = Path("/etc/netns") / space / "hosts"
            hosts.parent.mkdir(parents=True, exist_ok=True)
            hosts.write_text(f"127.0.0.1 localhost\n{address(worker)} {socket.gethostname()}\n")
        yield
    finally:
        for worker in range(WORKERS):
            space = f"ebox{worker}"
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)
            (Path("/etc/netns") / space / "hosts").unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                (Path("/etc/netns") / space).rmdir()
        subprocess.run(["ip", "link", "del", "eboxbr"], capture_output=True, check=False)


def address(worker: int) -> str:
    """Of a worker on the bridge."""
    return f"10.78.0.{worker + 1}"


def shape_links(rate: str) -> None:
    """Limit what every worker sends."""
    for worker in range(WORKERS):
        inside = ("ip", "netns", "exec", f"ebox{worker}", "tc", "qdisc")
        limit = ("tbf", "rate", rate, "burst", "64kb", "latency", "50ms")
        command(*inside, "replace", "dev", "eth0", "root", *limit)


def measure(group: int, cache: str) -> list[dict[str, Any]]:
    """Step times of all workers, in groups of `group`, for every batch and rate."""
    cores = sorted(os.sched_getaffinity(0))
    workers = []
    for worker in range(WORKERS):
        # Neighbours share a core, so that the workers of a group of 2 work and wait together.
        core = cores[worker * len(cores) // WORKERS]
        first = worker // group * group
        arguments = [str(worker - first), str(group), f"{address(first)}:{PORT + first}"]
        program = [sys.executable, __file__, "--worker", *arguments]
        inside = ["ip", "netns", "exec", f"ebox{worker}", "taskset", "-c", str(core), *program]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": cache}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        workers.append(subprocess.Popen(inside, env=environment, **pipes))
    try:
        return [
            {"workers": group, "examples": examples, **times}
            for examples in EXAMPLES
            for times in measure_rates(workers, group)
        ]
    finally:
        for process in workers:
            process.kill()


def measure_rates(workers: list[subprocess.Popen[str]], group: int) -> list[dict[str, Any]]:
    """Let all workers get ready for the next batch, then time them at each rate."""
    found = []
    ask(workers, "ready")
    for rate in RATES if group > 1 else list(RATES)[:1]:
        shape_links(rate)
        answers = ask(workers, "go")
        seconds = [answer["seconds"] for answer in answers]
        found.append({"rate": rate, "seconds": float(np.mean(seconds)), "each": seconds})
    found[0]["single"] = [answer["single"] for answer in ask(workers, "single")] if group == 1 else []
    ask(workers, "next")
    return found


def ask(workers: list[subprocess.Popen[str]], word: str) -> list[dict[str, Any]]:
    """Say a word to all workers at once, and wait for their answers."""
    for process in workers:
        stream(process.stdin).write(word + "\n")
        stream(process.stdin).flush()
    lines = [stream(process.stdout).readline() for process in workers]
    if not all(lines):
        raise SystemExit("a worker died")
    return [json.loads(line) for line in lines]


def stream(pipe: IO[str] | None) -> IO[str]:
    """A pipe that is known to be there."""
    assert pipe is not None
    return pipe


def work(rank: int, group: int, coordinator: str) -> None:
    """One worker: for every batch, warm the real step up and time it whenever it is asked to."""
    import jax

    # Gloo says things on standard output, so the answers take their own way and it gets that of errors.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if group > 1:
        jax.distributed.initialize(coordinator, num_processes=group, process_id=rank)
    for examples in EXAMPLES:
        dispatch = prepare(examples * group, group)
        for line in sys.stdin:
            word, answer = line.strip(), {}
            if word == "ready":
                dispatch(CHUNK_STEPS)
            elif word == "go":
                answer["seconds"] = time_steps(dispatch, group)
            elif word == "single":
                answer["single"] = [dispatch(1) for _ in range(SINGLE_STEPS)]
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
            if word == "next":
                break


def time_steps(dispatch: Any, group: int) -> float:
    """Median seconds a step over about SECONDS; all workers of a group run the same number of dispatches."""
    from jax.experimental.multihost_utils import process_allgather

    estimate = np.array([np.mean([dispatch(CHUNK_STEPS) for _ in range(2)])])
    slowest = float(np.max(process_allgather(estimate))) if group > 1 else float(estimate[0])
    count = max(3, round(SECONDS / slowest))
    # The median of dispatches, since whatever else this machine does comes in bursts.
    return float(np.median([dispatch(CHUNK_STEPS) for _ in range(count)])) / CHUNK_STEPS


def prepare(batch: int, group: int) -> Any:
    """The compiled step on the mesh of a group, with random data in place; gives the seconds of some steps."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    from ebox.models import build_model
    from ebox.parallel import make_mesh
    from ebox.training.batches import Chunk
    from ebox.training.state import make_hyperparameters, make_state
    from ebox.training.step import build_run_chunk, make_plan

    config = settings(batch)
    mesh = make_mesh(jax.devices())
    network = build_model(config.model, 1, LENGTH_BP, jax.random.key(0))
    run = build_run_chunk(mesh, make_plan(config.train, "cpu"), CHUNK_STEPS)
    everywhere, by_example = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(None, "data"))

    def place(tree: Any, sharding: NamedSharding) -> Any:
        def put(leaf: Any) -> Any:
            whole = np.array(leaf)
            return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

        return jax.tree.map(put, tree)

    generator = np.random.default_rng(0)
    codes = generator.integers(0, 4, (CHUNK_STEPS, batch, LENGTH_BP), np.uint8)
    targets = generator.integers(0, 2, (CHUNK_STEPS, batch, 1), np.uint8)
    chunk = place(Chunk(codes, targets, np.ones((CHUNK_STEPS, batch), bool)), by_example)
    hyper = place(make_hyperparameters(config.train, 1000, 1.0), everywhere)
    held = [place(eqx.filter(make_state(network, config.train), eqx.is_array), everywhere)]
    counts = {steps: place(jnp.asarray(steps, jnp.int32), everywhere) for steps in (1, CHUNK_STEPS)}

    def dispatch(steps: int) -> float:
        began = time.perf_counter()
        held[0], metrics = run(held[0], chunk, hyper, counts[steps])
        jax.block_until_ready(metrics)
        return time.perf_counter() - began

    return dispatch


def measure_all() -> list[dict[str, Any]]:
    """Every group size in turn."""
    found = []
    with tempfile.TemporaryDirectory(prefix="ebox-scaling-") as cache, network():
        for group in GROUPS:
            for times in measure(group, cache):
                print(
                    times["workers"], times["examples"], times["rate"], f"{times['seconds'] * 1e3:.1f} ms", flush=True
                )
                found.append(times)
    return found


def describe_exchange() -> tuple[int, int]:
    """Bytes and number of the all-reduces of one step, from the compiled program."""
    shape = StepShape(LENGTH_BP, 1, CHUNK_STEPS)
    compiled = compile_for_topology(parse_topology("cpu:4"), settings(32), shape)
    inside = [one for one in compiled.collectives if one.in_step]
    return sum(one.num_bytes for one in inside), sum(one.count for one in inside)


def fit(measured: list[dict[str, Any]], num_bytes: int, messages: int) -> tuple[ScalingResult, StragglerResult]:
    """The model fitted to all points; the spread of the workers is that of single steps without exchange."""
    points = [
        ScalingPoint(
            StepCase(one["workers"], one["examples"], num_bytes, RATES[one["rate"]], messages=messages), one["seconds"]
        )
        for one in measured
    ]
    single = next(one["single"] for one in measured if one["workers"] == 1 and one["examples"] == EXAMPLES[-1])
    stragglers = fit_stragglers(np.array(single)[:, 2:])
    return fit_scaling(points), stragglers


def held_out_error(result: ScalingResult) -> dict[str, float]:
    """Errors of predicting the largest groups from the smaller ones alone."""
    largest = max(point.case.workers for point in result.points)
    seen = [point for point in result.points if point.case.workers < largest]
    smaller = fit_scaling(seen, spread=result.model.spread)
    unseen = [point for point in result.points if point.case.workers == largest]
    errors = [smaller.model.step_seconds(point.case) / point.seconds - 1 for point in unseen]
    return {"median": float(np.median(np.abs(errors))), "worst": float(np.max(np.abs(errors)))}


def main() -> None:
    """Measure, fit, predict, draw, keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--worker", nargs=3)
    chosen = parser.parse_args()
    if chosen.worker is not None:
        work(int(chosen.worker[0]), int(chosen.worker[1]), chosen.worker[2])
        return
    print(describe_machine())
    kept = RESULTS / "scaling.json"
    if chosen.again:
        earlier = json.loads(kept.read_text(encoding="utf-8"))
        measured, num_bytes, messages = earlier["measured"], earlier["message_bytes"], earlier["messages"]
    else:
        num_bytes, messages = describe_exchange()
        measured = measure_all()
    result, stragglers = fit(measured, num_bytes, messages)
    batch = StepCase(1, 64.0 * 256, num_bytes, 1.25e9, messages=messages)
    curve = [point.facts() for point in scaling_curve(result, batch)]
    facts = {
        "measured": measured,
        "message_bytes": num_bytes,
        "messages": messages,
        "model": vars(result.model),
        "untold": result.untold,
        "errors": result.errors,
        "left_out_errors": result.left_out_errors,
        "median_left_out_error": result.median_left_out_error,
        "worst_left_out_error": result.worst_left_out_error,
        "largest_group_from_smaller_ones": held_out_error(result),
        "stragglers": vars(stragglers),
        "curve": curve,
    }
    if not chosen.again:
        keep("scaling", facts)
    print(json.dumps({key: value for key, value in facts.items() if key not in {"measured", "curve"}}, indent=1))
    for point in curve:
        print(f"{point['workers']:>4} {point['seconds'] * 1e3:9.2f} ms {point['efficiency']:6.3f}")
    CHART.write_text(draw_scaling("scaling", curve) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
