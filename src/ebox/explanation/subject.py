"""What is explained: which sequences, which pair of motifs, and the truth where it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from ebox.datasets.folder import Dataset
from ebox.errors import InputError, suggest
from ebox.evaluation.split_metrics import squash
from ebox.explanation.discovery import Discovered
from ebox.explanation.experiments import Insert, list_known_pairs, motif_insert, read_insert
from ebox.progress import PathLike
from ebox.sequences import read_bed, shuffle_dinucleotides
from ebox.sequences.codes import N_CODE
from ebox.sequences.matrices import Motif
from ebox.sequences.places import Interval
from ebox.settings.reading import ExplanationConfig
from ebox.storage import run_folder, stamps
from ebox.storage.stamps import read_stamped

if TYPE_CHECKING:
    from ebox.sequences.places import Intervals


@dataclass(frozen=True)
class Truth:
    """What was planted in simulated sequences: the matrices, and their sites by the names of the records.

    Sites are in coordinates of the whole records, of `record_bp` if known; a dataset holds the centre of the records.
    """

    motifs: tuple[Motif, ...]
    sites: Intervals | None
    record_bp: int | None = None

    def check_names(self, names: Sequence[str], file: PathLike) -> None:
        """Raise InputError where no site is in one of the named sequences."""
        assert self.sites is not None
        if not set(self.sites.chrom.tolist()).isdisjoint(names):
            return
        raise InputError(
            f"names none of the explained sequences: its first record is {str(self.sites.chrom[0])[:80]!r}, "
            f"the first explained sequence {names[0][:80]!r}",
            file=file,
            remedy="give the BED of these sequences, with the names of their records in the first column",
        )

    def mark(self, names: Sequence[str], length_bp: int) -> Bool[np.ndarray, "example length"] | None:
        """Which bases of the named sequences are in a planted site; None where no site is known."""
        if self.sites is None:
            return None
        rows = {name: row for row, name in enumerate(names)}
        skipped = 0 if self.record_bp is None else (self.record_bp - length_bp) // 2
        mask = np.zeros((len(names), length_bp), bool)
        for record, start, end in zip(
            self.sites.chrom.tolist(), self.sites.start.tolist(), self.sites.end.tolist(), strict=True
        ):
            row = rows.get(record)
            if row is not None:
                mask[row, max(start - skipped, 0) : max(end - skipped, 0)] = True
        return mask if mask.any() else None


@dataclass(frozen=True)
class Pair:
    """Two words for the experiment with two motifs, and what the literature says of them."""

    first: Insert
    second: Insert
    arrangement: str = ""
    gap_bp: tuple[int, int] = (0, 0)
    reference: str = ""


def choose_rows(
    logits: Float[np.ndarray, " example"],
    positive: Bool[np.ndarray, " example"],
    threshold: float,
    config: ExplanationConfig,
) -> tuple[Int64[np.ndarray, " chosen"], int]:
    """Choose test sequences to explain, in order; return them, and the number that they were drawn from.

    Args:
        logits: Of all test sequences.
        positive: Which of them are positive.
        threshold: A probability at or above it is called positive.
        config: Which sequences, how many at most, and the seed.

    Raises:
        InputError: none reaches the threshold, or none is positive.
    """
    probabilities = squash(logits)
    wanted = {"called": probabilities >= threshold, "positive": positive, "all": np.ones(len(logits), bool)}
    rows = np.flatnonzero(wanted[config.sequences])
    if not len(rows):
        what = {
            "called": f"none of the {len(logits):,} test sequences reaches the threshold {threshold:.3f}; "
            f"the greatest probability is {probabilities.max(initial=0.0):.3f}",
            "positive": f"none of the {len(logits):,} test sequences is positive",
            "all": "the test split is empty",
        }[config.sequences]
        raise InputError(
            f"there is nothing to explain: {what}",
            remedy="choose others with `--set explanation.sequences=positive` or `=all`",
        )
    limit = len(rows) if config.max_sequences is None else config.max_sequences
    if limit >= len(rows):
        return rows, len(rows)
    random = np.random.default_rng(config.seed)
    return np.sort(random.choice(rows, limit, replace=False)), len(rows)


def describe_choice(
    config: ExplanationConfig, codes: UInt8[np.ndarray, "example length"], available: int, threshold: float, total: int
) -> dict[str, Any]:
    """Describe the choice of sequences as facts.

    Args:
        config: Which sequences were wanted.
        codes: The chosen sequences.
        available: How many they were drawn from.
        threshold: A probability at or above it is called positive.
        total: The size of the test split.
    """
    return {
        "split": "test",
        "chosen": config.sequences,
        "threshold": round(threshold, 6) if config.sequences == "called" else None,
        "num_in_split": total,
        "num_available": available,
        "num": len(codes),
        "num_with_n": int((codes == N_CODE).any(axis=1).sum()),
        "length_bp": int(codes.shape[1]),
    }


def find_places(data: Dataset, rows: Int64[np.ndarray, " chosen"]) -> tuple[Interval | None, ...]:
    """The places of examples on the genome; None where that is unknown."""
    columns = [data.examples[name].gather(rows.tolist()).to_list() for name in ("chrom", "start", "end", "strand")]
    return tuple(
        None if chrom is None or start is None else Interval(chrom, start, end, strand or ".")
        for chrom, start, end, strand in zip(*columns, strict=True)
    )


def choose_pair(
    motifs: Sequence[Discovered], config: ExplanationConfig, motif_files: Sequence[PathLike]
) -> Pair | None:
    """The two words of the settings, else a found pair that the literature knows, else the first two motifs."""
    if config.pair is not None:
        return Pair(read_insert(config.pair[0], motif_files), read_insert(config.pair[1], motif_files))
    found = frozenset(motif.best.id.partition(".")[0] for motif in motifs if motif.best is not None)
    for known in list_known_pairs():
        if known.fits(found):
            return Pair(known.first, known.second, known.arrangement, known.gap_bp, known.reference)
    speaking = [motif for motif in motifs if motif.sign > 0]
    if not speaking:
        return None
    # A single motif is paired with itself.
    first, second = speaking[0], speaking[min(1, len(speaking) - 1)]
    return Pair(motif_insert(first.motif, first.name), motif_insert(second.motif, second.name))


def draw_backgrounds(data: Dataset, track: int, config: ExplanationConfig) -> UInt8[np.ndarray, "some length"]:
    """Shuffled negatives of the test split, for motifs to be inserted; any examples where it has no negative."""
    rows = data.rows("test")
    negative = np.flatnonzero(np.asarray(data.targets[rows, track]) == 0) + rows.start
    negative = negative if len(negative) else np.arange(rows.start, rows.stop)
    random = np.random.default_rng(config.seed)
    chosen = random.choice(negative, min(config.num_backgrounds, len(negative)), replace=False)
    return shuffle_dinucleotides(np.asarray(data.codes[np.sort(chosen)]), config.seed)


def find_truth(run: Path, data: Dataset, planted: PathLike | None) -> Truth:
    """The planted matrices of simulated sequences, and their sites, from a BED or beside the simulated positives."""
    path = run / run_folder.SIMULATION
    motifs: tuple[Motif, ...] = ()
    record_bp = None
    if path.exists():
        simulation = read_stamped(path, stamps.SIMULATION_OF_RUN)
        entries, record_bp = simulation.get("motifs", []), simulation.get("config", {}).get("length_bp")
        motifs = tuple(
            Motif(entry["name"], np.asarray(entry["probabilities"]), "planted", entry.get("alt_name", ""))
            for entry in entries
        )
    if planted is not None:
        return Truth(motifs, read_bed(planted), record_bp)
    beside = [Path(source["path"]).with_name("planted.bed") for source in data.manifest.get("sources", [])]
    own = next((place for place in beside if motifs and place.is_file()), None)
    return Truth(motifs, None if own is None else read_bed(own), record_bp)


def find_track(tracks: Sequence[str], wanted: str | None) -> int:
    """The column of a track; the first where `wanted` is None."""
    if wanted is None:
        return 0
    if wanted in tracks:
        return tracks.index(wanted)
    raise InputError(
        f"there is no track {wanted!r}{suggest(wanted, tracks, 0.4)}", remedy=f"the network gives {', '.join(tracks)}"
    )
