"""The section of the training: how it went, and its curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ebox.drawing.charts import Line, line_chart, make_axis
from ebox.drawing.numbers import MODEL, format_number
from ebox.reporting.languages import Language
from ebox.reporting.reading import RunFiles
from ebox.reporting.section import Section
from ebox.storage import run_folder


def collect(files: RunFiles) -> dict[str, Any]:
    """Steps, times, the network, and the curves of metrics.jsonl."""
    curves: dict[str, dict[str, list[float]]] = {}
    for entry in files.metrics:
        curve = curves.setdefault(str(entry["kind"]), {})
        for key in ("step", "epoch", "loss", "auroc", "auprc", "learning_rate"):
            if isinstance(entry.get(key), int | float):
                curve.setdefault(key, []).append(entry[key])
    found = files.get(run_folder.TRAINING)
    summary = {} if found is None else dict(found)
    model, train = files.config.model, files.config.train
    facts = {
        **{key: summary.get(key) for key in ("steps", "epochs", "seconds", "sequences_per_second", "num_parameters")},
        **{key: summary.get(key) for key in ("stopped", "best_step")},
        "architecture": model.architecture,
        "num_filters": model.num_filters,
        "filter_width_bp": model.filter_width_bp,
        "batch_size": train.batch_size,
        "keep": train.keep,
        "curves": curves,
    }
    return {"training": facts}


def draw(facts: Mapping[str, Any], language: Language) -> dict[str, Any]:
    """The curves of loss and AUROC."""
    training = facts["training"]
    return {metric: _draw_curve(f"training-{metric}", training, metric, language) for metric in ("loss", "auroc")}


def _draw_curve(name: str, training: Mapping[str, Any], metric: str, language: Language) -> str | None:
    """Loss over the steps in training and validation ("loss"), or a validation metric ("auroc")."""
    words = language.TEXTS["training"]
    lines = []
    for kind, style in (("validation", MODEL), ("train", "train")):
        curve = training["curves"].get(kind, {})
        if len(curve.get(metric, [])) == len(curve.get("step", ())) > 0:
            lines.append(Line(curve["step"], curve[metric], style, words["curves_of"][kind], kind == "validation"))
    if not lines:
        return None
    values = [value for line in lines for value in line.y if math.isfinite(value)]
    if not values:
        return None
    last = max(float(line.x[-1]) for line in lines)
    label = words["loss"] if metric == "loss" else language.name_metric(metric)
    ends = "; ".join(words["ends"].format(curve=line.label, value=format_number(line.y[-1])) for line in lines)
    low = 0.0 if metric == "loss" else min(values)
    x = make_axis(words["step"], 0.0, max(last, 1.0), num=4)
    y = make_axis(label, low, max(values), num=5)
    title = words["curve_title"].format(metric=label, steps=f"{last:,.0f}", ends=ends)
    return line_chart(name, lines, x, y, title=title, height=290.0)


SECTION = Section(
    "training",
    30,
    collect,
    reads=(run_folder.TRAINING, run_folder.METRICS),
    figures=draw,
    template="training.html.j2",
)
