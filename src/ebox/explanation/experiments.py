"""Experiments on the grammar that a network uses: motifs are inserted, moved apart and destroyed; with intervals.

An experiment changes sequences, scores them with the network, and takes differences of logits: a rise by 0.7 doubles
the odds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from ebox.explanation.discovery import Discovered
from ebox.explanation.hits import Hit
from ebox.sequences.codes import N_CODE, NUM_BASES, encode, reverse_complement
from ebox.sequences.matrices import Motif
from ebox.sequences.motifs import find_motif
from ebox.storage.notes import Code

Score = Callable[[UInt8[np.ndarray, "example length"]], Float[np.ndarray, " example"]]
Codes = UInt8[np.ndarray, "example length"]
# A column with less information keeps the base of the background.
LEAST_BITS = 0.3
NUM_REPLACEMENTS = 5
NUM_RESAMPLES = 1000
ARRANGEMENTS = ("++", "+-", "-+", "--")
_WORD = re.compile(r"[ACGTN]*[ACGT][ACGTN]*", re.IGNORECASE)


class Known(Code):
    """The words that ebox knows, and the sources of the distance between them."""

    E_BOX = "e_box"
    GATA_SITE = "gata_site"
    WADMAN_1997 = "wadman_1997"


@dataclass(frozen=True)
class Insert:
    """A word to insert into sequences; at an N the sequence keeps its base."""

    label: str
    codes: UInt8[np.ndarray, " width"]

    @property
    def word(self) -> str:
        """Its letters."""
        return "".join("ACGTN"[code] for code in self.codes.tolist())

    def turned(self, strand: str) -> Insert:
        """The word on a strand."""
        return self if strand == "+" else Insert(self.label, reverse_complement(self.codes))


@dataclass(frozen=True)
class KnownPair:
    """Two words whose best distance is known from the literature.

    A network uses this pair if the best match of a motif is a composite of both, or if the best match of one motif is
    in `of_first` and that of another in `of_second`. Matrices are named by JASPAR accession, without version.
    """

    composites: frozenset[str]
    of_first: frozenset[str]
    of_second: frozenset[str]
    first: Insert
    second: Insert
    arrangement: str
    gap_bp: tuple[int, int]
    reference: str

    def fits(self, found: frozenset[str]) -> bool:
        """Whether the best matches of the motifs, as accessions, are of this pair."""
        return bool(found & self.composites or (found & self.of_first and found & self.of_second))


def list_known_pairs() -> tuple[KnownPair, ...]:
    """The pairs that ebox knows: the E-box and GATA composite of TAL1."""
    return (
        KnownPair(
            frozenset({"MA0140"}),
            # TAL1::TCF3; TCF3, TCF4 and TCF12, the partners of TAL1; other E-boxes (MYOD1) have other partners.
            frozenset({"MA0091", "MA0522", "MA0830", "MA0521"}),
            # GATA1 to GATA6.
            frozenset({"MA0035", "MA0036", "MA0037", "MA0482", "MA0766", "MA1104"}),
            make_insert(Known.E_BOX, "CATCTG"),
            make_insert(Known.GATA_SITE, "AGATAA"),
            "++",
            (7, 9),
            # A GATA site about 9 bp downstream of the E-box, which is 8 bp to the A of AGATAA: Wadman et al. 1997, EMBO
            # J 16:3145; the JASPAR matrices MA0140.1 to MA0140.3 have the same distance.
            Known.WADMAN_1997,
        ),
    )


def make_insert(label: str, word: str) -> Insert:
    """A word of A, C, G, T and N."""
    return Insert(label, encode(word))


def motif_insert(motif: Motif, label: str) -> Insert:
    """The most likely base at each column with information, N elsewhere."""
    codes = motif.probabilities.argmax(axis=1).astype(np.uint8)
    return Insert(label, np.where(motif.information() >= LEAST_BITS, codes, np.uint8(N_CODE)))


def read_insert(text: str, motif_files: Sequence[str | PathLike[str]] = ()) -> Insert:
    """Read a word of DNA, or find a motif by its name in files or JASPAR.

    Raises:
        InputError: neither; similar names are suggested.
    """
    if _WORD.fullmatch(text):
        return make_insert(text.upper(), text)
    motif = find_motif(text, motif_files)
    name = motif.name if motif.alt_name == "" else f"{motif.alt_name} ({motif.name})"
    return motif_insert(motif, name)


def put_in(codes: Codes, insert: Insert, start: int) -> Codes:
    """The sequences with a word inserted at a place."""
    changed = codes.copy()
    known = np.flatnonzero(insert.codes != N_CODE)
    changed[:, start + known] = insert.codes[known]
    return changed


def describe_mean(values: Float[np.ndarray, " repeat"], seed: int = 0) -> dict[str, Any]:
    """Mean with its 95 % percentile interval from resampling the repeats."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, len(values), (NUM_RESAMPLES, len(values)))
    low, high = np.percentile(np.asarray(values, np.float64)[rows].mean(axis=1), [2.5, 97.5])
    found = {"value": np.mean(values), "low": low, "high": high}
    return {**{name: round(float(number), 6) for name, number in found.items()}, "num": len(values)}


def marginalise(score: Score, backgrounds: Codes, insert: Insert, seed: int = 0) -> dict[str, Any]:
    """How much a motif in the middle of backgrounds changes the logit.

    Args:
        score: Gives the logit of sequences.
        backgrounds: The sequences.
        insert: The motif.
        seed: For the interval.
    """
    start = (backgrounds.shape[1] - len(insert.codes)) // 2
    effect = score(put_in(backgrounds, insert, start)) - score(backgrounds)
    return describe_mean(effect, seed)


def measure_spacing(
    score: Score, backgrounds: Codes, first: Insert, second: Insert, max_gap_bp: int, seed: int = 0
) -> dict[str, Any]:
    """The effect of two motifs at every gap in every arrangement, and of each motif alone at the best of them.

    An arrangement gives the strands of the first and the second motif, the first on the left; the mirror images are the
    same DNA read from the other strand. The effect is the logit with both motifs less that of the background; the
    interaction is the effect of both less the sum of the effects of each alone.

    The best gap and arrangement are chosen by the effect on every second background and measured on the others, so that
    the interval does not ignore the choice among all cells.

    Args:
        score: Gives the logit of sequences.
        backgrounds: The sequences that the motifs are inserted in; at least two.
        first: The left motif.
        second: The right motif.
        max_gap_bp: The largest gap; less where the backgrounds are too short.
        seed: For the intervals.
    """
    length = backgrounds.shape[1]
    widths = len(first.codes) + len(second.codes)
    max_gap_bp = min(max_gap_bp, length - widths)
    start = (length - widths - max_gap_bp) // 2
    base = score(backgrounds)
    curves = {}
    alone = {strand: score(put_in(backgrounds, first.turned(strand), start)) - base for strand in "+-"}
    others: dict[tuple[str, int], np.ndarray] = {}
    effects: dict[tuple[str, int], np.ndarray] = {}
    for gap in range(max_gap_bp + 1):
        place = start + len(first.codes) + gap
        for strand in "+-":
            others[strand, gap] = score(put_in(backgrounds, second.turned(strand), place)) - base
        for one, two in map(tuple, ARRANGEMENTS):
            both = put_in(put_in(backgrounds, first.turned(one), start), second.turned(two), place)
            effects[one + two, gap] = score(both) - base
    for arrangement in ARRANGEMENTS:
        one, two = tuple(arrangement)
        rows = [(effects[arrangement, gap], others[two, gap]) for gap in range(max_gap_bp + 1)]
        curves[arrangement] = {
            "gap_bp": list(range(max_gap_bp + 1)),
            "effect": [describe_mean(effect, seed) for effect, _ in rows],
            "interaction": [describe_mean(effect - alone[one] - other, seed) for effect, other in rows],
        }
    best, gap = max(effects, key=lambda key: float(effects[key][::2].mean()))
    one, two = tuple(best)
    held = slice(1, None, 2)
    return {
        "first": {"label": first.label, "word": first.word},
        "second": {"label": second.label, "word": second.word},
        "num_backgrounds": len(backgrounds),
        "curves": curves,
        "best": {
            "arrangement": best,
            "gap_bp": gap,
            "both": describe_mean(effects[best, gap][held], seed),
            "first_alone": describe_mean(alone[one][held], seed),
            "second_alone": describe_mean(others[two, gap][held], seed),
            "interaction": describe_mean((effects[best, gap] - alone[one] - others[two, gap])[held], seed),
        },
    }


def destroy(
    score: Score, codes: Codes, hits: Sequence[Hit], motif: Discovered, max_sequences: int, seed: int = 0
) -> dict[str, Any] | None:
    """How much the logit falls when the real sites of a motif are overwritten; None where it has no hits.

    Every base of every hit is replaced by another base, drawn from the composition of the sequences; the effect is the
    mean of 5 draws. The control overwrites the same number of windows of the same width elsewhere in the same
    sequences, or fewer if no more fit: `num_windows`.

    Args:
        score: Gives the logit of sequences.
        codes: The sequences.
        hits: Hits in them, of any motifs.
        motif: The motif to destroy.
        max_sequences: The number of sequences with hits that are used at most.
        seed: For the draws and the intervals.
    """
    random = np.random.default_rng(seed)
    places: dict[int, list[int]] = {}
    for hit in hits:
        if hit.motif == motif.name:
            places.setdefault(hit.example, []).append(hit.start)
    if not places:
        return None
    examples = np.array(sorted(places))
    examples = np.sort(random.choice(examples, min(max_sequences, len(examples)), replace=False))
    width, kept = motif.motif.width, codes[examples]
    real = np.zeros(kept.shape, bool)
    control = np.zeros(kept.shape, bool)
    num_windows = 0
    for row, example in enumerate(examples.tolist()):
        for start in places[example]:
            real[row, start : start + width] = True
        elsewhere = _choose_elsewhere(real[row], len(places[example]), width, random)
        num_windows += len(elsewhere)
        for start in elsewhere:
            control[row, start : start + width] = True
    before = score(kept)
    counts = np.bincount(codes.ravel(), minlength=NUM_BASES)[:NUM_BASES].astype(np.float64)
    falls = {}
    for name, mask in (("sites", real), ("control", control)):
        after = [score(_overwrite(kept, mask, counts, random)) for _ in range(NUM_REPLACEMENTS)]
        falls[name] = describe_mean(before - np.mean(after, axis=0), seed)
    num_sites = sum(len(places[row]) for row in examples.tolist())
    return {"num_sequences": len(examples), "num_sites": num_sites, "num_windows": num_windows, **falls}


def _choose_elsewhere(taken: np.ndarray, number: int, width: int, random: np.random.Generator) -> list[int]:
    """Starts of windows without a taken base that don't overlap."""
    taken, starts = taken.copy(), []
    for _ in range(number):
        covered = np.convolve(taken, np.ones(width), "valid")
        free = np.flatnonzero(covered == 0)
        if not len(free):
            break
        start = int(random.choice(free))
        starts.append(start)
        taken[start : start + width] = True
    return starts


def _overwrite(codes: Codes, mask: np.ndarray, counts: np.ndarray, random: np.random.Generator) -> Codes:
    """Replace each masked base by another, drawn by `counts`; N stays."""
    weights = np.tile(counts, (NUM_BASES, 1)) * (1.0 - np.eye(NUM_BASES)) + 1e-9
    cumulative = (weights / weights.sum(axis=1, keepdims=True)).cumsum(axis=1)
    changed = codes.copy()
    where = mask & (codes < N_CODE)
    drawn = random.random(int(where.sum()))
    changed[where] = (cumulative[codes[where]] < drawn[:, None]).sum(axis=1).clip(0, NUM_BASES - 1).astype(np.uint8)
    return changed
