"""The kept figures of a GPU (results/gpu_speed.json) in the form of a profile, so that plans can have it.

    python benchmarks/h200_profile.py      writes the reference that comes with the package

Only steps, ceilings and the device were kept: no dataset, start-up, validation, checkpoint or power. Operations of an
example are those of the products of the network, counted from its shapes as gpu_speed.py does.
"""

from __future__ import annotations

import json
from typing import Any

from ebox.planning.profiles import (
    Ceilings,
    Device,
    Energy,
    Profile,
    Spread,
    Step,
    Subject,
    fingerprint_network,
    write_profile,
)
from ebox.planning.reference import REFERENCE
from ebox.settings.reading import read_config
from machine import RESULTS

LENGTH_BP, NUM_PARAMETERS = 200, 198_337
POOLED, FILTERS, WIDTHS = 50, 128, (5, 3, 3)


def make_profile() -> Profile:
    """The profile of the H200."""
    kept = json.loads((RESULTS / "gpu_speed.json").read_text(encoding="utf-8"))
    machine, gpu, ceilings = kept["machine"], kept["gpu"], kept["measured_ceilings_per_second"]
    config = read_config()
    # The first layer has no gradient of its inputs.
    products = 2 * 2 * LENGTH_BP * 15 * 4 * FILTERS + sum(3 * 2 * POOLED * one * FILTERS * FILTERS for one in WIDTHS)
    return Profile(
        name="h200",
        created=f"{machine['date']}T00:00:00+00:00",
        device=Device(
            name=gpu["name"],
            platform="cuda",
            count=1,
            hardware="H200-SXM",
            memory_bytes=gpu["memory_bytes"],
            driver=None,
            num_cores=machine["num_cores"],
            host_memory_bytes=None,
        ),
        environment={key: machine[key] for key in ("ebox", "cpu", "python", "packages")} | {"cuda": gpu["cuda"]},
        network_link="none",
        subject=Subject(
            network=fingerprint_network(config.model),
            dataset=None,
            num_parameters=NUM_PARAMETERS,
            length_bp=LENGTH_BP,
            num_tracks=1,
            num_train=None,
            examples_an_epoch=None,
            flops_an_example=products,
            bytes_an_example=None,
            fixed_bytes=None,
            gradient_bytes=4 * NUM_PARAMETERS,
        ),
        settings=config.model_dump(mode="json", include={"model", "train", "parallel"}),
        start_seconds=None,
        compile_seconds=None,
        cached_compile_seconds=None,
        validation_seconds=None,
        checkpoint_seconds=None,
        checkpoint_bytes=None,
        steps=tuple(_step(way) for way in kept["ways"] if way["program"] == "ebox"),
        ceilings=Ceilings(
            flops={name: ceilings[name] for name in ("float32", "bfloat16")},
            bytes_per_second=ceilings["bytes"],
            launch_seconds=None,
        ),
        energy=Energy(source=None, covers=None, idle_watts=None),
    )


def _step(way: dict[str, Any]) -> Step:
    rates = way["sequences_per_second"]
    seconds = {name: way["batch_size"] / rates[name] for name in ("median", "min", "max")}
    return Step(
        workers=1,
        batch_size=way["batch_size"],
        precision=way["precision"],
        exchange="exact",
        sync="every-step",
        seconds=Spread(median=seconds["median"], low=seconds["max"], high=seconds["min"], n=rates["n"]),
        input_seconds=None,
        exchange_seconds=0.0,
        messages=0,
        message_bytes=0.0,
        memory_bytes=None,
        watts=None,
    )


if __name__ == "__main__":
    write_profile(make_profile(), REFERENCE, overwrite=True)
