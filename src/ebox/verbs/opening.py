"""Opening what a verb reads: the dataset of a run, and new sequences or places."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ebox.errors import InputError
from ebox.progress import PathLike

if TYPE_CHECKING:
    from ebox.datasets.folder import Dataset
    from ebox.sequences import SequenceSet


def open_dataset_of(folder: Path, dataset: PathLike | None) -> tuple[Dataset, bool]:
    """Open a dataset, by default that of a run's training; return it, and whether it is the same as in the training."""
    from ebox.datasets.folder import open_dataset
    from ebox.storage import run_folder
    from ebox.storage.stamps import DATASET_OF_RUN, OtherFormatError

    facts = run_folder.read_dataset(folder)
    if dataset is not None:
        data = open_dataset(Path(dataset), verify="full")
        return data, data.fingerprint == facts["fingerprint"]
    kept, whole = Path(facts["path"]), folder.resolve()
    places = [folder / run_folder.DATASET_FOLDER, kept]
    if whole.parent.name == run_folder.SEEDS:
        # A training with another seed lies in the run that holds the dataset, and is moved with it.
        places.append(whole.parents[1] / run_folder.DATASET_FOLDER)
    place = next((place for place in places if place.is_dir()), kept)
    if not place.is_dir():
        raise InputError("the dataset of this run is gone", file=place, remedy="give its folder with --data")
    try:
        data = open_dataset(place, verify="full")
    except OtherFormatError as error:
        # A new one would be other data than those of the training.
        raise InputError(error.problem, file=place, remedy=DATASET_OF_RUN.remedy) from None
    if data.fingerprint != facts["fingerprint"]:
        raise InputError(
            "has changed since this run was trained on it", file=place, remedy="give the right folder with --data"
        )
    return data, True


def check_query(fasta: PathLike | None, bed: PathLike | None, genome: PathLike | None) -> None:
    """Raise InputError unless sequences are given, or places with the genome that they lie on."""
    if fasta is not None and bed is not None:
        raise InputError("--fasta and --bed can't be combined", remedy="give one of them")
    if bed is not None and genome is None:
        raise InputError("places need a genome to take the sequences from", file=bed, remedy="give --genome genome.fa")
    if genome is not None and bed is None:
        raise InputError(
            "a genome is given, but no places on it", file=genome, remedy="give --bed places.bed, or leave --genome out"
        )


def open_query(fasta: PathLike | None, bed: PathLike | None, genome: PathLike | None) -> SequenceSet:
    """Read new sequences: those of a file, or those of places on a genome.

    Raises:
        InputError: neither is given, or what is given can't be read or does not go together.
    """
    from ebox.sequences import read_places, read_sequences

    check_query(fasta, bed, genome)
    if bed is not None and genome is not None:
        return read_places(Path(bed), Path(genome))
    if fasta is None:
        raise InputError("there are no sequences", remedy="give --fasta FILE, or --bed FILE with --genome FILE")
    return read_sequences(Path(fasta))
