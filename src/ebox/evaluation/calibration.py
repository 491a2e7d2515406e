"""Platt's calibration: a scale and an offset for the logits of a track, so that probabilities match frequencies."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ebox.evaluation.metrics import Scores, Targets
from ebox.storage.notes import Code, note


class Uncalibrated(Code):
    """Why the logits of a track stay as they are."""

    FEW_OF_A_CLASS = "few_of_a_class"
    NO_BETTER_THAN_CHANCE = "no_better_than_chance"


# Of each class; fewer examples don't determine two numbers well.
MIN_EXAMPLES = 20


@dataclass(frozen=True)
class Calibration:
    """The scale and offset of the logits of one track, or why they stay as they are."""

    scale: float = 1.0
    offset: float = 0.0
    num_examples: int = 0
    reason: dict[str, Any] | None = None

    def facts(self) -> dict[str, Any]:
        """The content for `training.json`."""
        return asdict(self)


def fit_calibration(targets: Targets, logits: Scores) -> Calibration:
    """Fit scale and offset by cross-entropy on examples that the network was not trained on.

    The targets 0 and 1 are moved towards each other as if each class had one more example (Platt 1999), so that the fit
    is finite where the classes are separated. A scale that is not positive is rejected, so the ranking, and with it
    AUROC and AUPRC, stay as they are.
    """
    from scipy.optimize import minimize

    num_examples, num_positive = len(targets), int(np.count_nonzero(targets))
    if min(num_positive, num_examples - num_positive) < MIN_EXAMPLES:
        return Calibration(num_examples=num_examples, reason=note(Uncalibrated.FEW_OF_A_CLASS, {"least": MIN_EXAMPLES}))
    high, low = (num_positive + 1) / (num_positive + 2), 1 / (num_examples - num_positive + 2)
    aims = np.where(targets, high, low)
    values = logits.astype(np.float64)

    def loss_and_gradient(choice: Float[np.ndarray, " pair"]) -> tuple[float, Float[np.ndarray, " pair"]]:
        moved = choice[0] * values + choice[1]
        loss = np.mean(np.logaddexp(0.0, moved) - aims * moved)
        excess = 0.5 * (1.0 + np.tanh(0.5 * moved)) - aims
        return float(loss), np.array([np.mean(excess * values), np.mean(excess)])

    found = minimize(loss_and_gradient, np.array([1.0, 0.0]), jac=True, method="BFGS", options={"gtol": 1e-9})
    scale, offset = (float(number) for number in found.x)
    if not (np.isfinite(found.x).all() and scale > 0.0):
        return Calibration(num_examples=num_examples, reason=note(Uncalibrated.NO_BETTER_THAN_CHANCE))
    return Calibration(scale, offset, num_examples)
