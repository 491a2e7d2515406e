"""Several tracks: one sequence is one example with a label for each, and what nobody measured is unknown."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ebox.datasets.build import build_dataset
from ebox.datasets.folder import SPLITS, Dataset, open_dataset
from ebox.datasets.other import read_other
from ebox.datasets.sources import DatasetSources, read_sources
from ebox.errors import InputError
from ebox.models.architectures import build_model
from ebox.models.files import load_model, save_model
from ebox.reporting.languages.english import say
from ebox.settings.reading import DataConfig, make_config
from ebox.verbs.build import describe
from ebox.verbs.evaluated import _fit_to

# Of loci: nothing overlaps by chance.
APART_BP = 3_000


def _letters(num: int, seed: int, length: int = 60) -> list[str]:
    codes = np.random.default_rng(seed).integers(0, 4, (num, length))
    return ["".join("ACGT"[code] for code in row) for row in codes]


def _flip(sequence: str) -> str:
    return sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))


def _fasta(path: Path, sequences: list[str]) -> Path:
    path.write_text("".join(f">{path.stem}{row}\n{text}\n" for row, text in enumerate(sequences)))
    return path


def _tracks(folder: Path, *lines: str, columns: str = "track\tpositives\tnegatives") -> Path:
    path = folder / "tracks.tsv"
    path.write_text("\n".join([columns, *lines]) + "\n")
    return path


def _build(folder: Path, sources: DatasetSources, **settings: object) -> Dataset:
    build_dataset(DataConfig.model_validate(settings), folder / "out", sources)
    return open_dataset(folder / "out", "full")


def _targets_of(dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """The labels of each example by its letters."""
    rows = ("".join("ACGTN"[code] for code in row) for row in np.asarray(dataset.codes))
    return {text: tuple(labels) for text, labels in zip(rows, np.asarray(dataset.targets).tolist(), strict=True)}


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, dict[str, list[str]]]:
    """Two tracks that share ten sequences, one of them on the other strand, with negatives for both and for one."""
    both, hsc, ecfc = _letters(10, 0), _letters(50, 1), _letters(40, 2)
    of_all, of_ecfc = _letters(80, 3), _letters(30, 4)
    _fasta(tmp_path / "hsc.fa", both + hsc)
    _fasta(tmp_path / "ecfc.fa", [_flip(both[0]), *both[1:], *ecfc])
    _fasta(tmp_path / "only_ecfc.fa", [*of_ecfc, hsc[0]])
    _fasta(tmp_path / "unbound.fa", of_all)
    table = _tracks(tmp_path, "HSC\thsc.fa\t", "ECFC\tecfc.fa\tonly_ecfc.fa")
    known = {"both": both, "hsc": hsc, "ecfc": ecfc, "of_all": of_all, "of_ecfc": of_ecfc}
    return table, known


def test_a_sequence_of_two_tracks_is_one_row_with_two_labels(
    tmp_path: Path, two: tuple[Path, dict[str, list[str]]]
) -> None:
    table, known = two
    dataset = _build(tmp_path, read_sources(tracks=table, negatives=[tmp_path / "unbound.fa"]))
    assert dataset.tracks == ("HSC", "ECFC")
    found = _targets_of(dataset)
    expected = dict.fromkeys(known["both"], (1, 1)) | dict.fromkeys(known["hsc"], (1, 255))
    expected |= dict.fromkeys(known["ecfc"], (255, 1)) | dict.fromkeys(known["of_all"], (0, 0))
    # Positive in one track, and given as a negative of the other: both are known, and it is one row.
    expected |= dict.fromkeys(known["of_ecfc"], (255, 0)) | {known["hsc"][0]: (1, 0)}
    assert found == expected
    assert dataset.quality["dropped"] == {"joined": 11}
    assert set(dataset.kinds) == {"positive", "unbound", "only_ecfc"}


def test_the_labels_of_each_track_are_counted_and_told(tmp_path: Path, two: tuple[Path, dict[str, list[str]]]) -> None:
    dataset = _build(tmp_path, read_sources(tracks=two[0], negatives=[tmp_path / "unbound.fa"]))
    counts = dataset.quality["tracks"]
    for number, track in enumerate(dataset.tracks):
        for split in SPLITS:
            labels = np.asarray(dataset.targets[dataset.rows(split), number])
            numbers = [counts[track][split][name] for name in ("positive", "negative", "unknown")]
            assert numbers == [int((labels == label).sum()) for label in (1, 0, 255)]
    for split in SPLITS:
        assert dataset.manifest["splits"][split]["num_positive"] == [counts[t][split]["positive"] for t in counts]
    told = describe(dataset)
    assert f"track ECFC: train {counts['ECFC']['train']['positive']:,} positive" in told
    assert f"{counts['ECFC']['test']['unknown']:,} unknown" in told
    few = [warning for warning in dataset.quality["warnings"] if warning["code"] == "few_to_measure"]
    assert {(note["track"], note["of"]) for note in few} >= {("HSC", "test"), ("ECFC", "test")}
    assert "test is too small for ECFC to conclude" in " ".join(map(say, few))


def test_a_random_split_gives_a_small_track_its_share_of_every_split(tmp_path: Path) -> None:
    _fasta(tmp_path / "large.fa", _letters(400, 0))
    _fasta(tmp_path / "small.fa", _letters(40, 1))
    table = _tracks(tmp_path, "large\tlarge.fa", "small\tsmall.fa", columns="track\tpositives")
    dataset = _build(tmp_path, read_sources(tracks=table, negatives=[_fasta(tmp_path / "n.fa", _letters(300, 2))]))
    shares = {split: dataset.manifest["splits"][split]["num_positive"] for split in SPLITS}
    assert shares == {"train": [280, 28], "validation": [80, 8], "test": [40, 4]}


def test_a_locus_with_peaks_in_two_tracks_is_one_window_in_one_split(tmp_path: Path) -> None:
    contigs = [f">chr{number}\n{_letters(1, number, 45 * APART_BP)[0]}\n" for number in (1, 2, 3)]
    (tmp_path / "g.fa").write_text("".join(contigs))
    places = [(chrom, APART_BP * number) for chrom in ("chr1", "chr2", "chr3") for number in range(1, 40)]

    def write(name: str, shift: int, chosen: list[tuple[str, int]]) -> None:
        lines = (f"{chrom}\t{start + shift - 100}\t{start + shift + 100}\n" for chrom, start in chosen)
        (tmp_path / name).write_text("".join(lines))

    write("a.bed", 0, places[::2])
    # Half of these are 50 bp from one of a, which is a quarter of the window.
    write("b.bed", 50, places[:60])
    write("c.bed", -51, places[:40])
    lines = ("a\ta.bed", "b\tb.bed", "c\tc.bed")
    table = _tracks(tmp_path, *lines, columns="track\tpeaks")
    dataset = _build(tmp_path, read_sources(tracks=table, genome=tmp_path / "g.fa"), split="random")
    positive = dataset.examples.filter(dataset.examples["kind"] == "positive")
    labels = np.asarray(dataset.targets)[dataset.kinds == "positive"]
    assert int((labels == [1, 1, 255]).all(axis=1).sum()) == 30
    assert int((labels == [255, 1, 255]).all(axis=1).sum()) == 30
    # Those of c are 51 bp from a, and 101 from b.
    assert (labels == [255, 255, 1]).all(axis=1).sum() == 40
    assert dataset.quality["dropped"]["joined"] == 30
    # What overlaps stands in one cluster, and so in one split.
    near = positive.filter((positive["chrom"] == "chr1") & (positive["start"] < APART_BP + 100))
    assert near.height == 2
    assert near["split"].n_unique() == 1
    assert (np.asarray(dataset.targets)[dataset.kinds == "matched"] == 0).all()


def test_columns_of_a_table_are_tracks_and_empty_labels_are_unknown(tmp_path: Path) -> None:
    sequences = _letters(124, 0)
    labels = ["1,0", "0,1", "1,", ",0", "NA,1", "0,0"] * 20 + [",", "NA,.", "1,1", "0,nan"]
    rows = "".join(f"{text},{label}\n" for text, label in zip(sequences, labels, strict=True))
    (tmp_path / "t.csv").write_text("sequence,GATA1,TAL1\n" + rows)
    dataset = _build(tmp_path, read_sources(table=tmp_path / "t.csv"), label_columns=["TAL1", "GATA1"])
    assert dataset.tracks == ("TAL1", "GATA1")
    words = {"0": 0, "1": 1}
    known = {
        text: tuple(words.get(word, 255) for word in reversed(label.split(",")))
        for text, label in zip(sequences, labels, strict=True)
    }
    assert _targets_of(dataset) == {text: both for text, both in known.items() if both != (255, 255)}
    # A row that says nothing is no example, and is counted.
    assert dataset.quality["dropped"] == {"unlabelled": 2}


def test_two_labels_of_one_track_are_a_conflict_and_two_of_two_tracks_are_not(tmp_path: Path) -> None:
    sequences = _letters(90, 0)
    rows = [f"{text},{number % 2},{number // 2 % 2}\n" for number, text in enumerate(sequences)]
    rows += [f"{sequences[0]},1,\n", f"{_flip(sequences[1])},1,\n", f"{sequences[2]},,\n"]
    (tmp_path / "t.csv").write_text("sequence,a,b\n" + "".join(rows))
    dataset = _build(tmp_path, read_sources(table=tmp_path / "t.csv"), label_columns=["a", "b"])
    assert dataset.quality["dropped"] == {"conflicting_labels": 2, "joined": 1, "unlabelled": 1}
    found = _targets_of(dataset)
    assert sequences[0] not in found
    assert found[sequences[1]] == (1, 0)


def test_a_negative_is_in_doubt_only_near_a_positive_of_its_own_track(tmp_path: Path) -> None:
    a, b = _letters(60, 0), _letters(60, 1)
    # 50 of 60 bases of a positive of each track, given as negatives of b alone.
    near = [f"{text[10:]}{'ACGTACGTAC'}" for text in (a[0], b[0])]
    _fasta(tmp_path / "a.fa", a)
    _fasta(tmp_path / "b.fa", b)
    _fasta(tmp_path / "n.fa", _letters(60, 2))
    _fasta(tmp_path / "nb.fa", near)
    table = _tracks(tmp_path, "a\ta.fa\t", "b\tb.fa\tnb.fa")
    dataset = _build(tmp_path, read_sources(tracks=table, negatives=[tmp_path / "n.fa"]))
    found = _targets_of(dataset)
    assert found[near[0]] == (255, 0)
    assert near[1] not in found
    assert dataset.quality["dropped"] == {"near_positive": 1}


_BAD_TABLES = [
    ("track\tpositive", ["a\ta.fa"], r"line 1.*has the column 'positive'; did you mean 'positives'"),
    ("track\tpositives\tpositives", ["a\ta.fa\tb.fa"], "has the column 'positives' twice"),
    ("track\tnegatives", ["a\ta.fa"], "has no column positives or peaks"),
    ("positives", ["a.fa"], "has no column track"),
    ("track\tpositives", ["a"], r"line 2.*has 1 columns, the first line has 2"),
    ("track\tpositives", ["\ta.fa"], r"line 2.*the name of the track is empty"),
    ("track\tpositives", ["a\ta.fa", "a\tb.fa"], r"line 3, record 'a'.*stands there twice"),
    ("track\tpositives", ["a\ta.fa", "b\t./a.fa"], r"line 3, record 'b'.*has the positives of a"),
    ("track\tpositives", ["a\t"], r"line 2, record 'a'.*has neither positives nor peaks"),
    ("track\tpositives\tpeaks", ["a\ta.fa\tb.fa"], "has positives and peaks"),
    ("track\tpositives", ["a\tother.fa"], r"line 2, record 'a'.*no such file of positives: .*other\.fa"),
    ("track\tpositives", [], "names no track"),
]


@pytest.mark.parametrize(("columns", "lines", "message"), _BAD_TABLES)
def test_a_bad_table_of_tracks_is_refused_with_the_line(
    tmp_path: Path, columns: str, lines: list[str], message: str
) -> None:
    for name in ("a.fa", "b.fa"):
        _fasta(tmp_path / name, _letters(20, len(name)))
    with pytest.raises(InputError) as caught:
        read_sources(tracks=_tracks(tmp_path, *lines, columns=columns))
    assert re.search(message, str(caught.value), flags=re.DOTALL), str(caught.value)
    assert caught.value.remedy


def test_a_track_without_a_class_is_named_before_anything_is_written(tmp_path: Path) -> None:
    _fasta(tmp_path / "a.fa", _letters(60, 0))
    _fasta(tmp_path / "b.fa", _letters(60, 1))
    _fasta(tmp_path / "n.fa", _letters(60, 2))
    sources = read_sources(tracks=_tracks(tmp_path, "a\ta.fa\tn.fa", "b\tb.fa\t"))
    with pytest.raises(InputError, match=r"positives of b only, no negatives(.|\n)*column negatives in the table"):
        build_dataset(DataConfig(), tmp_path / "out", sources)
    rows = "".join(f"{text},{number % 2},{'' if number < 80 else 1}\n" for number, text in enumerate(_letters(90, 3)))
    (tmp_path / "t.csv").write_text("sequence,a,b\n" + rows)
    with pytest.raises(InputError, match="positives of b only"):
        build_dataset(DataConfig(label_columns=("a", "b")), tmp_path / "out", read_sources(table=tmp_path / "t.csv"))
    assert not (tmp_path / "out").exists()


def test_a_split_without_a_class_of_a_track_names_both(tmp_path: Path) -> None:
    for split, last in (("train", "0"), ("validation", "1"), ("test", "")):
        rows = "".join(f"{text},{row % 2},{row // 2 % 2 if split == 'train' else last}\n"
                       for row, text in enumerate(_letters(24, len(split))))  # fmt: skip
        (tmp_path / f"{split}.csv").write_text("sequence,a,b\n" + rows)
    sources = read_sources(**{split: tmp_path / f"{split}.csv" for split in SPLITS})
    with pytest.raises(InputError, match=r"validation split has no negatives of b \(train 12 positive and 12 negative"):
        build_dataset(DataConfig(label_columns=("a", "b")), tmp_path / "out", sources)


@pytest.mark.parametrize(
    ("settings", "files", "message"),
    [
        ({"label_columns": ("a",)}, {"positives": "p.fa"}, "names columns of a table, and none is given"),
        ({"label_columns": ("a",), "track": "b"}, {"table": "t.csv"}, r"(?s)track is b, but --label-columns.*leave"),
        ({"track": "b"}, {"tracks": "tracks.tsv"}, r"(?s)track is b, but --tracks names them.*leave data.track out"),
        ({"label_columns": ("a",)}, {"tracks": "tracks.tsv"}, "--tracks names files"),
        ({"balance_given": True}, {"tracks": "tracks.tsv"}, "balance_given is for one track"),
        ({}, {"tracks": "tracks.tsv", "positives": "p.fa"}, "--positives and --tracks can't be combined"),
        ({"label_columns": ("a", "c")}, {"table": "t.csv"}, "has no column 'c'"),
    ],
)
def test_what_does_not_go_together_is_refused(
    tmp_path: Path, settings: dict[str, object], files: dict[str, str], message: str
) -> None:
    for name in ("p.fa", "q.fa"):
        _fasta(tmp_path / name, _letters(20, ord(name[0])))
    _tracks(tmp_path, "a\tp.fa", "b\tq.fa", columns="track\tpositives")
    (tmp_path / "t.csv").write_text("sequence,a,b\nACGTACGT,1,0\n")
    sources = read_sources(**{name: tmp_path / file for name, file in files.items()})
    with pytest.raises(InputError, match=message):
        build_dataset(DataConfig.model_validate(settings), tmp_path / "out", sources)
    assert not (tmp_path / "out").exists()


def test_columns_named_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="'a' is in label_columns twice"):
        DataConfig(label_columns=("a", "b", "a"))


def test_a_dataset_with_the_tracks_of_a_network_in_another_order_is_taken_in_its_order(tmp_path: Path) -> None:
    rows = "".join(f"{text},{row % 2},{row % 3 % 2}\n" for row, text in enumerate(_letters(120, 0)))
    (tmp_path / "t.csv").write_text("sequence,a,b\n" + rows)
    dataset = _build(tmp_path, read_sources(table=tmp_path / "t.csv"), label_columns=["b", "a"])
    config = make_config({"model": {"architecture": "motif", "num_filters": 4, "dense_units": [4]}})
    models = {}
    for tracks in (("a", "b"), ("a", "c"), ("c",)):
        network = build_model(config.model, len(tracks), 60, np.random.default_rng(0))
        save_model(tmp_path / tracks[-1], network, config, tracks, 60, [None] * len(tracks))
        models[tracks] = load_model(tmp_path / tracks[-1])
    fitted = _fit_to(dataset, models["a", "b"])
    assert (dataset.tracks, fitted.tracks) == (("b", "a"), ("a", "b"))
    np.testing.assert_array_equal(fitted.targets, np.asarray(dataset.targets)[:, ::-1])
    assert fitted.is_positive(1).tolist() == dataset.is_positive(0).tolist()
    assert fitted.examples.equals(dataset.examples)
    assert _fit_to(fitted, models["a", "b"]) is fitted
    with pytest.raises(InputError, match=r"gives a, c\n.*the tracks a,c, in any order.*--label-columns a,c"):
        _fit_to(dataset, models["a", "c"])
    with pytest.raises(InputError, match=r"gives c\n.*--set data.track=c from.*--label-columns c\)"):
        _fit_to(dataset, models[("c",)])


def test_every_file_of_the_tracks_is_an_input(tmp_path: Path) -> None:
    for name in ("a.fa", "b.fa", "n.fa"):
        _fasta(tmp_path / name, _letters(20, ord(name[0])))
    table = _tracks(tmp_path, "a\ta.fa\tn.fa", "b\tb.fa\tn.fa")
    files = read_sources(tracks=table).list_files()
    assert {path.name for path in files.values()} == {"tracks.tsv", "a.fa", "b.fa", "n.fa"}
    with pytest.raises(InputError, match="writing this would remove the input"):
        build_dataset(DataConfig(), tmp_path, read_sources(tracks=table))


def test_a_table_with_columns_of_labels_is_measured_by_track(tmp_path: Path) -> None:
    rows = "".join(f"{text},{row % 2},{'' if row < 20 else row % 3 % 2}\n" for row, text in enumerate(_letters(60, 0)))
    (tmp_path / "t.csv").write_text("sequence,a,b\n" + rows)
    config = DataConfig(label_columns=("a", "b"), length_bp=60, negatives=("given",))
    sources = read_sources(table=tmp_path / "t.csv")
    found = read_other(config, sources, None, path=tmp_path / "t.csv")
    assert found.dataset.tracks == ("a", "b")
    assert found.quality is not None
    assert found.quality["tracks"]["b"]["test"]["unknown"] == 20
    trained = _build(tmp_path, sources, label_columns=["a", "b"])
    # Seen in training is seen, whatever the track.
    seen = read_other(config, sources, trained, path=tmp_path / "t.csv").dataset
    relative = seen.examples["relative"][seen.rows("test").start :].is_not_null()
    assert int(relative.sum()) == trained.rows("train").stop
