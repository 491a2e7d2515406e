"""The kept figures of a GPU (results/gpu_speed.json) in the form of a profile, so that plans can have it.

    python benchmarks/h200_profile.py      writes the reference that comes with the package

Steps, ceilings and the device were kept, and of two whole trainings (12 epochs of real TAL1, a validation after each)
what their start, compilation and validations took; no dataset, checkpoint or power.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ebox.planning.operations import count_operations
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
# Of the whole trainings: their batch, steps, steps to the first entry of the log, and validations.
BATCH, STEPS, LOGGED_STEPS, VALIDATIONS = 64, 3_588, 64, 12


def make_profile() -> Profile:
    """The profile of the H200."""
    kept = json.loads((RESULTS / "gpu_speed.json").read_text(encoding="utf-8"))
    machine, gpu, ceilings = kept["machine"], kept["gpu"], kept["measured_ceilings_per_second"]
    config = read_config()
    steps = tuple(_step(way) for way in kept["ways"] if way["program"] == "ebox")
    beside = [_divide(one, steps) for one in kept["learned"]]
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
            flops_an_example=count_operations(config.model, LENGTH_BP),
            bytes_an_example=None,
            fixed_bytes=None,
            gradient_bytes=4 * NUM_PARAMETERS,
        ),
        settings=config.model_dump(mode="json", include={"model", "train", "parallel"}),
        start_seconds=Spread.of([one["start"] for one in beside]),
        compile_seconds=Spread.of([one["compile"] for one in beside]),
        cached_compile_seconds=None,
        validation_seconds=Spread.of([one["validation"] for one in beside]),
        checkpoint_seconds=None,
        checkpoint_bytes=None,
        steps=steps,
        ceilings=Ceilings(
            flops={name: ceilings[name] for name in ("float32", "bfloat16")},
            bytes_per_second=ceilings["bytes"],
            launch_seconds=None,
        ),
        energy=Energy(source=None, covers=None, idle_watts=None),
    )


def _divide(training: Mapping[str, Any], steps: Sequence[Step]) -> dict[str, float]:
    """The seconds of a whole training beside its steps; those after its last validation count as its start."""
    precision = training["precision"]
    step = next(one.seconds.median for one in steps if (one.precision, one.batch_size) == (precision, BATCH))
    first, last = training["seconds_to_first_log_entry"], training["seconds_to_last_validation"]
    return {
        "start": training["seconds_of_the_command"] - last,
        "compile": first - LOGGED_STEPS * step,
        "validation": (last - first - (STEPS - LOGGED_STEPS) * step) / VALIDATIONS,
    }


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
