"""The section on the result: the answer in one line, its reasons, and the main numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ebox.reporting.languages import Language
from ebox.reporting.reading import RunFiles, is_measured
from ebox.reporting.section import Section
from ebox.reporting.sections.data import count_seen
from ebox.reporting.sections.measures import draw_contenders
from ebox.storage import run_folder
from ebox.storage.notes import Code, note


class Verdict(Code):
    """The answer for a track: its title."""

    UNKNOWN = "verdict_unknown"
    NONE = "verdict_none"
    ALONE = "verdict_alone"
    FEW = "verdict_few"
    BETTER = "verdict_better"
    PARTLY = "verdict_partly"
    MIXED = "verdict_mixed"
    EQUAL = "verdict_equal"
    TOLD = "verdict_told"
    WORSE = "verdict_worse"


class Because(Code):
    """A reason of an answer."""

    UNMEASURED = "unmeasured"
    AUROC = "auroc"
    RELATIVES = "test_relatives"
    COMPARISON = "comparison"
    TOLD_MOTIF = "told_motif"
    ACCURACY = "accuracy"


def collect(files: RunFiles) -> dict[str, Any]:
    """A headline for each track."""
    simulation = files.get(run_folder.SIMULATION)
    planted = [] if simulation is None else [motif["name"] for motif in simulation.get("motifs", [])]
    seen = count_seen(files.get(run_folder.QUALITY))
    return {"headlines": [make_headline(track, files.kmer, planted, seen) for track in files.tracks]}


def draw(facts: Mapping[str, Any], language: Language) -> dict[str, Any]:
    """The network beside the baselines, and the ceiling if it is for the whole test split."""
    ceiling = facts["ceiling"]
    ceiling = None if ceiling is None or ceiling["kind"] is not None else ceiling
    return {"contenders": draw_contenders("contenders-0", facts["tracks"][0], ceiling, language)}


def make_headline(
    track: Mapping[str, Any], kmer: int | None, planted: Sequence[str] = (), num_seen: int = 0
) -> dict[str, Any]:
    """The verdict on one track, with its title and its reasons as notes.

    The verdict is "unknown" for a track without metrics, "few" where the test split is too small for an interval, and
    "none" where the interval of the AUROC reaches down to 0.5. Else it depends on the intervals of the paired
    differences to the best baseline, in AUROC and in AUPRC: "better" or "worse" where both say so, or one ("partly",
    "worse") and the other holds 0; "mixed" where they contradict each other, "equal" where both hold 0, "alone" where
    there is no baseline.

    Args:
        track: One track of evaluation.json.
        kmer: The word length of the k-mer baseline.
        planted: The motifs of a simulation. A baseline that was given one of them had less to find than the network,
            and a note says so.
        num_seen: How many test sequences are also in the training split.
    """
    test, name = track["splits"]["test"], {"track": track["track"]}
    if not is_measured(track):
        why = note(Because.UNMEASURED, {"reason": test.get("reason")})
        return {**name, "verdict": "unknown", "title": note(Verdict.UNKNOWN, name), "sentences": [why]}
    if test.get("no_interval") is not None:
        few = Verdict.FEW.removeprefix("verdict_")
        return {**name, "verdict": few, "title": note(Verdict.FEW, name), "sentences": [test["no_interval"]]}
    auroc, comparison = test["metrics"]["auroc"], track.get("comparison")
    sizes = {key: test.get(key) for key in ("num_examples", "num_positive")}
    ends = {key: auroc.get(key) for key in ("value", "low", "high")}
    relatives = test.get("relatives")
    if relatives is not None and relatives["taken"] == "without":
        num_seen = 0
    because = [note(Because.AUROC, {**ends, **sizes, "num_seen": num_seen})]
    if relatives is not None:
        because.append(note(Because.RELATIVES, relatives))
    if track.get("seeds") is not None:
        because.append(track["seeds"])
    if comparison is not None:
        because.append(note(Because.COMPARISON, _compare(track, comparison, kmer)))
    motif = _find_told_motif(track, comparison, planted)
    if motif is not None:
        because.append(note(Because.TOLD_MOTIF, {"motif": motif}))
    if "accuracy" in test["metrics"]:
        because.append(note(Because.ACCURACY, _weigh_accuracy(test)))
    verdict, metric = _judge(auroc, comparison)
    title = note(Verdict.TOLD if verdict is Verdict.WORSE and motif is not None else verdict, {**name, **metric})
    word = verdict.removeprefix("verdict_")
    return {**name, "verdict": word, "title": title, "sentences": because, "auroc": auroc, **sizes}


def _compare(track: Mapping[str, Any], comparison: Mapping[str, Any], kmer: int | None) -> dict[str, Any]:
    """The best baseline, its value, and whether the difference is larger than chance explains."""
    name = comparison["baseline"]
    baseline = track.get("baselines", {}).get(name, {}).get("splits", {}).get("test", {}).get("metrics")
    value = None if baseline is None else baseline.get("auroc", {}).get("value")
    tests = {
        metric: {**test, "is_sure": _find_side(test["difference"]) != 0} for metric, test in comparison["tests"].items()
    }
    return {"baseline": name, "kmer": kmer, "value": value, "tests": tests}


def _find_side(difference: Mapping[str, Any]) -> int:
    """1 where the network is surely better, -1 where it is surely worse, else 0."""
    low, high = difference.get("low"), difference.get("high")
    return 0 if low is None or high is None else int(low > 0) - int(high < 0)


def _weigh_accuracy(test: Mapping[str, Any]) -> dict[str, Any]:
    """The accuracy, and that of always giving the more frequent answer."""
    num, positive = test.get("num_examples"), test.get("num_positive")
    usual = None if not num or positive is None else max(positive, num - positive) / num
    return {"value": test["metrics"]["accuracy"]["value"], "usual": usual}


def _find_told_motif(
    track: Mapping[str, Any], comparison: Mapping[str, Any] | None, planted: Sequence[str]
) -> str | None:
    """The planted motif that was given to the best baseline, if there is one."""
    if comparison is None:
        return None
    settings = track.get("baselines", {}).get(comparison["baseline"], {}).get("settings")
    motif = None if settings is None else settings.get("motif")
    return motif if motif in planted else None


def _judge(auroc: Mapping[str, Any], comparison: Mapping[str, Any] | None) -> tuple[Verdict, dict[str, str]]:
    """The verdict, and the metric that it rests on where it is one of the two."""
    low = auroc.get("low")
    if (auroc["value"] if low is None else low) <= 0.5:
        return Verdict.NONE, {}
    if comparison is None:
        return Verdict.ALONE, {}
    sides = {metric: _find_side(test["difference"]) for metric, test in comparison["tests"].items()}
    better, worse = ([metric for metric, side in sides.items() if side == sign] for sign in (1, -1))
    if better and worse:
        return Verdict.MIXED, {"better": better[0], "worse": worse[0]}
    if worse:
        return Verdict.WORSE, {}
    if not better:
        return Verdict.EQUAL, {}
    return (Verdict.BETTER, {}) if len(better) == len(sides) else (Verdict.PARTLY, {"better": better[0]})


READS = (run_folder.EVALUATION, run_folder.QUALITY, run_folder.SIMULATION)
SECTION = Section("result", 0, collect, reads=READS, figures=draw, template="result.html.j2")
