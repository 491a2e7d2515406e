"""What members side by side in one step bring over one after another, on whatever computes here.

    python benchmarks/population.py [--members 1,4,16] [--batch 64] [--steps 320] [--set KEY=VALUE …]

Real TAL1's training sequences with the default network. Steps: those of all members together in a second, after
compilation, the best of three. End to end: the trainings of all members from the first import to the validated
networks, side by side, and one after another in a process each, without and with a compilation cache. Writes
results/population_PLATFORM.json.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ebox.datasets.folder import Dataset, open_dataset
from ebox.datasets.sources import DatasetSources
from ebox.settings.reading import Config, read_config
from ebox.verbs.build import build
from machine import describe_machine, find_data, keep

REPEATS = 3
PROGRAM = """
import sys
from ebox.datasets.folder import open_dataset
from ebox.mesh.devices import find_devices, make_mesh
from ebox.settings.reading import ParallelConfig, read_config
from ebox.tuning.population import Population
from pathlib import Path
data, first, count, *overrides = sys.argv[1:]
seeds = range(int(first), int(first) + int(count))
configs = [read_config(None, [*overrides, f"train.seed={seed}"]) for seed in seeds]
population = Population(open_dataset(Path(data)), configs, make_mesh(find_devices(ParallelConfig())))
population.train_to(population.num_steps)
print(population.measure())
"""


def measure_steps(data: Dataset, configs: list[Config], *, side_by_side: bool) -> float:
    """Steps of all members together in a second."""
    from ebox.mesh.devices import find_devices, make_mesh
    from ebox.settings.reading import ParallelConfig
    from ebox.tuning.population import Population

    mesh, steps = make_mesh(find_devices(ParallelConfig())), configs[0].train.max_steps
    assert steps is not None
    population = Population(data, configs, mesh, validate=lambda network: {}, side_by_side=side_by_side)
    best, done, part = 0.0, configs[0].train.steps_per_dispatch, steps // (REPEATS + 1)
    population.train_to(done)
    for _ in range(REPEATS):
        began = time.perf_counter()
        population.train_to(done + part)
        best, done = max(best, part * len(configs) / (time.perf_counter() - began)), done + part
    return best


def time_trainings(data: Path, members: int, overrides: list[str]) -> dict[str, float]:
    """Seconds from start to end of all trainings: side by side, and in a process each."""

    def run(first: int, count: int, cache: str | None) -> None:
        more = {} if cache is None else {"JAX_COMPILATION_CACHE_DIR": cache}
        command = [sys.executable, "-c", PROGRAM, str(data), str(first), str(count), *overrides]
        subprocess.run(command, check=True, env={**os.environ, **more}, stdout=subprocess.DEVNULL)

    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as cache:
        ways = {"together": [(0, members, None)]}
        ways |= {"apart": [(seed, 1, None) for seed in range(members)]}
        ways |= {"apart_cached": [(seed, 1, cache) for seed in range(members)]}
        for way, parts in ways.items():
            began = time.perf_counter()
            for part in parts:
                run(*part)
            seconds[way] = time.perf_counter() - began
            print(way, f"{seconds[way]:.0f} s", flush=True)
    return seconds


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--members", default="1,4,16")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=320)
    parser.add_argument("--end-to-end", action="store_true")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    overrides = [f"train.batch_size={options.batch}", f"train.max_steps={options.steps}", *options.overrides]
    numbers, files = [int(word) for word in options.members.split(",")], find_data() / "tal1"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "dataset"
        sources = DatasetSources(positives=files / "bound.fa.gz", negatives=(files / "unbound_matched.fa.gz",))
        build(place, sources, read_config(None, overrides))
        data, found = open_dataset(place), dict[str, Any]()
        for number in numbers:
            configs = [read_config(None, [*overrides, f"train.seed={seed}"]) for seed in range(number)]
            found[str(number)] = {
                way: measure_steps(data, configs, side_by_side=way == "side_by_side")
                for way in ("side_by_side", "in_turn")
            }
            print(number, found[str(number)], flush=True)
        whole = time_trainings(place, max(numbers), overrides) if options.end_to_end else None
    import jax

    facts = {"overrides": overrides, "steps_per_second": found, "seconds": whole}
    keep(f"population_{jax.devices()[0].platform}", facts)


if __name__ == "__main__":
    main()
