"""The section on the filters: what the first layer looks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ebox.drawing.logos import information_heights, logo_svg
from ebox.reporting.languages import Language
from ebox.reporting.reading import RunFiles
from ebox.reporting.section import Section
from ebox.storage import run_folder

NUM_FILTERS_SHOWN = 24


def collect(files: RunFiles) -> dict[str, Any]:
    """The filters that favour positives most, and the number of all filters."""
    found = files.found[run_folder.FILTERS]
    entries = found.get("filters", [])
    facts = {
        **{key: value for key, value in found.items() if key not in ("filters", "format", "format_version")},
        "num_filters": len(entries),
        "num_resembling": sum(entry.get("resembles") is not None for entry in entries),
        "shown": [dict(entry) for entry in entries[:NUM_FILTERS_SHOWN]],
    }
    return {"filters": facts}


def draw(facts: Mapping[str, Any], language: Language) -> dict[str, Any]:
    """The logo of each filter that is shown."""
    return {"logos": [_draw_logo(entry, language.TEXTS["filters"]) for entry in facts["filters"]["shown"]]}


def _draw_logo(entry: Mapping[str, Any], words: Mapping[str, Any]) -> str:
    matrix = np.asarray(entry["probabilities"], dtype=np.float64)
    heights = information_heights(matrix / matrix.sum(axis=1, keepdims=True))
    resembles = entry.get("resembles")
    like = "" if resembles is None else ", " + words["like"].format(name=resembles["name"])
    title = words["logo"].format(index=entry["index"], consensus=entry["consensus"], like=like)
    return logo_svg(heights, title=title, id_prefix=f"filter-{int(entry['index'])}")


SECTION = Section("filters", 60, collect, reads=(run_folder.FILTERS,), figures=draw, template="filters.html.j2")
