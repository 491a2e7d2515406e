"""The section on an ensemble: how its members were trained, and what it gains over one of them."""

from __future__ import annotations

from typing import Any

from ebox.reporting.reading import RunFiles
from ebox.reporting.section import Section
from ebox.storage import run_folder
from ebox.storage.notes import Code, note


class Training(Code):
    """What is said of the trainings of an ensemble."""

    MEMBERS_TRAINED = "members_trained"


def collect(files: RunFiles) -> dict[str, Any]:
    """A note on the training, and one for each track that was measured; None for a single network."""
    measured = [(str(track["track"]), track.get("ensemble")) for track in files.tracks]
    found = [(name, section) for name, section in measured if section is not None]
    if not found:
        return {"ensemble": None}
    many = len(files.tracks) > 1
    notes = [*_describe_training(files), *({**section, "track": name if many else None} for name, section in found)]
    return {"ensemble": {"notes": notes}}


def _describe_training(files: RunFiles) -> list[dict[str, Any]]:
    training = files.get(run_folder.TRAINING)
    facts = {} if training is None else training.get("ensemble", {})
    if not facts:
        return []
    seeds = [member["seed"] for member in facts["members"]]
    told = {"num_members": len(seeds), "first_seed": seeds[0], "last_seed": seeds[-1]}
    return [note(Training.MEMBERS_TRAINED, {**told, "side_by_side": facts["side_by_side"]})]


SECTION = Section("ensemble", 45, collect, reads=(run_folder.EVALUATION,))
