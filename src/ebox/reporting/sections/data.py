"""The section on the data: examples by kind and split, what was dropped, and the audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ebox.reporting.reading import RunFiles
from ebox.reporting.section import Section
from ebox.storage import run_folder
from ebox.storage.names import SPLITS

LEAKS = ("exact", "reverse_complement", "overlap", "similar", "relative")


def collect(files: RunFiles) -> dict[str, Any]:
    """Counts by split and kind, drops, warnings and leaks; without quality.json only the counts."""
    manifest, quality = files.dataset, files.get(run_folder.QUALITY)
    facts: dict[str, Any] = {
        "splits": {name: _describe_split(manifest["splits"].get(name, {})) for name in SPLITS},
        "num_examples": manifest.get("num_examples"),
        "fingerprint": manifest.get("fingerprint"),
    }
    if quality is None:
        unknown: dict[str, Any] = {
            "kinds": None,
            "tracks": {},
            "dropped": None,
            "warnings": [],
            "leaks": None,
            "made": {},
        }
        return {"data": {**facts, **unknown}}
    tracks = quality.get("tracks", {})
    facts["tracks"] = tracks if len(tracks) > 1 else {}
    facts["kinds"] = [_describe_kind(quality, kind) for kind in quality.get("kinds", {})]
    facts |= {"dropped": quality.get("dropped", {}), "warnings": list(quality.get("warnings", []))}
    return {"data": {**facts, "leaks": _describe_leaks(quality.get("audit")), "made": quality.get("made", {})}}


def _describe_kind(quality: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Numbers by split, and what the bases of a kind are on average; null for what is not known."""
    values = quality["kinds"][kind]
    made = quality.get("made", {}).get(kind, {})
    return {
        "kind": kind,
        **{name: values.get(name) for name in SPLITS},
        "num_examples": values.get("num_examples"),
        "gc_mean": values.get("gc", {}).get("mean"),
        "gc_sd": values.get("gc", {}).get("sd"),
        "n_mean": values.get("n", {}).get("mean"),
        "repeats_mean": quality.get("confounds", {}).get(kind, {}).get("masked", {}).get("mean"),
        "repeats_by_gc_alone": made.get("repeats", {}).get("by_gc_alone"),
    }


def _describe_split(split: Mapping[str, Any]) -> dict[str, Any]:
    num = None if "start" not in split else split["stop"] - split["start"]
    return {"num_examples": num, "num_positive": split.get("num_positive")}


def count_seen(quality: Mapping[str, Any] | None) -> int:
    """An upper bound of the test sequences that are also in the training split, by their bases or their place."""
    between = [] if quality is None else (quality.get("audit") or {}).get("between", [])
    pairs = [pair for pair in between if pair["of"] == "test" and pair["in"] == "train"]
    keys = ("exact", "reverse_complement", "overlap")
    return sum(
        min(sum(pair[key]["num_examples"] for key in keys if key in pair), pair["num_examples"]) for pair in pairs
    )


def _describe_leaks(audit: Mapping[str, Any] | None) -> list[dict[str, Any]] | None:
    if audit is None:
        return None
    return [
        {
            "of": pair["of"],
            "in": pair["in"],
            "num_examples": pair["num_examples"],
            "found": [
                {"what": key, **{name: pair[key].get(name) for name in ("num_examples", "other_label")}}
                for key in LEAKS
                if key in pair
            ],
        }
        for pair in audit.get("between", [])
    ]


SECTION = Section("data", 20, collect, reads=(run_folder.DATASET, run_folder.QUALITY), template="data.html.j2")
