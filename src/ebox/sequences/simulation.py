"""Simulated tasks: motifs planted in sequences by a known law, their positions, and the best possible result."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt8
from pydantic import Field, model_validator

from ebox.progress import PathLike
from ebox.sequences.ceiling import CeilingResult, measure_ceiling
from ebox.sequences.composition import Composition, fit_composition, make_composition
from ebox.sequences.fasta import read_fasta, write_fasta
from ebox.sequences.grammar import (
    Grammar,
    Orientation,
    PlantedSites,
    draw_sites,
    list_elements,
    log_likelihood_ratios,
)
from ebox.sequences.matrices import Motif
from ebox.sequences.motifs import find_motif
from ebox.settings.fields import PositiveInt, Seed, Settings, setting
from ebox.settings.reading import check_settings
from ebox.storage.publishing import publish_folder
from ebox.storage.stamps import SIMULATION, write_stamped

# Bases drawn at once; the random number of a base takes 8 bytes.
_BLOCK_BASES = 2**21

Codes = UInt8[np.ndarray, "batch length"]
Count = Annotated[int, Field(ge=0)]


class SimulationConfig(Settings):
    """Which motifs are planted in which background, and what the negatives are."""

    motifs: tuple[str, ...] = setting(
        ..., "Names or JASPAR ids; each site is one of them.", flag="--motif", min_length=1
    )
    motif_files: tuple[str, ...] = setting(
        (), "MEME, JASPAR, HOMER or HOCOMOCO files to find them in.", flag="--motifs"
    )
    spacing_bp: tuple[Count, Count] | None = setting(
        None, "Least and greatest gap of two motifs planted together as one site; none: each motif is a site."
    )
    min_sites: PositiveInt = setting(1, "Least number of sites in a positive.")
    max_sites: PositiveInt = setting(1, "Greatest number; all from least to greatest are equally likely.")
    orientation: Orientation = setting("both", "Strand of the sites; both: each equally likely.")
    centre_bp: PositiveInt | None = setting(
        None, "Sites of positives lie within this number of central bases; none: anywhere."
    )
    length_bp: PositiveInt = setting(500, "Length of every sequence.")
    gc: Annotated[float, Field(gt=0.0, lt=1.0)] = setting(0.4, "Share of G and C between the sites.")
    background_file: str | None = setting(
        None, "FASTA whose composition is taken instead of gc, from both strands; none: gc."
    )
    background_order: Annotated[int, Field(ge=0, le=6)] = setting(
        0, "How many bases before it a base depends on; more than 0 needs background_file."
    )
    negatives: Literal["background", "anywhere"] = setting(
        "background", "Nothing planted, or the same sites anywhere (needs centre_bp)."
    )
    num_positives: PositiveInt = setting(4000, "Number of positives.")
    num_negatives: PositiveInt = setting(4000, "Number of negatives.")
    seed: Seed = setting(0, "Seed of the random numbers.")

    @model_validator(mode="after")
    def _check_together(self) -> SimulationConfig:
        if self.max_sites < self.min_sites:
            raise ValueError(f"max_sites {self.max_sites} is less than min_sites {self.min_sites}")
        if self.spacing_bp is not None and len(self.motifs) != 2:
            raise ValueError(f"spacing_bp is for two motifs, found {len(self.motifs)}")
        if self.spacing_bp is not None and self.spacing_bp[1] < self.spacing_bp[0]:
            raise ValueError(f"spacing_bp {self.spacing_bp} runs backwards")
        if self.centre_bp is not None and self.centre_bp > self.length_bp:
            raise ValueError(f"centre_bp {self.centre_bp} is more than length_bp {self.length_bp}")
        if self.negatives == "anywhere" and self.centre_bp is None:
            raise ValueError("negatives with sites anywhere need centre_bp, or they do not differ from the positives")
        if self.background_order > 0 and self.background_file is None:
            raise ValueError("background_order above 0 needs background_file")
        return self


@dataclass(frozen=True, eq=False)
class SimulationResult:
    """Simulated sequences and everything known about them.

    Args:
        config: The settings.
        motifs: The matrices that were planted.
        positives: Codes, shape (num_positives, length).
        negatives: Codes, shape (num_negatives, length).
        planted: Every planted site; negatives are numbered after the positives.
        log_likelihood_ratio: Natural logarithm of the likelihood ratio of positive to negative, one for each example.
        ceiling: How well that ratio separates these examples.
        folder: Where they were written; None: they were not written.
    """

    config: SimulationConfig
    motifs: tuple[Motif, ...]
    positives: UInt8[np.ndarray, "num_positives length"]
    negatives: UInt8[np.ndarray, "num_negatives length"]
    planted: PlantedSites
    log_likelihood_ratio: Float64[np.ndarray, " examples"]
    ceiling: CeilingResult
    folder: Path | None = None

    def names(self) -> list[str]:
        """The names of all examples, positives first."""
        return [f"positive_{number + 1}" for number in range(len(self.positives))] + [
            f"negative_{number + 1}" for number in range(len(self.negatives))
        ]


def read_simulation_config(
    motifs: Sequence[str],
    motif_files: Sequence[PathLike] = (),
    overrides: Sequence[str] = (),
) -> SimulationConfig:
    """Make the settings of a simulation from motifs and `key=value` overrides, the value in TOML syntax.

    Args:
        motifs: Motif name or JASPAR id.
        motif_files: MEME, JASPAR, HOMER or HOCOMOCO file to find it in.
        overrides: A setting of the simulation, such as length_bp=500.

    Raises:
        InputError: an unknown key (the nearest is suggested), or a value that is not allowed.
    """
    values = {"motifs": list(motifs), "motif_files": [os.fspath(file) for file in motif_files]}
    remedy = f"the settings of a simulation are {', '.join(SimulationConfig.model_fields)}"
    return check_settings(SimulationConfig, values, overrides, remedy=remedy)


def draw_simulation(config: SimulationConfig) -> SimulationResult:
    """Draw sequences with planted motifs, and measure the likelihood ratio of the exact law on them.

    A positive has `min_sites` to `max_sites` sites; each number is equally likely, and so is each arrangement that
    fits. Bases between sites follow the background, given the bases before them.

    Raises:
        InputError: an unknown motif, a file that cannot be read, or sites that do not fit.
    """
    motifs = tuple(find_motif(name, config.motif_files) for name in config.motifs)
    composition = _make_background(config)
    start = 0 if config.centre_bp is None else (config.length_bp - config.centre_bp) // 2
    stop = config.length_bp if config.centre_bp is None else start + config.centre_bp
    inside = _make_grammar(config, motifs, start, stop)
    anywhere = _make_grammar(config, motifs, 0, config.length_bp) if config.negatives == "anywhere" else None
    random = [np.random.Generator(np.random.Philox(seed)) for seed in _split_seed(config.seed)]
    sites = draw_sites(inside, config.num_positives, random[0])
    others = None if anywhere is None else draw_sites(anywhere, config.num_negatives, random[1])
    positives = _draw(config, config.num_positives, sites, motifs, composition, random[2])
    negatives = _draw(config, config.num_negatives, others, motifs, composition, random[3])
    codes = np.concatenate([positives, negatives])
    ratios = log_likelihood_ratios(codes, inside, composition)
    if anywhere is not None:
        ratios = ratios - log_likelihood_ratios(codes, anywhere, composition)
    is_positive = np.arange(len(codes)) < config.num_positives
    planted = sites if others is None else sites.followed_by(others, config.num_positives)
    ceiling = measure_ceiling(ratios, is_positive)
    return SimulationResult(config, motifs, positives, negatives, planted, ratios, ceiling)


def write_simulation(result: SimulationResult, folder: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Publish positives.fa, negatives.fa, planted.bed (contig: the record) and simulation.json in a folder.

    Raises:
        InputError: the folder exists and `overwrite` is false, or a disk error.
    """
    names, num_positives = result.names(), len(result.positives)
    with publish_folder(folder, overwrite=overwrite, mark="simulation.json") as place:
        write_fasta(place / "positives.fa", names[:num_positives], result.positives)
        write_fasta(place / "negatives.fa", names[num_positives:], result.negatives)
        (place / "planted.bed").write_text(_format_planted(result, names), encoding="utf-8")
        write_stamped(place / "simulation.json", SIMULATION, _describe(result))


def _make_background(config: SimulationConfig) -> Composition:
    if config.background_file is None:
        return make_composition(config.gc)
    return fit_composition(read_fasta(config.background_file), config.background_order)


def _make_grammar(config: SimulationConfig, motifs: tuple[Motif, ...], start: int, stop: int) -> Grammar:
    elements = list_elements(motifs, config.orientation, config.spacing_bp)
    return Grammar(motifs, elements, start, stop, config.min_sites, config.max_sites)


def _split_seed(seed: int) -> list[np.random.SeedSequence]:
    return np.random.SeedSequence([seed, 0x51B]).spawn(4)


def _draw(
    config: SimulationConfig,
    num_examples: int,
    sites: PlantedSites | None,
    motifs: tuple[Motif, ...],
    composition: Composition,
    generator: np.random.Generator,
) -> Codes:
    """Draw the bases; those of the sites come from the columns of their motif."""
    matrices = [matrix for motif in motifs for matrix in (motif, motif.reverse_complement())]
    columns = np.concatenate([matrix.probabilities for matrix in matrices])
    first_columns = np.cumsum([0] + [matrix.width for matrix in matrices])
    codes = np.empty((num_examples, config.length_bp), np.uint8)
    size = max(_BLOCK_BASES // config.length_bp, 1)
    for start in range(0, num_examples, size):
        stop = min(start + size, num_examples)
        planted = np.full((stop - start, config.length_bp), -1, np.int32)
        if sites is not None:
            first, last = np.searchsorted(sites.example, [start, stop])
            _mark_columns(planted, sites, slice(int(first), int(last)), start, first_columns)
        codes[start:stop] = composition.draw(planted, columns, generator)
    return codes


def _mark_columns(
    planted: Int32[np.ndarray, "batch length"],
    sites: PlantedSites,
    chosen: slice,
    first_example: int,
    first_columns: Int64[np.ndarray, " matrices_and_one"],
) -> None:
    """Write for each planted base the column that it is drawn from; the first row is `first_example`."""
    rows, starts = sites.example[chosen], sites.start[chosen]
    matrices = 2 * sites.motif[chosen] + (sites.strand[chosen] == "-")
    for matrix in np.unique(matrices):
        here = np.flatnonzero(matrices == matrix)
        steps = np.arange(first_columns[matrix + 1] - first_columns[matrix])
        places = starts[here][:, None] + steps
        planted[(rows[here] - first_example)[:, None], places] = first_columns[matrix] + steps


def _format_planted(result: SimulationResult, names: Sequence[str]) -> str:
    planted = result.planted
    columns = (planted.example, planted.start, planted.end, planted.motif, planted.strand)
    return "".join(
        f"{names[example]}\t{start}\t{end}\t{result.motifs[motif].name}\t0\t{strand}\n"
        for example, start, end, motif, strand in zip(*(column.tolist() for column in columns), strict=True)
    )


def _describe(result: SimulationResult) -> dict[str, Any]:
    return {
        "config": result.config.model_dump(mode="json"),
        "motifs": [
            {
                "name": motif.name,
                "alt_name": motif.alt_name,
                "source": motif.source,
                "probabilities": motif.probabilities.tolist(),
            }
            for motif in result.motifs
        ],
        "num_sites": len(result.planted),
        "ceiling": result.ceiling.facts(),
    }
