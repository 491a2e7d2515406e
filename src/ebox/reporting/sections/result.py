"""The answer in plain words, and the limits of what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ebox.drawing.numbers import format_interval, format_number, format_p, format_percent
from ebox.reporting.languages.english import explain_kind, join_words, name_baseline, name_kind
from ebox.reporting.reading import is_measured

# One bound window among so many is a common order of magnitude for a genome-wide scan.
GENOME_ODDS = 1000
_VERDICTS = {
    "unknown": "“{track}” could not be measured on the test split",
    "none": "The network does not tell “{track}” sequences from the others",
    "alone": "The network tells “{track}” sequences from the others",
    "better": "The network tells “{track}” sequences from the others, and better than the best baseline",
    "equal": "The network tells “{track}” sequences from the others, but not measurably better than a baseline",
    "told": "The network tells “{track}” sequences from the others, but the planted motif itself does better",
    "worse": "The network tells “{track}” sequences from the others, but worse than a simple baseline",
}


def make_headline(
    track: Mapping[str, Any], kmer: int | None, planted: Sequence[str] = (), num_seen: int = 0
) -> dict[str, Any]:
    """Verdict, title and sentences for one track of evaluation.json.

    The verdict is "none" where the interval of the AUROC reaches 0.5, else by the interval of the paired
    difference to the best baseline: "better", "worse", "equal" where it holds 0, "alone" where there is no
    baseline. A track without metrics is "unknown". `planted` names the motifs of a simulation: a baseline
    that was handed one of them had less to find than the network, and that is said. `num_seen` test sequences
    also stand in the training split.
    """
    test = track["splits"]["test"]
    if not is_measured(track):
        return {
            "track": track["track"],
            "verdict": "unknown",
            "title": _VERDICTS["unknown"].format(track=track["track"]),
            "sentences": [f"The test split holds {test.get('reason', 'no metrics')} for this track."],
        }
    auroc = test["metrics"]["auroc"]
    comparison = track.get("comparison")
    verdict = _judge(auroc, comparison)
    sentences = [_say_auroc(auroc, test, num_seen)]
    if comparison is not None:
        sentences.append(_say_comparison(track, comparison, kmer))
    motif = _find_told_motif(track, comparison, planted)
    if motif is not None:
        sentences.append(
            f"That baseline was handed {motif}, the very motif that was planted. The network was told "
            "nothing, and had to find it."
        )
    if "accuracy" in test["metrics"]:
        sentences.append(_say_accuracy(test))
    key = "told" if verdict == "worse" and motif is not None else verdict
    return {
        "track": track["track"],
        "verdict": verdict,
        "title": _VERDICTS[key].format(track=track["track"]),
        "sentences": sentences,
        "auroc": auroc,
        "num_examples": test.get("num_examples"),
        "num_positive": test.get("num_positive"),
    }


def _find_told_motif(
    track: Mapping[str, Any], comparison: Mapping[str, Any] | None, planted: Sequence[str]
) -> str | None:
    """The planted motif that the best baseline was handed, if it was."""
    if comparison is None:
        return None
    settings = track.get("baselines", {}).get(comparison["baseline"], {}).get("settings")
    motif = None if settings is None else settings.get("motif")
    return motif if motif in planted else None


def _judge(auroc: Mapping[str, Any], comparison: Mapping[str, Any] | None) -> str:
    low = auroc.get("low")
    if (auroc["value"] if low is None else low) <= 0.5:
        return "none"
    if comparison is None:
        return "alone"
    difference = comparison["difference"]
    if difference["low"] > 0:
        return "better"
    return "worse" if difference["high"] < 0 else "equal"


def _say_auroc(auroc: Mapping[str, Any], test: Mapping[str, Any], num_seen: int) -> str:
    interval = format_interval(
        {key: None if auroc.get(key) is None else 100 * auroc[key] for key in ("low", "high")}, 1
    )
    inside = f" (95 % interval {interval})" if interval else ""
    part = "which played no part in training"
    if num_seen:
        part = f"of which {num_seen:,} also stand in the training split and flatter the result"
    return (
        f"Take one positive and one negative from the {_count(test)} test sequences, {part}: the network ranks the "
        f"positive higher {format_number(100 * auroc['value'], 1)} times in 100{inside}. A coin would do so 50 times."
    )


def _count(test: Mapping[str, Any]) -> str:
    num = test.get("num_examples")
    return "" if num is None else f"{num:,}"


def _say_comparison(track: Mapping[str, Any], comparison: Mapping[str, Any], kmer: int | None) -> str:
    name = comparison["baseline"]
    metric = comparison.get("metric", "auroc")
    baseline = track.get("baselines", {}).get(name, {}).get("splits", {}).get("test", {}).get("metrics")
    value = None if baseline is None else baseline.get(metric, {}).get("value")
    difference = comparison["difference"]
    sure = difference["low"] > 0 or difference["high"] < 0
    reached = "stands beside it"
    if value is not None and metric == "auroc":
        reached = f"does so {format_number(100 * value, 1)} times"
    return (
        f"The baseline that did best on validation data, {name_baseline(name, kmer)}, {reached}. The "
        f"difference in {metric.upper()} is {format_number(difference['value'])} (95 % interval "
        f"{format_interval(difference)}; "
        f"{format_p(comparison.get('p_value'), comparison.get('num_bootstrap'))}), which is "
        f"{'more' if sure else 'no more'} than chance explains."
    )


def _say_accuracy(test: Mapping[str, Any]) -> str:
    accuracy = test["metrics"]["accuracy"]
    sentence = (
        f"At a threshold fixed on validation data it is right about {format_percent(accuracy['value'])} "
        "of the test "
        "sequences"
    )
    num, positive = test.get("num_examples"), test.get("num_positive")
    if not num or positive is None:
        return sentence + "."
    usual = max(positive, num - positive) / num
    return f"{sentence}; always giving the more frequent answer would be right about {format_percent(usual)}."


def list_limits(facts: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[dict[str, str]]:
    """What the numbers do not show, each with a title and a text; what applies to every run comes last."""
    test = next(track for track in evaluation["tracks"] if is_measured(track))["splits"]["test"]
    limits = [_limit_of_negatives(facts), _limit_of_odds(test)]
    if facts["question"]["simulated"] is None:
        limits.append(_limit_of_split(facts["question"]["split"]))
    if facts["question"]["simulated"] is not None:
        limits.append(
            _limit(
                "Simulated sequences are tidier than real ones",
                "The sequences were made by a known rule. A network that reads them well has learned "
                "that rule; how "
                "well it reads a genome is another question.",
            )
        )
    else:
        limits.append(
            _limit(
                "Binding is not function",
                "A sequence called positive is like those that were positive in the data given, in the "
                "cells and under "
                "the conditions in which they were measured. That says nothing about effect on a gene, "
                "and little "
                "about other cells. Errors in the labels also cap every score.",
            )
        )
    return [
        *(limit for limit in limits if limit is not None),
        _limit(
            "One training run",
            "The intervals come from drawing the test sequences again. They hold neither the spread "
            "between training runs with other seeds nor that between laboratories.",
        ),
        _limit(
            "The test split is spent once",
            "These numbers are fair only if no setting was chosen by looking at them. Choosing among "
            "runs by their "
            "test scores makes the best of them look better than it is.",
        ),
        _limit(
            "Likeness is not identity",
            "A filter that resembles a known motif fires on sequences like it. It does not prove which "
            "protein binds "
            "there: families of factors share motifs.",
        ),
    ]


def _limit(title: str, text: str) -> dict[str, str]:
    return {"title": title, "text": text}


def _limit_of_negatives(facts: Mapping[str, Any]) -> dict[str, str]:
    kinds = [kind for kind in facts["question"]["kinds"] if kind != "positive"]
    words = join_words([f"{name_kind(kind).lower()} ({explain_kind(kind)})" for kind in kinds])
    text = f"The network was asked to tell positives from {words or 'the negatives given'}. "
    if kinds == ["shuffled"]:
        text += (
            "Shuffled sequences are easy: anything genomic, such as a repeat or a CpG island, gives the "
            "positives away. "
            "Expect less on real genomic negatives."
        )
    else:
        text += "Against other negatives, such as open chromatin that is not bound, the scores will differ."
    return _limit("The negatives set the difficulty", text)


def _limit_of_odds(test: Mapping[str, Any]) -> dict[str, str] | None:
    """What the sensitivity and specificity measured would mean where positives are rare."""
    num, positive = test.get("num_examples"), test.get("num_positive")
    metrics = test["metrics"]
    if not num or not positive or "sensitivity" not in metrics or "specificity" not in metrics:
        return None
    found = metrics["sensitivity"]["value"]
    false = (1.0 - metrics["specificity"]["value"]) * (GENOME_ODDS - 1)
    precision = found / (found + false) if found + false > 0 else 0.0
    return _limit(
        "A genome is mostly negative",
        f"Here {format_percent(positive / num)} of the test sequences are positive. Were it 1 window in "
        f"{GENOME_ODDS:,}, "
        f"as in a scan of a genome, then at the same threshold about {format_percent(precision)} of the "
        "windows called "
        "positive would be, if the rest of the genome is like these negatives. A scan needs a higher "
        "threshold.",
    )


def _limit_of_split(split: Mapping[str, Any]) -> dict[str, str]:
    if split["mode"] == "chromosome":
        return _limit(
            "Whole chromosomes were held out",
            "No test sequence comes from a chromosome that was trained on. Repeats and gene families "
            "still occur on "
            "both sides, as in any genome; the audit above counts the near-identical ones.",
        )
    if split["mode"] == "random":
        return _limit(
            "A random split flatters",
            "Test sequences come from the same chromosomes as training ones. Near-identical sequences "
            "were kept on one "
            "side, but neighbours share composition and repeats. Hold out whole chromosomes where "
            "coordinates are known.",
        )
    return _limit(
        "The split was given",
        "Train, validation and test were handed in as they are. See the audit above for what they share.",
    )
