"""The section on the search that found the settings of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ebox.drawing.charts import make_axis
from ebox.drawing.numbers import format_number, format_percent
from ebox.drawing.searches import Coordinate, Dot, coordinates_chart, history_chart, share_chart
from ebox.reporting.languages import Language
from ebox.reporting.reading import RunFiles
from ebox.reporting.section import Section
from ebox.storage import run_folder
from ebox.storage.names import MODEL
from ebox.storage.notes import Code, note

# Settings in a chart.
MOST_SHOWN = 8
OTHER = "train"


class SearchNote(Code):
    """What the page says of a search beside what the search says."""

    LUCK = "tuning_luck"


def collect(files: RunFiles) -> dict[str, Any]:
    """What `ebox tune` found, where it made the run."""
    found = files.get(run_folder.TUNING)
    if found is None:
        return {"tuning": None}
    trials, best, given = found["trials"], found["best"], found["given"]
    shares = sorted((found["importance"] or {}).items(), key=lambda item: (-item[1], item[0]))
    rows = [
        {
            "key": key,
            "chosen": _write(trials[best]["settings"][key]),
            "given": None if given is None else _write(trials[given]["settings"][key]),
            "space": {"choices": [_write(one) for one in about["choices"]]} if "choices" in about else about,
        }
        for key, about in found["space"].items()
    ]
    kept = {key: found[key] for key in ("monitor", "space", "best", "trials")}
    reads = files.evaluation.get("test_reads")
    luck = note(SearchNote.LUCK, {"num_reads": None if reads is None else reads["num_reads"]})
    return {"tuning": {"notes": [*found["notes"], luck], "settings": rows, "shares": shares, **kept}}


def draw(facts: Mapping[str, Any], language: Language) -> dict[str, Any]:
    """History, shares of the settings, and trials across their settings."""
    tuning, words = facts["tuning"], language.TEXTS["tuning"]
    shares = tuning["shares"]
    first = [(key, share, format_percent(share, 0)) for key, share in shares[:MOST_SHOWN]]
    title = words["importance_title"].format(first=shares[0][0]) if shares else ""
    return {
        "history": _draw_history(tuning, words, language),
        "importance": share_chart("tuning-importance", first, title=title) if first else None,
        "coordinates": _draw_coordinates(tuning, words, language),
    }


def _draw_history(tuning: Mapping[str, Any], words: Mapping[str, Any], language: Language) -> str:
    measured = [trial for trial in tuning["trials"] if trial["value"] is not None]
    sign = -1.0 if tuning["monitor"] == "loss" else 1.0
    stair: list[tuple[int, float]] = []
    for trial in measured:
        if trial["state"] == "whole" and (not stair or sign * trial["value"] > sign * stair[-1][1]):
            stair.append((trial["number"], trial["value"]))
    dots = [Dot(one["number"], one["value"], MODEL if one["state"] == "whole" else OTHER) for one in measured]
    values = sorted(trial["value"] for trial in measured)
    # Where a few are far worse than all others, they stand on the edge, so that the others can be told apart.
    tenth = len(values) // 10
    low, high = (values[0], values[-1 - tenth]) if sign < 0 else (values[tenth], values[-1])
    states = words["states"]
    return history_chart(
        "tuning-history",
        dots,
        stair,
        make_axis(words["trial"], 0, max(1, measured[-1]["number"]), num=6),
        make_axis(_name(tuning, words, language), low, high),
        title=words["history_title"].format(
            num=len(tuning["trials"]),
            best=tuning["best"],
            value=format_number(tuning["trials"][tuning["best"]]["value"], 4),
        ),
        key=[(MODEL, states["whole"]), (OTHER, states["dropped"])],
    )


def _draw_coordinates(tuning: Mapping[str, Any], words: Mapping[str, Any], language: Language) -> str:
    ranked = [key for key, _ in tuning["shares"]]
    ranked += [key for key in tuning["space"] if key not in ranked]
    keys = ranked[:MOST_SHOWN]
    best = tuning["trials"][tuning["best"]]
    measured = [trial for trial in tuning["trials"] if trial["value"] is not None and trial is not best]
    # The best on top, those that trained to the end above the others.
    ordered = [*sorted(measured, key=lambda trial: trial["state"] == "whole"), best]
    values = [trial["value"] for trial in ordered]
    low, high = min(values), max(values)
    lines = []
    for trial in ordered:
        places = [place_value(tuning["space"][key], trial["settings"][key]) for key in keys]
        places.append((trial["value"] - low) / (high - low) if high > low else 0.5)
        lines.append((MODEL if trial["state"] == "whole" else OTHER, places))
    coordinates = [_make_coordinate(key, tuning["space"][key], best["settings"][key]) for key in keys]
    ends = (format_number(value, 4) for value in (low, high, best["value"]))
    coordinates.append(Coordinate(_name(tuning, words, language), *ends))
    title = words["coordinates_title"].format(num=len(ordered), settings=len(keys))
    return coordinates_chart("tuning-coordinates", coordinates, lines, title=title)


def _name(tuning: Mapping[str, Any], words: Mapping[str, Any], language: Language) -> str:
    if tuning["monitor"] == "loss":
        return str(words["loss"])
    return str(words["validation"]).format(metric=language.name_metric(tuning["monitor"]))


def place_value(about: Mapping[str, Any], value: Any) -> float:
    """Where a value lies in its range or among its choices, 0 to 1."""
    if "choices" in about:
        last = len(about["choices"]) - 1
        return float(about["choices"].index(value) / last) if last else 0.5
    low, high = about["low"], about["high"]
    if about["log"]:
        return math.log(value / low) / math.log(high / low)
    return float((value - low) / (high - low))


def _make_coordinate(key: str, about: Mapping[str, Any], best: Any) -> Coordinate:
    ends: Sequence[Any] = (
        (about["choices"][0], about["choices"][-1]) if "choices" in about else (about["low"], about["high"])
    )
    return Coordinate(key, _write(ends[0]), _write(ends[1]), _write(best))


def _write(value: Any) -> str:
    """A value of a setting, short."""
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value)


READS = (run_folder.TUNING,)
SECTION = Section("tuning", 25, collect, reads=READS, figures=draw, template="tuning.html.j2")
