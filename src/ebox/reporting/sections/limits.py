"""The section on the limits: what the numbers do not show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ebox.reporting.reading import RunFiles
from ebox.reporting.section import Section
from ebox.reporting.sections.question import describe_split
from ebox.storage import run_folder
from ebox.storage.notes import Code, note

# In a scan of a genome about one window of this number is bound.
GENOME_ODDS = 1000


class Limit(Code):
    """What a reader might wrongly conclude from the numbers."""

    NEGATIVES = "limit_negatives"
    ODDS = "limit_odds"
    SPLIT = "limit_split"
    SIMULATED = "limit_simulated"
    BINDING = "limit_binding"
    ONE_RUN = "limit_one_run"
    SEEDS = "limit_seeds"
    SPENT_ONCE = "limit_spent_once"
    LIKENESS = "limit_likeness"


def collect(files: RunFiles) -> dict[str, Any]:
    """The limits that apply to this run, and then those of every run."""
    kinds = [kind for kind in files.dataset.get("kinds", []) if kind != "positive"]
    odds = _weigh_odds(files.tracks[0]["splits"]["test"])
    limits = [note(Limit.NEGATIVES, {"kinds": kinds}), *([] if odds is None else [note(Limit.ODDS, odds)])]
    reads = files.evaluation.get("test_reads")
    spent = note(Limit.SPENT_ONCE, {"num_reads": None if reads is None else reads["num_reads"]})
    if files.get(run_folder.SIMULATION) is None:
        limits += [note(Limit.SPLIT, {"mode": describe_split(files)["mode"]}), note(Limit.BINDING)]
    else:
        limits.append(note(Limit.SIMULATED))
    several = any(track.get("seeds") is not None for track in files.tracks)
    limits.append(note(Limit.SEEDS if several else Limit.ONE_RUN))
    return {"limits": [*limits, spent, note(Limit.LIKENESS)]}


def _weigh_odds(test: Mapping[str, Any]) -> dict[str, float] | None:
    """What the measured sensitivity and specificity would mean where positives are rare."""
    num, positive = test.get("num_examples"), test.get("num_positive")
    metrics = test["metrics"]
    if not num or not positive or "sensitivity" not in metrics or "specificity" not in metrics:
        return None
    found = metrics["sensitivity"]["value"]
    false = (1.0 - metrics["specificity"]["value"]) * (GENOME_ODDS - 1)
    precision = found / (found + false) if found + false > 0 else 0.0
    return {"share": positive / num, "odds": GENOME_ODDS, "precision": precision}


READS = (run_folder.DATASET, run_folder.QUALITY, run_folder.SIMULATION)
SECTION = Section("limits", 90, collect, reads=READS, template="limits.html.j2")
