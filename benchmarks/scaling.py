"""How the time of a step grows with the workers: real steps over shaped links, the model fitted to them, its curve.

    sudo python benchmarks/scaling.py steps       measure real steps of 1 and 2 workers, a core each
    sudo python benchmarks/scaling.py exchange    measure the all-reduce alone, of 2, 4 and 8 workers
    python benchmarks/scaling.py fit              fit and predict from what was kept

Measuring needs Linux, root and iproute2: every worker is a process in a network namespace with a shaped link of its
own. Steps are timed with one worker per core, since workers that share a core wait for each other; so on few
cores the growth of the exchange with the workers is measured without the work. For one worker, several single ones run
at once, so that the machine is as busy as with a group. Writes benchmarks/results/scaling*.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from ebox.planning.compilation import StepShape
from ebox.planning.isolation import compile_for_topology
from ebox.planning.speedup import scaling_curve
from ebox.planning.step_time import ScalingPoint, ScalingResult, StepCase, fit_scaling
from ebox.planning.stragglers import fit_stragglers
from ebox.planning.topologies import parse_topology
from ebox.settings.reading import Config, read_config
from machine import RESULTS, describe_machine, keep

# Sizes of the groups, and examples per worker (steps) or bytes (exchange) of each measurement.
PARTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "steps": ((1, 2), (16, 48)),
    "exchange": ((2, 4, 8), (802_592, 200_000)),
}
RATES = {"1gbit": 125e6, "300mbit": 37.5e6, "100mbit": 12.5e6, "30mbit": 3.75e6}
# Where workers share cores, faster links would measure the processors that carry the packets.
USED_RATES = {"steps": ("1gbit", "300mbit", "100mbit"), "exchange": ("300mbit", "100mbit", "30mbit")}
LENGTH_BP = 200
CHUNK_STEPS = 8
SECONDS = {"steps": 6.0, "exchange": 2.0}
SINGLE_STEPS = 150
PORT = 12470
SPACE = "eboxscaling"


def settings(batch: int) -> Config:
    """The default training, with a global batch of `batch` examples."""
    return read_config(overrides=[f"train.batch_size={batch}"])


def command(*parts: str) -> None:
    """Run a command of the system; if it fails, exit with its message."""
    done = subprocess.run(parts, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(parts)}: {done.stderr.strip()}")


@contextlib.contextmanager
def network(num: int) -> Iterator[None]:
    """A bridge with one namespace per worker on it, in each of which the host name means the worker's own address."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    command("ip", "link", "add", "eboxbridge", "type", "bridge")
    try:
        command("ip", "link", "set", "eboxbridge", "up")
        for worker in range(num):
            space, link = f"{SPACE}{worker}", f"eboxlink{worker}"
            command("ip", "netns", "add", space)
            command("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
            command("ip", "link", "set", link, "master", "eboxbridge", "up")
            command("ip", "-n", space, "addr", "add", f"{address(worker)}/24", "dev", "eth0")
            command("ip", "-n", space, "link", "set", "eth0", "up")
            command("ip", "-n", space, "link", "set", "lo", "up")
            hosts = Path("/etc/netns") / space / "hosts"
            hosts.parent.mkdir(parents=True, exist_ok=True)
            hosts.write_text(f"127.0.0.1 localhost\n{address(worker)} {socket.gethostname()}\n")
        yield
    finally:
        for worker in range(num):
            space = f"{SPACE}{worker}"
            # The link first: with its namespace it would be removed later, and its name would still be in use.
            for gone in (("link", "del", f"eboxlink{worker}"), ("netns", "del", space)):
                subprocess.run(["ip", *gone], capture_output=True, check=False)
            (Path("/etc/netns") / space / "hosts").unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                (Path("/etc/netns") / space).rmdir()
        subprocess.run(["ip", "link", "del", "eboxbridge"], capture_output=True, check=False)


def address(worker: int) -> str:
    """Of a worker on the bridge."""
    return f"10.78.0.{worker + 1}"


def shape_links(rate: str, num: int) -> None:
    """Limit what every worker sends."""
    for worker in range(num):
        inside = ("ip", "netns", "exec", f"{SPACE}{worker}", "tc", "qdisc")
        limit = ("tbf", "rate", rate, "burst", "64kb", "latency", "50ms")
        command(*inside, "replace", "dev", "eth0", "root", *limit)


def start_workers(part: str, group: int, num: int, cache: str) -> list[subprocess.Popen[str]]:
    """All workers, in groups of `group`; neighbours share a core where there are more workers than cores."""
    cores = sorted(os.sched_getaffinity(0))
    workers = []
    for worker in range(num):
        first = worker // group * group
        arguments = [part, str(worker - first), str(group), f"{address(first)}:{PORT + first}"]
        core = str(cores[worker * len(cores) // num])
        program = ["taskset", "-c", core, sys.executable, __file__, "--worker", *arguments]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": cache}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        # The first worker to end makes the others print long errors.
        pipes["stderr"] = None if os.environ.get("EBOX_BENCHMARK_ERRORS") else subprocess.DEVNULL
        inside = ["ip", "netns", "exec", f"{SPACE}{worker}", *program]
        workers.append(subprocess.Popen(inside, env=environment, **pipes))
    return workers


def measure(part: str) -> list[dict[str, Any]]:
    """Times of every group size, size of the work, and rate, in seconds."""
    groups, sizes = PARTS[part]
    num, found = max(groups), []
    with tempfile.TemporaryDirectory(prefix="ebox-scaling-") as cache, network(num):
        for group in groups:
            # The exchange is timed in one group alone; steps in as many as there are workers for.
            used = group if part == "exchange" else num
            workers = start_workers(part, group, used, cache)
            try:
                for size in sizes:
                    for times in measure_rates(part, workers, group):
                        found.append({"workers": group, "size": size, **times})
                        print(group, size, times["rate"], f"{times['seconds'] * 1e3:.2f} ms", flush=True)
            finally:
                for process in workers:
                    process.kill()
                    process.wait()
    return found


def measure_rates(part: str, workers: list[subprocess.Popen[str]], group: int) -> list[dict[str, Any]]:
    """Let all workers get ready for the next size, then time them at each rate."""
    found: list[dict[str, Any]] = []
    ask(workers, "ready")
    for rate in USED_RATES[part] if group > 1 else USED_RATES[part][:1]:
        shape_links(rate, len(workers))
        seconds = [answer["seconds"] for answer in ask(workers, "go")]
        found.append({"rate": rate, "seconds": float(np.mean(seconds))})
    if group == 1:
        found[0]["single"] = [answer["single"] for answer in ask(workers, "single")]
    ask(workers, "next")
    return found


def ask(workers: list[subprocess.Popen[str]], word: str) -> list[dict[str, Any]]:
    """Send a word to all workers at once, and wait for their answers."""
    for process in workers:
        stream(process.stdin).write(word + "\n")
        stream(process.stdin).flush()
    lines = [stream(process.stdout).readline() for process in workers]
    if not all(lines):
        raise SystemExit("a worker died; EBOX_BENCHMARK_ERRORS=1 shows what they say")
    return [json.loads(line) for line in lines]


def stream(pipe: IO[str] | None) -> IO[str]:
    """The pipe, which must be there."""
    assert pipe is not None
    return pipe


def work(part: str, rank: int, group: int, coordinator: str) -> None:
    """One worker: for every size of the work, warm it up and time it whenever it is asked to."""
    from ebox.workers.contract import Membership
    from ebox.workers.processes import join_group

    # Gloo prints to standard output, so that goes to standard error, and the answers go through a copy of it.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if group > 1:
        os.environ.update(Membership(coordinator, rank, group).variables())
        join_group()
    for size in PARTS[part][1]:
        dispatch = prepare_steps(size * group) if part == "steps" else prepare_exchange(size)
        for line in sys.stdin:
            word, answer = line.strip(), dict[str, Any]()
            if word == "ready":
                dispatch(CHUNK_STEPS)
            elif word == "go":
                answer["seconds"] = time_steps(dispatch, group, SECONDS[part])
            elif word == "single":
                answer["single"] = [dispatch(1) for _ in range(SINGLE_STEPS)]
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
            if word == "next":
                break


def time_steps(dispatch: Any, group: int, duration: float) -> float:
    """Median seconds per step; all workers of a group run the same number of dispatches."""
    from jax.experimental.multihost_utils import process_allgather

    estimate = np.array([np.mean([dispatch(CHUNK_STEPS) for _ in range(2)])])
    slowest = float(np.max(process_allgather(estimate))) if group > 1 else float(estimate[0])
    count = max(5, round(duration / slowest))
    return float(np.median([dispatch(CHUNK_STEPS) for _ in range(count)])) / CHUNK_STEPS


def place(tree: Any, mesh: Any, *axes: Any) -> Any:
    """Put arrays, the same in every process, on the devices of all processes."""
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    sharding = NamedSharding(mesh, PartitionSpec(*axes))

    def put(leaf: Any) -> Any:
        whole = np.array(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(put, tree)


def prepare_exchange(num_bytes: int) -> Any:
    """A sum of float32 alone, as a group makes it; gives the seconds of some of them."""
    import jax
    from jax.sharding import PartitionSpec

    from ebox.mesh.build import find_axis
    from ebox.mesh.devices import DATA_AXIS, make_mesh

    mesh = make_mesh(jax.devices())
    spec = PartitionSpec(DATA_AXIS)
    mapped = jax.shard_map(find_axis(mesh).sum, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    run = jax.jit(mapped)
    vector = place(np.zeros((mesh.size, num_bytes // 4), np.float32), mesh, DATA_AXIS)

    def dispatch(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            jax.block_until_ready(run(vector))
        return time.perf_counter() - began

    return dispatch


def prepare_steps(batch: int) -> Any:
    """The real step on the devices of a group, with random data in place; gives the seconds of some steps."""
    import jax
    import jax.numpy as jnp

    from ebox.mesh.devices import DATA_AXIS, make_mesh
    from ebox.models.architectures import build_model
    from ebox.training.batches import Chunk, Shares, put_chunk
    from ebox.training.state import make_hyperparameters, place_state
    from ebox.training.step import NUM_SIGNALS, build_run_chunk, make_plan

    config = settings(batch)
    mesh = make_mesh(jax.devices())
    network = build_model(config.model, 1, LENGTH_BP, np.random.default_rng(0))
    plan = make_plan(config, mesh)
    run = build_run_chunk(mesh, plan, CHUNK_STEPS)
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 4, (CHUNK_STEPS, batch, LENGTH_BP), np.uint8)
    targets = generator.integers(0, 2, (CHUNK_STEPS, batch, 1), np.uint8)
    own = Shares.of(mesh, batch).own
    known = np.stack([(targets == 0).sum((1, 2)), (targets == 1).sum((1, 2))], axis=1).astype(np.float32)
    mask = np.ones((CHUNK_STEPS, batch), bool)
    chunk = put_chunk(Chunk(codes[:, own], targets[:, own], mask[:, own], known), mesh)
    signals = place(np.zeros((mesh.size, NUM_SIGNALS), np.float32), mesh, DATA_AXIS)
    hyper = place(make_hyperparameters(config.train, 1000, 1.0), mesh)
    held = [place_state(plan.schedule.start(network), mesh)]
    counts = {steps: place(jnp.asarray(steps, jnp.int32), mesh) for steps in (1, CHUNK_STEPS)}

    def dispatch(steps: int) -> float:
        began = time.perf_counter()
        held[0], metrics = run(held[0], chunk, signals, hyper, counts[steps])
        jax.block_until_ready(metrics)
        return time.perf_counter() - began

    return dispatch


def describe_exchange() -> dict[str, int]:
    """Bytes and number of the all-reduces of one step, from the compiled program."""
    shape = StepShape(LENGTH_BP, 1, CHUNK_STEPS)
    inside = compile_for_topology(parse_topology("cpu:2"), settings(32), shape).collectives
    return {"message_bytes": sum(one.num_bytes for one in inside), "messages": sum(one.count for one in inside)}


def read_points(part: str) -> tuple[dict[str, Any], list[ScalingPoint]]:
    """The kept measurements of a part, and the same as points of the model."""
    kept = json.loads((RESULTS / f"scaling_{part}.json").read_text(encoding="utf-8"))
    points = []
    for one in kept["measured"]:
        rate, count = RATES[one["rate"]], one["workers"]
        steps = StepCase(count, one["size"], kept.get("message_bytes", 0), rate, messages=kept.get("messages", 1))
        case = steps if part == "steps" else StepCase(count, 0, one["size"], rate)
        points.append(ScalingPoint(case, one["seconds"]))
    return kept, points


def describe_fit(result: ScalingResult) -> dict[str, Any]:
    """The costs and the errors of a fit, and those on the largest groups when only smaller ones are known."""
    facts = {
        "model": vars(result.model),
        "untold": result.untold,
        "num_points": len(result.points),
        "errors": result.errors,
        "left_out_errors": result.left_out_errors,
        "median_left_out_error": result.median_left_out_error,
        "worst_left_out_error": result.worst_left_out_error,
    }
    largest = max(point.case.workers for point in result.points)
    seen = [point for point in result.points if point.case.workers < largest]
    if len({point.case.workers for point in seen}) > 1:
        smaller = fit_scaling(seen, result.model.spread)
        unseen = [point for point in result.points if point.case.workers == largest]
        errors = [smaller.model.step_seconds(point.case) / point.seconds - 1 for point in unseen]
        facts["errors_on_the_largest_group_from_smaller_ones"] = errors
    return facts


def fit() -> None:
    """Fit the model to what was measured, with the spread of single steps, and follow it to 256 workers."""
    _, exchanges = read_points("exchange")
    kept, points = read_points("steps")
    single = next(one["single"] for one in reversed(kept["measured"]) if one["workers"] == 1)
    stragglers = fit_stragglers(np.array(single)[:, 2:])
    result = fit_scaling(points, stragglers.spread)
    case = StepCase(1, 64.0 * 256, kept["message_bytes"], 1.25e9, messages=kept["messages"])
    curves = {
        name: [point.facts() for point in scaling_curve(result, replace(case, exchange=name))]
        for name in ("ring", "halving")
    }
    facts = {
        "steps": describe_fit(result),
        "exchange": describe_fit(fit_scaling(exchanges, 0.0)),
        "stragglers_of_single_steps": vars(stragglers),
        "curve_of": vars(case),
        "curves": curves,
    }
    keep("scaling", facts)
    print(json.dumps({key: value for key, value in facts.items() if key != "curves"}, indent=1))
    for name, curve in curves.items():
        for point in curve:
            words = f"{point['seconds'] * 1e3:9.2f} ms, efficiency {point['efficiency']:.3f}"
            print(f"{name:>8} {point['workers']:>4} {words}, simulated {point['simulated']['seconds'] * 1e3:9.2f} ms")


def main() -> None:
    """Measure the parts that are asked for; fit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["steps", "exchange", "fit"])
    parser.add_argument("--worker", nargs=4)
    chosen = parser.parse_args()
    if chosen.worker is not None:
        part, rank, group, coordinator = chosen.worker
        work(part, int(rank), int(group), coordinator)
        return
    print(describe_machine())
    for part in chosen.parts:
        if part == "fit":
            fit()
        else:
            exchange = describe_exchange() if part == "steps" else {}
            keep(f"scaling_{part}", {**exchange, "measured": measure(part)})


if __name__ == "__main__":
    main()
