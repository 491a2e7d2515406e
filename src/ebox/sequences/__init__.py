"""Sequences: letters and codes, files of them, intervals, genomes, motifs, shuffles and simulation.

Owns the base order ACGT (N is code 4), the coordinates (0-based, half-open) and every reader of the formats of the
field. NumPy only: nothing here needs an accelerator.
"""

from ebox.sequences.ceiling import CeilingResult, measure_ceiling
from ebox.sequences.codes import decode, encode, gc_fraction, n_fraction, one_hot, reverse_complement
from ebox.sequences.motifs import Motif, find_motif, load_jaspar, read_motifs, scan_scores, write_meme
from ebox.sequences.shuffle import shuffle_dinucleotides
from ebox.sequences.simulation import (
    SimulationConfig,
    SimulationResult,
    read_simulation_config,
    simulate,
    write_simulation,
)

__all__ = [
    "CeilingResult",
    "Motif",
    "SimulationConfig",
    "SimulationResult",
    "decode",
    "encode",
    "find_motif",
    "gc_fraction",
    "load_jaspar",
    "measure_ceiling",
    "n_fraction",
    "one_hot",
    "read_motifs",
    "read_simulation_config",
    "reverse_complement",
    "scan_scores",
    "shuffle_dinucleotides",
    "simulate",
    "write_meme",
    "write_simulation",
]
