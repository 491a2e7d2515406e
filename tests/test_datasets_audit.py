import numpy as np
import pytest

from ebox.datasets import audit
from ebox.datasets.audit import audit_splits
from ebox.datasets.examples import Examples, make_examples
from ebox.sequences.codes import reverse_complement

TRAIN, VALIDATION, TEST = 0, 1, 2


def _examples(num: int = 300, length: int = 100) -> Examples:
    """A third in each split, alternately positive and negative, nothing shared."""
    codes = np.random.default_rng(0).integers(0, 4, (num, length), dtype=np.uint8)
    target = (np.arange(num) % 2).astype(np.uint8)
    names = [f"r{row}" for row in range(num)]
    examples = make_examples(codes, names, target=target, kind=1 - target.astype(np.int16), source=0)
    examples.split[:] = np.repeat([TRAIN, VALIDATION, TEST], num // 3)
    return examples


def _pair(report: dict, of: str, inside: str) -> dict:
    return next(pair for pair in report["between"] if pair["of"] == of and pair["in"] == inside)


def test_clean_splits_share_nothing() -> None:
    report = audit_splits(_examples(), 0.5, seed=0).report
    for pair in report["between"]:
        assert pair["any"] == 0
        assert pair["num_examples"] == 100
    for counts in report["within"].values():
        assert counts == {"exact": 0, "reverse_complement": 0, "conflicting_labels": 0}
    assert report["shared_kmers"]["test"]["positive"] == {"num_checked": 50, "num_sharing": 0}


def test_equal_sequences_are_told_from_reverse_complements() -> None:
    examples = _examples()
    examples.codes[200] = examples.codes[0]
    examples.codes[201] = examples.codes[1]
    examples.codes[202] = reverse_complement(examples.codes[2:3])[0]
    examples.codes[205] = examples.codes[4]  # test is positive there, train is not
    pair = _pair(audit_splits(examples, 0.5, seed=0).report, "test", "train")
    assert pair["exact"]["num_examples"] == 3
    assert pair["exact"]["other_label"] == 1
    assert pair["exact"]["examples"][0] == {"example": "r200", "equals": "r0"}
    assert pair["reverse_complement"]["num_examples"] == 1
    assert pair["reverse_complement"]["examples"] == [{"example": "r202", "equals": "r2"}]
    assert pair["similar"]["num_examples"] == 4
    assert pair["any"] == 4


def test_the_strand_of_a_pair_does_not_depend_on_a_third_sequence() -> None:
    examples = _examples()
    # The first of the group lies in train on the other strand; validation and test are equal on one strand.
    examples.codes[150] = reverse_complement(examples.codes[0:1])[0]
    examples.codes[250] = examples.codes[150]
    report = audit_splits(examples, 0.5, seed=0).report
    assert _pair(report, "test", "validation")["exact"]["num_examples"] == 1
    assert _pair(report, "test", "validation")["reverse_complement"]["num_examples"] == 0
    assert _pair(report, "test", "train")["exact"]["num_examples"] == 0
    assert _pair(report, "test", "train")["reverse_complement"]["num_examples"] == 1


def test_repeats_inside_a_split_are_counted_after_the_first() -> None:
    examples = _examples()
    examples.codes[[102, 104]] = examples.codes[100]
    examples.codes[106] = reverse_complement(examples.codes[108:109])[0]
    examples.codes[111] = examples.codes[110]
    report = audit_splits(examples, 0.5, seed=0).report
    assert report["within"]["validation"] == {"exact": 3, "reverse_complement": 1, "conflicting_labels": 1}
    assert report["within"]["train"]["exact"] == 0


def test_similar_sequences_and_shared_31mers_are_counted() -> None:
    examples = _examples()
    examples.codes[201, 20:] = examples.codes[1, :80]  # 65 of 85 16-mers
    examples.codes[203, :31] = reverse_complement(examples.codes[3:4])[0, 60:91]  # one 31-mer, on the other strand
    report = audit_splits(examples, 0.5, seed=0).report
    assert _pair(report, "test", "train")["similar"]["num_examples"] == 1
    assert report["shared_kmers"]["test"]["positive"] == {"num_checked": 50, "num_sharing": 2}
    assert report["shared_kmers"]["validation"]["positive"]["num_sharing"] == 0


def test_thirty_shared_bases_are_not_a_31mer() -> None:
    examples = _examples()
    examples.codes[203, :30] = examples.codes[3, 60:90]
    examples.codes[203, 30] = (examples.codes[3, 90] + 1) % 4
    assert audit_splits(examples, 0.5, seed=0).report["shared_kmers"]["test"]["positive"]["num_sharing"] == 0


def test_overlaps_on_the_genome_are_counted_by_the_half_open_rule() -> None:
    examples = _examples()
    examples.start[[0, 1, 200, 201, 202]] = [1000, 5000, 1099, 5100, 1050]
    examples.end[:] = np.where(examples.start >= 0, examples.start + 100, -1)
    examples.chrom[[0, 1, 200, 201]] = "chr1"
    examples.chrom[202] = "chr2"
    pair = _pair(audit_splits(examples, 0.5, seed=0).report, "test", "train")
    assert pair["overlap"]["num_examples"] == 1
    assert pair["overlap"]["examples"] == [{"example": "r200", "equals": "r0"}]


def test_overlaps_agree_with_all_against_all() -> None:
    examples = _examples()
    random = np.random.default_rng(5)
    examples.start[:] = random.integers(0, 6000, 300)
    examples.end[:] = examples.start + random.integers(1, 60, 300)
    examples.chrom[:] = random.choice(["chr1", "chr2", "chr3"], 300)
    report = audit_splits(examples, 0.5, seed=0).report
    overlap = (
        (examples.chrom[:, None] == examples.chrom)
        & (examples.start[:, None] < examples.end)
        & (examples.start < examples.end[:, None])
    )
    for of, inside, right, left in (
        ("test", "train", TEST, TRAIN),
        ("validation", "train", VALIDATION, TRAIN),
        ("test", "validation", TEST, VALIDATION),
    ):
        expected = overlap[examples.split == right][:, examples.split == left].any(axis=1).sum()
        assert _pair(report, of, inside)["overlap"]["num_examples"] == expected


def test_what_equals_on_the_same_strand_is_not_counted_for_the_other_too() -> None:
    examples = _examples()
    examples.codes[200] = examples.codes[0]
    examples.codes[2] = reverse_complement(examples.codes[0:1])[0]
    pair = _pair(audit_splits(examples, 0.5, seed=0).report, "test", "train")
    assert pair["exact"]["num_examples"] == 1
    assert pair["reverse_complement"]["num_examples"] == 0


def test_few_held_out_sequences_are_looked_for_in_all_of_train() -> None:
    examples = _examples()
    examples.split[100:] = TRAIN
    examples.split[[298, 299]] = [VALIDATION, TEST]
    examples.codes[299, 10:50] = examples.codes[5, 40:80]
    report = audit_splits(examples, 0.5, seed=0).report["shared_kmers"]
    assert report["validation"] == {
        "positive": {"num_checked": 0, "num_sharing": 0},
        "negative": {"num_checked": 1, "num_sharing": 0},
    }
    assert report["test"]["positive"] == {"num_checked": 1, "num_sharing": 1}


def test_of_many_rows_so_many_are_drawn_to_be_searched_for_31mers(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = _examples()
    whole = audit_splits(examples, 0.5, seed=0).report["shared_kmers"]
    assert [whole["validation"][label]["num_checked"] for label in ("positive", "negative")] == [50, 50]
    monkeypatch.setattr(audit, "MAX_ROWS_FOR_LONG_KMERS", 30)
    drawn = audit_splits(examples, 0.5, seed=0).report["shared_kmers"]
    for name in ("validation", "test"):
        assert sum(counts["num_checked"] for counts in drawn[name].values()) == 30


def test_who_overlaps_is_named_though_a_later_start_ends_before() -> None:
    examples = _examples()
    # The source that starts last before the asked one ends early; the first one reaches further.
    examples.start[[0, 1, 2, 200]] = [1000, 1010, 1020, 1500]
    examples.end[[0, 1, 2, 200]] = [1400, 1600, 1100, 1510]
    examples.chrom[[0, 1, 2, 200]] = "chr1"
    pair = _pair(audit_splits(examples, 0.5, seed=0).report, "test", "train")
    assert pair["overlap"]["examples"] == [{"example": "r200", "equals": "r1"}]
