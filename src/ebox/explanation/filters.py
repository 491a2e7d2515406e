"""What the filters of the first layer look for: the sequences that activate each filter, as a matrix."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from ebox.errors import InputError
from ebox.progress import Progress, quiet
from ebox.sequences.codes import BASES, one_hot
from ebox.sequences.motifs import Motif, load_carried_motifs
from ebox.storage.notes import Code
from ebox.storage.run_folder import FILTERS as FILTERS_FILE
from ebox.storage.stamps import FILTERS, read_stamped, stamped

MIN_CORRELATION = 0.8
MIN_ALIGNED_COLUMNS = 6
PSEUDOCOUNT = 0.5
SITE_SHARE = 0.7
# A filter speaks where a column holds a bit, half of what a known base does; at fewer places it is flat.
SPEAKING_BITS = 1.0
LEAST_SPEAKING = 2
_CHUNK_BASES = 1 << 14


class Shape(Code):
    """Whether the matrix of a filter says anything."""

    FLAT = "flat"
    SHARP = "sharp"


@dataclass(frozen=True)
class Resemblance:
    """The known motif that is most similar to a filter.

    `strand` is "-" when the reverse complement of the known motif fits; `offset_bp` is where the known motif begins in
    the filter (negative: before it).
    """

    id: str
    name: str
    correlation: float
    num_columns: int
    strand: str
    offset_bp: int


@dataclass(frozen=True)
class FilterMotif:
    """One filter of the first layer as a motif.

    `probabilities` are of the `num_sites` sub-sequences whose activation is above the threshold; the shares are of the
    positive and the negative sequences with at least one such site.
    """

    index: int
    probabilities: Float[np.ndarray, "width 4"]
    num_sites: int
    share_positive: float
    share_negative: float
    max_activation: float
    resembles: Resemblance | None

    @property
    def difference(self) -> float:
        """The share of positives with a site, less that of negatives."""
        return self.share_positive - self.share_negative

    @property
    def information_bits(self) -> float:
        """Information of the whole matrix against a uniform background."""
        return float(Motif("", self.probabilities).information().sum())

    @property
    def shape(self) -> Shape:
        """Flat where fewer than two columns hold a bit, as in half of the filters of a network trained on noise."""
        num_speaking = int((Motif("", self.probabilities).information() >= SPEAKING_BITS).sum())
        return Shape.SHARP if num_speaking >= LEAST_SPEAKING else Shape.FLAT

    @property
    def consensus(self) -> str:
        """The most frequent base of each column; lower case below 0.5, n below 0.35."""
        letters = []
        for row in self.probabilities:
            letter, share = BASES[int(row.argmax())], float(row.max())
            letters.append(letter if share >= 0.5 else letter.lower() if share >= 0.35 else "n")
        return "".join(letters)


def filter_motifs(
    filters: Float32[np.ndarray, "filter width 4"],
    codes: UInt8[np.ndarray, "example length"],
    targets: Bool[np.ndarray, " example"],
    *,
    known: Sequence[Motif] | None = None,
    num_sequences: int = 2000,
    threshold: float = SITE_SHARE,
    strands: Literal["one", "both"] = "one",
    seed: int = 0,
    progress: Progress = quiet,
) -> list[FilterMotif]:
    """Turn each filter into a motif: align the sub-sequences that activate it most, as Koo and Eddy (2019) do.

    The activation is that of the filter with the mean of each column subtracted, so that random bases give 0 on average
    and an N gives 0. The normalisation and the activation function of the network, which rise with it, are left out.
    Therefore the threshold is higher than half of the maximum, which is usual after them: the matrices of TAL1 and
    GATA1 reach half of their maximum in 96 % of bound and 94 % of unbound sequences of 200 bp, and 0.7 of it in 48 %
    and 27 %.

    Args:
        filters: Weights of the first layer, bases in the order ACGT.
        codes: Sequences, as base codes with 4 for N.
        targets: Which of them are positive.
        known: Motifs to compare with; none: the TAL1 and GATA1 matrices of the package.
        num_sequences: The most sequences that are drawn, half of each class where there are enough.
        threshold: Share of the filter's greatest activation that a site must reach.
        strands: both: the filter reads both strands, as with `model.strands = "both"`.
        seed: For the draw.
        progress: Called with the stage, the number done and the number in all.

    Returns:
        A motif for each filter with an activation above 0, those that favour positives most first.

    Raises:
        InputError: sequences shorter than a filter, one class only, or a threshold outside 0 to 1.
    """
    _check(filters, codes, targets, threshold)
    rows = _draw_rows(targets, num_sequences, seed)
    weights = (filters - filters.mean(axis=2, keepdims=True)).reshape(filters.shape[0], -1)
    sample = codes[rows]
    highest = np.full(filters.shape[0], -np.inf, dtype=np.float32)
    chunks = _split_rows(sample)
    for number, chunk in enumerate(chunks):
        windows = _one_hot_windows(sample[chunk], filters.shape[1], strands)
        highest = np.maximum(highest, (windows @ weights.T).max(axis=(0, 1)))
        progress("reading the filters", number + 1, 2 * len(chunks))
    counts = np.zeros((filters.shape[0], weights.shape[1]), dtype=np.float64)
    fires = np.empty((len(rows), filters.shape[0]), dtype=bool)
    for number, chunk in enumerate(chunks):
        windows = _one_hot_windows(sample[chunk], filters.shape[1], strands)
        hits = (windows @ weights.T) >= np.maximum(threshold * highest, np.finfo(np.float32).tiny)
        fires[chunk] = hits.any(axis=1)
        counts += np.tensordot(hits.astype(np.float32), windows, axes=((0, 1), (0, 1)))
        progress("reading the filters", len(chunks) + number + 1, 2 * len(chunks))
    motifs = load_carried_motifs() if known is None else tuple(known)
    found = _make_motifs(counts.reshape(filters.shape), fires, targets[rows], highest, motifs)
    return sorted(found, key=lambda motif: (-motif.difference, motif.index))


def find_resemblance(probabilities: Float[np.ndarray, "width 4"], known: Sequence[Motif]) -> Resemblance | None:
    """The known motif most similar to a matrix, over all offsets and both strands; None where none is similar.

    The score is Pearson's correlation of the aligned probabilities. A column without a partner is compared with a
    uniform one, so columns that only one of the two has lower the score. At least 6 columns must be aligned, and the
    correlation must be 0.8 or more.
    """
    best: Resemblance | None = None
    for motif in known:
        for strand, matrix in (("+", motif.probabilities), ("-", motif.probabilities[::-1, ::-1])):
            correlation, offset, columns = _align(probabilities - 0.25, matrix - 0.25)
            if correlation >= MIN_CORRELATION and (best is None or correlation > best.correlation):
                name = motif.name if motif.alt_name in (None, "") else str(motif.alt_name)
                best = Resemblance(motif.name, name, round(correlation, 4), columns, strand, offset)
    return best


def filters_to_json(motifs: Sequence[FilterMotif], **about: Any) -> dict[str, Any]:
    """The content of filters.json; `about` (num_sequences, split, threshold, …) is added to the motifs."""
    entries = [
        {
            "index": motif.index,
            "consensus": motif.consensus,
            "information_bits": round(motif.information_bits, 3),
            "shape": motif.shape.value,
            "num_sites": motif.num_sites,
            "share_positive": round(motif.share_positive, 5),
            "share_negative": round(motif.share_negative, 5),
            "max_activation": round(motif.max_activation, 5),
            "resembles": None if motif.resembles is None else asdict(motif.resembles),
            "probabilities": np.round(motif.probabilities, 4).tolist(),
        }
        for motif in motifs
    ]
    return stamped(FILTERS, {**about, "num_filters": len(entries), "filters": entries})


def read_filters(run_folder: str | os.PathLike[str]) -> list[FilterMotif]:
    """Read the filters of an evaluated run as motifs, those that favour positives most first.

    Raises:
        InputError: the run was not evaluated, or its filters.json is not one.
    """
    path = Path(run_folder) / FILTERS_FILE
    facts = read_stamped(path, FILTERS)
    try:
        return [_read_filter(entry) for entry in facts["filters"]]
    except (KeyError, TypeError, ValueError):
        raise InputError("is not a file of filters", file=path, remedy="run `ebox evaluate` again") from None


def _read_filter(entry: dict[str, Any]) -> FilterMotif:
    like = entry["resembles"]
    return FilterMotif(
        index=int(entry["index"]),
        probabilities=np.asarray(entry["probabilities"], np.float64),
        num_sites=int(entry["num_sites"]),
        share_positive=float(entry["share_positive"]),
        share_negative=float(entry["share_negative"]),
        max_activation=float(entry["max_activation"]),
        resembles=None if like is None else Resemblance(**like),
    )


def _check(filters: np.ndarray, codes: np.ndarray, targets: np.ndarray, threshold: float) -> None:
    if codes.shape[1] < filters.shape[1]:
        raise InputError(f"sequences of {codes.shape[1]} bp are shorter than the filters of {filters.shape[1]} bp")
    if targets.all() or not targets.any():
        raise InputError("filters are compared between positives and negatives, and one class is missing")
    if not 0.0 < threshold <= 1.0:
        raise InputError(f"threshold is {threshold:g}, and must be above 0 and at most 1")


def _draw_rows(targets: np.ndarray, num_sequences: int, seed: int) -> np.ndarray:
    """Half of each class where there are enough; in rising order, so that a memory map is read forwards."""
    random = np.random.default_rng(seed)
    positive, negative = np.flatnonzero(targets), np.flatnonzero(~targets)
    num_positive = min(len(positive), max(num_sequences // 2, num_sequences - len(negative), 1))
    num_negative = min(len(negative), max(num_sequences - num_positive, 1))
    drawn = [random.choice(positive, num_positive, replace=False), random.choice(negative, num_negative, replace=False)]
    return np.sort(np.concatenate(drawn))


def _split_rows(codes: np.ndarray) -> list[slice]:
    """Rows in blocks whose windows fit about into the cache of a processor."""
    size = max(1, _CHUNK_BASES // codes.shape[1])
    return [slice(start, min(start + size, len(codes))) for start in range(0, len(codes), size)]


def _one_hot_windows(
    codes: np.ndarray, width: int, strands: Literal["one", "both"]
) -> Float32[np.ndarray, "example window bases"]:
    """Every window of every sequence as a flat one-hot row, then those of the other strand."""
    bases = one_hot(codes)
    own = _slide(bases, width)
    return np.concatenate([own, _slide(bases[:, ::-1, ::-1], width)], axis=1) if strands == "both" else own


def _slide(bases: np.ndarray, width: int) -> np.ndarray:
    view = np.lib.stride_tricks.sliding_window_view(bases, width, axis=1)
    return np.ascontiguousarray(view.transpose(0, 1, 3, 2)).reshape(view.shape[0], view.shape[1], -1)


def _make_motifs(
    counts: np.ndarray, fires: np.ndarray, targets: np.ndarray, highest: np.ndarray, known: Sequence[Motif]
) -> list[FilterMotif]:
    motifs = []
    for index in np.flatnonzero(highest > 0).tolist():
        totals = counts[index].sum(axis=1, keepdims=True)
        probabilities = (counts[index] + PSEUDOCOUNT) / (totals + 4 * PSEUDOCOUNT)
        motifs.append(
            FilterMotif(
                index=index,
                probabilities=probabilities,
                num_sites=round(float(totals.max())),
                share_positive=float(fires[targets, index].mean()),
                share_negative=float(fires[~targets, index].mean()),
                max_activation=float(highest[index]),
                resembles=find_resemblance(probabilities, known),
            )
        )
    return motifs


def _align(left: np.ndarray, right: np.ndarray) -> tuple[float, int, int]:
    """The greatest correlation over all offsets with enough aligned columns, its offset and number of columns."""
    norm = float(np.linalg.norm(left) * np.linalg.norm(right))
    best = (-1.0, 0, 0)
    if norm == 0.0:
        return best
    for offset in range(MIN_ALIGNED_COLUMNS - len(right), len(left) - MIN_ALIGNED_COLUMNS + 1):
        start, stop = max(offset, 0), min(offset + len(right), len(left))
        if stop - start < MIN_ALIGNED_COLUMNS:
            continue
        product = float((left[start:stop] * right[start - offset : stop - offset]).sum())
        best = max(best, (product / norm, offset, stop - start))
    return best
