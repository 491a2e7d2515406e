"""What a search found: its facts, and the table of its trials."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ebox.settings.reading import Config
from ebox.storage.notes import Code, note
from ebox.storage.publishing import publish_file
from ebox.tuning.halving import Halving
from ebox.tuning.spaces import Space
from ebox.tuning.trials import STATES, Trial, find_best

# Settings and failed trials that are named.
MOST_NAMED = 3
MEASURES = ("loss", "auroc", "auprc")
COLUMNS = ("number", "round", "state", "rung", "steps", "value", *MEASURES, "seconds", "num_parameters")


class TuningNote(Code):
    """What is said of a search."""

    BEST = "tuning_best"
    COUNTS = "tuning_counts"
    IMPORTANCE = "tuning_importance"


def make_facts(
    trials: Sequence[Trial],
    space: Space,
    config: Config,
    whole_steps: int,
    importance: Mapping[str, float] | None,
) -> dict[str, Any]:
    """The facts of a search, as plain values.

    Args:
        trials: All of them.
        space: What was tried.
        config: The settings of all trials, but for those of the space.
        whole_steps: The steps of a whole training with these settings.
        importance: The share of each setting in the spread of the first rung.
    """
    halving, monitor = Halving.of(config.tuning), config.train.monitor
    best = find_best(trials, monitor)
    rungs = [{"share": halving.share(rung), "steps": halving.steps(rung, whole_steps)} for rung in range(halving.rungs)]
    rounds = sorted({trial.first for trial in trials})
    facts = {
        "space": space.facts(),
        "tuning": config.tuning.model_dump(mode="json"),
        "monitor": monitor,
        "rungs": rungs,
        "seconds": sum(float(result["seconds"]) for trial in trials for result in trial.results),
        "trials": [
            {
                "number": trial.number,
                "round": rounds.index(trial.first),
                **_describe_trial(trial, space, halving, monitor),
            }
            for trial in trials
        ],
        "best": None if best is None else best.number,
        # The trial with the settings as they were given, where the space holds them all.
        "given": 0 if space.holds(config) and trials else None,
        "importance": None if importance is None else dict(importance),
    }
    return {**facts, "notes": _list_notes(facts)}


def _list_notes(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is said of a search in its report."""
    notes = [note_counts(facts), note_best(facts)]
    shares = sorted((facts["importance"] or {}).items(), key=lambda item: (-item[1], item[0]))
    if shares:
        first = [[key, share] for key, share in shares[:MOST_NAMED]]
        notes.append(note(TuningNote.IMPORTANCE, {"first": first, "steps": facts["rungs"][0]["steps"]}))
    failures = [trial["failure"] for trial in facts["trials"] if trial["failure"] is not None]
    return [*notes, *failures[:MOST_NAMED]]


def _describe_trial(trial: Trial, space: Space, halving: Halving, monitor: str) -> dict[str, Any]:
    return {
        "state": trial.state(halving.rungs),
        "value": trial.value(monitor),
        "rungs": [dict(result) for result in trial.results],
        "settings": space.read(trial.kept),
        "failure": None if trial.failure is None else dict(trial.failure),
    }


def note_best(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The best trial, beside the settings as they were given."""
    trials, best, given, monitor = facts["trials"], facts["best"], facts["given"], facts["monitor"]
    reached = 0 if best is None else len(trials[best]["rungs"])
    return note(
        TuningNote.BEST,
        {
            "monitor": monitor,
            "num_trials": len(trials),
            "best": None if best is None else {"number": best, "value": trials[best]["value"]},
            "given": None if given is None else _compare(trials[given], reached, monitor),
            "is_given": best == given,
            "num_rungs": reached,
            "of_rungs": len(facts["rungs"]),
        },
    )


def _compare(trial: Mapping[str, Any], reached: int, monitor: str) -> dict[str, Any]:
    """What a trial measured after as many rungs as the best one reached; null where it stopped before."""
    is_there = 0 < reached <= len(trial["rungs"])
    value = float(trial["rungs"][reached - 1][monitor]) if is_there else None
    return {"value": value, "num_rungs": len(trial["rungs"]), "state": trial["state"]}


def note_counts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """How many trials came how far."""
    states = [trial["state"] for trial in facts["trials"]]
    return note(
        TuningNote.COUNTS,
        {
            "num_trials": len(states),
            "steps": [rung["steps"] for rung in facts["rungs"]],
            "reduction": facts["tuning"]["reduction"],
            "carries": facts["given"] is not None,
            **{state: states.count(state) for state in STATES},
        },
    )


def write_table(path: Path, facts: Mapping[str, Any]) -> None:
    """Publish a row for each trial: how far it came, what its last rung measured, and its settings."""
    keys = list(facts["space"])
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow([*COLUMNS, *keys, "error"])
    for trial in facts["trials"]:
        last = trial["rungs"][-1] if trial["rungs"] else {}
        reached = len(trial["rungs"]) - 1 if trial["rungs"] else ""
        about = [trial["number"], trial["round"], trial["state"], reached, last.get("steps", "")]
        measured = [_show(trial["value"]), *(_show(last.get(name)) for name in MEASURES), _show(last.get("seconds"))]
        settings = [_show(trial["settings"][key]) or "none" for key in keys]
        error = "" if trial["failure"] is None else " ".join(str(trial["failure"]["error"]).split())
        writer.writerow([*about, *measured, last.get("num_parameters", ""), *settings, error])
    with publish_file(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _show(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
