"""Calibration of the logits of a track, so that probabilities match frequencies: temperature, Platt or isotonic."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from ebox.evaluation.clusters import Labels
from ebox.evaluation.metrics import Scores, Targets
from ebox.models.rising import RisingMap
from ebox.storage.notes import Code, note

Method = Literal["temperature", "platt", "isotonic"]
# From the simplest.
METHODS: tuple[Method, ...] = ("temperature", "platt", "isotonic")
# A temperature leaves the log-odds of the sampling in training where they are: no share of positives is known for which
# its probabilities hold.
COMPARED: tuple[Method, ...] = ("platt", "isotonic")


class Uncalibrated(Code):
    """Why the logits of a track stay as they are."""

    FEW_OF_A_CLASS = "few_of_a_class"
    NO_BETTER_THAN_CHANCE = "no_better_than_chance"


# Of each class; fewer examples don't determine two numbers well.
MIN_EXAMPLES = 20
NUM_FOLDS = 5
# Each step of the isotonic map counts as if it held this number of examples more, with Platt's share of positives:
# no step is 0 or 1.
PRIOR_EXAMPLES = 2.0
NEAREST = 1e-9
# Of a temperature: where logits are on the wrong side of 0, the smaller the better, but one below 0 turns the order.
LEAST_SCALE = 0.01


@dataclass(frozen=True)
class Calibration:
    """How the logits of one track are calibrated, or why they stay as they are.

    They are multiplied by `scale`, `offset` is added, and behind that comes `map`, if there is one. `compared` has the
    cross-validated losses that chose the method; None where it was given, or nothing could be compared.
    """

    method: Method | None = None
    scale: float = 1.0
    offset: float = 0.0
    map: RisingMap | None = None
    num_examples: int = 0
    reason: dict[str, Any] | None = None
    compared: dict[str, dict[str, float]] | None = None

    def apply(self, logits: Scores) -> Float[np.ndarray, " examples"]:
        """The calibrated logits, in float64."""
        moved = logits.astype(np.float64) * self.scale + self.offset
        return moved if self.map is None else self.map.apply(moved)

    def facts(self) -> dict[str, Any]:
        """The content for `training.json`."""
        facts = {name: value for name, value in asdict(self).items() if name != "map"}
        return facts | {"knots": None if self.map is None else self.map.facts()}


def fit_calibration(
    targets: Targets, logits: Scores, clusters: Labels | None = None, method: Method | None = None, *, seed: int = 0
) -> Calibration:
    """Fit a calibration on examples that the network was not trained on.

    Each method rises strictly, so the ranking, and with it AUROC and AUPRC, stay as they are.

    Args:
        targets: True for a positive.
        logits: Of the network.
        clusters: Label of the cluster of each example, which stays in one part; None: each example is one.
        method: How; None: the simplest of `COMPARED` whose cross-validated loss is not higher than the best by more
            than a standard error of the difference.
        seed: For the parts of the cross-validation.
    """
    num_positive = int(np.count_nonzero(targets))
    if min(num_positive, len(targets) - num_positive) < MIN_EXAMPLES:
        reason = note(Uncalibrated.FEW_OF_A_CLASS, {"least": MIN_EXAMPLES})
        return Calibration(num_examples=len(targets), reason=reason)
    values = logits.astype(np.float64)
    compared = None
    if method is None:
        labels = np.arange(len(targets)) if clusters is None else clusters
        compared = compare_methods(targets, values, labels, seed)
        method = "platt" if compared is None else choose_method(compared)
    return replace(_fit(targets, values, method), compared=compared)


def compare_methods(
    targets: Targets, logits: Float[np.ndarray, " examples"], clusters: Labels, seed: int
) -> dict[str, dict[str, float]] | None:
    """The cross-entropy of each method on examples that it was not fitted to, by whole clusters.

    Args:
        targets: True for a positive.
        logits: Of the network.
        clusters: Label of the cluster of each example.
        seed: Puts the clusters into the parts.

    Returns:
        For each method its mean `loss`, by how much that is above the best (`excess`), and the standard error of that
        (`error`), from clusters; None where the clusters leave too few examples of a class to fit to.
    """
    _, number = np.unique(clusters, return_inverse=True)
    number = number.ravel()
    random = np.random.Generator(np.random.Philox(seed))
    folds = (random.permutation(int(number.max()) + 1) % NUM_FOLDS)[number]
    losses = {method: np.empty(len(targets)) for method in COMPARED}
    for fold in range(NUM_FOLDS):
        held = folds == fold
        known = int(np.count_nonzero(targets[~held])), int(np.count_nonzero(~targets[~held]))
        if min(known) < MIN_EXAMPLES // 2:
            return None
        for method in COMPARED:
            found = _fit(targets[~held], logits[~held], method)
            losses[method][held] = _find_losses(targets[held], found.apply(logits[held]))
    best = min(losses.values(), key=lambda one: float(one.mean()))
    return {
        method: {
            "loss": float(one.mean()),
            "excess": float((one - best).mean()),
            "error": _find_error(one - best, number),
        }
        for method, one in losses.items()
    }


def choose_method(compared: dict[str, dict[str, float]]) -> Method:
    """The simplest method that is not worse than the best by more than a standard error (Breiman 1984)."""
    return next(method for method in COMPARED if compared[method]["excess"] <= compared[method]["error"])


def _find_error(values: Float[np.ndarray, " examples"], number: Labels) -> float:
    """The standard error of a mean over examples, from sums over clusters."""
    sums = np.bincount(number, values - values.mean())
    return float(np.sqrt(sums @ sums * len(sums) / max(len(sums) - 1, 1)) / len(values))


def _find_losses(targets: Targets, logits: Float[np.ndarray, " examples"]) -> Float[np.ndarray, " examples"]:
    return np.logaddexp(0.0, logits) - targets * logits


def _fit(targets: Targets, logits: Float[np.ndarray, " examples"], method: Method) -> Calibration:
    """The calibration by one method; where Platt's scale would not be positive, the logits stay as they are."""
    scale, offset = _fit_scale(targets, logits, with_offset=True)
    if not 0.0 < scale < np.inf:
        return Calibration(num_examples=len(targets), reason=note(Uncalibrated.NO_BETTER_THAN_CHANCE))
    if method == "temperature":
        scale, offset = max(_fit_scale(targets, logits, with_offset=False)[0], LEAST_SCALE), 0.0
    calibration = Calibration(method, scale, offset, None, len(targets))
    return (
        replace(calibration, map=_fit_map(targets, calibration.apply(logits))) if method == "isotonic" else calibration
    )


def _fit_scale(targets: Targets, logits: Float[np.ndarray, " examples"], *, with_offset: bool) -> tuple[float, float]:
    """Scale and offset by cross-entropy (Platt 1999), or the scale alone, which is 1 / temperature (Guo 2017).

    The targets 0 and 1 are moved towards each other as if each class had one more example, so that the fit is finite
    where the classes are separated.
    """
    from scipy.optimize import minimize

    num_positive = int(np.count_nonzero(targets))
    high, low = (num_positive + 1) / (num_positive + 2), 1 / (len(targets) - num_positive + 2)
    aims = np.where(targets, high, low)

    def loss_and_gradient(choice: Float[np.ndarray, " numbers"]) -> tuple[float, Float[np.ndarray, " numbers"]]:
        moved = choice[0] * logits + (choice[1] if with_offset else 0.0)
        loss = np.mean(np.logaddexp(0.0, moved) - aims * moved)
        excess = 0.5 * (1.0 + np.tanh(0.5 * moved)) - aims
        return float(loss), np.array([np.mean(excess * logits), np.mean(excess)])[: len(choice)]

    start = np.array([1.0, 0.0] if with_offset else [1.0])
    found = minimize(loss_and_gradient, start, jac=True, method="BFGS", options={"gtol": 1e-9}).x
    return float(found[0]), float(found[1]) if with_offset else 0.0


def _fit_map(targets: Targets, logits: Float[np.ndarray, " examples"]) -> RisingMap:
    """Isotonic regression (Zadrozny and Elkan 2002) of Platt's logits, straight between the middles of its steps.

    The middles make it rise strictly (Oron and Flournoy 2017), so that no examples become equal. In each step some
    examples of Platt's count as well (`PRIOR_EXAMPLES`).
    """
    levels, level = np.unique(logits, return_inverse=True)
    level = level.ravel()
    sizes, hits = np.bincount(level).astype(np.float64), np.bincount(level, targets.astype(np.float64))
    expected = sizes * 0.5 * (1.0 + np.tanh(0.5 * levels))
    sums = _pool(np.stack([sizes, hits, sizes * levels, expected]), hits / sizes, sizes)
    size, hit, _, expect = sums
    shares = (hit + PRIOR_EXAMPLES * expect / size) / (size + PRIOR_EXAMPLES)
    size, hit, place, expect = _pool(sums, shares, size + PRIOR_EXAMPLES)
    shares = (hit + PRIOR_EXAMPLES * expect / size) / (size + PRIOR_EXAMPLES)
    shares = np.clip(shares, NEAREST, 1.0 - NEAREST)
    middles, calibrated = place / size, np.log(shares) - np.log1p(-shares)
    rises = _rises(middles) & _rises(calibrated)
    return RisingMap(tuple(middles[rises].tolist()), tuple(calibrated[rises].tolist()))


def _pool(
    sums: Float[np.ndarray, "kinds steps"], shares: Float[np.ndarray, " steps"], weights: Float[np.ndarray, " steps"]
) -> Float[np.ndarray, "kinds pooled"]:
    """The sums over neighbours that isotonic regression of the shares pools."""
    from scipy.optimize import isotonic_regression

    return np.add.reduceat(sums, isotonic_regression(shares, weights=weights).blocks[:-1], axis=1)


def _rises(values: Float[np.ndarray, " steps"]) -> Bool[np.ndarray, " steps"]:
    """Which values are above all before them."""
    return np.append(True, values[1:] > np.maximum.accumulate(values)[:-1])
