"""What a checkpoint costs: seconds to fetch and to publish one, and the share of the time at the default interval.

    python benchmarks/checkpoints.py [--repeats 20]

The state is that of the default network, with one device and with what eight devices carry for an exchange in 8 bits.
Each is published as in a run, flushed to the disk, and the oldest is removed. Writes results/checkpoints.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ebox.mesh.devices import make_mesh
from ebox.models.architectures import build_model
from ebox.settings.reading import Config, make_config
from ebox.training.checkpoints import RunIdentity, Standing, host_arrays, save_checkpoint
from ebox.training.state import place_state
from ebox.training.step import make_plan
from machine import describe_machine, keep, summarise

LENGTH = 200
WAYS: dict[str, tuple[int, dict[str, Any]]] = {
    "1 device, exact": (1, {}),
    "8 devices, int8": (8, {"parallel": {"exchange": "int8"}}),
}


def time_saves(config: Config, devices: int, folder: Path, repeats: int) -> tuple[list[float], int]:
    """Seconds of each save, and the bytes of one."""
    mesh = make_mesh(jax.devices()[:devices])
    network = build_model(config.model, 1, LENGTH, np.random.default_rng(0))
    state = place_state(make_plan(config, mesh).schedule.start(network), mesh)
    seconds, identity = [], RunIdentity.of(config, "none")
    for number in range(repeats):
        began = time.perf_counter()
        place = save_checkpoint(folder, host_arrays(state), network, Standing(step=number), identity)
        seconds.append(time.perf_counter() - began)
    return seconds, sum(path.stat().st_size for path in place.iterdir())


def main() -> None:
    """Measure both, print, keep."""
    parser = argparse.ArgumentParser(description="What a checkpoint costs")
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", max(devices for devices, _ in WAYS.values()))
    print(describe_machine())
    kept = {}
    for way, (devices, settings) in WAYS.items():
        config = make_config(settings)
        with tempfile.TemporaryDirectory(dir=".") as folder:
            seconds, size = time_saves(config, devices, Path(folder), options.repeats)
        shown, interval = summarise(seconds), config.train.checkpoint_every_seconds
        share = shown["max"] / interval
        print(
            f"{way:<16} {size / 1e6:6.1f} MB in {shown['median'] * 1e3:.0f} ms ({shown['min'] * 1e3:.0f} to "
            f"{shown['max'] * 1e3:.0f}, n = {shown['n']}); the slowest is {share:.2%} of {interval:.0f} s"
        )
        kept[way] = {"num_bytes": size, "seconds": shown, "interval_seconds": interval, "greatest_share": share}
    keep("checkpoints", {"ways": kept})


if __name__ == "__main__":
    main()
