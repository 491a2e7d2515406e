"""Sequences: letters and codes, files of them, intervals, genomes, motifs, shuffles and simulation.

Owns the base order ACGT (N is code 4), the coordinates (0-based, half-open) and every reader of the formats of the
field. NumPy only: nothing here needs an accelerator.
"""

from ebox.sequences.codes import decode, encode, gc_fraction, n_fraction, one_hot, reverse_complement

__all__ = ["decode", "encode", "gc_fraction", "n_fraction", "one_hot", "reverse_complement"]
