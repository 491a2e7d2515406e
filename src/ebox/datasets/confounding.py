"""How the classes differ in what is not a word, such as N, GC, repeats and length; each kind of negatives apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from ebox.datasets.examples import Examples
from ebox.sequences.confounds import measure_confounds

# The name of the share of repeats of the genome, which the bases don't show.
MASKED = "masked"
# Of each kind at most this many are measured.
MAX_MEASURED = 10_000
# One of these alone tells classes apart from this AUROC on, or from what chance does not reach in small classes.
LEAST_AUROC = 0.6
NUM_DEVIATIONS = 4.0


def describe_confounds(
    examples: Examples, kinds: Sequence[str], beside: Mapping[str, Mapping[int, Sequence[np.ndarray]]]
) -> dict[str, dict[str, Any]]:
    """For each kind its means; of negatives also how well each feature alone tells the positives from them (AUROC).

    A high AUROC means that the positives have more of it.

    Args:
        examples: The examples.
        kinds: Name of each kind.
        beside: Values of features that the bases don't show, by feature and number of the kind.
    """
    measured: dict[str, dict[str, np.ndarray]] = {}
    for number, kind in enumerate(kinds):
        if (inside := examples.kind == number).any():
            measured[kind] = measure_confounds(examples.codes[draw_evenly(inside)])
            known = {
                name: np.concatenate(values[number]).astype(np.float64)
                for name, values in beside.items()
                if number in values
            }
            if ((shares := examples.masked[inside].astype(np.float64)) >= 0).any():
                known[MASKED] = shares
            measured[kind] |= {name: values[draw_evenly(values >= 0)] for name, values in known.items()}
    positives = measured.get("positive", {})
    report: dict[str, dict[str, Any]] = {}
    for kind, features in measured.items():
        report[kind] = {name: {"mean": round(float(values.mean()), 5)} for name, values in features.items()}
        for name, values in features.items():
            if kind != "positive" and name in positives:
                report[kind][name]["auroc"] = round(_auroc(positives[name], values), 4)
                report[kind][name]["num"] = [len(positives[name]), len(values)]
    return report


def list_confounds(report: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """The kind, the feature and its entry wherever a feature alone tells positives from negatives of a kind."""
    for kind, features in report.items():
        for name, entry in features.items():
            if "auroc" not in entry:
                continue
            positives, negatives = entry["num"]
            # Of the rank sum of equals (Mann and Whitney 1947).
            deviation = np.sqrt((positives + negatives + 1) / (12.0 * positives * negatives))
            if abs(entry["auroc"] - 0.5) >= max(LEAST_AUROC - 0.5, NUM_DEVIATIONS * deviation):
                yield kind, name, entry


def draw_evenly(inside: np.ndarray) -> np.ndarray:
    """Rows, evenly over all where there are more than enough."""
    rows = np.flatnonzero(inside)
    return rows[:: -(-len(rows) // MAX_MEASURED)]


def _auroc(positives: Float[np.ndarray, " _"], negatives: Float[np.ndarray, " _"]) -> float:
    """The chance that a positive has more than a negative, a tie counting one half."""
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left") + np.searchsorted(ordered, positives, side="right")
    return float(below.mean() / (2 * len(negatives)))
