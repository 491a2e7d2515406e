"""The law of planted motifs: the elements, their possible arrangements, the draw, and the likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from ebox.errors import InputError
from ebox.sequences.composition import Composition
from ebox.sequences.matrices import Motif, make_tables, make_words, sum_tables

Orientation = Literal["forward", "reverse", "both"]
Codes = UInt8[np.ndarray, "batch length"]
# Size of one likelihood map, in bases; there is one map for each motif, strand and element.
_BLOCK_BASES = 2**18


@dataclass(frozen=True)
class Part:
    """A motif on a strand, and the number of bases of the element before it."""

    motif: int
    strand: Literal["+", "-"]
    offset: int


@dataclass(frozen=True)
class Element:
    """What is planted as one unit: a motif, or two with a gap."""

    width: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, eq=False)
class Grammar:
    """Where elements are: `min_sites` to `max_sites` of them, not overlapping, from `start` to `stop`.

    The number is uniform. Given the number, the arrangement is uniform too, among all choices of elements in every
    order at all positions. The law is therefore exact, and so is its likelihood.
    """

    motifs: tuple[Motif, ...]
    elements: tuple[Element, ...]
    start: int
    stop: int
    min_sites: int
    max_sites: int


@dataclass(frozen=True, eq=False)
class PlantedSites:
    """Where motifs are, one row for each: the example, the motif, start, end and strand."""

    example: Int64[np.ndarray, " site"]
    motif: Int64[np.ndarray, " site"]
    start: Int64[np.ndarray, " site"]
    end: Int64[np.ndarray, " site"]
    strand: np.ndarray

    def __len__(self) -> int:
        return len(self.example)

    def followed_by(self, other: PlantedSites, num_examples: int) -> PlantedSites:
        """These sites of `num_examples` examples, then those of `other`, whose examples are numbered after these."""
        return PlantedSites(
            np.concatenate([self.example, other.example + num_examples]),
            np.concatenate([self.motif, other.motif]),
            np.concatenate([self.start, other.start]),
            np.concatenate([self.end, other.end]),
            np.concatenate([self.strand, other.strand]),
        )


def list_elements(
    motifs: Sequence[Motif], orientation: Orientation, spacing_bp: tuple[int, int] | None
) -> tuple[Element, ...]:
    """Every element: a motif on each allowed strand, or both motifs with each allowed gap (`spacing_bp`)."""
    strands: list[Literal["+", "-"]] = [
        strand for strand, other in (("+", "reverse"), ("-", "forward")) if orientation != other
    ]
    if spacing_bp is None:
        return tuple(
            Element(motif.width, (Part(number, strand, 0),))
            for number, motif in enumerate(motifs)
            for strand in strands
        )
    elements = []
    for gap in range(spacing_bp[0], spacing_bp[1] + 1):
        for strand in strands:
            first, second = (0, 1) if strand == "+" else (1, 0)
            offset = motifs[first].width + gap
            parts = (Part(first, strand, 0), Part(second, strand, offset))
            elements.append(Element(offset + motifs[second].width, parts))
    return tuple(elements)


def count_arrangements(grammar: Grammar) -> Float64[np.ndarray, "sites_and_one ends"]:
    """How many arrangements of k elements end at or before each base of the region.

    Raises:
        InputError: an element, or the greatest number of elements, does not fit.
    """
    size = grammar.stop - grammar.start
    ways = np.ones((1, size + 1))
    totals = [ways[0]]
    for _ in range(grammar.max_sites):
        totals.append(_extend(totals[-1][None], [(e.width, None) for e in grammar.elements])[0])
    widths = sorted({element.width for element in grammar.elements})
    if widths[-1] > size or totals[-1][-1] < 1:
        raise InputError(
            f"{grammar.max_sites} sites of {' or '.join(map(str, widths))} bp don't fit into {size} bp",
            remedy="make length_bp or centre_bp larger, or max_sites smaller",
        )
    return np.stack(totals)


def draw_sites(grammar: Grammar, num_examples: int, generator: np.random.Generator) -> PlantedSites:
    """Draw an arrangement for each example, from its last element to its first."""
    totals = count_arrangements(grammar)
    widths = np.array([element.width for element in grammar.elements])
    num_sites = generator.integers(grammar.min_sites, grammar.max_sites + 1, num_examples)
    reach = np.full(num_examples, grammar.stop - grammar.start)
    drawn: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for remaining in range(grammar.max_sites, 0, -1):
        rows = np.flatnonzero(num_sites >= remaining)
        uniforms = generator.random((2, len(rows)))
        ends = np.searchsorted(totals[remaining], uniforms[0] * totals[remaining][reach[rows]], side="right")
        starts = ends[:, None] - widths
        weights = np.where(starts >= 0, totals[remaining - 1][np.maximum(starts, 0)], 0.0).cumsum(axis=1)
        chosen = (uniforms[1][:, None] * weights[:, -1:] >= weights).sum(axis=1)
        reach[rows] = ends - widths[chosen]
        drawn.append((rows, chosen, reach[rows] + grammar.start))
    return _list_sites(grammar, *(np.concatenate(parts) for parts in zip(*drawn, strict=True)))


def log_likelihood_ratios(codes: Codes, grammar: Grammar, composition: Composition) -> Float64[np.ndarray, " batch"]:
    """Natural logarithm of how many times likelier each sequence is with planted elements than without.

    The sum over all arrangements is a forward recursion over the region, with one cumulative sum for each element.
    It is minus infinity where no arrangement could have made the sequence.
    """
    totals = count_arrangements(grammar)[:, -1]
    ratios = np.empty(len(codes), np.float64)
    size = max(_BLOCK_BASES // codes.shape[1], 1)
    for start in range(0, len(codes), size):
        block = slice(start, start + size)
        ratios[block] = _log_ratios_of_block(codes[block], grammar, composition, totals)
    return ratios


def _log_ratios_of_block(
    codes: Codes, grammar: Grammar, composition: Composition, totals: Float64[np.ndarray, " sites_and_one"]
) -> Float64[np.ndarray, " batch"]:
    maps = _map_elements(codes, grammar, composition)
    # Scaled by the best element of each sequence, so that nothing overflows.
    scale = np.max([logs.max(axis=1) for logs in maps], axis=0)
    scale[np.isneginf(scale)] = 0.0
    moves = [
        (element.width, np.exp(logs - scale[:, None])) for element, logs in zip(grammar.elements, maps, strict=True)
    ]
    sums = np.ones((len(codes), grammar.stop - grammar.start + 1))
    terms = []
    for number in range(1, grammar.max_sites + 1):
        sums = _extend(sums, moves)
        if number >= grammar.min_sites:
            with np.errstate(divide="ignore"):
                terms.append(np.log(sums[:, -1]) - np.log(totals[number]) + number * scale)
    return np.logaddexp.reduce(terms, axis=0) - np.log(len(terms))


def _map_elements(codes: Codes, grammar: Grammar, composition: Composition) -> list[Float64[np.ndarray, "batch _"]]:
    """Log likelihood ratio of each element at every position of the region where it fits."""
    words = make_words(codes[:, grammar.start : grammar.stop])
    logs = composition.log_probabilities(codes)[:, grammar.start : grammar.stop]
    behind = np.pad(logs.cumsum(axis=1), ((0, 0), (1, 0)))
    motif_maps: dict[tuple[int, str], np.ndarray] = {}
    for part in {part for element in grammar.elements for part in element.parts}:
        motif = grammar.motifs[part.motif]
        turned = motif if part.strand == "+" else motif.reverse_complement()
        with np.errstate(divide="ignore"):
            tables = list(make_tables(np.log(turned.probabilities)))
        background = behind[:, motif.width :] - behind[:, : -motif.width]
        motif_maps[part.motif, part.strand] = sum_tables(words, tables, motif.width) - background
    maps = []
    for element in grammar.elements:
        num_places = max(grammar.stop - grammar.start - element.width + 1, 0)
        logs = np.zeros((len(codes), num_places))
        for part in element.parts:
            logs += motif_maps[part.motif, part.strand][:, part.offset : part.offset + num_places]
        maps.append(logs)
    return maps


def _extend(
    sums: Float64[np.ndarray, "batch ends"],
    moves: Sequence[tuple[int, Float64[np.ndarray, "batch _"] | None]],
) -> Float64[np.ndarray, "batch ends"]:
    """Add one element after all arrangements: their weights by the base that they end at or before (None: 1 each)."""
    num_ends = sums.shape[1]
    added = np.zeros_like(sums)
    for width, weights in moves:
        before = sums[:, : max(num_ends - width, 0)]
        added[:, width:] += before if weights is None else before * weights
    return added.cumsum(axis=1)


def _list_sites(grammar: Grammar, example: np.ndarray, element: np.ndarray, start: np.ndarray) -> PlantedSites:
    """One row for each motif of the drawn elements, sorted by example and position."""
    columns: list[tuple[np.ndarray, ...]] = []
    for number, shape in enumerate(grammar.elements):
        rows = element == number
        for part in shape.parts:
            begin = start[rows] + part.offset
            motif = np.full(len(begin), part.motif)
            end = begin + grammar.motifs[part.motif].width
            columns.append((example[rows], motif, begin, end, np.full(len(begin), part.strand)))
    examples, motifs, starts, ends, strands = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    order = np.lexsort((starts, examples))
    return PlantedSites(examples[order], motifs[order], starts[order], ends[order], strands[order])
