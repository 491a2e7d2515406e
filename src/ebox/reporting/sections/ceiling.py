"""The section on the best possible result, where it is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ebox.reporting.reading import RunFiles
from ebox.reporting.section import Section
from ebox.reporting.sections.measures import describe_splits
from ebox.storage import run_folder


def collect(files: RunFiles) -> dict[str, Any]:
    """The best result that any method could reach, where it is known, and the network's on the same examples.

    The ceiling is for simulated positives against simulated negatives. If other kinds of negatives were added, it is
    compared with the network's metrics against the simulated ones (`given`).
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
    facts = {"metrics": metrics, "num_examples": ceiling.get("num_examples"), "kind": kind, "network": dict(network)}
    return {"ceiling": facts}


READS = (run_folder.EVALUATION, run_folder.SIMULATION)
SECTION = Section("ceiling", 80, collect, reads=READS, template="ceiling.html.j2")
