"""The quality report: what was read, dropped and made, how the classes differ, and what the audit found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from ebox.datasets.clusters import MIN_CLUSTERS, count_clusters, has_enough
from ebox.datasets.confounding import describe_confounds, list_confounds
from ebox.datasets.examples import DropLog, Dropped, Examples, Source
from ebox.datasets.folder import SPLITS
from ebox.datasets.labels import count_labels
from ebox.datasets.splits import SplitReason
from ebox.storage.notes import Code, note

GC_EDGES = tuple(round(0.05 * step, 2) for step in range(21))
# With a larger difference of mean GC a network may learn GC instead of binding.
GC_WARNING = 0.05
LEAK_WARNING = 0.01
KMER_WARNING = 0.1
LOSS_WARNING = 0.2
# Roles of files that hold no examples.
REGION_ROLES = ("genome", "blacklist", "avoid", "repeats")


class Beware(Code):
    """What a reader of the report should know."""

    LEAK_EQUAL = "leak_equal"
    LEAK_OVERLAP = "leak_overlap"
    LEAK_SIMILAR = "leak_similar"
    LEAK_RELATIVE = "leak_relative"
    LEAK_KMERS = "leak_kmers"
    REPEATS = "repeats"
    CONFLICTS = "conflicts"
    CONFLICTS_DROPPED = "conflicts_dropped"
    NEAR_POSITIVES = "near_positives"
    NEAR_POSITIVES_DROPPED = "near_positives_dropped"
    FEW_MADE = "few_made"
    FEW_TO_MEASURE = "few_to_measure"
    GC_DIFFERS = "gc_differs"
    GENOME_DIFFERS = "genome_differs"
    N_DIFFERS = "n_differs"
    N_PLACE_DIFFERS = "n_place_differs"
    CPG_DIFFERS = "cpg_differs"
    REPEATS_DIFFER = "repeats_differ"
    LENGTH_DIFFERS = "length_differs"
    MASKED_DIFFERS = "masked_differs"
    NO_REPEATS = "no_repeats"
    MANY_DROPPED = "many_dropped"
    SOME_PLACED = "some_placed"
    UNKNOWN_CHROMS = "unknown_chroms"


_CODES = {
    "n": Beware.N_DIFFERS,
    "n_at_ends": Beware.N_PLACE_DIFFERS,
    "n_left": Beware.N_PLACE_DIFFERS,
    "gc": Beware.GC_DIFFERS,
    "cpg": Beware.CPG_DIFFERS,
    "repeats": Beware.REPEATS_DIFFER,
    "length_bp": Beware.LENGTH_DIFFERS,
    "masked": Beware.MASKED_DIFFERS,
}


def report_quality(
    examples: Examples,
    kinds: Sequence[str],
    tracks: Sequence[str],
    log: DropLog,
    *,
    gc: Float32[np.ndarray, " example"],
    n_fraction: Float32[np.ndarray, " example"],
    cluster: Int64[np.ndarray, " example"],
    made: Mapping[str, Mapping[str, Any]],
    split: Mapping[str, Any],
    num_near_positives: int,
    audit: Mapping[str, Any],
) -> dict[str, Any]:
    """Make the report; every key is explained in docs/formats.md.

    Args:
        examples: The final examples with their splits.
        kinds: Name of each kind.
        tracks: Name of each track.
        log: The files read, and what was dropped.
        gc: Share of G and C of each example.
        n_fraction: Share of N of each example.
        cluster: Cluster of each example.
        made: For each made kind how many were wanted and made, and what the repeats of matched ones are known from.
        split: Mode and settings of the split.
        num_near_positives: Negatives that lie on a positive, or are nearly the same, and were kept.
        audit: From `audit_splits`.
    """
    sizes = np.bincount(cluster)
    report = {
        "num_examples": len(examples),
        "num_positive": int(examples.is_positive.sum()),
        "length_bp": int(examples.codes.shape[1]),
        "tracks": count_labels(examples, tracks, cluster),
        "sources": [_describe_source(examples, number, source) for number, source in enumerate(log.sources)],
        "dropped": {str(reason): num for reason, num in log.counts.most_common()},
        "made": {kind: dict(counts) for kind, counts in made.items()},
        "kinds": {
            kind: _describe_kind(examples, number, gc, n_fraction)
            for number, kind in enumerate(kinds)
            if (examples.kind == number).any()
        },
        "n": {
            "num_examples_with_n": int((n_fraction > 0).sum()),
            "max_fraction": round(float(n_fraction.max(initial=0.0)), 6),
        },
        "confounds": describe_confounds(examples, kinds, log.measured),
        "clusters": {
            "num_clusters": int((sizes > 0).sum()),
            "num_examples_in_company": int(sizes[sizes > 1].sum()),
            "largest": int(sizes.max(initial=0)),
            "by_split": _count_by_split(examples, cluster),
        },
        "split": dict(split),
        "num_near_positives": num_near_positives,
        "audit": dict(audit),
    }
    report["warnings"] = [*map(dict, log.notes), *_warn(report)]
    return report


def _count_by_split(examples: Examples, cluster: Int64[np.ndarray, " example"]) -> dict[str, dict[str, int]]:
    """How many clusters of each class each split holds."""
    parts = {name: examples.split == number for number, name in enumerate(SPLITS)}
    return {name: count_clusters(cluster[part], examples.is_positive[part]) for name, part in parts.items()}


def _describe_source(examples: Examples, number: int, source: Source) -> dict[str, Any]:
    return {
        "source": source.name,
        "role": source.role,
        "records": source.num_records,
        "cropped": source.cropped,
        "examples": int((examples.source == number).sum()),
        "on_summits": source.on_summits,
        "on_middles": source.on_middles,
    }


def _describe_kind(
    examples: Examples, kind: int, gc: Float32[np.ndarray, " example"], n_fraction: Float32[np.ndarray, " example"]
) -> dict[str, Any]:
    inside = examples.kind == kind
    values = gc[inside].astype(np.float64)
    counts, _ = np.histogram(values, bins=np.array(GC_EDGES))
    report: dict[str, Any] = {"num_examples": int(inside.sum())}
    report |= {name: int((inside & (examples.split == number)).sum()) for number, name in enumerate(SPLITS)}
    report["gc"] = {
        "mean": round(float(values.mean()), 4) if len(values) else None,
        "sd": round(float(values.std()), 4) if len(values) else None,
        "edges": list(GC_EDGES),
        "counts": counts.tolist(),
    }
    unknown = n_fraction[inside].astype(np.float64)
    report["n"] = {"num_examples_with_n": int((unknown > 0).sum()), "mean": round(float(unknown.mean()), 6)}
    return report


def _warn(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a reader of the report should know, as notes."""
    return [
        *_warn_of_leaks(report["audit"]),
        *_warn_of_few(report["tracks"]),
        *_warn_of_repeats(report["audit"]),
        *_warn_of_gc(report["kinds"]),
        *_warn_of_confounds(report),
        *_warn_of_losses(report),
        *_warn_of_split(report["split"]),
    ]


def _warn_of_split(split: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A few records without a place make a random split of one that would be by chromosome."""
    if split.get("why") == SplitReason.SOME_PLACED:
        keys = ("num_without_place", "num_examples", "record")
        yield note(Beware.SOME_PLACED, {key: split[key] for key in keys})


def _warn_of_leaks(audit: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for pair in audit["between"]:
        num = pair["num_examples"]
        about = {"of": pair["of"], "in": pair["in"], "num_examples": num}
        found = {
            key: pair[key]["num_examples"] for key in ("exact", "reverse_complement", "overlap", "similar", "relative")
        }
        if equal := found["exact"] + found["reverse_complement"]:
            yield note(Beware.LEAK_EQUAL, {**about, "num": equal})
        if found["overlap"]:
            yield note(Beware.LEAK_OVERLAP, {**about, "num": found["overlap"]})
        if found["similar"] > LEAK_WARNING * num:
            limits = {key: audit[key] for key in ("max_similarity", "kmer_bp")}
            yield note(Beware.LEAK_SIMILAR, {**about, "num": found["similar"], **limits})
        if found["relative"] > LEAK_WARNING * num:
            yield note(Beware.LEAK_RELATIVE, {**about, "num": found["relative"]})
    shared = audit["shared_kmers"]
    for name in ("validation", "test"):
        for label, counts in shared[name].items():
            share = counts["num_sharing"] / max(counts["num_checked"], 1)
            if share > KMER_WARNING:
                about = {"label": label, "of": name, "in": shared["in"]}
                yield note(Beware.LEAK_KMERS, {**about, "share": share, "kmer_bp": shared["kmer_bp"]})


def _warn_of_few(tracks: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
    for track, by_split in tracks.items():
        of_track = {"track": track} if len(tracks) > 1 else {}
        for name in ("validation", "test"):
            clusters = by_split[name]["clusters"]
            if not has_enough(clusters):
                yield note(Beware.FEW_TO_MEASURE, {"of": name, **clusters, "needed": MIN_CLUSTERS, **of_track})


def _warn_of_repeats(audit: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, counts in audit["within"].items():
        if again := counts["exact"] + counts["reverse_complement"]:
            yield note(Beware.REPEATS, {"of": name, "num": again})
        if counts["conflicting_labels"]:
            yield note(Beware.CONFLICTS, {"of": name, "num": counts["conflicting_labels"]})


def _warn_of_gc(kinds: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    positive = kinds["positive"]["gc"]["mean"]
    for kind, values in kinds.items():
        mean = values["gc"]["mean"]
        if kind != "positive" and values["num_examples"] and abs(mean - positive) > GC_WARNING:
            yield note(Beware.GC_DIFFERS, {"kind": kind, "gc": mean, "gc_of_positives": positive})


def _warn_of_confounds(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One warning for each kind and code, of the feature that tells most; of GC where the means did not warn."""
    told = {note["kind"] for note in _warn_of_gc(report["kinds"])}
    found = sorted(list_confounds(report["confounds"]), key=lambda entry: -abs(entry[2]["auroc"] - 0.5))
    seen = {(Beware.GC_DIFFERS, kind) for kind in told}
    for kind, feature, entry in found:
        code = _CODES[feature]
        if (code, kind) in seen:
            continue
        seen.add((code, kind))
        values = {"kind": kind, "auroc": max(entry["auroc"], 1 - entry["auroc"])}
        if code is Beware.GC_DIFFERS:
            yield note(code, {"kind": kind} | _compare_gc(report["kinds"], kind))
        elif code in (Beware.N_DIFFERS, Beware.N_PLACE_DIFFERS):
            both = [report["kinds"][which] for which in (kind, "positive")]
            means = {"n": both[0]["n"]["mean"], "n_of_positives": both[1]["n"]["mean"]}
            share = max(of["n"]["num_examples_with_n"] / of["num_examples"] for of in both)
            yield note(code, values | means | {"share_with_n": round(share, 5)})
        else:
            of_positives = report["confounds"]["positive"][feature]["mean"]
            more = {"length_bp": report["length_bp"]} if code is Beware.LENGTH_DIFFERS else {}
            if code is Beware.MASKED_DIFFERS:
                more = {"can_match": kind in report["made"] and "repeats" not in report["made"][kind]}
            yield note(code, values | {"mean": entry["mean"], "mean_of_positives": of_positives} | more)


def _compare_gc(kinds: Mapping[str, Any], kind: str) -> dict[str, float]:
    return {"gc": kinds[kind]["gc"]["mean"], "gc_of_positives": kinds["positive"]["gc"]["mean"]}


def _compare_masked(report: Mapping[str, Any], kind: str) -> dict[str, float]:
    """The shares of repeats, where they were matched."""
    both = [report["confounds"][which].get("masked", {}).get("mean") for which in (kind, "positive")]
    is_matched = "repeats" in report["made"][kind] and None not in both
    return {"masked": both[0], "masked_of_positives": both[1]} if is_matched else {}


def _warn_of_losses(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for kind, counts in report["made"].items():
        if counts["made"] < counts["wanted"]:
            values = {"kind": kind, "num": counts["made"], "wanted": counts["wanted"]}
            yield note(Beware.FEW_MADE, values | _compare_gc(report["kinds"], kind) | _compare_masked(report, kind))
    if conflicts := report["dropped"].get(Dropped.CONFLICTING, 0):
        yield note(Beware.CONFLICTS_DROPPED, {"num": conflicts})
    if near := report["num_near_positives"]:
        yield note(Beware.NEAR_POSITIVES, {"num": near})
    if near := report["dropped"].get(Dropped.NEAR_POSITIVE, 0):
        yield note(Beware.NEAR_POSITIVES_DROPPED, {"num": near})
    records = sum(source["records"] for source in report["sources"] if source["role"] not in REGION_ROLES)
    dropped = sum(num for reason, num in report["dropped"].items() if reason != Dropped.NOT_DRAWN)
    if dropped > LOSS_WARNING * records:
        yield note(Beware.MANY_DROPPED, {"num": dropped, "records": records})


def describe_losses(log: DropLog) -> str:
    """What was dropped, and what lies where the genome has nothing, in words."""
    lacking = [
        f"{each['num']:,} records on chromosomes that the genome lacks, such as {', '.join(each['chroms'])}"
        for each in log.notes
        if each["code"] == Beware.UNKNOWN_CHROMS
    ]
    return ", ".join([*([log.describe()] if log.counts else []), *lacking])
