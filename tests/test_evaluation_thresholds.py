from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebox.errors import InputError
from ebox.evaluation.metrics import compute_metrics
from ebox.evaluation.thresholds import choose_threshold


@given(st.integers(0, 2**32 - 1), st.sampled_from(["accuracy", "balanced_accuracy", "mcc"]), st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_no_other_threshold_is_better(seed: int, criterion: str, num_levels: int) -> None:
    generator = np.random.default_rng(seed)
    targets = generator.random(40) < 0.3
    targets[:2] = [True, False]
    probabilities = np.clip(generator.integers(0, num_levels, 40) / num_levels + 0.05 * targets, 0, 1)
    chosen = choose_threshold(targets, probabilities, criterion)
    reached = compute_metrics(targets, probabilities, chosen)[criterion]
    levels = np.unique(probabilities)
    for other in np.concatenate([levels, levels[:-1] + np.diff(levels) / 2, [1.1]]):
        assert reached >= compute_metrics(targets, probabilities, float(other))[criterion] - 1e-9


@pytest.mark.parametrize("criterion", ["accuracy", "mcc"])
def test_the_weight_of_negatives_is_as_many_of_them(criterion: str) -> None:
    generator = np.random.default_rng(3)
    targets = np.repeat([True, False], [60, 60])
    probabilities = np.clip(generator.normal(0.4 + 0.2 * targets, 0.2), 0.0, 1.0)
    more = np.concatenate([targets, np.zeros(60 * 9, bool)])
    repeated = np.concatenate([probabilities, np.tile(probabilities[60:], 9)])
    weighted = choose_threshold(targets, probabilities, criterion, negative_factor=10.0)
    assert weighted == choose_threshold(more, repeated, criterion)
    assert weighted > choose_threshold(targets, probabilities, criterion)


def test_threshold_lies_midway_in_the_gap() -> None:
    targets = np.array([False, False, True, True])
    assert choose_threshold(targets, np.array([0.1, 0.2, 0.4, 0.9])) == pytest.approx(0.3)


def test_of_equal_thresholds_the_nearest_to_one_half_is_taken() -> None:
    targets = np.array([False, True, False, True])
    assert choose_threshold(targets, np.array([0.1, 0.2, 0.6, 0.9])) == pytest.approx(0.75)
    assert choose_threshold(targets, np.array([0.1, 0.4, 0.8, 0.9])) == pytest.approx(0.25)


def test_useless_scores_call_all_as_the_greater_class() -> None:
    constant = np.full(10, 0.4)
    few = np.arange(10) < 2
    assert choose_threshold(few, constant) > 0.4
    assert choose_threshold(~few, constant) <= 0.4


def test_neighbouring_floats_are_told_apart() -> None:
    lower = 0.3
    upper = float(np.nextafter(lower, 1.0))
    threshold = choose_threshold(np.array([False, True]), np.array([lower, upper]))
    assert lower < threshold <= upper


def test_neighbouring_float32_are_told_apart_when_measured() -> None:
    lower = np.float32(0.3)
    probabilities = np.array([lower, np.nextafter(lower, np.float32(1.0))])
    targets = np.array([False, True])
    threshold = choose_threshold(targets, probabilities)
    assert compute_metrics(targets, probabilities, threshold)["accuracy"] == 1.0


def test_one_class_is_refused() -> None:
    with pytest.raises(InputError, match="only negative ones"):
        choose_threshold(np.zeros(3, bool), np.full(3, 0.5))
