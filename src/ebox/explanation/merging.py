"""Merging variants of one motif: TF-MoDISco often finds a degenerate motif several times, in parts.

The parts depend on the network's seed, the motif does not. Patterns with similar mean contributions at the best shift
and strand count as one pattern, and its matrix is that of all their sites.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32, UInt8

from ebox.sequences.codes import one_hot

# Two halves of one planted motif had 0.90, different motifs of real TAL1 at most 0.58.
LEAST_COSINE = 0.85
# A column is weak if its contribution is below this share of the greatest.
TRIM_SHARE = 0.15
# The least number of columns by which two patterns overlap.
LEAST_OVERLAP = 4

Site = tuple[int, int, int, str]


@dataclass(frozen=True)
class Pattern:
    """Sites of one width, as (example, start, end, strand), with their shares of bases and mean contributions."""

    sign: int
    shares: Float[np.ndarray, "width 4"]
    contributions: Float[np.ndarray, "width 4"]
    sites: tuple[Site, ...]


@dataclass(frozen=True)
class Alignment:
    """How well two patterns agree; `offset` is where the second, reversed for strand "-", begins in the first."""

    cosine: float
    offset: int
    strand: str


def align(first: Float[np.ndarray, "width 4"], second: Float[np.ndarray, "other 4"]) -> Alignment:
    """The shift and strand at which two matrices of contributions have the greatest cosine."""
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    best = Alignment(-1.0, 0, "+")
    for strand, turned in (("+", second), ("-", second[::-1, ::-1])):
        for offset in range(LEAST_OVERLAP - len(second), len(first) - LEAST_OVERLAP + 1):
            here = first[max(offset, 0) : offset + len(second)]
            there = turned[max(-offset, 0) : max(-offset, 0) + len(here)]
            cosine = float((here * there).sum()) / norm if norm > 0 else 0.0
            if cosine > best.cosine:
                best = Alignment(cosine, offset, strand)
    return best


def core(contributions: Float[np.ndarray, "width 4"]) -> Float[np.ndarray, "width 4"]:
    """The contributions without those of weak columns, which are the noise of the flanks."""
    strength = np.abs(contributions.sum(axis=1))
    return np.where((strength >= TRIM_SHARE * strength.max())[:, None], contributions, 0.0)


def merge_alike(
    patterns: Sequence[Pattern],
    codes: UInt8[np.ndarray, "example length"],
    hypothetical: Float32[np.ndarray, "example length 4"],
) -> list[Pattern]:
    """Merge each pattern into the largest similar one of the same sign; those with most sites first.

    Args:
        patterns: As found.
        codes: The sequences with the sites.
        hypothetical: What each base would contribute at each place.
    """
    merged: list[Pattern] = []
    for pattern in sorted(patterns, key=lambda pattern: -len(pattern.sites)):
        for number, larger in enumerate(merged):
            found = align(core(larger.contributions), core(pattern.contributions))
            if larger.sign == pattern.sign and found.cosine >= LEAST_COSINE:
                merged[number] = _join(larger, pattern, found, codes, hypothetical)
                break
        else:
            merged.append(pattern)
    return sorted(merged, key=lambda pattern: -len(pattern.sites))


def _join(larger: Pattern, smaller: Pattern, found: Alignment, codes: np.ndarray, hypothetical: np.ndarray) -> Pattern:
    """All sites in the frame of the larger pattern, without duplicates and those that reach past an end."""
    width, length = len(larger.contributions), codes.shape[1]
    moved = [move_site(site, found, width) for site in smaller.sites]
    held = {site[:3] for site in larger.sites}
    new = [site for site in moved if site[1] >= 0 and site[2] <= length and site[:3] not in held]
    sites = (*larger.sites, *new)
    bases, contributions = np.zeros((width, 4)), np.zeros((width, 4))
    for example, start, end, strand in sites:
        letters = one_hot(codes[example, start:end])
        values = letters * hypothetical[example, start:end]
        turn = -1 if strand == "-" else 1
        bases += letters[::turn, ::turn]
        contributions += values[::turn, ::turn]
    return replace(larger, shares=bases / len(sites), contributions=contributions / len(sites), sites=sites)


def move_site(site: Site, found: Alignment, width: int) -> Site:
    """Move a site of the second pattern of an alignment into the frame of the first, which has `width` columns."""
    example, start, end, strand = site
    turned = strand if found.strand == "+" else {"+": "-", "-": "+"}[strand]
    first = start - found.offset if turned == "+" else end + found.offset - width
    return example, first, first + width, turned
