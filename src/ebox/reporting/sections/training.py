"""The section on the training: how it went, and its curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ebox.drawing.charts import Line, line_chart, make_axis
from ebox.drawing.numbers import format_number
from ebox.reporting.languages import Language
from ebox.reporting.reading import RunFiles
from ebox.reporting.section import Section
from ebox.storage import run_folder
from ebox.storage.names import MODEL


def collect(files: RunFiles) -> dict[str, Any]:
    """Steps, times, the network, and the curves of metrics.jsonl."""
    curves: dict[str, dict[str, list[float]]] = {}
    for entry in files.metrics:
        curve = curves.setdefault(str(entry["kind"]), {})
        for key in ("step", "epoch", "loss", "auroc", "auprc", "learning_rate"):
            if isinstance(entry.get(key), int | float):
                curve.setdefault(key, []).append(entry[key])
    found = files.get(run_folder.TRAINING)
    summary = {} if found is None else found
    measured = ("steps", "epochs", "seconds", "sequences_per_second", "num_parameters", "stopped", "best_step")
    facts = {key: summary.get(key) for key in measured}
    facts |= {key: getattr(files.config.model, key) for key in ("architecture", "num_filters", "filter_width_bp")}
    facts |= {key: getattr(files.config.train, key) for key in ("batch_size", "keep")}
    return {"training": {**facts, "curves": curves}}


def draw(facts: Mapping[str, Any], language: Language) -> dict[str, Any]:
    """The curves of loss and AUROC."""
    training = facts["training"]
    return {metric: _draw_curve(f"training-{metric}", training, metric, language) for metric in ("loss", "auroc")}


def _draw_curve(name: str, training: Mapping[str, Any], metric: str, language: Language) -> str | None:
    """Curves over the steps: the loss in training and validation ("loss"), or a validation metric ("auroc")."""
    words = language.TEXTS["training"]
    lines = []
    for kind, style in (("validation", MODEL), ("train", "train")):
        curve = training["curves"].get(kind, {})
        if len(curve.get(metric, [])) == len(curve.get("step", ())) > 0:
            lines.append(Line(curve["step"], curve[metric], style, words["curves_of"][kind], kind == "validation"))
    values = [value for line in lines for value in line.y if math.isfinite(value)]
    if not values:
        return None
    last = max(float(line.x[-1]) for line in lines)
    label = words["loss"] if metric == "loss" else language.name_metric(metric)
    ends = "; ".join(words["ends"].format(curve=line.label, value=format_number(line.y[-1])) for line in lines)
    x = make_axis(words["step"], 0.0, max(last, 1.0), num=4)
    y = make_axis(label, 0.0 if metric == "loss" else min(values), max(values))
    title = words["curve_title"].format(metric=label, steps=f"{last:,.0f}", ends=ends)
    return line_chart(name, lines, x, y, title=title, height=290.0)


READS = (run_folder.TRAINING, run_folder.METRICS)
SECTION = Section("training", 30, collect, reads=READS, figures=draw, template="training.html.j2")
