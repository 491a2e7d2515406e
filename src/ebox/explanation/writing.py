"""The files of an explanation: facts, motifs, hits, contributions and logos."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from ebox.drawing.logo_png import write_logo_png
from ebox.drawing.logos import contribution_heights, information_heights, logo_svg
from ebox.explanation.attribution import WARN_COMPLETENESS, Attributions
from ebox.explanation.discovery import Discovered
from ebox.explanation.filters import FilterMotif, Shape, read_filters
from ebox.explanation.hits import Hit
from ebox.explanation.matching import Match
from ebox.sequences.bigwig import check_bigwig, write_bigwig
from ebox.sequences.matrices import Motif
from ebox.sequences.motif_files import write_meme
from ebox.sequences.places import Interval
from ebox.settings.reading import ExplanationConfig
from ebox.storage.notes import Code, note
from ebox.storage.publishing import publish_file
from ebox.storage.run_folder import BIGWIG, CONTRIBUTIONS, FILTERS, HITS, MOTIFS

# The matrix of a filter with fewer sites is mostly chance.
MIN_FILTER_SITES = 20
# Methods that measure each base alone, against a quarter of every base; the others start from shuffled sequences.
ALONE = ("saturation", "gradient")


class Against(Code):
    """What sequences are compared with."""

    DINUCLEOTIDE_SHUFFLES = "dinucleotide_shuffles"
    EQUAL_SHARES = "equal_shares"


class Incomplete(Code):
    """Contributions that do not add up to what they explain."""

    BASES_ALONE = "bases_alone"
    FEW_POINTS = "few_points"


class Agreement(Code):
    """How far the explanations of an ensemble's members agree."""

    SPREAD_OF_MEMBERS = "spread_of_members"


@dataclass(frozen=True)
class ExplanationResult:
    """The folder of an explanation, its facts (docs/explanation.md), and the report, if it was written again."""

    folder: Path
    facts: dict[str, Any]
    report: Path | None = None

    @property
    def motifs(self) -> list[dict[str, Any]]:
        """The discovered motifs, those with most sites first."""
        return list(self.facts["motifs"])


@runtime_checkable
class Explained(Protocol):
    """Sequences with their names and places."""

    @property
    def names(self) -> Sequence[str]:
        """Of the records."""

    @property
    def places(self) -> Sequence[Interval | None]:
        """On the genome, where known."""


def describe_attribution(found: Attributions, config: ExplanationConfig) -> dict[str, Any]:
    """Method, output, reference, and the completeness error with a warning above 5 %."""
    error = found.completeness_error()
    is_alone, warning = found.method in ALONE, None
    if error > WARN_COMPLETENESS:
        about = {"error": round(error, 8), "limit": WARN_COMPLETENESS, "method": found.method}
        warning = note(Incomplete.BASES_ALONE if is_alone else Incomplete.FEW_POINTS, about)
    return {
        "method": found.method,
        "output": "mean_of_strands" if config.both_strands else "given_strand",
        "reference": (Against.EQUAL_SHARES if is_alone else Against.DINUCLEOTIDE_SHUFFLES).value,
        "num_references": None if is_alone else config.num_references,
        "mean_logit": round(float(np.mean(found.logit)), 6),
        "mean_reference": round(float(np.mean(found.reference)), 6),
        "completeness_error": round(error, 8),
        "warning": warning,
        "members": _describe_members(found),
    }


def _describe_members(found: Attributions) -> dict[str, Any] | None:
    """How far the members of an ensemble agree; None for a single network."""
    if found.spread is None:
        return None
    size = float(np.mean(np.abs(found.contributions())))
    return note(Agreement.SPREAD_OF_MEMBERS, {"share": round(float(np.mean(found.spread)) / max(size, 1e-12), 4)})


def describe_motif(motif: Discovered, hits: Sequence[Hit], num_sequences: int, num_searched: int) -> dict[str, Any]:
    """Describe a discovered motif as facts.

    Args:
        motif: The motif.
        hits: Hits of all motifs in all explained sequences.
        num_sequences: How many sequences were explained.
        num_searched: How many of them were searched for motifs; the sites are in these.
    """
    own = [hit for hit in hits if hit.motif == motif.name]
    return {
        "name": motif.name,
        "sign": motif.sign,
        "consensus": motif.motif.consensus,
        "width_bp": motif.motif.width,
        "information_bits": round(float(motif.motif.information().sum()), 3),
        "num_sites": len(motif.sites),
        "share_of_sequences": round(len({site[0] for site in motif.sites}) / max(num_searched, 1), 5),
        "num_hits": len(own),
        "share_with_hit": round(len({hit.example for hit in own}) / max(num_sequences, 1), 5),
        "mean_contribution": round(float((motif.contributions * motif.probabilities).sum()), 5),
        "probabilities": np.round(motif.probabilities, 5).tolist(),
        "contributions": np.round(motif.contributions, 6).tolist(),
        "find": None if motif.best is None else motif.best.name,
        "matches": [{**asdict(match), "is_find": match.is_find} for match in motif.matches],
        "put_in": None,
        "destroyed": None,
    }


def read_own_filters(run: Path) -> list[FilterMotif]:
    """The filters of a run with enough sites to match, in order; an empty list where it was not evaluated."""
    if not (run / FILTERS).exists():
        return []
    return sorted((own for own in read_filters(run) if own.num_sites >= MIN_FILTER_SITES), key=lambda own: own.index)


def describe_filters(filters: Sequence[FilterMotif], matches: Sequence[Sequence[Match]]) -> list[dict[str, Any]]:
    """Filters with the known motifs that are similar to their matrices, as facts; a flat one is like nothing."""
    return [
        {
            "name": name_filter(own),
            "index": own.index,
            "consensus": own.consensus,
            "num_sites": own.num_sites,
            "information_bits": round(own.information_bits, 3),
            "shape": own.shape.value,
            "matches": [{**asdict(match), "is_find": match.is_find and own.shape is not Shape.FLAT} for match in found],
        }
        for own, found in zip(filters, matches, strict=True)
    ]


def name_filter(own: FilterMotif) -> str:
    """The name of a filter in facts and files."""
    return f"filter_{own.index}"


def write_filters(path: Path, filters: Sequence[FilterMotif]) -> None:
    """Publish the matrices of filters as MEME."""
    motifs = [Motif(name_filter(own), own.probabilities, "ebox explain", "", own.num_sites) for own in filters]
    write_meme(path, motifs)


def write_motif_files(
    folder: Path,
    motifs: Sequence[Discovered],
    hits: Sequence[Hit],
    subject: Explained,
    found: Attributions,
    contributions: Float[np.ndarray, "example length"],
    examples: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Write the files of an explanation, and return their names.

    Args:
        folder: The folder to write in.
        motifs: The discovered motifs.
        hits: Their hits.
        subject: Names and places of the explained sequences.
        found: The explanation.
        contributions: Of each base.
        examples: The sequences that get a logo.
    """
    files: dict[str, Any] = {"contributions": CONTRIBUTIONS, "hits": HITS, "logos": [], "motifs": None, "bigwig": None}
    write_contributions(folder / CONTRIBUTIONS, subject.names, found, contributions)
    (folder / HITS).write_text(format_hits(hits, subject), encoding="utf-8")
    if motifs:
        write_meme(folder / MOTIFS, [motif.motif for motif in motifs])
        files["motifs"] = MOTIFS
    for motif in motifs:
        title = f"{motif.name} ({motif.motif.consensus})"
        heights = information_heights(motif.probabilities)
        files["logos"] += write_logo(folder, motif.name, heights, title, "bits", 1)
    for number, example in enumerate(examples, start=1):
        heights = contribution_heights(str(example["sequence"]), np.asarray(example["contributions"]))
        files["logos"] += write_logo(folder, f"sequence_{number}", heights, str(example["name"]), "logit", 1)
    if any(place is not None for place in subject.places):
        check_bigwig()
        write_bigwig(folder / BIGWIG, subject.places, list(contributions))
        files["bigwig"] = BIGWIG
    return files


def write_contributions(
    path: Path, names: Sequence[str], found: Attributions, contributions: Float[np.ndarray, "example length"]
) -> None:
    """Publish all numbers as npz; arrays on disk are copied without loading them.

    Args:
        path: The file.
        names: Of the sequences.
        found: The explanation.
        contributions: Of each base.
    """
    more: dict[str, Any] = {} if found.spread is None else {"spread": found.spread}
    with publish_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            names=np.array(names, dtype=np.str_),
            codes=found.codes,
            contributions=contributions,
            hypothetical=found.hypothetical,
            logit=found.logit,
            reference=found.reference,
            **more,
        )


def write_logo(
    folder: Path, name: str, heights: Float[np.ndarray, "width 4"], title: str, unit: str, first: int
) -> list[str]:
    """Write a logo as SVG and PNG into the folder `logos`, and return the names of both.

    Args:
        folder: The folder that holds `logos`.
        name: The stem of the files.
        heights: One row for each position, columns A, C, G, T.
        title: What the logo shows.
        unit: Of the heights.
        first: The number of the first position.
    """
    (folder / "logos").mkdir(exist_ok=True)
    safe = re.sub(r"[^\w.-]+", "_", name)[:80]
    files = [f"logos/{safe}.svg", f"logos/{safe}.png"]
    svg = logo_svg(heights, title=title, unit=unit, first_position=first)
    (folder / files[0]).write_text(svg, encoding="utf-8")
    write_logo_png(folder / files[1], heights, title=title, unit=unit, first_position=first)
    return files


def format_hits(hits: Sequence[Hit], subject: Explained) -> str:
    """BED6 and two columns, score in bits and contribution; on the genome if known, else by the record's name."""
    lines = []
    for hit in hits:
        place = subject.places[hit.example]
        chrom = name_place(subject.names[hit.example], hit.example + 1)
        start, end, strand = hit.start, hit.end, hit.strand
        if place is not None:
            chrom = place.chrom
            if place.strand == "-":
                start, end = place.end - hit.end, place.end - hit.start
                strand = "-" if strand == "+" else "+"
            else:
                start, end = place.start + hit.start, place.start + hit.end
        score = min(max(round(100 * hit.score), 0), 1000)
        lines.append(
            f"{chrom}\t{start}\t{end}\t{hit.motif}\t{score}\t{strand}\t{hit.score:.3f}\t{hit.contribution:.5f}\n"
        )
    return "".join(lines)


def name_place(name: str, number: int) -> str:
    """The first word of a record's name, or its number where it has no name."""
    return name.split()[0] if name.strip() else f"record_{number}"


def read_discovered(facts: Mapping[str, Any]) -> list[Discovered]:
    """The motifs of an explanation's facts, without their sites."""
    return [
        Discovered(
            name=entry["name"],
            sign=entry["sign"],
            probabilities=np.asarray(entry["probabilities"]) / np.sum(entry["probabilities"], axis=1, keepdims=True),
            contributions=np.asarray(entry["contributions"]),
            sites=(),
            matches=(),
        )
        for entry in facts["motifs"]
    ]
