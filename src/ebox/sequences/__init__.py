"""Sequences: letters and codes, files of them, intervals, genomes, motifs, shuffles and simulation.

Owns the base order ACGT (N is code 4), the coordinates (0-based, half-open) and every reader of the formats
of the field. NumPy only: nothing here needs an accelerator.
"""

from ebox.sequences.ceiling import measure_ceiling
from ebox.sequences.codes import decode, encode, one_hot, reverse_complement
from ebox.sequences.fasta import parse_location, read_fasta, read_sequences, write_fasta
from ebox.sequences.genome import Genome
from ebox.sequences.intervals import Interval, read_bed
from ebox.sequences.motifs import Motif, find_motif, load_jaspar, read_motifs, scan_scores, write_meme
from ebox.sequences.records import SequenceSet
from ebox.sequences.regions import read_places
from ebox.sequences.shuffle import shuffle_dinucleotides
from ebox.sequences.simulation import (
    SimulationConfig,
    SimulationResult,
    draw_simulation,
    read_simulation_config,
    write_simulation,
)

__all__ = [
    "Genome",
    "Interval",
    "Motif",
    "SequenceSet",
    "SimulationConfig",
    "SimulationResult",
    "decode",
    "draw_simulation",
    "encode",
    "find_motif",
    "load_jaspar",
    "measure_ceiling",
    "one_hot",
    "parse_location",
    "read_bed",
    "read_fasta",
    "read_motifs",
    "read_places",
    "read_sequences",
    "read_simulation_config",
    "reverse_complement",
    "scan_scores",
    "shuffle_dinucleotides",
    "write_fasta",
    "write_meme",
    "write_simulation",
]
