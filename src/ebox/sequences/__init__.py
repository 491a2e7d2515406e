"""Sequences: letters and codes, files of them, intervals, genomes, motifs, shuffles and simulation.

Owns the base order ACGT (N is code 4), the coordinates (0-based, half-open) and every reader of the formats
of the field. NumPy only: nothing here needs an accelerator.
"""

from ebox.sequences.ceiling import CeilingResult, measure_ceiling
from ebox.sequences.codes import decode, encode, gc_fraction, n_fraction, one_hot, reverse_complement
from ebox.sequences.fasta import parse_location, parse_locations, read_fasta, read_sequences, write_fasta
from ebox.sequences.genome import Genome
from ebox.sequences.intervals import (
    Interval,
    Intervals,
    count_overlaps,
    distance_to_nearest,
    make_intervals,
    merge,
    overlaps_any,
    read_bed,
    resize,
    subtract,
    write_bed,
)
from ebox.sequences.motifs import Motif, find_motif, load_jaspar, read_motifs, scan_scores, write_meme
from ebox.sequences.records import SequenceSet, make_sequence_set
from ebox.sequences.regions import read_places
from ebox.sequences.shuffle import shuffle_dinucleotides
from ebox.sequences.simulation import (
    SimulationConfig,
    SimulationResult,
    draw_simulation,
    read_simulation_config,
    write_simulation,
)
from ebox.sequences.tables import read_table

__all__ = [
    "CeilingResult",
    "Genome",
    "Interval",
    "Intervals",
    "Motif",
    "SequenceSet",
    "SimulationConfig",
    "SimulationResult",
    "count_overlaps",
    "decode",
    "distance_to_nearest",
    "draw_simulation",
    "encode",
    "find_motif",
    "gc_fraction",
    "load_jaspar",
    "make_intervals",
    "make_sequence_set",
    "measure_ceiling",
    "merge",
    "n_fraction",
    "one_hot",
    "overlaps_any",
    "parse_location",
    "parse_locations",
    "read_bed",
    "read_fasta",
    "read_motifs",
    "read_places",
    "read_sequences",
    "read_simulation_config",
    "read_table",
    "resize",
    "reverse_complement",
    "scan_scores",
    "shuffle_dinucleotides",
    "subtract",
    "write_bed",
    "write_fasta",
    "write_meme",
    "write_simulation",
]
