"""The files of a plan: its facts as JSON and CSV, and reading the facts again."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ebox.errors import InputError
from ebox.planning.jobs import JOBS
from ebox.storage.publishing import write_json
from ebox.storage.stamps import PLAN, read_stamped, stamped

FACTS, TABLE, PAGE, DECISION = "plan.json", "plan.csv", "plan.html", "decision.html"
COLUMNS = (
    "id",
    "offer",
    "provider",
    "hardware",
    "platform",
    "price_kind",
    "num_devices",
    "num_machines",
    "batch_size",
    "precision",
    "exchange",
    "sync",
    "efficiency",
)
RANGES = ("value", "low", "high")


def write_facts(facts: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write plan.json and plan.csv into a folder that is being published, and return the facts with their stamp."""
    whole = stamped(PLAN, facts)
    # Thousands of options: indented they would be three times as large, and take a second.
    write_json(folder / FACTS, whole, indent=None)
    with (folder / TABLE).open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(_iter_rows(facts))
    return whole


def read_facts(folder: Path) -> dict[str, Any]:
    """Read the facts of a plan again.

    Raises:
        InputError: no plan stands there, or one of another version.
    """
    return read_stamped(folder / FACTS, PLAN)


def find_option(facts: Mapping[str, Any], id: str) -> Mapping[str, Any]:
    """The option of a plan with an id.

    Raises:
        InputError: there is none.
    """
    for option in facts["options"]:
        if option["id"] == id:
            found: Mapping[str, Any] = option
            return found
    raise InputError(f"the plan has no option {id!r}", remedy=f"{TABLE} lists them")


def _iter_rows(facts: Mapping[str, Any]) -> Iterator[list[Any]]:
    """A row for each option and job, below the names of the columns."""
    ranged = [f"{name}_{end}" for name in ("step_seconds", "steps") for end in RANGES]
    of_job = [f"{name}_{end}" for name in ("seconds", "money", "joules") for end in RANGES]
    basis = ["basis", "profile", "error", "roofline_seconds"]
    last = ["machines_at_once", "pareto", "within_budget", "within_deadline"]
    yield [*COLUMNS, *ranged, *basis, "job", *of_job, *last]
    for option in facts["options"]:
        about = [option[name] for name in COLUMNS]
        about += [option[name][end] for name in ("step_seconds", "steps") for end in RANGES]
        about += [option["basis"][name] for name in ("kind", "profile", "error", "roofline_seconds")]
        for job in JOBS:
            found = option["jobs"][job]
            numbers = [
                None if found[name] is None else found[name][end]
                for name in ("seconds", "money", "joules")
                for end in RANGES
            ]
            yield [*about, job, *numbers, *(found[name] for name in last)]
