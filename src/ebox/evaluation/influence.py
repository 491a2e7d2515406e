"""How much each example moves the area under a curve: what intervals and paired tests are computed from."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ebox.evaluation.clusters import Influence

Values = Float[np.ndarray, " _"]


def trace_auroc(positives: Values, negatives: Values) -> Influence:
    """The structural components of DeLong 1988, less their mean; a tie counts one half."""
    rising_positives, rising_negatives = np.sort(positives), np.sort(negatives)
    of_positives = _share_below(rising_negatives, positives)
    of_negatives = 1.0 - _share_below(rising_positives, negatives)
    return Influence(of_positives - of_positives.mean(), of_negatives - of_negatives.mean())


def trace_auprc(positives: Values, negatives: Values, negative_factor: float = 1.0) -> Influence:
    """The influence function of average precision, where each class keeps its size.

    Precision at a positive is T / (T + f F), with T positives and F negatives at or above it. An example counts where
    it stands, and through T or F in the precision at every positive below it.

    Args:
        positives: Scores.
        negatives: Scores.
        negative_factor: The weight f of each negative.
    """
    num_positive, num_negative = len(positives), len(negatives)
    rising, rising_negatives = np.sort(positives), np.sort(negatives)
    first = np.searchsorted(rising, rising, "left")
    found = (num_positive - first).astype(np.float64)
    false = (num_negative - np.searchsorted(rising_negatives, rising, "left")) * float(negative_factor)
    total = found + false
    precision, gain, loss = found / total, false / total**2, negative_factor * found / total**2
    gains, losses = (np.concatenate([[0.0], np.cumsum(part)]) for part in (gain, loss))
    above = gains[np.searchsorted(rising, positives, "right")]
    own = precision[np.searchsorted(rising, positives, "left")]
    of_positives = own + above
    of_negatives = -losses[np.searchsorted(rising, negatives, "right")] * (num_negative / num_positive)
    return Influence(of_positives - of_positives.mean(), of_negatives - of_negatives.mean())


def _share_below(rising: Values, scores: Values) -> Values:
    ends = np.searchsorted(rising, scores, "left") + np.searchsorted(rising, scores, "right")
    return ends / (2.0 * len(rising))
