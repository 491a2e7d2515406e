"""The section on the measures: metrics, curves, scores and calibration of each track."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ebox.drawing.charts import IntervalRow, Line, interval_chart, line_chart, make_axis, strip_chart, unit_axis
from ebox.drawing.numbers import format_interval, format_number
from ebox.reporting.languages import Language
from ebox.reporting.reading import RunFiles
from ebox.reporting.section import Section
from ebox.storage import run_folder
from ebox.storage.names import MODEL

_STYLED = (
    MODEL,
    "kmer_logistic",
    "gapped_kmer_logistic",
    "best_pwm",
    "motif_logistic",
    "gc_logistic",
    "confound_logistic",
)


def collect(files: RunFiles) -> dict[str, Any]:
    """What was measured for each track, for the network and the baselines."""
    training = files.get(run_folder.TRAINING)
    calibrations = [] if training is None else training.get("calibration", [])
    calibrated = {entry["track"]: entry for entry in calibrations}
    tracks = [
        {
            **_describe_track(track, files.kmer, files.evaluation.get("config", {})),
            "calibrated": calibrated.get(track["track"]),
            "shareless": track.get("share_reason") if files.evaluation.get("config", {}).get("prevalence") else None,
            "mistakes": files.mistakes.get(str(track["track"])),
        }
        for track in files.tracks
    ]
    return {"tracks": tracks}


def _describe_shift(track: Mapping[str, Any], prevalence: float | None) -> dict[str, Any] | None:
    """What a stated prevalence adds to the log-odds, and what becomes of 0.5."""
    if track.get("shift") is None:
        return None
    half = 1.0 / (1.0 + math.exp(-track["shift"]))
    return {"share": track["share"], "prevalence": prevalence, "shift": track["shift"], "half": half}


def _describe_track(track: Mapping[str, Any], kmer: int, config: Mapping[str, Any]) -> dict[str, Any]:
    test = track["splits"]["test"]
    splits, by_kind = describe_splits(track)
    baselines = track.get("baselines", {})
    contenders = {MODEL: _get(test, "metrics")} | {
        name: _get(entry.get("splits", {}).get("test", {}), "metrics") for name, entry in baselines.items()
    }
    return {
        "track": track["track"],
        "reason": test.get("reason"),
        "threshold": track.get("threshold"),
        "num_examples": test.get("num_examples"),
        "num_positive": test.get("num_positive"),
        "num_unknown": track.get("num_unknown", {}).get("test", 0),
        "contenders": [
            {
                "name": name,
                "kmer": kmer,
                "description": baselines.get(name, {}).get("description"),
                "reason": baselines.get(name, {}).get("reason"),
                "metrics": dict(metrics),
            }
            for name, metrics in _rank(contenders)
        ],
        "metrics": list(contenders[MODEL]),
        "splits": splits,
        "by_kind": by_kind,
        "balanced": _get(_get(test, "balanced"), "metrics"),
        "no_interval": test.get("no_interval"),
        "seeds": track.get("seeds"),
        "prevalences": test.get("prevalences", []),
        "shifted": _describe_shift(track, config.get("prevalence")),
        "target_fdr": config.get("target_fdr"),
        "comparison": track.get("comparison"),
        "curves": _get(track, "curves"),
        "calibration": [] if track.get("calibration") is None else track["calibration"],
        "sets": track.get("sets"),
        "histogram": track.get("histogram"),
    }


def describe_splits(track: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sizes and metrics of each split, and of each kind of negative in the test split."""
    kinds = _get(track["splits"]["test"], "by_kind")
    return (
        {name: _describe_section(section) for name, section in track["splits"].items()},
        {kind: _describe_section(section) for kind, section in kinds.items()},
    )


def _describe_section(section: Mapping[str, Any]) -> dict[str, Any]:
    known = {key: section.get(key) for key in ("num_examples", "num_positive", "reason")}
    return {**known, "metrics": _get(section, "metrics")}


def _get(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object inside an object; empty where it is null or missing."""
    inner = value.get(key)
    return {} if inner is None else inner


def _rank(contenders: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """The model first, then the baselines by falling AUROC."""

    def place(item: tuple[str, Mapping[str, Any]]) -> tuple[bool, float, str]:
        return item[0] != MODEL, -item[1].get("auroc", {}).get("value", 0.0), item[0]

    return sorted(contenders.items(), key=place)


def draw(facts: Mapping[str, Any], language: Language) -> dict[str, Any]:
    """The charts of each track, by its number, and the style of each contender."""
    drawn = []
    for number, track in enumerate(facts["tracks"]):
        entries = {
            "contenders": draw_contenders(f"contenders-{number}", track, None, language) if number else None,
            "roc": _draw_curves(f"roc-{number}", track, "roc", language),
            "pr": _draw_curves(f"pr-{number}", track, "pr", language),
            "scores": _draw_scores(f"scores-{number}", track, language),
            "calibration": _draw_calibration(f"calibration-{number}", track, language),
        }
        drawn.append({**entries, "styles": [style_of(entry["name"]) for entry in track["contenders"]]})
    return {"tracks": drawn}


def style_of(name: str) -> str:
    """The style of the model or a baseline, the same in every figure."""
    return name if name in _STYLED else "other"


def _name(contender: Mapping[str, Any], language: Language) -> str:
    return language.name_baseline(contender["name"], contender["kmer"])


def draw_contenders(
    name: str, track: Mapping[str, Any], ceiling: Mapping[str, Any] | None, language: Language
) -> str | None:
    """AUROC of the network and the baselines with their intervals, and the ceiling where it is known.

    Args:
        name: Unique on the page; the ids in the drawing start with it.
        track: The facts of the track.
        ceiling: The facts of the best possible result; none: not drawn.
        language: The language of the texts.
    """
    texts = language.TEXTS["measures"]
    rows = [
        _interval_row(_name(entry, language), style_of(entry["name"]), entry["metrics"]["auroc"])
        for entry in track["contenders"]
        if "auroc" in entry["metrics"]
    ]
    if not rows:
        return None
    if ceiling is not None and "auroc" in ceiling["metrics"]:
        rows.insert(0, _interval_row(texts["best_possible"], "ceiling", ceiling["metrics"]["auroc"]))
    low = min(0.95, *(row[3] for row in rows))
    # From the lowest interval, or from chance (0.5) where that is near.
    axis = make_axis(texts["auroc_axis"], 0.5 if 0.5 <= low < 0.75 else math.floor(low * 20) / 20, 1.0)
    values = "; ".join(f"{row[0]} {row[5]}" for row in rows)
    return interval_chart(name, rows, axis, title=texts["auroc_title"].format(values=values))


def _interval_row(label: str, style: str, entry: Mapping[str, Any]) -> IntervalRow:
    value = entry["value"]
    low = value if entry.get("low") is None else entry["low"]
    high = value if entry.get("high") is None else entry["high"]
    interval = format_interval(entry)
    words = format_number(value) + (f"  ({interval})" if interval else "")
    return label, style, value, low, high, words


def _draw_curves(name: str, track: Mapping[str, Any], which: str, language: Language) -> str | None:
    """The ROC ("roc") or precision-recall ("pr") curves of the network and the baselines."""
    curves = track["curves"].get(which)
    if not curves:
        return None
    metric = "auroc" if which == "roc" else "auprc"
    lines = [
        Line(
            **curves[entry["name"]],
            style=style_of(entry["name"]),
            label=f"{_name(entry, language)} {format_number(entry['metrics'].get(metric, {}).get('value'))}",
        )
        for entry in track["contenders"]
        if curves.get(entry["name"])
    ]
    texts = language.TEXTS["measures"]
    x, y = (unit_axis(label) for label in texts[f"{which}_axes"])
    title = texts[f"{which}_title"].format(values="; ".join(line.label for line in lines))
    return line_chart(name, lines, x, y, title=title, height=366.0, key=True, diagonal=which == "roc")


def _draw_scores(name: str, track: Mapping[str, Any], language: Language) -> str | None:
    """Histograms of the network's probabilities: a strip for the positives and for each kind of negatives."""
    histogram = track["histogram"]
    if not histogram:
        return None
    strips = []
    for kind, counts in histogram["counts"].items():
        total = sum(counts)
        if total:
            label = f"{language.name_kind(kind)} ({total:,})"
            strips.append((label, "positive" if kind == "positive" else "negative", [n / total for n in counts]))
    strips.sort(key=lambda strip: strip[1] != "positive")
    threshold = track["threshold"]
    texts = language.TEXTS["measures"]
    rule = None
    if threshold:
        rule = (threshold["value"], texts["threshold"].format(value=format_number(threshold["value"], 2)))
    axis = unit_axis(texts["scores_axis"])
    title = texts["scores_title"].format(kinds=", ".join(strip[0] for strip in strips))
    return strip_chart(name, strips, histogram["edges"], axis, title=title, rule=rule) if strips else None


def _draw_calibration(name: str, track: Mapping[str, Any], language: Language) -> str | None:
    """The share of positives against the predicted probability, bin by bin."""
    bins = [entry for entry in track["calibration"] if entry.get("num_examples")]
    if not bins:
        return None
    x, y = ([entry[key] for entry in bins] for key in ("mean_predicted", "fraction_positive"))
    known = all(entry.get("low") is not None for entry in bins)
    low, high = ([entry[key] for entry in bins] if known else [] for key in ("low", "high"))
    line = Line(x, y, MODEL, "", marks=True, low=low, high=high)
    texts = language.TEXTS["measures"]
    axes = [unit_axis(label) for label in texts["calibration_axes"]]
    title = texts["calibration_title"].format(num=len(bins))
    gap = track["splits"]["test"]["metrics"].get("calibration_error")
    if gap is not None:
        title = texts["calibration_gap"].format(title=title, gap=format_number(gap["value"]))
    return line_chart(name, [line], *axes, title=title, diagonal=True, bars=_count_all(track["histogram"]))


def _count_all(histogram: Mapping[str, Any] | None) -> tuple[list[float], list[int]]:
    """The edges and counts of the probabilities of all kinds together; nothing where they are unknown."""
    if not histogram:
        return [], []
    return histogram["edges"], [sum(counts) for counts in zip(*histogram["counts"].values(), strict=True)]


READS = (run_folder.EVALUATION, run_folder.TRAINING)
SECTION = Section("measures", 50, collect, reads=READS, figures=draw, template="measures.html.j2", starts_sheet=True)
