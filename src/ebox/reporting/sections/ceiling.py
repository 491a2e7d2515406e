"""The section of the best possible result, where it is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ebox.reporting.reading import RunFiles
from ebox.reporting.section import Section
from ebox.reporting.sections.measures import describe_splits
from ebox.storage import run_folder


def collect(files: RunFiles) -> dict[str, Any]:
    """The best that any method could reach, where it is known, beside what the network reached there.

    The ceiling is that of simulated positives against simulated negatives; where other kinds of negative
    were added, the network's metrics against the simulated ones (`given`) are its counterpart.
    """
    ceiling = files.evaluation.get("ceiling")
    simulation = files.get(run_folder.SIMULATION)
    if ceiling is None and simulation is not None:
        ceiling = simulation.get("ceiling")
    if not isinstance(ceiling, Mapping):
        return {"ceiling": None}
    metrics = {name: dict(ceiling[name]) for name in ("auroc", "accuracy") if isinstance(ceiling.get(name), Mapping)}
    splits, kinds = describe_splits(files.tracks[0])
    kind = "given" if len(kinds) > 1 and "given" in kinds else None
    network = splits["test"]["metrics"] if kind is None else kinds[kind]["metrics"]
    num_examples = ceiling.get("num_examples")
    facts = {"metrics": metrics, "num_examples": num_examples, "kind": kind, "network": dict(network)}
    return {"ceiling": facts}


SECTION = Section(
    "ceiling", 80, collect, reads=(run_folder.EVALUATION, run_folder.SIMULATION), template="ceiling.html.j2"
)
