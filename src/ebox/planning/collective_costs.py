"""What collectives cost in rounds and bytes, by algorithm; alpha-beta costs, without overlap.

Sources: R. Thakur, R. Rabenseifner and W. Gropp, Optimization of collective communication operations in MPICH
(2005), for all four; P. Patarasuk and X. Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations
(2009), for the ring and the bound 2 (N - 1) / N on what each of N workers must send.
"""

from __future__ import annotations

import math
from typing import Literal

Exchange = Literal["ring", "halving", "doubling", "gather"]


def exchange_rounds(exchange: Exchange, workers: int) -> int:
    """The number of messages, one after another, in one exchange; each costs the latency once.

    Args:
        exchange: `ring`: reduce-scatter and all-gather around a ring. `halving`: reduce-scatter by recursive halving
            and all-gather by recursive doubling. `doubling`: whole vectors, recursively doubled. `gather`: every
            worker's whole vector to every other around a ring, for compressed forms that can't be added.
        workers: N; unless it is a power of two, halving and doubling need two more rounds.
    """
    if workers == 1:
        return 0
    levels, odd = int(math.log2(workers)), 0 if workers & (workers - 1) == 0 else 2
    return {
        "ring": 2 * (workers - 1),
        "halving": 2 * levels + odd,
        "doubling": levels + odd,
        "gather": workers - 1,
    }[exchange]


def exchange_volume(exchange: Exchange, workers: int) -> float:
    """How many times the message's bytes pass over a worker's link, one way."""
    if workers == 1:
        return 0.0
    share, odd = (workers - 1) / workers, 0.0 if workers & (workers - 1) == 0 else 2.0
    return {
        "ring": 2.0 * share,
        # The two extra rounds carry whole vectors between the workers beyond the power of two and their partners.
        "halving": 2.0 * share + odd,
        "doubling": int(math.log2(workers)) + odd,
        "gather": workers - 1.0,
    }[exchange]


def sent_share(kind: str, group_size: int) -> float:
    """The least bytes that a chip can send for a collective of a compiled program, as a share of the whole array."""
    if kind == "collective-permute":
        return 1.0 if group_size > 1 else 0.0
    share = (group_size - 1) / group_size
    return 2.0 * share if kind == "all-reduce" else share
