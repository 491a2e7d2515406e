import numpy as np

from ebox.datasets.cleaning import (
    drop_made_repeats,
    drop_repeats,
    drop_train_repeats,
    drop_unknown,
    find_repeats,
    measure_gc,
    measure_n,
)
from ebox.datasets.examples import DropLog, Dropped, Examples, Source, concatenate, make_examples
from ebox.sequences.codes import reverse_complement

SOURCES = [Source("folder/a.fa", "positives", 6, "0")]


def _examples(codes: np.ndarray, target: int = 1, split: int = -1) -> Examples:
    names = [f"t{target}s{split}r{row}" for row in range(len(codes))]
    lines = np.arange(1, 2 * len(codes), 2, dtype=np.int64)
    return make_examples(codes, names, target=target, kind=1 - target, source=0, line=lines, split=split)


def _codes(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (num, 30), dtype=np.uint8)


def test_gc_and_n_count_what_is_known() -> None:
    codes = np.array([[1, 2, 0, 3], [4, 4, 1, 0], [4, 4, 4, 4]], dtype=np.uint8)
    assert measure_gc(codes).tolist() == [0.5, 0.5, 0.0]
    assert measure_n(codes).tolist() == [0.0, 0.5, 1.0]


def test_too_much_n_is_dropped_and_all_n_always() -> None:
    codes = _codes(3)
    codes[1, :4] = 4
    codes[2] = 4
    log = DropLog(list(SOURCES))
    assert len(drop_unknown(_examples(codes), 0.1, log)) == 1
    assert log.counts == {Dropped.TOO_MUCH_N: 2}
    assert log.rows[0] == ("a.fa", 3, "t1s-1r1", "too_much_n", "n_fraction=0.133 allowed=0.100")
    assert len(drop_unknown(_examples(codes), 1.0, DropLog(list(SOURCES)))) == 2


def test_repeats_are_found_on_both_strands() -> None:
    codes = _codes(5)
    codes[3] = codes[1]
    codes[4] = reverse_complement(codes[1:2])[0]
    repeats = find_repeats(codes)
    assert repeats.row.tolist() == [1, 3, 4]
    assert repeats.first.tolist() == [1, 1, 1]
    assert repeats.flipped.tolist() == [False, False, True]


def test_the_first_of_equal_sequences_is_kept() -> None:
    codes = _codes(4)
    codes[2] = codes[0]
    codes[3] = reverse_complement(codes[1:2])[0]
    log = DropLog(list(SOURCES))
    kept = drop_repeats(_examples(codes), log)
    assert kept.names == ["t1s-1r0", "t1s-1r1"]
    assert [row[4] for row in log.rows] == [
        "line=1 strand=+ equals=t1s-1r0",
        "line=3 strand=- equals=t1s-1r1",
    ]


def test_a_sequence_with_two_labels_is_dropped_on_both_sides() -> None:
    positives, others = _codes(4), _codes(4, seed=1)
    others[2] = reverse_complement(positives[1:2])[0]
    log = DropLog(list(SOURCES))
    kept = drop_repeats(concatenate([_examples(positives), _examples(others, target=0)]), log)
    assert log.counts == {Dropped.CONFLICTING: 2}
    assert len(kept) == 6
    assert {row[2] for row in log.rows} == {"t1s-1r1", "t0s-1r2"}


def test_cleaning_given_splits_touches_train_only() -> None:
    train, other, test = _codes(6), _codes(3, seed=1), _codes(4, seed=2)
    train[1] = train[0]  # a duplicate
    other[0] = train[2]  # a conflict inside train
    train[3] = reverse_complement(test[0:1])[0]  # also in test
    test[3] = test[2]  # a duplicate inside test stays
    parts = [_examples(train, 1, 0), _examples(other, 0, 0), _examples(test, 1, 2)]
    log = DropLog(list(SOURCES))
    kept = drop_train_repeats(concatenate(parts), log)
    assert log.counts == {Dropped.DUPLICATE: 1, Dropped.CONFLICTING: 2, Dropped.IN_OTHER_SPLIT: 1}
    assert (kept.split == 2).sum() == 4
    assert (kept.split == 0).sum() == 5


def test_a_made_negative_that_equals_an_example_is_dropped_not_the_example() -> None:
    positives = _codes(3)
    made = np.concatenate([positives[1:2], _codes(2, seed=3), _codes(1, seed=3)])
    both = concatenate([_examples(positives), _examples(made, target=0)])
    log = DropLog(list(SOURCES))
    kept = drop_made_repeats(both, 3, log)
    assert log.counts == {Dropped.DUPLICATE: 2}
    assert kept.targets[:, 0].tolist() == [1, 1, 1, 0, 0]


def test_parents_follow_their_rows() -> None:
    examples = _examples(_codes(5))
    examples.parent[:] = [-1, -1, 0, 1, 1]
    taken = examples.take(np.array([3, 1, 2]))
    assert taken.parent.tolist() == [1, -1, -1]
