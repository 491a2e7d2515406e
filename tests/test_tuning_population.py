"""A population: members are what they would be alone, whatever trains beside them and whoever is dropped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
import pytest

from ebox.errors import InputError
from ebox.evaluation.inference import predict
from ebox.evaluation.validation import measure_validation
from ebox.mesh.devices import find_devices, make_mesh
from ebox.models.network import Network
from ebox.settings.reading import Config, ParallelConfig
from ebox.tuning.members import MEMBER_SETTINGS, describe_shape
from ebox.tuning.population import MemberSteps, Population
from planted import fit_small, largest_difference, planted, small_config

DATA = planted()
CONFIGS = [
    small_config(validations=1, mutation_rate=0.01),
    small_config(validations=1, mutation_rate=0.01, seed=9, ema_decay=0.9),
    small_config(
        validations=1,
        mutation_rate=0.05,
        seed=5,
        learning_rate=1e-3,
        weight_decay=0.1,
        dropout=0.1,
        label_smoothing=0.1,
    ),
]
# Its steps are far too long, so its weights soon overflow.
BROKEN = small_config(validations=1, mutation_rate=0.01, learning_rate=1e30)


def measure(network: Network) -> Mapping[str, float]:
    rows = DATA.rows("validation")
    return measure_validation(DATA.targets[rows], predict(network, DATA.codes[rows], mesh=devices(1)))


def devices(number: int) -> jax.sharding.Mesh:
    return make_mesh(find_devices(ParallelConfig(devices=number)))


def population(configs: list[Config], *, number: int = 1, side_by_side: bool) -> Population:
    return Population(DATA, configs, devices(number), validate=measure, side_by_side=side_by_side)


@pytest.fixture(scope="module")
def beside() -> tuple[Population, list[MemberSteps]]:
    """Four members on two devices, trained to the end; the last one breaks."""
    made: list[MemberSteps] = []
    trained = population([*CONFIGS, BROKEN], number=2, side_by_side=True)
    assert trained.train_to(50, made.append)
    return trained, made


@pytest.mark.slow
@pytest.mark.parametrize("place", range(len(CONFIGS)))
def test_members_side_by_side_equal_their_lone_twins(
    place: int, beside: tuple[Population, list[MemberSteps]], tmp_path: Path
):
    twin = fit_small(tmp_path, CONFIGS[place])
    assert largest_difference(twin.network, beside[0].network(place)) < 1e-5
    assert largest_difference(beside[0].network(place), beside[0].network((place + 1) % 3)) > 1e-3


@pytest.mark.slow
def test_a_member_that_breaks_is_named_and_leaves_the_others_alone(beside: tuple[Population, list[MemberSteps]]):
    trained, _ = beside
    assert list(trained.broken) == [3]
    measured = trained.measure()
    assert all(math.isnan(value) for value in measured[3].values())
    assert all(math.isfinite(value) for one in measured[:3] for value in one.values())
    assert trained.measure([1]) == [measured[1]]


@pytest.mark.slow
def test_every_step_of_every_member_is_reported_once(beside: tuple[Population, list[MemberSteps]]):
    trained, made = beside
    assert trained.steps == [50] * 4
    for number in range(4):
        own = [one for one in made if one.number == number]
        assert [one.first for one in own[1:]] == [one.last for one in own[:-1]]
        assert (own[0].first, own[-1].last) == (0, 50)
        assert all(len(one.losses) == len(one.learning_rates) == one.last - one.first for one in own)


@pytest.mark.slow
def test_a_dropped_member_leaves_the_others_as_they_are(beside: tuple[Population, list[MemberSteps]]):
    trained = population([*CONFIGS, BROKEN], number=2, side_by_side=True)
    trained.train_to(20)
    trained.drop([1, 3])
    assert trained.numbers == [0, 2]
    before = trained.networks()
    assert trained.train_to(50)
    for place, number in enumerate(trained.numbers):
        assert largest_difference(trained.network(place), beside[0].network(number)) < 1e-5
        assert largest_difference(trained.network(place), before[place]) > 1e-3


def test_members_one_after_another_equal_their_lone_twins_to_the_bit(tmp_path: Path):
    trained = population(CONFIGS[:2], side_by_side=False)
    trained.train_to(20)
    state, halfway = trained.state(), population(CONFIGS[:2], side_by_side=False)
    trained.drop([0])
    trained.train_to(50)
    twin = fit_small(tmp_path, CONFIGS[1])
    assert largest_difference(twin.network, trained.network(0)) == 0.0
    halfway.restore(state)
    assert halfway.steps == [20, 20]
    halfway.train_to(50)
    assert largest_difference(twin.network, halfway.network(1)) == 0.0


def test_a_population_that_is_stopped_says_so_and_goes_on(tmp_path: Path):
    trained = population(CONFIGS[:2], side_by_side=False)
    assert not trained.train_to(50, is_stopped=lambda: trained.steps[0] >= 8)
    assert trained.steps == [8, 0]
    assert trained.train_to(12)
    assert trained.steps == [12, 12]


def test_on_processors_members_are_trained_one_after_another():
    assert not Population(DATA, CONFIGS[:1], devices(1), validate=measure).is_side_by_side


def test_members_of_different_shapes_are_refused_with_what_differs():
    with pytest.raises(InputError, match=r"differ in train\.batch_size, train\.shift_bp.*\n.*train\.dropout"):
        population(
            [CONFIGS[0], small_config(validations=1, mutation_rate=0.01, batch_size=20, shift_bp=3)], side_by_side=True
        )
    with pytest.raises(InputError, match=r"train\.mutation_rate > 0"):
        population([CONFIGS[0], small_config(validations=1)], side_by_side=True)
    with pytest.raises(InputError, match="needs members"):
        population([], side_by_side=True)


def test_settings_of_members_are_settings_of_training():
    assert set(CONFIGS[0].train.model_dump()) >= MEMBER_SETTINGS
    assert describe_shape(CONFIGS[0]) == describe_shape(CONFIGS[2]) != describe_shape(small_config())


@pytest.mark.slow
def test_states_are_plain_arrays_of_as_many_members(beside: tuple[Population, list[MemberSteps]]):
    states = beside[0].state()
    assert len(states) == len(beside[0]) == 4
    assert all(isinstance(leaf, np.ndarray | np.generic) for leaf in jax.tree.leaves(states))
    with pytest.raises(ValueError, match="1 states for 4 members"):
        beside[0].restore(states[:1])
