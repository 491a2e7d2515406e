"""The order of examples: a pure function of seed and step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebox.errors import InputError
from ebox.training.batches import ChunkPlan, Shares, even_chunk_steps, iter_plans, make_chunk
from ebox.training.sampling import PADDING_ROW, ExampleOrder, make_order


def _order(positives: int, negatives: int, batch: int, ratio: float | None, seed: int = 0) -> ExampleOrder:
    is_positive = np.arange(positives + negatives) < positives
    return ExampleOrder(is_positive, seed, batch, ratio)


def _epoch(order: ExampleOrder, epoch: int) -> np.ndarray:
    steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
    rows = np.concatenate([order.batch_rows(step) for step in steps])
    return rows[rows != PADDING_ROW]


@settings(max_examples=40, deadline=None)
@given(
    positives=st.integers(1, 30),
    negatives=st.integers(0, 60),
    batch=st.integers(1, 16),
    ratio=st.one_of(st.none(), st.floats(0.1, 4.0)),
)
def test_an_epoch_shows_every_positive_once_and_its_share_of_negatives(
    positives: int, negatives: int, batch: int, ratio: float | None
):
    order = _order(positives, negatives, batch, ratio)
    for epoch in (0, 3):
        rows = _epoch(order, epoch)
        assert len(rows) == len(np.unique(rows)) or order.negatives_per_epoch > 0
        assert sorted(rows[rows < positives]) == list(range(positives))
        assert len(rows) == order.examples_per_epoch


def test_every_negative_is_seen_before_any_is_seen_twice():
    order = _order(10, 95, 8, 2.0)
    seen = np.concatenate([_epoch(order, epoch) for epoch in range(4)])
    negatives = seen[seen >= 10]
    assert len(np.unique(negatives)) == len(negatives) == 80
    later = np.concatenate([_epoch(order, epoch) for epoch in range(19)])
    assert np.bincount(later[later >= 10])[10:].tolist() == [4] * 95


def test_a_batch_does_not_depend_on_what_was_asked_before():
    one, two = _order(50, 100, 16, 1.5), _order(50, 100, 16, 1.5)
    for step in range(30):
        one.batch_rows(step)
    np.testing.assert_array_equal(one.batch_rows(17), two.batch_rows(17))


def test_epochs_and_seeds_differ():
    order = _order(64, 0, 64, None)
    assert not np.array_equal(order.batch_rows(0), order.batch_rows(1))
    assert not np.array_equal(order.batch_rows(0), _order(64, 0, 64, None, seed=1).batch_rows(0))


def test_plans_cover_every_step_once_and_stop_where_asked():
    plans = list(iter_plans(5, 40, 8, frozenset({13, 40})))
    steps = [plan.first + place for plan in plans for place in range(plan.count)]
    assert steps == list(range(5, 40))
    assert {plan.first + plan.count for plan in plans} >= {8, 13, 16, 40}
    assert max(plan.count for plan in plans) <= 8


def test_plans_of_a_resumed_run_are_those_of_a_whole_one():
    whole = list(iter_plans(0, 100, 16, frozenset({30, 60})))
    assert list(iter_plans(48, 100, 16, frozenset({30, 60}))) == [plan for plan in whole if plan.first >= 48]


@given(
    most=st.integers(1, 64), num_steps=st.integers(20, 2000), validations=st.integers(1, 12), first=st.integers(0, 19)
)
@settings(deadline=None)
def test_whole_chunks_hold_less_than_a_step_of_padding_each(most: int, num_steps: int, validations: int, first: int):
    ends = [-(-num_steps * number // validations) for number in range(validations + 1)]
    stops, longest = frozenset(ends[1:]), max(end - begin for begin, end in itertools.pairwise(ends))
    chunk_steps = even_chunk_steps(most, num_steps, stops)
    assert chunk_steps <= most
    whole = list(iter_plans(0, num_steps, chunk_steps, stops, from_stops=True))
    assert len(whole) * chunk_steps <= validations * (longest + -(-longest // most) - 1)
    rest = list(iter_plans(first, num_steps, chunk_steps, stops, from_stops=True))
    for plans, begin in ((whole, 0), (rest, first)):
        assert [plan.first for plan in plans] == [begin, *(plan.first + plan.count for plan in plans[:-1])]
        assert sum(plan.count for plan in plans) == num_steps - begin
        assert {stop for stop in stops if stop > begin} <= {plan.first + plan.count for plan in plans}


def test_the_tail_batch_is_padded_and_masked():
    order = _order(5, 5, 4, None)
    codes = np.arange(10, dtype=np.uint8)[:, None] % 4 * np.ones((1, 6), np.uint8)
    targets = (np.arange(10) < 5).astype(np.uint8)[:, None]
    chunk = make_chunk(codes, targets, order, ChunkPlan(0, 3), 4, Shares(4, num_devices=3))
    assert chunk.codes.shape == (4, 6, 6)
    assert np.asarray(chunk.mask).sum(axis=1).tolist() == [4, 4, 2, 0]
    assert (np.asarray(chunk.codes)[~np.asarray(chunk.mask)] == 4).all()
    assert (np.asarray(chunk.targets)[~np.asarray(chunk.mask)] == 255).all()


def test_an_empty_train_split_is_refused():
    with pytest.raises(InputError, match="train split holds no examples"):
        make_order(np.zeros((0, 1), np.uint8), seed=0, batch_size=4, negatives_per_positive=None)


def test_a_train_split_without_positives_is_refused():
    with pytest.raises(InputError, match="train split holds no positives"):
        make_order(np.zeros((9, 1), np.uint8), seed=0, batch_size=4, negatives_per_positive=2.0)
