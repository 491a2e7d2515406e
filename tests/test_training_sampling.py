"""The order of examples: a pure function of seed and step."""

from __future__ import annotations

import itertools
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebox.errors import InputError
from ebox.mesh.devices import find_devices, make_mesh
from ebox.settings.reading import ParallelConfig
from ebox.training.batches import ChunkPlan, Shares, even_chunk_steps, iter_chunks, iter_plans, make_chunk
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


def test_the_order_of_a_seed_stays_what_it_was():
    order = _order(4, 9, 4, 1.5, seed=7)
    assert [order.batch_rows(step).tolist() for step in range(5)] == [
        [11, 0, 7, 1],
        [3, 5, 2, 10],
        [4, 6, -1, -1],
        [11, 2, 12, 1],
        [3, 4, 5, 0],
    ]


@pytest.mark.parametrize(
    ("positives", "negatives", "ratio", "shown"),
    [
        (4, 9, None, 9),
        (4, 9, 1.5, 6),
        (4, 9, 2.25, 9),
        (4, 9, 0.1, 0),
        (4, 9, 100.0, 9),
        (3, 9, 0.5, 2),
        (4, 0, 1.0, 0),
    ],
)
def test_an_epoch_shows_as_many_negatives_as_asked_for(positives: int, negatives: int, ratio: float | None, shown: int):
    order = _order(positives, negatives, 4, ratio)
    assert order.negatives_per_epoch == shown
    assert order.examples_per_epoch == positives + shown
    assert sum(row >= positives for row in _epoch(order, 1)) == shown


def test_steps_are_counted_up_and_there_is_at_least_one():
    order = _order(5, 5, 4, None)
    assert order.steps_per_epoch == 3
    assert [order.count_steps(epochs, None) for epochs in (2.0, 1.1, 0.0)] == [6, 4, 1]
    assert order.count_steps(2.0, 7) == 7
    assert order.batch_rows(2)[2:].tolist() == [PADDING_ROW, PADDING_ROW]


def test_a_row_is_positive_where_one_of_its_tracks_is_and_unknown_is_not():
    targets = np.array([[0, 1], [0, 255], [255, 255], [1, 1], [0, 0]], np.uint8)
    order = make_order(targets, seed=0, batch_size=2, negatives_per_positive=None)
    assert order.is_positive.tolist() == [True, False, False, True, False]


def test_a_row_whose_label_is_unknown_everywhere_is_not_shown():
    targets = np.array([[0, 1], [0, 255], [255, 255], [1, 1], [0, 0], [255, 255]], np.uint8)
    order = make_order(targets, seed=0, batch_size=2, negatives_per_positive=None)
    assert sorted(_epoch(order, 0)) == [0, 1, 3, 4]
    # Such rows at the end change nothing for the others.
    without = make_order(targets[:5], seed=0, batch_size=2, negatives_per_positive=None)
    np.testing.assert_array_equal(_epoch(order, 3), _epoch(without, 3))


def _two_tracks(large: int, small: int, of_large: int, of_small: int, of_both: int) -> np.ndarray:
    """Positives of a large and of a small track, their own negatives, and negatives of both."""
    kinds = [([1, 255], large), ([255, 1], small), ([0, 255], of_large), ([255, 0], of_small), ([0, 0], of_both)]
    return np.concatenate([np.tile(np.array(labels, np.uint8), (num, 1)) for labels, num in kinds])


def test_a_small_track_with_many_negatives_of_its_own_gets_its_ratio_and_no_more():
    targets = _two_tracks(400, 40, 1000, 4000, 0)
    order = make_order(targets, seed=0, batch_size=64, negatives_per_positive=2.0)
    shown = targets[_epoch(order, 1)]
    assert [(shown[:, track] == label).sum() for track in (0, 1) for label in (1, 0)] == [400, 800, 40, 80]
    assert order.balance().tolist() == [2.0, 2.0]
    seen = np.concatenate([_epoch(order, epoch) for epoch in range(50)])
    own = seen[targets[seen, 1] == 0]
    # Dealt as ever: all of the 4,000 before any comes twice.
    assert len(np.unique(own)) == len(own) == 4000


def test_negatives_of_all_tracks_are_shared_and_weights_balance_each_track():
    order = make_order(_two_tracks(300, 100, 0, 0, 1000), seed=0, batch_size=64, negatives_per_positive=2.0)
    assert order.negatives_per_epoch == 800
    np.testing.assert_allclose(order.balance(), [800 / 300, 800 / 100])
    mixed = make_order(_two_tracks(100, 100, 100, 0, 300), seed=0, batch_size=64, negatives_per_positive=1.0)
    # A positive of the large track draws from its 400, of the small one from the 300 of both.
    assert mixed.negatives_per_epoch == round(100 * 100 / 400) + round(100 * 300 / 400 + 100)


def _sparse_columns(tracks: int, positives: int, negatives: int, unknown: float) -> np.ndarray:
    """Labels of a table whose columns are known here and there; a positive is one in one of its known tracks."""
    generator = np.random.default_rng(0)
    known = generator.random((positives + negatives, tracks)) >= unknown
    known[np.arange(len(known)), generator.integers(tracks, size=len(known))] = True
    labels = np.where(known, 0, 255).astype(np.uint8)
    for row in range(positives):
        labels[row, generator.choice(np.flatnonzero(known[row]))] = 1
    return labels


@pytest.mark.parametrize(("tracks", "unknown", "ratio"), [(12, 0.5, 2.0), (8, 0.3, 1.0), (3, 0.3, 2.0)])
def test_negatives_of_many_patterns_of_known_tracks_are_all_shown(tracks: int, unknown: float, ratio: float):
    targets = _sparse_columns(tracks, 100, 600, unknown)
    order = make_order(targets, seed=0, batch_size=64, negatives_per_positive=ratio)
    assert order.negatives_per_epoch == round(100 * ratio)
    # One that is known in a single track is shown the least often.
    epochs = [_epoch(order, epoch) for epoch in range(60)]
    assert {len(rows) for rows in epochs} == {order.examples_per_epoch}
    shown = np.bincount(np.concatenate(epochs), minlength=len(targets))
    assert (shown[:100] == len(epochs)).all()
    assert shown[100:].min() >= 1
    # Each track has the negatives that are due to it, those of its column in positives of others among them.
    mean = (shown[:, None] * (targets == 0)).sum(axis=0) / len(epochs)
    due = order.balance() * (targets == 1).sum(axis=0)
    np.testing.assert_allclose(mean, due, atol=1.0)
    ratios = [(targets[rows] == 0).sum(axis=0) / due for rows in epochs]
    assert 0.8 < np.min(ratios) <= np.max(ratios) < 1.2


def test_no_two_shuffles_share_a_random_stream(monkeypatch: pytest.MonkeyPatch):
    asked, made = [], ExampleOrder._generator

    def ask(order: ExampleOrder, purpose: int, number: int) -> np.random.Generator:
        asked.append((purpose, number))
        return made(order, purpose, number)

    monkeypatch.setattr(ExampleOrder, "_generator", ask)
    # All negatives of three packs in every epoch: epoch k takes the shuffle k of each.
    order = make_order(_two_tracks(4, 4, 6, 6, 6), seed=0, batch_size=26, negatives_per_positive=None)
    for step in range(order.steps_per_epoch * 3):
        order.partner_rows(step)
    assert order.steps_per_epoch == 1
    assert len(set(asked)) == len(asked) == 3 * (1 + 3 + 1)


def test_a_small_track_beside_a_large_one_without_negatives_of_its_own_gets_its_ratio():
    generator = np.random.default_rng(0)
    known = np.where(generator.random((800, 10)) > 0.5, 0, 255).astype(np.uint8)
    known[:400, 0], known[:400, 9], known[400:, 0], known[400:, 9] = 1, 255, 255, 0
    small = np.full((20, 10), 255, np.uint8)
    small[:, 9] = 1
    order = make_order(np.concatenate([known, small]), seed=0, batch_size=64, negatives_per_positive=2.0)
    assert order.negatives_per_epoch == 40
    assert order.balance()[[0, 9]].tolist() == pytest.approx([0.0, 2.0])
    seen = np.concatenate([_epoch(order, epoch) for epoch in range(60)])
    assert np.bincount(seen, minlength=820)[400:800].min() >= 4


@pytest.mark.parametrize(
    ("batch", "devices", "most", "micro", "padded", "piece"),
    [(32, 4, None, 1, 32, 8), (30, 4, None, 1, 32, 8), (30, 4, 3, 3, 36, 3), (8, 3, 3, 1, 9, 3), (1, 8, 4, 1, 8, 1)],
)
def test_a_batch_is_cut_into_equal_pieces(
    batch: int, devices: int, most: int | None, micro: int, padded: int, piece: int
):
    shares = Shares(batch, devices, most)
    assert (shares.micro_batches, shares.padded_batch_size, shares.piece_size) == (micro, padded, piece)


def _problem(rows: int) -> tuple[np.ndarray, np.ndarray]:
    codes = np.repeat(np.arange(rows, dtype=np.uint8)[:, None], 6, axis=1)
    return codes, (np.arange(rows) % 3 == 0).astype(np.uint8)[:, None]


def test_the_processes_of_a_group_prepare_the_whole_batch_between_them():
    (codes, targets), order, plan = _problem(13), _order(5, 8, 5, None), ChunkPlan(1, 2)
    whole = make_chunk(codes, targets, order, plan, 3, Shares(5, 4))
    parts = [make_chunk(codes, targets, order, plan, 3, Shares(5, 4, process=k, num_processes=2)) for k in (0, 1)]
    for name in ("codes", "targets", "mask"):
        together = np.concatenate([getattr(part, name) for part in parts], axis=1)
        np.testing.assert_array_equal(together, getattr(whole, name))
    for part in parts:
        np.testing.assert_array_equal(part.known, whole.known)
    rows = [order.batch_rows(step) for step in (1, 2)]
    assert np.asarray(whole.codes)[:2, :5, 0].tolist() == [[4 if row < 0 else row for row in batch] for batch in rows]
    known = [
        [sum(row >= 0 and row % 3 > 0 for row in batch), sum(row >= 0 and row % 3 == 0 for row in batch)]
        for batch in rows
    ]
    assert np.asarray(whole.known).tolist() == [*known, [0, 0]]


def test_known_targets_are_counted_by_track_over_the_whole_batch():
    targets = _two_tracks(6, 3, 2, 2, 4)
    codes = np.zeros((len(targets), 6), np.uint8)
    order = make_order(targets, seed=0, batch_size=8, negatives_per_positive=None)
    chunk = make_chunk(codes, targets, order, ChunkPlan(0, 3), 3, Shares(8, 2))
    assert np.asarray(chunk.known).sum(axis=0).tolist() == [12, 6, 3]
    batch = targets[order.batch_rows(1)]
    assert np.asarray(chunk.known)[1].tolist() == [(batch == 0).sum(), *(batch == 1).sum(axis=0)]


def test_chunks_come_whole_and_in_order_however_slowly_they_are_taken():
    (codes, targets), order, mesh = (
        _problem(10),
        _order(4, 6, 4, None),
        make_mesh(find_devices(ParallelConfig(devices=2))),
    )
    plans = list(iter_plans(0, 6, 1, frozenset()))
    taken = []
    for plan, chunk in iter_chunks(codes, targets, order, plans, 1, mesh, ahead=1):
        time.sleep(0.25 if plan.first < 2 else 0.0)
        taken.append((plan, np.asarray(chunk.codes)[0, :, 0].tolist()))
    assert taken == [(plan, [4 if row < 0 else row for row in order.batch_rows(plan.first)]) for plan in plans]


def test_an_error_of_the_thread_is_raised_at_its_chunk_and_leaves_no_thread():
    (codes, targets), order, mesh = (
        _problem(10),
        _order(4, 8, 4, None),
        make_mesh(find_devices(ParallelConfig(devices=1))),
    )
    bad = next(step for step in range(3) if order.batch_rows(step).max() > 9)
    taken = []
    with pytest.raises(IndexError):
        for plan, _ in iter_chunks(codes, targets, order, list(iter_plans(0, 3, 1, frozenset())), 1, mesh):
            taken.append(plan.first)
    assert taken == list(range(bad))
    assert not [thread for thread in threading.enumerate() if thread.name == "ebox-batches"]


def test_who_takes_no_more_chunks_leaves_no_thread():
    (codes, targets), order, mesh = (
        _problem(10),
        _order(4, 6, 4, None),
        make_mesh(find_devices(ParallelConfig(devices=1))),
    )
    chunks = iter_chunks(codes, targets, order, list(iter_plans(0, 90, 1, frozenset())), 1, mesh, ahead=1)
    next(chunks)
    chunks.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "ebox-batches"]


def test_an_empty_train_split_is_refused():
    with pytest.raises(InputError, match="train split holds no examples"):
        make_order(np.zeros((0, 1), np.uint8), seed=0, batch_size=4, negatives_per_positive=None)


def test_a_train_split_without_positives_is_refused():
    with pytest.raises(InputError, match="train split holds no positives"):
        make_order(np.zeros((9, 1), np.uint8), seed=0, batch_size=4, negatives_per_positive=2.0)
