"""What is trained: the rows and their order, the rates, and the network before the first step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import numpy as np
from jaxtyping import UInt8

from ebox.models.architectures import build_model
from ebox.models.ensemble import Ensemble
from ebox.models.network import Network
from ebox.settings.reading import Config
from ebox.training.fine_tuning import begin_from_source
from ebox.training.sampling import ExampleOrder, make_order
from ebox.training.state import Hyperparameters, make_hyperparameters


@runtime_checkable
class TrainingData(Protocol):
    """What training needs of a dataset."""

    @property
    def codes(self) -> UInt8[np.ndarray, "example length"]: ...  # noqa: D102
    @property
    def targets(self) -> UInt8[np.ndarray, "example track"]: ...  # noqa: D102
    @property
    def length_bp(self) -> int: ...  # noqa: D102
    @property
    def fingerprint(self) -> str: ...  # noqa: D102
    def rows(self, split: str) -> slice: ...  # noqa: D102


@dataclass(frozen=True)
class TrainingInputs:
    """What a training starts from: a function of dataset and settings alone, so the same in every process."""

    codes: UInt8[np.ndarray, "example length"]
    targets: UInt8[np.ndarray, "example track"]
    order: ExampleOrder
    num_steps: int
    hyper: Hyperparameters
    fresh: Network

    @staticmethod
    def of(data: TrainingData, config: Config, teacher: Ensemble | None = None) -> TrainingInputs:
        """Take the train split, and draw the network or take over that of `transfer.source` (NumPy).

        With a teacher the network gives a logit and a spread for each track, and learns both from the teacher.

        Raises:
            InputError: there is nothing to train on, the sequences are too short for the network, or there is no such
                source.
        """
        train, rows = config.train, data.rows("train")
        targets = data.targets[rows]
        order = make_order(
            targets,
            seed=train.seed,
            batch_size=train.batch_size,
            negatives_per_positive=train.negatives_per_positive,
            has_partners=train.mixup_alpha > 0.0,
        )
        num_steps = _count_steps(config, order)
        hyper = make_hyperparameters(train, num_steps, _positive_weight(config, order))
        if teacher is not None:
            hyper = hyper.taught_by(teacher, config.ensemble.spread_weight)
        num_outputs = targets.shape[1] * (1 if teacher is None else 2)
        fresh = build_model(config.model, num_outputs, data.length_bp, np.random.default_rng(train.seed))
        if config.transfer.source is not None:
            begun = begin_from_source(fresh, config, data.codes[rows], order, num_steps)
            fresh, hyper = begun.network, replace(hyper, layers=begun.layers)
        return TrainingInputs(data.codes[rows], targets, order, num_steps, hyper, on_host(fresh))


def _count_steps(config: Config, order: ExampleOrder) -> int:
    """Steps of the whole training; one that begins with a trained network may have a least number."""
    train, least = config.train, config.transfer.min_steps
    steps = order.count_steps(train.epochs, train.max_steps)
    if config.transfer.source is None or least is None or train.max_steps is not None:
        return steps
    return max(steps, least)


def _positive_weight(config: Config, order: ExampleOrder) -> float | list[float]:
    """The weight of positives; where they are balanced and there are several tracks, one for each."""
    chosen = config.train.positive_weight
    if chosen != "balanced":
        return chosen
    balance = order.balance().tolist()
    return balance if len(balance) > 1 else float(balance[0])


def on_host(network: Network) -> Network:
    """A copy with NumPy arrays."""
    arrays, static = eqx.partition(network, eqx.is_array)
    return eqx.combine(jax.tree.map(np.array, arrays), static)
