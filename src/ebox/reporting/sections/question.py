"""The section on the question: sequences, labels, sources and the split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ebox.reporting.reading import RunFiles
from ebox.reporting.section import Section
from ebox.storage import run_folder


def collect(files: RunFiles) -> dict[str, Any]:
    """Tracks, kinds, sources, split, and what was planted in simulated sequences."""
    manifest, quality = files.dataset, files.get(run_folder.QUALITY)
    sources = manifest.get("sources", [])
    roles = {} if quality is None else {entry["source"]: entry for entry in quality.get("sources", [])}
    question = {
        "tracks": list(manifest.get("tracks", [])),
        "length_bp": manifest.get("length_bp"),
        "kinds": list(manifest.get("kinds", [])),
        "sources": [_describe_source(source, roles) for source in sources],
        "split": describe_split(files),
        "simulated": _describe_simulation(files.get(run_folder.SIMULATION)),
    }
    return {"question": question}


def describe_split(files: RunFiles) -> dict[str, Any]:
    """How the examples were split, from the quality report, or else from the settings."""
    quality = files.get(run_folder.QUALITY)
    split = {} if quality is None else quality.get("split", {})
    mode = split.get("mode", files.dataset.get("config", {}).get("split", files.config.data.split))
    return {"chroms": None, "fractions": None, **split, "mode": mode}


def _describe_simulation(simulation: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What was planted, how often and where, from the settings in simulation.json."""
    if simulation is None:
        return None
    keys = ("min_sites", "max_sites", "orientation", "centre_bp", "spacing_bp", "negatives")
    settings = simulation.get("config", {})
    motifs = [{"id": motif["name"], "name": motif.get("alt_name")} for motif in simulation.get("motifs", [])]
    return {"motifs": motifs, **{key: settings.get(key) for key in keys}}


def _describe_source(source: Mapping[str, Any], roles: Mapping[str, Any]) -> dict[str, Any]:
    name = str(source.get("path", "")).replace("\\", "/").rsplit("/", 1)[-1]
    more = roles.get(name, {})
    return {
        "name": name,
        "role": source.get("role", more.get("role")),
        "records": source.get("records", more.get("records")),
        "examples": more.get("examples"),
        "on_summits": more.get("on_summits"),
        "on_middles": more.get("on_middles"),
        "sha256": source.get("sha256"),
    }


READS = (run_folder.DATASET, run_folder.QUALITY, run_folder.SIMULATION)
SECTION = Section("question", 10, collect, reads=READS, template="question.html.j2")
