"""What a sequence shows before one reads it: N, GC, CpG and repeats. If one of them tells two classes apart, beware."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from ebox.sequences.codes import N_CODE

# A base counts as repeated where it and those after it, as many as MATCH_BP, equal those 1 to MAX_PERIOD_BP further on.
MAX_PERIOD_BP = 6
MATCH_BP = 8
FEATURES = ("n", "n_at_ends", "n_left", "gc", "cpg", "repeats")
_BLOCK_ROWS = 4096

Codes = UInt8[np.ndarray, "example length"]


def measure_confounds(codes: Codes) -> dict[str, Float[np.ndarray, " example"]]:
    """Each of FEATURES for each sequence.

    `n` is the share of N; `n_at_ends` the share of N among the tenth of the bases at either end, and `n_left` the share
    in the left half less that in the right; `gc` is that of the known bases; `cpg` the number of CpG over the number
    that the counts of C and G let expect; `repeats` the share of bases in tandem repeats of up to 6 bp.
    """
    blocks = [_measure(codes[start : start + _BLOCK_ROWS]) for start in range(0, max(len(codes), 1), _BLOCK_ROWS)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in FEATURES}


def _measure(codes: Codes) -> dict[str, Float[np.ndarray, " example"]]:
    length = codes.shape[1]
    unknown = codes >= N_CODE
    tenth, half = max(length // 10, 1), length // 2
    num_known = np.maximum((~unknown).sum(axis=1), 1)
    is_c, is_g = codes == 1, codes == 2
    num_c, num_g = is_c.sum(axis=1), is_g.sum(axis=1)
    cpg = (is_c[:, :-1] & is_g[:, 1:]).sum(axis=1)
    ends = np.concatenate([unknown[:, :tenth], unknown[:, -tenth:]], axis=1)
    return {
        "n": unknown.mean(axis=1),
        "n_at_ends": ends.mean(axis=1),
        "n_left": unknown[:, :half].mean(axis=1) - unknown[:, -half:].mean(axis=1) if half else np.zeros(len(codes)),
        "gc": (num_c + num_g) / num_known,
        "cpg": cpg * num_known / np.maximum(num_c * num_g, 1),
        "repeats": _find_repeats(codes).mean(axis=1),
    }


def _find_repeats(codes: Codes) -> np.ndarray:
    """Which bases begin MATCH_BP bases that come again after a period."""
    found = np.zeros(codes.shape, bool)
    for period in range(1, MAX_PERIOD_BP + 1):
        same = (codes[:, :-period] == codes[:, period:]) & (codes[:, period:] < N_CODE)
        if same.shape[1] >= MATCH_BP:
            runs = np.lib.stride_tricks.sliding_window_view(same, MATCH_BP, axis=1).all(axis=2)
            found[:, : runs.shape[1]] |= runs
    return found
