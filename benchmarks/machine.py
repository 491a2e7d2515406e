"""What every benchmark prints first: hardware and versions; and where results and real data are."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ebox.version import __version__
from ebox.workers.machine import count_cores, find_cpu_name, find_versions

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "jax",
    "jaxlib",
    "jax-cuda13-plugin",
    "numpy",
    "torch",
    "lightning",
    "scikit-learn",
    "tangermeme",
    "modisco-lite",
    "memelite",
    "cosmic-ray",
    "parasail",
)


def describe_machine() -> dict[str, Any]:
    """Processor, cores, Python and versions."""
    return {
        "ebox": __version__,
        "cpu": find_cpu_name(),
        "num_cores": count_cores(),
        "python": platform.python_version(),
        "packages": find_versions(PACKAGES),
        "date": datetime.now(UTC).date().isoformat(),
    }


def find_data() -> Path:
    """The folder of the real data: $EBOX_DATA, or shared/data beside the project."""
    places = [Path(os.environ["EBOX_DATA"])] if "EBOX_DATA" in os.environ else []
    places.append(Path(__file__).parents[2] / "shared" / "data")
    for place in places:
        if (place / "tal1" / "bound.fa.gz").is_file():
            return place
    raise SystemExit("the real data is not here; set EBOX_DATA to its folder")


def summarise(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest of the repeats, and their number."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def keep(name: str, facts: Mapping[str, Any]) -> None:
    """Write the result of a benchmark, with the machine, to benchmarks/results."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": describe_machine(), **facts}, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
