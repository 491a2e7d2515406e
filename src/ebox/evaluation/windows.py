"""Windows over sequences of any length, each as long as a network reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, UInt8

from ebox.sequences.codes import N_CODE

if TYPE_CHECKING:
    from ebox.sequences import SequenceSet

WINDOWS_PER_LENGTH = 4


@dataclass(frozen=True)
class Windows:
    """Windows over sequences: the row of the sequence of each, and its 0-based start."""

    owner: Int64[np.ndarray, " window"]
    start: Int64[np.ndarray, " window"]


def plan_windows(lengths: Sequence[int] | np.ndarray, length_bp: int) -> Windows:
    """Place windows a quarter of their length apart, the last at the end; one around the centre of a short sequence."""
    stride = max(1, length_bp // WINDOWS_PER_LENGTH)
    owners, starts = [], []
    for number, length in enumerate(np.asarray(lengths).tolist()):
        if length <= length_bp:
            places = np.array([-((length_bp - length) // 2)])
        else:
            places = np.unique(np.append(np.arange(0, length - length_bp, stride), length - length_bp))
        starts.append(places.astype(np.int64))
        owners.append(np.full(len(places), number, np.int64))
    return Windows(np.concatenate(owners), np.concatenate(starts))


def cut_windows(
    sequences: SequenceSet, owner: Int64[np.ndarray, " window"], start: Int64[np.ndarray, " window"], length_bp: int
) -> UInt8[np.ndarray, "window length"]:
    """Cut windows out of sequences; places outside a sequence are N.

    Args:
        sequences: The sequences.
        owner: The row of the sequence of each window.
        start: The 0-based start of each window; negative before the sequence.
        length_bp: The length of the windows.
    """
    places = start[:, None] + np.arange(length_bp)
    lengths = np.asarray(sequences.lengths)[owner][:, None]
    inside = (places >= 0) & (places < lengths)
    flat = np.asarray(sequences.offsets)[owner][:, None] + np.clip(places, 0, np.maximum(lengths - 1, 0))
    return np.where(inside, sequences.codes[flat], np.uint8(N_CODE)).astype(np.uint8)
