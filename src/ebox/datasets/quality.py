"""The quality report: what was read, dropped and made, how the classes differ, and what the audit found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from ebox.datasets.cleaning import CONFLICTING, NOT_DRAWN
from ebox.datasets.examples import DropLog, Examples, Source
from ebox.datasets.folder import SPLITS

GC_EDGES = tuple(round(0.05 * step, 2) for step in range(21))
# Past this difference of mean GC, a network may learn GC instead of binding.
GC_WARNING = 0.05
LEAK_WARNING = 0.01


def report_quality(
    examples: Examples,
    kinds: Sequence[str],
    sources: Sequence[Source],
    log: DropLog,
    *,
    gc: Float32[np.ndarray, " example"],
    n_fraction: Float32[np.ndarray, " example"],
    cluster: Int64[np.ndarray, " example"],
    made: Mapping[str, Mapping[str, int]],
    split: Mapping[str, Any],
    audit: Mapping[str, Any],
) -> dict[str, Any]:
    """Put the report together; every key is explained in docs/formats.md.

    Args:
        examples: The final examples with their splits.
        kinds: Name of each kind.
        sources: The files read.
        log: What was dropped.
        gc: Share of G and C of each example.
        n_fraction: Share of N of each example.
        cluster: Cluster of each example.
        made: For each made kind how many were wanted and made.
        split: Mode and settings of the split.
        audit: From `audit_splits`.
    """
    sizes = np.bincount(cluster)
    report = {
        "num_examples": len(examples),
        "num_positive": int(examples.is_positive.sum()),
        "length_bp": int(examples.codes.shape[1]),
        "sources": [_describe_source(examples, number, source) for number, source in enumerate(sources)],
        "dropped": dict(log.counts.most_common()),
        "made": {kind: dict(counts) for kind, counts in made.items()},
        "kinds": {
            kind: _describe_kind(examples, number, gc)
            for number, kind in enumerate(kinds)
            if (examples.kind == number).any()
        },
        "n": {
            "num_examples_with_n": int((n_fraction > 0).sum()),
            "max_fraction": round(float(n_fraction.max(initial=0.0)), 6),
        },
        "clusters": {
            "num_clusters": int((sizes > 0).sum()),
            "num_examples_in_company": int(sizes[sizes > 1].sum()),
            "largest": int(sizes.max(initial=0)),
        },
        "split": dict(split),
        "audit": dict(audit),
    }
    report["warnings"] = _warn(report)
    return report


def _describe_source(examples: Examples, number: int, source: Source) -> dict[str, Any]:
    return {
        "source": source.name,
        "role": source.role,
        "records": source.num_records,
        "cropped": source.cropped,
        "examples": int((examples.source == number).sum()),
    }


def _describe_kind(examples: Examples, kind: int, gc: Float32[np.ndarray, " example"]) -> dict[str, Any]:
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
    return report


def _warn(report: Mapping[str, Any]) -> list[str]:
    """What a reader of the report should not miss, in plain sentences."""
    return [
        *_warn_of_leaks(report["audit"]),
        *_warn_of_repeats(report["audit"]),
        *_warn_of_gc(report["kinds"]),
        *_warn_of_losses(report),
    ]


def _warn_of_leaks(audit: Mapping[str, Any]) -> list[str]:
    warnings = []
    for pair in audit["between"]:
        num = pair["num_examples"]
        equal = pair["exact"]["num_examples"] + pair["reverse_complement"]["num_examples"]
        if equal:
            warnings.append(f"leakage: {equal:,} of {num:,} {pair['of']} sequences also stand in {pair['in']}")
        overlap = pair["overlap"]["num_examples"]
        if overlap:
            warnings.append(f"leakage: {overlap:,} of {num:,} {pair['of']} examples overlap one of {pair['in']}")
        similar = pair["similar"]["num_examples"]
        if similar > LEAK_WARNING * num:
            warnings.append(
                f"leakage: {similar:,} of {num:,} {pair['of']} sequences share more than "
                f"{audit['max_similarity']:.0%} of their {audit['kmer_bp']}-mers with one of {pair['in']}"
            )
    for name in ("validation", "test"):
        for label, counts in audit["shared_kmers"][name].items():
            share = counts["num_sharing"] / max(counts["num_checked"], 1)
            if share > 0.1:
                warnings.append(
                    f"leakage: {share:.0%} of the {label} examples of {name} share a "
                    f"{audit['shared_kmers']['kmer_bp']}-mer with train"
                )
    return warnings


def _warn_of_repeats(audit: Mapping[str, Any]) -> list[str]:
    warnings = []
    for name, counts in audit["within"].items():
        again = counts["exact"] + counts["reverse_complement"]
        if again:
            warnings.append(f"repeats: {again:,} examples of {name} equal an earlier one of {name}")
        if counts["conflicting_labels"]:
            warnings.append(
                f"conflict: {counts['conflicting_labels']:,} sequences of {name} stand there with both labels"
            )
    return warnings


def _warn_of_gc(kinds: Mapping[str, Any]) -> list[str]:
    positive = kinds["positive"]["gc"]["mean"]
    return [
        f"GC of {kind} negatives is {values['gc']['mean']:.1%}, of positives {positive:.1%}: "
        "compare with the gc_logistic baseline"
        for kind, values in kinds.items()
        if kind != "positive" and values["num_examples"] and abs(values["gc"]["mean"] - positive) > GC_WARNING
    ]


def _warn_of_losses(report: Mapping[str, Any]) -> list[str]:
    warnings = []
    for kind, counts in report["made"].items():
        if counts["made"] < counts["wanted"]:
            warnings.append(f"{counts['made']:,} {kind} negatives made, {counts['wanted']:,} wanted")
    conflicts = report["dropped"].get(CONFLICTING, 0)
    if conflicts:
        warnings.append(f"{conflicts:,} records dropped: the same sequence stands there with both labels")
    records = sum(source["records"] for source in report["sources"] if source["role"] not in ("genome", "blacklist"))
    dropped = sum(num for reason, num in report["dropped"].items() if reason != NOT_DRAWN)
    if dropped > 0.2 * records:
        warnings.append(f"{dropped:,} records dropped of {records:,} read: see dropped.tsv")
    return warnings
