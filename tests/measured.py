"""Profiles of machines for tests of planning, as `ebox bench` would write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ebox.planning.profiles import (
    Device,
    Energy,
    Learning,
    Point,
    Profile,
    Spread,
    Step,
    Subject,
    fingerprint_network,
)
from ebox.settings.reading import read_config

FINGERPRINT = "ab" * 32


def spread(value: float, share: float = 0.02) -> Spread:
    """Three repeats around a value."""
    return Spread(median=value, low=value * (1 - share), high=value * (1 + share), n=3)


def step(workers: int, batch_size: int, seconds: float, **more: Any) -> Step:
    """A measured step."""
    facts: dict[str, Any] = {
        "precision": "float32",
        "exchange": "exact",
        "sync": "every-step",
        "input_seconds": None,
        "exchange_seconds": 0.0,
        "messages": 0 if workers == 1 else 12,
        "message_bytes": 0.0 if workers == 1 else 800_000.0,
        "memory_bytes": None,
        "watts": None,
    }
    return Step(workers=workers, batch_size=batch_size, seconds=spread(seconds), **(facts | more))


def learning(seed: int, batch_size: int = 64, best: float = 0.955, num_examples: int = 43_000) -> Learning:
    """A training whose validations rise to their best."""
    points = [Point(step=700 * place, seconds=10.0 * place, auroc=best - 0.08 * 2.0**-place) for place in range(1, 7)]
    return Learning(
        seed=seed, batch_size=batch_size, num_examples=num_examples, num_steps=4200, seconds=70.0, points=tuple(points)
    )


def cpu_profile(steps: Sequence[Step] = (), **more: Any) -> Profile:
    """A machine of two cores that makes about 3,000 sequences a second."""
    config = read_config()
    facts: dict[str, Any] = {
        "name": "here",
        "created": "2026-11-30T00:00:00+00:00",
        "device": Device(
            name="AMD EPYC",
            platform="cpu",
            count=1,
            hardware=None,
            memory_bytes=None,
            driver=None,
            num_cores=2,
            host_memory_bytes=8 * 2**30,
        ),
        "environment": {"ebox": "0.1.0"},
        "network_link": "host",
        "subject": Subject(
            network=fingerprint_network(config.model),
            dataset=FINGERPRINT,
            num_parameters=198_337,
            length_bp=200,
            num_tracks=1,
            num_train=43_000,
            examples_an_epoch=21_000,
            flops_an_example=6e7,
            bytes_an_example=2e6,
            fixed_bytes=8e6,
            gradient_bytes=793_348,
        ),
        "settings": config.model_dump(mode="json"),
        "start_seconds": spread(3.0),
        "compile_seconds": spread(15.0),
        "cached_compile_seconds": spread(2.0),
        "validation_seconds": spread(1.5),
        "checkpoint_seconds": spread(0.05),
        "checkpoint_bytes": 3_200_000,
        "steps": tuple(steps) or tuple(step(1, batch, 0.0015 + 3.3e-4 * batch) for batch in (16, 64, 256, 1024)),
        "ceilings": None,
        "energy": Energy(source=None, covers=None, idle_watts=None),
        "learning": (learning(0), learning(1), learning(2)),
    }
    return Profile(**(facts | more))
