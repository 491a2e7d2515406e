"""The quick look at the validation split during training: loss and ranking, no intervals."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from ebox.errors import InputError
from ebox.evaluation.metrics import auprc, auroc

UNKNOWN_TARGET = 255


def measure_validation(
    targets: UInt8[np.ndarray, "example track"], logits: Float[np.ndarray, "example track"]
) -> dict[str, float]:
    """Cross-entropy, AUROC and AUPRC, averaged over the tracks in which both classes are known.

    Raises:
        InputError: no track has both.
    """
    losses, rankings, precisions = [], [], []
    for track in range(targets.shape[1]):
        known = targets[:, track] != UNKNOWN_TARGET
        label, logit = targets[known, track] == 1, logits[known, track].astype(np.float64)
        if label.all() or not label.any():
            continue
        losses.append(float(np.mean(np.logaddexp(0.0, logit) - label * logit)))
        rankings.append(auroc(label, logit))
        precisions.append(auprc(label, logit))
    if not losses:
        raise InputError(
            "the validation split has no track with positives and negatives",
            remedy="build the dataset with another split",
        )
    return {
        "loss": float(np.mean(losses)),
        "auroc": float(np.mean(rankings)),
        "auprc": float(np.mean(precisions)),
    }
