import gzip
import re
import signal
import textwrap
from pathlib import Path

import numpy as np
import pytest

import processes
from ebox.datasets.build import build_dataset
from ebox.datasets.folder import open_dataset
from ebox.datasets.sources import DatasetSources
from ebox.errors import InputError
from ebox.reporting.languages.english import say
from ebox.settings.reading import DataConfig

SHUFFLED = DataConfig(negatives=("shuffled",))


def _letters(num: int, length: int = 60, seed: int = 0) -> list[str]:
    codes = np.random.default_rng(seed).integers(0, 4, (num, length))
    return ["".join("ACGT"[code] for code in row) for row in codes]


def _flip(sequence: str) -> str:
    return sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))


def _fasta(path: Path, sequences: list[str], headers: list[str] | None = None) -> Path:
    names = [f"r{row}" for row in range(len(sequences))] if headers is None else headers
    path.write_text("".join(f">{name}\n{text}\n" for name, text in zip(names, sequences, strict=True)))
    return path


def _table(path: Path, sequences: list[str], labels: list[int]) -> Path:
    rows = "".join(f"{text},{label}\n" for text, label in zip(sequences, labels, strict=True))
    path.write_text("sequence,label\n" + rows)
    return path


def _dropped(folder: Path) -> list[list[str]]:
    return [line.split("\t") for line in (folder / "dropped.tsv").read_text().splitlines()[1:]]


def test_two_files_become_a_dataset(tmp_path: Path) -> None:
    positives = _fasta(tmp_path / "bound.fa", _letters(100))
    negatives = _fasta(tmp_path / "unbound.fa", _letters(300, seed=1))
    stages = []
    dataset = build_dataset(
        DataConfig(track="TAL1"),
        tmp_path / "out",
        DatasetSources(positives=positives, negatives=(negatives,)),
        command=["ebox", "data"],
        progress=lambda stage, done, total: stages.append((stage, done, total)),
    )
    assert len(dataset) == 400
    assert dataset.tracks == ("TAL1",)
    assert dataset.manifest["command"] == ["ebox", "data"]
    assert dataset.manifest["kinds"] == ["positive", "given"]
    assert [source["records"] for source in dataset.manifest["sources"]] == [100, 300]
    assert dataset.quality["split"]["mode"] == "random"
    assert {name: part["num_positive"] for name, part in dataset.manifest["splits"].items()} == {
        "train": [70],
        "validation": [20],
        "test": [10],
    }
    assert len(open_dataset(tmp_path / "out", "full")) == 400
    assert all(0 <= done <= total for _, done, total in stages)
    assert stages[-1] == ("writing the dataset", 1, 1)


def test_the_same_input_gives_the_same_fingerprint(tmp_path: Path) -> None:
    positives = _fasta(tmp_path / "bound.fa", _letters(60))
    made = [
        build_dataset(
            DataConfig(negatives=("shuffled",), seed=seed), tmp_path / name, DatasetSources(positives=positives)
        )
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert made[0].fingerprint == made[1].fingerprint
    assert made[0].fingerprint != made[2].fingerprint


def test_shuffled_negatives_stand_with_their_positive(tmp_path: Path) -> None:
    positives = _fasta(tmp_path / "bound.fa", _letters(100))
    dataset = build_dataset(DataConfig(negative_ratio=2.0), tmp_path / "out", DatasetSources(positives=positives))
    table = dataset.examples
    parents = table["parent"].to_numpy()
    children = np.flatnonzero(dataset.kinds == "shuffled")
    assert len(children) == 200
    rows = parents[children].astype(int)
    assert (dataset.kinds[rows] == "positive").all()
    assert (table["split"].to_numpy()[rows] == table["split"].to_numpy()[children]).all()
    assert (np.sort(dataset.codes[rows], axis=1) == np.sort(dataset.codes[children], axis=1)).all()


def test_a_sequence_that_is_its_own_shuffle_keeps_its_positive(tmp_path: Path) -> None:
    positives = _fasta(tmp_path / "bound.fa", [*_letters(60), "A" * 60])
    dataset = build_dataset(SHUFFLED, tmp_path / "out", DatasetSources(positives=positives))
    assert dataset.quality["made"] == {"shuffled": {"wanted": 61, "made": 60}}
    assert (dataset.kinds == "positive").sum() == 61
    assert "60 shuffled negatives made, 61 wanted" in [say(warning) for warning in dataset.quality["warnings"]]


def test_splits_too_small_to_measure_are_warned_of_with_how_many_are_needed(tmp_path: Path) -> None:
    sequences = _letters(180)
    positives = _fasta(tmp_path / "p.fa", [*sequences[:150], *(sequences[0][:-1] + base for base in "ACGT")])
    dataset = build_dataset(SHUFFLED, tmp_path / "out", DatasetSources(positives=positives))
    by_split = dataset.quality["clusters"]["by_split"]
    table = dataset.examples
    for name, counts in by_split.items():
        of_split = table.filter(table["split"] == name)
        for label, is_positive in (("positive", True), ("negative", False)):
            chosen = of_split.filter((of_split["kind"] == "positive") == is_positive)
            assert counts[label] == chosen["cluster"].n_unique()
    few = {name for name in ("validation", "test") if min(by_split[name].values()) < 15}
    warned = [warning for warning in dataset.quality["warnings"] if warning["code"] == "few_to_measure"]
    assert {warning["of"] for warning in warned} == few
    tiny = build_dataset(
        SHUFFLED, tmp_path / "tiny", DatasetSources(positives=_fasta(tmp_path / "t.fa", sequences[:40]))
    )
    told = [say(warning) for warning in tiny.quality["warnings"]]
    assert any("test is too small to conclude anything from: independent positives " in words for words in told)
    assert any("at least 15 of each are needed" in words for words in told)


def test_mixed_lengths_are_cropped_and_short_ones_dropped(tmp_path: Path) -> None:
    sequences = _letters(60)
    mixed = [*sequences, "GG" + sequences[0][::-1] + "CC", "ACGT"]
    positives = _fasta(tmp_path / "bound.fa", mixed)
    dataset = build_dataset(SHUFFLED, tmp_path / "out", DatasetSources(positives=positives))
    assert dataset.length_bp == 60
    assert dataset.quality["sources"][0]["cropped"] == 1
    assert _dropped(dataset.path) == [["bound.fa", "123", "r61", "too_short", "length_bp=4 needed_bp=60"]]
    row = dataset.examples["name"].to_list().index("r60")
    assert "".join("ACGT"[code] for code in dataset.codes[row]) == sequences[0][::-1]


def test_cropping_moves_the_coordinates(tmp_path: Path) -> None:
    chroms = ["chr1", "chr2", "chr3"] * 20
    headers = [f"{chrom}:{100 * row}-{100 * row + 60}" for row, chrom in enumerate(chroms)]
    positives = _fasta(tmp_path / "bound.fa", _letters(60), headers)
    dataset = build_dataset(
        DataConfig(length_bp=40, negatives=("shuffled",)), tmp_path / "out", DatasetSources(positives=positives)
    )
    table = dataset.examples
    assert dataset.quality["split"]["mode"] == "chromosome"
    row = table["name"].to_list().index(headers[7])
    assert table.row(row)[4:7] == ("chr2", 710, 750)
    assert table["split"][row] == "validation"


def test_conflicts_duplicates_and_n_are_listed_by_line(tmp_path: Path) -> None:
    good, bad = _letters(60), _letters(60, seed=1)
    positives = _fasta(tmp_path / "p.fa", [*good, good[3], "N" * 60, _flip(bad[5])])
    negatives = _fasta(tmp_path / "n.fa", bad)
    dataset = build_dataset(DataConfig(), tmp_path / "out", DatasetSources(positives=positives, negatives=(negatives,)))
    assert dataset.quality["dropped"] == {"conflicting_labels": 2, "too_much_n": 1, "duplicate": 1}
    assert {tuple(row[:4]) for row in _dropped(dataset.path)} == {
        ("p.fa", "121", "r60", "duplicate"),
        ("p.fa", "123", "r61", "too_much_n"),
        ("p.fa", "125", "r62", "conflicting_labels"),
        ("n.fa", "11", "r5", "conflicting_labels"),
    }
    assert any("both labels" in say(warning) for warning in dataset.quality["warnings"])


def test_several_files_of_negatives_are_kinds_of_their_own(tmp_path: Path) -> None:
    positives = _fasta(tmp_path / "bound.fa", _letters(60))
    first = _fasta(tmp_path / "open.chromatin.fa", _letters(60, seed=1))
    (tmp_path / "far.fasta.gz").write_bytes(gzip.compress(_fasta(tmp_path / "x", _letters(60, seed=2)).read_bytes()))
    dataset = build_dataset(
        DataConfig(),
        tmp_path / "out",
        DatasetSources(
            positives=positives,
            negatives=(
                first,
                tmp_path / "far.fasta.gz",
            ),
        ),
    )
    assert dataset.manifest["kinds"] == ["positive", "open.chromatin", "far"]
    test = dataset.kinds[dataset.rows("test")]
    assert [(test == kind).sum() for kind in ("positive", "open.chromatin", "far")] == [6, 6, 6]


def test_balance_draws_given_negatives_in_each_split(tmp_path: Path) -> None:
    positives = _fasta(tmp_path / "bound.fa", _letters(50))
    negatives = _fasta(tmp_path / "unbound.fa", _letters(500, seed=1))
    dataset = build_dataset(
        DataConfig(balance_given=True), tmp_path / "out", DatasetSources(positives=positives, negatives=(negatives,))
    )
    for split in ("train", "validation", "test"):
        assert dataset.is_positive()[dataset.rows(split)].mean() == 0.5
    assert dataset.quality["dropped"] == {"not_drawn": 450}


@pytest.mark.parametrize("clean", [False, True])
def test_given_splits_are_kept_and_their_leakage_is_reported(tmp_path: Path, clean: bool) -> None:
    parts = {name: _letters(40, seed=number) for number, name in enumerate(("train", "validation", "test"))}
    parts["train"][5] = parts["train"][1]
    parts["train"][7] = parts["test"][7]
    parts["train"][9] = _flip(parts["validation"][8])
    files = {name: _table(tmp_path / f"{name}.csv", texts, [0, 1] * 20) for name, texts in parts.items()}
    dataset = build_dataset(DataConfig(clean_given_splits=clean), tmp_path / "out", DatasetSources(splits=files))
    assert [dataset.rows(name).stop for name in parts] == ([37, 77, 117] if clean else [40, 80, 120])
    dropped = {"duplicate": 1, "in_other_split": 2} if clean else {}
    assert dataset.quality["dropped"] == dropped
    within, between = dataset.quality["audit"]["within"], dataset.quality["audit"]["between"]
    assert within["train"]["exact"] == (0 if clean else 1)
    assert {(pair["of"], pair["in"]): pair["any"] for pair in between} == {
        ("validation", "train"): int(not clean),
        ("test", "train"): int(not clean),
        ("test", "validation"): 0,
    }
    if not clean:
        leak = {"code": "leak_equal", "of": "test", "in": "train", "num_examples": 40, "num": 1}
        assert leak in dataset.quality["warnings"]
        assert say(leak) == "leakage: 1 of 40 test sequences also stand in train"


def _genome(path: Path) -> tuple[Path, dict[str, str]]:
    contigs = {
        "chr1": "".join(_letters(100, 300)),
        "chr2": "".join(_letters(60, 300, seed=1)),
        "chr3": "".join(_letters(60, 300, seed=2)),
    }
    path.write_text("".join(f">{name}\n{text}\n" for name, text in contigs.items()))
    return path, contigs


def test_peaks_become_windows_around_their_summits(tmp_path: Path) -> None:
    genome, contigs = _genome(tmp_path / "genome.fa")
    lines = [
        f"{chrom}\t{start}\t{start + 150}\tp{start}\t0\t{strand}\t0\t0\t0\t50"
        for chrom, strand in (("chr1", "."), ("chr2", "-"), ("chr3", "+"))
        for start in range(1000, 17_000, 1000)
    ]
    lines += ["chr1\t0\t20\tedge\t0\t.\t0\t0\t0\t3", "chr9\t5\t90\tnone\t0\t.\t0\t0\t0\t3"]
    lines += ["chr3\t17990\t18010\tend\t0\t.\t0\t0\t0\t5", "chr1\t5010\t5020\tbad\t0\t.\t0\t0\t0\t5"]
    (tmp_path / "peaks.narrowPeak").write_text("\n".join(lines) + "\n")
    (tmp_path / "black.bed").write_text("chr1\t4900\t5020\nchr1\t20000\t29000\n")
    dataset = build_dataset(
        DataConfig(length_bp=100, min_peak_distance_bp=100, test_chroms=("1",)),
        tmp_path / "out",
        DatasetSources(peaks=tmp_path / "peaks.narrowPeak", genome=genome, blacklist=tmp_path / "black.bed"),
    )
    table = dataset.examples
    assert dataset.quality["dropped"] == {"off_contig": 2, "blacklisted": 2, "unknown_chromosome": 1}
    assert dataset.quality["made"] == {"matched": {"wanted": 47, "made": 47}}
    for name, chrom, start, flipped in (("p2000", "chr1", 2000, False), ("p3000", "chr2", 3000, True)):
        row = next(
            index
            for index, (text, place) in enumerate(zip(table["name"], table["chrom"], strict=True))
            if text == name and place == chrom
        )
        window = contigs[chrom][start : start + 100]
        found = "".join("ACGT"[code] for code in dataset.codes[row])
        assert found == (_flip(window) if flipped else window)
        assert table["strand"][row] == ("-" if flipped else ".")
    assert set(table["chrom"][dataset.rows("test")].to_list()) == {"chr1"}
    assert set(table["chrom"][dataset.rows("validation")].to_list()) == {"chr2"}
    matched = table.filter(table["kind"] == "matched")
    assert not ((matched["chrom"] == "chr1") & (matched["end"] > 20_000) & (matched["start"] < 29_000)).any()


def test_matched_negatives_keep_away_from_all_of_a_positive(tmp_path: Path) -> None:
    genome, contigs = _genome(tmp_path / "genome.fa")
    places = [(chrom, start) for chrom in contigs for start in range(1000, 14_000, 4000)]
    headers = [f"{chrom}:{start}-{start + 2000}" for chrom, start in places]
    sequences = [contigs[chrom][start : start + 2000] for chrom, start in places]
    # What is dropped as an example is still bound.
    headers.append("chr1:25000-27000")
    sequences.append("N" * 2000)
    dataset = build_dataset(
        DataConfig(length_bp=100, negatives=("matched",), min_peak_distance_bp=50, negative_ratio=5.0),
        tmp_path / "out",
        DatasetSources(positives=_fasta(tmp_path / "bound.fa", sequences, headers), genome=genome),
    )
    assert dataset.quality["dropped"] == {"too_much_n": 1}
    table = dataset.examples.filter(dataset.examples["kind"] == "matched")
    assert len(table) > 40
    for chrom, start in [*places, ("chr1", 25_000)]:
        near = (table["chrom"] == chrom) & (table["end"] > start - 50) & (table["start"] < start + 2050)
        assert not near.any()


def test_a_cropped_record_of_the_minus_strand_lies_where_its_codes_are(tmp_path: Path) -> None:
    _, contigs = _genome(tmp_path / "genome.fa")
    places = [(chrom, start, strand) for chrom in contigs for start in range(1000, 9000, 500) for strand in "+-"]
    headers, sequences = [], []
    for chrom, start, strand in places:
        text = contigs[chrom][start : start + 105]
        headers.append(f"{chrom}:{start}-{start + 105}({strand})")
        sequences.append(_flip(text) if strand == "-" else text)
    dataset = build_dataset(
        DataConfig(length_bp=100, negatives=("shuffled",)),
        tmp_path / "out",
        DatasetSources(positives=_fasta(tmp_path / "bound.fa", sequences, headers)),
    )
    rows = [row for row in range(len(dataset)) if dataset.kinds[row] == "positive"]
    assert {dataset.examples["strand"][row] for row in rows} <= {"+", "-"}
    for row in rows:
        chrom, start, end, strand = (dataset.examples[name][row] for name in ("chrom", "start", "end", "strand"))
        found = "".join("ACGT"[code] for code in dataset.codes[row])
        assert found == (_flip(contigs[chrom][start:end]) if strand == "-" else contigs[chrom][start:end])


def test_peaks_of_another_naming_are_explained(tmp_path: Path) -> None:
    genome, _ = _genome(tmp_path / "genome.fa")
    (tmp_path / "peaks.bed").write_text("1\t1000\t1100\n2\t1000\t1100\n")
    with pytest.raises(InputError, match="peaks say 1, 2, the genome has chr1, chr2, chr3"):
        build_dataset(DataConfig(), tmp_path / "out", DatasetSources(peaks=tmp_path / "peaks.bed", genome=genome))


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    positives = _fasta(tmp_path / "p.fa", _letters(60))
    negatives = _fasta(tmp_path / "n.fa", _letters(60, seed=1))
    table = _table(tmp_path / "t.csv", _letters(20), [1] * 20)
    out = tmp_path / "out"
    cases = [
        ({}, {}, "there are no positives"),
        ({}, {"positives": positives, "table": table}, "--positives and --table can't be combined"),
        ({}, {"peaks": positives}, "peaks need a genome"),
        ({}, {"table": table, "negatives": (negatives,)}, "--negatives can't be combined with --table"),
        ({}, {"splits": {"train": table, "test": table}}, "the validation split is missing: --validation"),
        ({"negatives": ("given",)}, {"positives": positives}, "no negatives are given"),
        ({"negatives": ("matched",)}, {"positives": positives}, "matched negatives need a genome"),
        ({"negatives": ("shuffled",)}, {"positives": positives, "negatives": (negatives,)}, 'add "given"'),
        ({}, {"table": table}, "positives only, no negatives"),
        ({"split": "chromosome"}, {"positives": positives}, "split by chromosome needs coordinates"),
        (
            {},
            {"positives": positives, "negatives": (positives,)},
            r"no positives are left; dropped: 120 conflicting(.|\n)*is a file given twice",
        ),
        (
            {"length_bp": 60},
            {"positives": positives, "negatives": (_fasta(tmp_path / "n.fa", ["N" * 60] * 9),)},
            r"no negatives; dropped: 9 too_much_n(.|\n)*more N than data.max_n_fraction, or nothing else",
        ),
        (
            {"max_similarity": 1.0},
            {
                "positives": positives,
                "negatives": (_fasta(tmp_path / "near.fa", [text[1:] + "A" for text in _letters(60)]),),
            },
            r"no negatives; dropped: 60 near_positive(.|\n)*--set data.drop_near_positives=false",
        ),
        ({"length_bp": 100}, {"positives": positives}, "no positives are left; dropped: 60 too_short"),
        ({}, {"positives": table, "negatives": (table,)}, "20 rows with label 1, but is given as negatives"),
        ({}, {"positives": _fasta(tmp_path / "few.fa", _letters(3))}, "the test split has no positives"),
    ]
    for settings, files, message in cases:
        with pytest.raises(InputError) as caught:
            build_dataset(DataConfig(**settings), out, DatasetSources(**files))
        assert re.search(message, str(caught.value)), (settings, files, str(caught.value))
        assert not out.exists()


def test_matched_negatives_need_places(tmp_path: Path) -> None:
    genome, _ = _genome(tmp_path / "genome.fa")
    positives = _fasta(tmp_path / "p.fa", _letters(60))
    with pytest.raises(InputError, match="record 'r0': matched negatives need to know where"):
        build_dataset(DataConfig(), tmp_path / "out", DatasetSources(positives=positives, genome=genome))


def test_an_old_dataset_stays_unless_it_may_be_replaced(tmp_path: Path) -> None:
    positives = _fasta(tmp_path / "p.fa", _letters(60))
    before = build_dataset(SHUFFLED, tmp_path / "out", DatasetSources(positives=positives)).fingerprint
    with pytest.raises(InputError, match="already exists"):
        build_dataset(DataConfig(seed=1), tmp_path / "out", DatasetSources(positives=positives))
    assert open_dataset(tmp_path / "out", "full").fingerprint == before
    after = build_dataset(DataConfig(seed=1), tmp_path / "out", DatasetSources(positives=positives), overwrite=True)
    assert after.fingerprint != before


def test_a_kill_while_writing_leaves_the_old_dataset(tmp_path: Path) -> None:
    positives = _fasta(tmp_path / "p.fa", _letters(60))
    before = build_dataset(SHUFFLED, tmp_path / "out", DatasetSources(positives=positives)).fingerprint
    program = f"""
        import os, signal
        from pathlib import Path
        from ebox.datasets import build, writing
        from ebox.datasets.sources import DatasetSources
        from ebox.settings.data import DataConfig
        writing.write_dropped = lambda path, log: os.kill(os.getpid(), signal.SIGKILL)
        build.build_dataset(DataConfig(seed=1), Path({str(tmp_path / "out")!r}),
                            DatasetSources(positives=Path({str(positives)!r})), overwrite=True)
    """
    processes.run(processes.python(textwrap.dedent(program)), ends=-signal.SIGKILL)
    assert open_dataset(tmp_path / "out", "full").fingerprint == before


def test_datasets_load_without_the_accelerator_stack() -> None:
    heavy = "{'jax', 'sklearn', 'matplotlib', 'polars', 'pysam'}"
    program = f"import ebox.datasets, sys; print(sorted({heavy} & set(sys.modules)))"
    done = processes.run(processes.python(program))
    assert done.stdout.strip() == "[]"


def test_a_dataset_never_replaces_its_own_sources(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    positives = _fasta(folder / "bound.fa", _letters(60))
    (tmp_path / "link").symlink_to(folder)
    for out in (folder, positives, tmp_path / "link", tmp_path):
        with pytest.raises(InputError, match="would remove the input"):
            build_dataset(SHUFFLED, out, DatasetSources(positives=positives), overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["bound.fa"]
    assert len(build_dataset(SHUFFLED, folder / "dataset", DatasetSources(positives=positives))) == 120


def test_positives_that_equal_their_shuffles_are_told_of(tmp_path: Path) -> None:
    positives = _fasta(tmp_path / "bound.fa", ["A", "C"])
    with pytest.raises(InputError, match=r"no shuffled negatives(.|\n)*longer or more varied"):
        build_dataset(SHUFFLED, tmp_path / "out", DatasetSources(positives=positives))
