"""Opening the dataset of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ebox.errors import InputError
from ebox.progress import PathLike
from ebox.storage.publishing import read_json

if TYPE_CHECKING:
    from ebox.datasets.folder import Dataset


def open_dataset_of(folder: Path, dataset: PathLike | None) -> tuple[Dataset, bool]:
    """Open a dataset, by default that of a run's training; return it, and whether it is the same as in the training."""
    from ebox.datasets.folder import open_dataset
    from ebox.storage import run_folder

    facts = read_json(folder / run_folder.DATASET)
    if not isinstance(facts, dict) or not {"path", "fingerprint"} <= set(facts):
        raise InputError("does not name a dataset", file=folder / run_folder.DATASET, remedy="train again")
    if dataset is not None:
        data = open_dataset(Path(dataset), verify="full")
        return data, data.fingerprint == facts["fingerprint"]
    beside = folder / run_folder.DATASET_FOLDER
    place = beside if beside.is_dir() else Path(facts["path"])
    if not place.is_dir():
        raise InputError("the dataset of this run is gone", file=place, remedy="give its folder with --data")
    data = open_dataset(place, verify="full")
    if data.fingerprint != facts["fingerprint"]:
        raise InputError(
            "has changed since this run was trained on it", file=place, remedy="give the right folder with --data"
        )
    return data, True
