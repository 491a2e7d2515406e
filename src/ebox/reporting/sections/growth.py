"""The section on growth: how much faster the training would be with more workers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ebox.drawing.charts import ChartAxis, Line, line_chart
from ebox.drawing.numbers import Real, format_number, format_percent
from ebox.reporting.languages import Language
from ebox.reporting.reading import RunFiles
from ebox.reporting.section import Section
from ebox.storage import run_folder
from ebox.storage.names import MODEL


def collect(files: RunFiles) -> dict[str, Any]:
    """What `ebox doctor --scaling` measured, where it was put into the run folder."""
    scaling = files.get(run_folder.SCALING)
    if scaling is None:
        return {"growth": None}
    keys = ("median_left_out_error", "worst_left_out_error", "link_bytes_per_second", "weak")
    measured = {"num_points": len(scaling["points"]), "most": max(point["workers"] for point in scaling["points"])}
    return {"growth": {**{key: scaling[key] for key in keys}, **measured, "cpu": scaling["environment"]["cpu"]}}


def draw(facts: Mapping[str, Any], language: Language) -> dict[str, Any]:
    """The predicted speed-up."""
    return {"curve": draw_growth("growth", facts["growth"]["weak"], language)}


def draw_growth(name: str, curve: Sequence[Mapping[str, Any]], language: Language) -> str:
    """Speed-up over the number of workers: predicted, simulated, and the range of fits that leave out one point.

    Args:
        name: Unique on the page; the ids in the drawing start with it.
        curve: The facts of a scaling curve of `ebox.planning`, from one worker up.
        language: The language of its texts.
    """
    words = language.TEXTS["growth"]
    workers = [point["workers"] for point in curve]

    def speedup(point: Mapping[str, Any], seconds: Real) -> float:
        return float(point["speedup"] * point["seconds"] / seconds)

    lines = [
        Line(workers, [point["speedup"] for point in curve], MODEL, words["predicted"]),
        Line(
            workers, [speedup(p, p["simulated"]["seconds"]) for p in curve], "kmer_logistic", words["simulated"], True
        ),
        Line(workers, [speedup(point, point["low"]) for point in curve], "train", words["best"]),
        Line(workers, [speedup(point, point["high"]) for point in curve], "train", words["worst"]),
        Line(workers, workers, "other", words["ideal"]),
    ]
    last = curve[-1]
    title = words["curve_title"].format(
        workers=last["workers"],
        speedup=format_number(last["speedup"], 1),
        efficiency=format_percent(last["efficiency"], 0),
    )
    least = min(1.0, *(value for line in lines for value in line.y))
    x, y = _doubling_axis(words["workers"], 1.0, max(workers)), _doubling_axis(words["curve"], least, max(workers))
    return line_chart(name, lines, x, y, title=title, height=360.0, key=True)


def _doubling_axis(label: str, low: Real, high: Real) -> ChartAxis:
    """A logarithmic axis; where it is long, with a tick at every second power of two."""
    first, last = math.floor(math.log2(low)), max(math.ceil(math.log2(high)), 1)
    ticks = tuple(2.0**power for power in range(first, last + 1) if (last - power) % 2 == 0 or last - first < 4)
    return ChartAxis(label, min(2.0**first, ticks[0]), ticks[-1], ticks, tuple(f"{tick:g}" for tick in ticks), log=True)


SECTION = Section("growth", 40, collect, reads=(run_folder.SCALING,), figures=draw, template="growth.html.j2")
