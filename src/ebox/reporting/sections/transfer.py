"""The section on the network that a training began with: what was taken over, and what it had seen."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from ebox.reporting.reading import RunFiles
from ebox.reporting.section import Section
from ebox.storage import run_folder
from ebox.storage.notes import Code, note
from ebox.storage.seen import count_seen


class Told(Code):
    """What is said of a network that a training began with."""

    SOURCE = "transfer_source"
    LAYERS = "transfer_layers"
    SEEN = "transfer_seen"


_SETTINGS = ("fresh", "freeze", "rate", "rate_decay", "unfreeze_share", "statistics")


def collect(files: RunFiles) -> dict[str, Any]:
    """The source, how its layers were trained on, and how many test examples it had seen."""
    found = files.get(run_folder.TRANSFER)
    if found is None:
        return {"transfer": None}
    source, before = found["sources"][0], len(found["sources"]) - 1
    taken = {"run": PurePath(source["run"]).name, "length_bp": source["length_bp"], "num_before": before}
    settings = {name: getattr(files.config.transfer, name) for name in _SETTINGS}
    notes = [note(Told.SOURCE, taken), note(Told.LAYERS, settings), note(Told.SEEN, count_seen(found))]
    return {"transfer": {"notes": notes}}


SECTION = Section("transfer", 32, collect, reads=(run_folder.TRANSFER,))
