"""How many independent groups of examples there are: families and overlapping loci count once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int

# Fewer clusters of a class carry no interval that holds what it says (benchmarks/coverage.py).
MIN_CLUSTERS = 15


def count_clusters(cluster: Int[np.ndarray, " example"], is_positive: Bool[np.ndarray, " example"]) -> dict[str, int]:
    """How many clusters hold a positive, and how many hold a negative."""
    return {"positive": len(np.unique(cluster[is_positive])), "negative": len(np.unique(cluster[~is_positive]))}


def has_enough(num_clusters: Mapping[str, int]) -> bool:
    """Whether there are clusters enough of each class for an interval."""
    return min(num_clusters.values()) >= MIN_CLUSTERS
