"""Relatives are found at the distances that matter, strangers are not, and families stay whole up to their size."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ebox.datasets.build import build_dataset
from ebox.datasets.families import join_families
from ebox.datasets.relatives import Relatives, find_relatives
from ebox.datasets.seeds import cut_windows, index_seeds
from ebox.datasets.sources import DatasetSources
from ebox.sequences.alignment import align, spell_first, spell_second
from ebox.sequences.codes import decode, reverse_complement
from ebox.sequences.shuffle import shuffle_dinucleotides
from ebox.settings.reading import DataConfig

LENGTH = 200


def draw(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, (num, LENGTH)).astype(np.uint8)


def substitute(codes: np.ndarray, share: float, seed: int = 1) -> np.ndarray:
    """Another base at this share of the positions of each sequence."""
    random = np.random.default_rng(seed)
    changed = codes.copy()
    for row in changed:
        at = random.choice(LENGTH, round(share * LENGTH), replace=False)
        row[at] = (row[at] + random.integers(1, 4, len(at))) % 4
    return changed


def insert_and_delete(codes: np.ndarray, num: int, seed: int = 2) -> np.ndarray:
    """As many single bases inserted or deleted in each sequence, filled up to its length."""
    random = np.random.default_rng(seed)
    changed = []
    for row in codes.tolist():
        for _ in range(num):
            at = int(random.integers(len(row)))
            if random.random() < 0.5:
                del row[at]
            else:
                row.insert(at, int(random.integers(4)))
        changed.append((row + random.integers(0, 4, LENGTH).tolist())[:LENGTH])
    return np.array(changed, dtype=np.uint8)


def shift_by_half(codes: np.ndarray) -> np.ndarray:
    return np.concatenate([codes[:, LENGTH // 2 :], draw(len(codes), 3)[:, : LENGTH // 2]], axis=1)


PLANTED = {
    "5 % substitutions": (lambda codes: substitute(codes, 0.05), 0.99),
    "10 % substitutions": (lambda codes: substitute(codes, 0.10), 0.95),
    "15 % substitutions": (lambda codes: substitute(codes, 0.15), 0.80),
    "10 indels": (lambda codes: insert_and_delete(codes, 10), 0.95),
    "half an overlap": (shift_by_half, 0.95),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_pairs_are_found_on_either_strand(kind: str) -> None:
    change, least = PLANTED[kind]
    first = draw(500)
    second = change(first)
    second[::2] = reverse_complement(second[::2])
    background = draw(20_000, seed=9)
    codes = np.concatenate([first, background, second])
    sources, queries = np.arange(20_500), np.arange(20_500, 21_000)
    found = find_relatives(codes, queries, sources)
    partner = found.source == found.query - 20_500
    assert len(np.unique(found.query[partner])) >= least * 500
    assert partner.all(), "a stranger was taken for a relative"
    assert (found.identity >= 0.8).all()


def test_shuffles_have_no_relatives() -> None:
    codes = draw(2_000)
    # Composition and repeats as in a genome: a third of each sequence is one of a few simple repeats.
    codes[:, : LENGTH // 3] = np.tile(draw(8, 5)[:, :6], (250, 12))[:, : LENGTH // 3]
    shuffled = shuffle_dinucleotides(codes, 7)
    both = np.concatenate([codes, shuffled])
    found = find_relatives(both, np.arange(2_000, 4_000), np.arange(2_000))
    assert len(np.unique(found.query)) <= 20


def test_a_row_is_not_its_own_relative_and_a_pair_is_listed_once() -> None:
    codes = draw(50)
    codes[7] = reverse_complement(substitute(codes[3:4], 0.05))[0]
    rows = np.arange(50)
    found = find_relatives(codes, rows, rows)
    assert {tuple(sorted(pair)) for pair in zip(found.query.tolist(), found.source.tolist(), strict=True)} == {(3, 7)}
    assert len(found.query) == 1


def test_unknown_bases_match_nothing() -> None:
    codes = np.full((2, LENGTH), 4, dtype=np.uint8)
    codes[:, :50] = draw(1)[:, :50]
    assert not len(find_relatives(codes, np.array([0]), np.array([1])).query)
    assert align(spell_first(codes[0]), spell_second(codes[1]), 51, 0.8) is None


def test_nothing_to_compare_gives_nothing() -> None:
    codes = draw(3)
    none = np.empty(0, dtype=np.int64)
    assert not len(find_relatives(codes, none, np.arange(3)).query)
    assert not len(find_relatives(codes, np.arange(3), none).query)


@pytest.mark.parametrize("length", [6, 11, 12, 40, 2000])
def test_windows_of_any_length_are_compared(length: int) -> None:
    random = np.random.default_rng(length)
    codes = random.integers(0, 4, (6, length)).astype(np.uint8)
    codes[5] = codes[0]
    found = find_relatives(codes, np.array([5]), np.arange(5))
    assert found.source.tolist() == [0] or length < 12


def test_a_well_kept_half_is_found_in_a_poor_whole() -> None:
    """100 columns at 90 %, then 100 at 66 %: the whole is below 80 %, the half is not."""
    first = draw(1)[0]
    second = first.copy()
    second[np.arange(0, 100, 10)] = (second[np.arange(0, 100, 10)] + 1) % 4
    second[np.arange(100, 200, 3)] = (second[np.arange(100, 200, 3)] + 1) % 4
    whole = align(spell_first(first), spell_second(second), 180, 0.76)
    half = align(spell_first(first), spell_second(second), 100, 0.8)
    assert whole is not None
    assert whole.identity < 0.8
    assert half is not None
    assert half.columns >= 100
    assert half.identity >= 0.8
    assert align(spell_first(first), spell_second(second), 190, 0.8) is None


def test_a_family_is_whole_up_to_its_size_and_the_weakest_links_are_cut() -> None:
    label = np.arange(8)
    # Two close trios, joined by one weak link, and a pair.
    links = [(0, 1, 0.95), (1, 2, 0.96), (3, 4, 0.97), (4, 5, 0.94), (2, 3, 0.81), (6, 7, 0.82)]
    query, source, identity = (np.array(column) for column in zip(*links, strict=True))
    relatives = Relatives(query, source, identity, np.empty(0, dtype=np.int64))
    whole, cut = join_families(label, relatives, max_size=6)
    assert whole.tolist() == [0, 0, 0, 0, 0, 0, 6, 6]
    assert not len(cut)
    parted, cut = join_families(label, relatives, max_size=5)
    assert parted.tolist() == [0, 0, 0, 3, 3, 3, 6, 6]
    assert cut.tolist() == [4]


def test_clusters_are_never_divided() -> None:
    label = np.array([0, 0, 0, 0, 4])
    relatives = Relatives(np.array([4]), np.array([1]), np.array([0.9]), np.empty(0, dtype=np.int64))
    parted, cut = join_families(label, relatives, max_size=2)
    assert parted.tolist() == [0, 0, 0, 0, 4]
    assert cut.tolist() == [0]


def write_fasta(path: Path, names: list[str], codes: np.ndarray) -> Path:
    path.write_text("".join(f">{name}\n{decode(row)}\n" for name, row in zip(names, codes, strict=True)))
    return path


def test_negatives_on_positives_are_dropped_and_told(tmp_path: Path) -> None:
    positives, others = draw(60), draw(60, 8)
    shifted = np.concatenate([positives[:10, 20:], draw(10, 6)[:, :20]], axis=1)
    negatives = np.concatenate([others[:50], reverse_complement(shifted)])
    sources = DatasetSources(
        positives=write_fasta(tmp_path / "p.fa", [f"p{row}" for row in range(60)], positives),
        negatives=(write_fasta(tmp_path / "n.fa", [f"n{row}" for row in range(60)], negatives),),
    )
    dropped = build_dataset(DataConfig(), tmp_path / "d", sources).quality
    assert dropped["dropped"] == {"near_positive": 10}
    assert [warning["code"] for warning in dropped["warnings"]][-1] == "near_positives_dropped"
    assert "resembles=p" in (tmp_path / "d" / "dropped.tsv").read_text()
    kept = build_dataset(DataConfig(drop_near_positives=False), tmp_path / "k", sources).quality
    assert kept["num_near_positives"] == 10
    assert not kept["dropped"]
    assert "near_positives" in [warning["code"] for warning in kept["warnings"]]


@pytest.mark.parametrize(("shift_bp", "dropped"), [(1, 30), (99, 30), (101, 0), (-100, 30)])
def test_the_place_of_a_negative_is_compared_with_that_of_positives(
    tmp_path: Path, shift_bp: int, dropped: int
) -> None:
    """Other letters at the same places: only the places can tell."""
    starts = 1_000 + 1_000 * np.arange(30)
    chroms = ["chr1", "chr2", "chr3"]

    def name(start: int, row: int) -> str:
        return f"{chroms[row % 3]}:{start}-{start + LENGTH}"

    at = [name(start, row) for row, start in enumerate(starts.tolist())]
    near = [name(start + shift_bp, row) for row, start in enumerate(starts.tolist())]
    far = [name(start + 100_000, row) for row, start in enumerate(starts.tolist())]
    sources = DatasetSources(
        positives=write_fasta(tmp_path / "p.fa", at, draw(30)),
        negatives=(write_fasta(tmp_path / "n.fa", near + far, draw(60, 4)),),
    )
    config = DataConfig(validation_chroms=("chr2",), test_chroms=("chr3",))
    assert build_dataset(config, tmp_path / "d", sources).quality["dropped"].get("near_positive", 0) == dropped


def test_a_random_split_keeps_families_whole(tmp_path: Path) -> None:
    """Copies 12 % off their ancestor, the label drawn for each family: nothing of it may cross the splits."""
    ancestors = draw(60)
    copies = np.concatenate([substitute(ancestors, 0.12, seed) for seed in range(10)])
    family = np.tile(np.arange(60), 10)
    bound = np.random.default_rng(5).random(60) < 0.5
    parts = {}
    for label, name in ((True, "p"), (False, "n")):
        rows = np.flatnonzero(bound[family] == label)
        parts[name] = write_fasta(tmp_path / f"{name}.fa", [f"f{family[row]}_{row}" for row in rows], copies[rows])
    sources = DatasetSources(positives=parts["p"], negatives=(parts["n"],))
    dataset = build_dataset(DataConfig(split_fractions=(0.5, 0.25, 0.25)), tmp_path / "d", sources)
    table = dataset.examples.with_columns(family=dataset.examples["name"].str.extract("f([0-9]+)_"))
    one_side = table.group_by("family").agg(pl.col("split").n_unique())
    assert (one_side["split"] == 1).mean() >= 0.95
    assert table["relative"].null_count() >= 0.97 * len(table)
    free = build_dataset(DataConfig(keep_families=False), tmp_path / "f", sources)
    assert free.examples["relative"].is_not_null().sum() > 100
    warned = next(warning for warning in free.quality["warnings"] if warning["code"] == "leak_relative")
    assert warned["num"] > 0.9 * warned["num_examples"]


def test_sources_read_in_parts_give_the_same_relatives(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.concatenate([draw(300), substitute(draw(300), 0.1)])
    rows = np.arange(600)
    wanted = {tuple(sorted(pair)) for pair in find_pairs(codes, rows)}
    assert wanted == {(row, row + 300) for row in range(300)}
    monkeypatch.setattr("ebox.datasets.relatives.MAX_PLACES", 70 * LENGTH)
    assert {tuple(sorted(pair)) for pair in find_pairs(codes, rows)} == wanted


@pytest.mark.parametrize("chunk", [50, 1 << 23])
def test_an_index_holds_each_word_of_a_sequence_once(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr("ebox.datasets.seeds._CHUNK_ENTRIES", chunk)
    codes = draw(5)
    codes[0, 50:100] = codes[0, :50]
    codes[1, 150:] = reverse_complement(codes[1:2, :50])[0]
    codes[2, 20] = 4
    index = index_seeds(codes, np.arange(5))
    place = (index.entries >> np.uint64(1)) & np.uint64(0xFFFFFFFF)
    row = index.rows[(place // np.uint64(index.width)).astype(np.int64)]
    found = sorted(zip(row.tolist(), (index.entries >> np.uint64(33)).tolist(), strict=True))
    assert found == sorted((row, word) for row in range(5) for word in spell_words(codes[row], index.word_bp))


def spell_words(codes: np.ndarray, word_bp: int) -> set[int]:
    """The smaller of both strands of each word without an N, two bits a base."""
    words = set()
    for start in range(len(codes) - word_bp + 1):
        strands = codes[None, start : start + word_bp], reverse_complement(codes[None, start : start + word_bp])
        if (strands[0] < 4).all():
            words.add(min(int("".join(map(str, strand[0].tolist())), 4) for strand in strands))
    return words


def test_windows_are_cut_from_any_place() -> None:
    codes = draw(2)
    for flat, width in ((codes, 61), (codes[:1, :30], 61), (codes[:1, :61], 61)):
        every = flat.reshape(-1)
        start = np.arange(-70, len(every) + 10)
        cut = cut_windows(flat, start, width)
        at = start[:, None] + np.arange(width)
        inside = (at >= 0) & (at < len(every))
        np.testing.assert_array_equal(cut[inside], every[at[inside]])


def find_pairs(codes: np.ndarray, rows: np.ndarray) -> list[tuple[int, int]]:
    found = find_relatives(codes, rows, rows)
    return list(zip(found.query.tolist(), found.source.tolist(), strict=True))
