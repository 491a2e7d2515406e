"""The figures of a report: facts in, SVG out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ebox.drawing.charts import (
    ChartAxis,
    IntervalRow,
    Line,
    interval_chart,
    line_chart,
    make_axis,
    strip_chart,
    unit_axis,
)
from ebox.drawing.logos import information_heights, logo_svg
from ebox.drawing.numbers import MODEL, Real, format_interval, format_number, format_percent
from ebox.reporting.languages.english import name_kind, name_metric

_STYLED = (MODEL, "kmer_logistic", "best_pwm", "gc_logistic")


def style_of(name: str) -> str:
    """The style of the model or a baseline, the same in every figure."""
    return name if name in _STYLED else "other"


def draw_contenders(name: str, track: Mapping[str, Any], ceiling: Mapping[str, Any] | None) -> str | None:
    """AUROC of the network and the baselines with their intervals, and the ceiling where it is known."""
    rows = [
        _interval_row(entry["words"], style_of(entry["name"]), entry["metrics"]["auroc"])
        for entry in track["contenders"]
        if "auroc" in entry["metrics"]
    ]
    if not rows:
        return None
    if ceiling is not None and "auroc" in ceiling["metrics"]:
        rows.insert(0, _interval_row("Best possible (likelihood ratio)", "ceiling", ceiling["metrics"]["auroc"]))
    low = min(min(row[3] for row in rows), 0.95)
    axis = _auroc_axis(low)
    return interval_chart(name, rows, axis, title=f"AUROC on the test split with 95 % intervals, {_list_values(rows)}")


def _auroc_axis(low: Real) -> ChartAxis:
    """From the lowest interval, or from chance where that is near, up to 1."""
    start = 0.5 if 0.5 <= low < 0.75 else math.floor(low * 20) / 20
    return make_axis("AUROC on the test split; bars are 95 % intervals", start, 1.0)


def _interval_row(label: str, style: str, entry: Mapping[str, Any]) -> IntervalRow:
    value = entry["value"]
    low = value if entry.get("low") is None else entry["low"]
    high = value if entry.get("high") is None else entry["high"]
    interval = format_interval(entry)
    words = format_number(value) + (f"  ({interval})" if interval else "")
    return label, style, value, low, high, words


def _list_values(rows: Sequence[IntervalRow]) -> str:
    return "; ".join(f"{row[0]} {row[5]}" for row in rows)


def draw_curves(name: str, track: Mapping[str, Any], which: str) -> str | None:
    """The ROC ("roc") or precision-recall ("pr") curves of the network and the baselines."""
    curves = track["curves"].get(which)
    if not curves:
        return None
    metric = "auroc" if which == "roc" else "auprc"
    lines = [
        Line(
            curves[entry["name"]]["x"],
            curves[entry["name"]]["y"],
            style_of(entry["name"]),
            f"{entry['words']} {format_number(entry['metrics'].get(metric, {}).get('value'))}",
        )
        for entry in track["contenders"]
        if curves.get(entry["name"])
    ]
    words = "; ".join(line.label for line in lines)
    if which == "roc":
        x, y = unit_axis("False positive rate"), unit_axis("True positive rate")
        title = f"ROC curves; area under each: {words}"
    else:
        x, y = unit_axis("Recall"), unit_axis("Precision")
        title = f"Precision-recall curves; average precision of each: {words}"
    return line_chart(name, lines, x, y, title=title, height=366.0, key=True, diagonal=which == "roc")


def draw_scores(name: str, track: Mapping[str, Any]) -> str | None:
    """How the network's probabilities are spread: a strip for the positives and for each kind of negative."""
    histogram = track["histogram"]
    if not histogram:
        return None
    strips = []
    for kind, counts in histogram["counts"].items():
        total = sum(counts)
        if total:
            label = f"{name_kind(kind)} ({total:,})"
            strips.append((label, "positive" if kind == "positive" else "negative", [n / total for n in counts]))
    strips.sort(key=lambda strip: strip[1] != "positive")
    threshold = track["threshold"]
    rule = None if not threshold else (threshold["value"], f"threshold {format_number(threshold['value'], 2)}")
    axis = unit_axis("Probability that the network gives")
    title = "Distribution of the network's probabilities for " + ", ".join(strip[0] for strip in strips)
    return strip_chart(name, strips, histogram["edges"], axis, title=title, rule=rule) if strips else None


def draw_calibration(name: str, track: Mapping[str, Any]) -> str | None:
    """Stated probability against the share that was positive, bin by bin."""
    bins = [entry for entry in track["calibration"] if entry.get("num_examples")]
    if not bins:
        return None
    line = Line(
        [entry["mean_predicted"] for entry in bins],
        [entry["fraction_positive"] for entry in bins],
        MODEL,
        "",
        True,
    )
    x, y = unit_axis("Probability that the network gives"), unit_axis("Share that is positive")
    gap = track["splits"]["test"]["metrics"].get("calibration_error")
    words = "" if gap is None else f"; mean gap {format_number(gap['value'])}"
    title = f"Calibration in {len(bins)} bins of like size; on the diagonal, probabilities are right{words}"
    return line_chart(name, [line], x, y, title=title, diagonal=True)


def draw_training(name: str, training: Mapping[str, Any], metric: str) -> str | None:
    """Loss over the steps in training and validation ("loss"), or a validation metric ("auroc")."""
    lines = []
    for kind, style in (("validation", MODEL), ("train", "train")):
        curve = training["curves"].get(kind, {})
        if len(curve.get(metric, [])) == len(curve.get("step", ())) > 0:
            lines.append(Line(curve["step"], curve[metric], style, kind, kind == "validation"))
    if not lines:
        return None
    values = [value for line in lines for value in line.y if math.isfinite(value)]
    if not values:
        return None
    last = max(float(line.x[-1]) for line in lines)
    words = "Loss" if metric == "loss" else name_metric(metric)
    ends = "; ".join(f"{line.label} ends at {format_number(line.y[-1])}" for line in lines)
    low = 0.0 if metric == "loss" else min(values)
    x = make_axis("Step", 0.0, max(last, 1.0), num=4)
    y = make_axis(words, low, max(values), num=5)
    return line_chart(name, lines, x, y, title=f"{words} over {last:,.0f} steps; {ends}", height=290.0)


def draw_scaling(name: str, curve: Sequence[Mapping[str, Any]]) -> str:
    """Speed-up over the number of workers: predicted, simulated, and what fits without one point would have said.

    Args:
        name: Unique on the page; begins the ids inside.
        curve: The facts of a scaling curve of `ebox.planning`, from one worker up.
    """
    workers = [point["workers"] for point in curve]

    def speedup(point: Mapping[str, Any], seconds: Real) -> float:
        return float(point["speedup"] * point["seconds"] / seconds)

    lines = [
        Line(workers, [point["speedup"] for point in curve], MODEL, "Predicted"),
        Line(workers, [speedup(p, p["simulated"]["seconds"]) for p in curve], "kmer_logistic", "Simulated", True),
        Line(workers, [speedup(point, point["low"]) for point in curve], "train", "Best of the fits"),
        Line(workers, [speedup(point, point["high"]) for point in curve], "train", "Worst of the fits"),
        Line(workers, workers, "other", "Ideal"),
    ]
    last = curve[-1]
    title = (
        f"Speed-up over one worker, up to {last['workers']} workers, where it is {format_number(last['speedup'], 1)} "
        f"and each worker reaches {format_percent(last['efficiency'], 0)} of what it would alone"
    )
    least = min(1.0, *(value for line in lines for value in line.y))
    x, y = _doubling_axis("Workers", 1.0, max(workers)), _doubling_axis("Speed-up", least, max(workers))
    return line_chart(name, lines, x, y, title=title, height=360.0, key=True)


def _doubling_axis(label: str, low: Real, high: Real) -> ChartAxis:
    """Spaced by powers; a tick at every second power of two."""
    first, last = math.floor(math.log2(low)), max(math.ceil(math.log2(high)), 1)
    ticks = tuple(2.0**power for power in range(first, last + 1) if (last - power) % 2 == 0 or last - first < 4)
    return ChartAxis(label, min(2.0**first, ticks[0]), ticks[-1], ticks, tuple(f"{tick:g}" for tick in ticks), log=True)


def draw_filters(name: str, filters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each filter that is shown: its logo, and what is known about it in words."""
    figures = []
    for entry in filters["shown"]:
        matrix = np.asarray(entry["probabilities"], dtype=np.float64)
        heights = information_heights(matrix / matrix.sum(axis=1, keepdims=True))
        resembles = entry.get("resembles")
        like = "" if resembles is None else f", like {resembles['name']}"
        title = f"Logo of filter {entry['index']}: {entry['consensus']}{like}"
        figures.append(
            {
                "index": entry["index"],
                "svg": logo_svg(heights, title=title, id_prefix=f"{name}-{int(entry['index'])}"),
                "num_sites": entry.get("num_sites"),
                "positive": format_percent(entry.get("share_positive"), 0),
                "negative": format_percent(entry.get("share_negative"), 0),
                "resembles": resembles,
                "consensus": entry.get("consensus", ""),
            }
        )
    return figures
