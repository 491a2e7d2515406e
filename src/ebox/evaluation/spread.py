"""The spread of test metrics over trainings that differ by their seed alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ebox.storage.notes import Code, note

SPREAD_METRICS = ("auroc", "auprc", "accuracy", "mcc")


class Spread(Code):
    """What is said of several trainings."""

    SEEDS = "seeds"


def describe_spread(track: Mapping[str, Any], others: Mapping[int, Mapping[str, Any]], seed: int) -> Any:
    """The section `seeds` of a track: each metric of every training, their mean, standard deviation and ends.

    Every value is of the same test examples: with the relatives of training, or without them, as the figures of the
    run itself are.

    Args:
        track: The track in the evaluation of the run.
        others: The same track in the evaluations of the other trainings, by their seeds.
        seed: That of the run.

    Returns:
        A note with the seeds and the metrics; None without other trainings, or where the test split has no metrics.
    """
    own = track["splits"]["test"]
    if not others or own["metrics"] is None:
        return None
    taken = None if own["relatives"] is None else own["relatives"]["taken"]
    tests = [own, *(other["splits"]["test"] for other in others.values())]
    sections = [test if taken is None else test["relatives"][taken] for test in tests]
    metrics = {name: _spread([section["metrics"][name]["value"] for section in sections]) for name in SPREAD_METRICS}
    return note(Spread.SEEDS, {"seeds": [seed, *others], "metrics": metrics})


def _spread(values: list[float]) -> dict[str, Any]:
    return {
        "values": values,
        "mean": round(float(np.mean(values)), 6),
        "sd": round(float(np.std(values, ddof=1)), 6),
        "min": min(values),
        "max": max(values),
    }
