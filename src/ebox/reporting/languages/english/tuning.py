"""Words about a search for better settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ebox.drawing.numbers import format_count, format_number, format_percent
from ebox.reporting.languages.english.names import name_metric


def _name_monitor(monitor: str) -> str:
    return "loss" if monitor == "loss" else name_metric(monitor)


def _tell_best(found: Mapping[str, Any]) -> str:
    best, metric, num = found["best"], _name_monitor(found["monitor"]), format_count(found["num_trials"])
    if best is None:
        return f"Of {num} trials none was measured."
    length = "" if found["num_rungs"] == found["of_rungs"] else ", after a short training"
    told = (
        f"Trial {best['number']} is the best of {num}: validation {metric} {format_number(best['value'], 4)}{length}."
    )
    if found["is_given"]:
        return f"{told} It has the settings as they were given."
    if found["given"] is None:
        return told
    given = found["given"]
    if given["value"] is not None:
        return f"{told} Trial 0, the settings as they were given, came to {format_number(given['value'], 4)}."
    why = "failed" if given["state"] == "failed" else "was not trained as long"
    return f"{told} Trial 0, the settings as they were given, {why}, so that the two can't be compared."


def _tell_counts(found: Mapping[str, Any]) -> str:
    parts = [
        f"{format_count(found['whole'])} trained to the end",
        f"{format_count(found['dropped'])} dropped after a shorter training",
    ]
    parts += [f"{format_count(found['failed'])} failed"] if found["failed"] else []
    parts += [f"{format_count(found['open'])} left open when the search ended"] if found["open"] else []
    lengths = ", ".join(format_count(steps) for steps in found["steps"])
    kept = "all alike"
    if len(found["steps"]) > 1:
        kept = f"of each length one in {found['reduction']} went on to the next"
        kept += ", and trial 0 in any case" if found["carries"] else ""
    told = f"{format_count(found['num_trials'])} trials: {', '.join(parts)}."
    return f"{told} They train for {lengths} steps with the batch as given; {kept}."


def _tell_importance(found: Mapping[str, Any]) -> str:
    named = ", ".join(f"{key} ({format_percent(share, 0)})" for key, share in found["first"])
    return f"In the first trainings, {format_count(found['steps'])} steps long, the result depended most on {named}."


def _tell_luck(found: Mapping[str, Any]) -> str:
    told = (
        "The best of many is partly luck, so its validation figure is too good. The networks on this page were trained "
        "anew with other seeds; "
    )
    if found["num_reads"] is None or found["num_reads"] == 1:
        return f"{told}the test split was read for them alone."
    return (
        f"{told}with those of this search before them, the test split was read {format_count(found['num_reads'])} "
        "times. Whoever searches on after a look at it chooses on it too."
    )


TUNING: dict[str, Any] = {
    "trial_failed": "Trial {number} failed: {error}.",
    "trial_refused": "The settings of trial {number} don't go together: {error}.",
    "tuning_best": _tell_best,
    "tuning_counts": _tell_counts,
    "tuning_importance": _tell_importance,
    "tuning_luck": _tell_luck,
}
TUNING_TEXTS: dict[str, dict[str, Any]] = {
    "tuning": {
        "title": "How the settings were found",
        "contents": "The search",
        "setting": "Setting",
        "chosen": "Chosen",
        "given": "As given",
        "space": "Searched",
        "settings": "<b>The settings that were found.</b>",
        "settings_label": "Settings that were found",
        "history": "The trials in their order",
        "history_note": "Each dot is a trial at the end of its longest training; the line is the best until then of "
        "those that trained to the end. Of ten or more trials the worst tenth stands on the edge, not at its value.",
        "trial": "Trial",
        "loss": "Validation loss",
        "validation": "Validation {metric}",
        "states": {"whole": "trained to the end", "dropped": "dropped before, or left open"},
        "history_title": "{num} trials; the best is trial {best} with {value}",
        "importance": "What the result depends on",
        "importance_note": "Share of each setting in the spread of the first trainings (fANOVA: Hutter 2014).",
        "importance_title": "Shares of the settings; the first is {first}",
        "coordinates": "Each trial across its settings",
        "coordinates_note": "A line is a trial; those that trained to the end are strong, the best is the widest. "
        "The settings on which the result depends most stand first.",
        "coordinates_title": "Lines of {num} trials across {settings} settings and the result",
        "range": "{low} to {high}",
        "log": "{low} to {high}, by ratio",
        "step": "{low} to {high} by {step}",
    }
}
