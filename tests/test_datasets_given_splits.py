"""Given splits as FASTA: positives and negatives of each split in files of their own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import processes
from ebox.datasets.build import build_dataset
from ebox.datasets.folder import SPLITS
from ebox.datasets.sources import DatasetSources, read_sources
from ebox.errors import InputError
from ebox.sequences import decode
from ebox.settings.reading import DataConfig

SIZES = {"train": 40, "validation": 20, "test": 22}


def _rows(num: int, seed: int, length: int = 60) -> list[str]:
    return [decode(row) for row in np.random.default_rng(seed).integers(0, 4, (num, length), np.uint8)]


def _fasta(path: Path, rows: list[str]) -> Path:
    path.write_text("".join(f">{path.stem}{number}\n{row}\n" for number, row in enumerate(rows)))
    return path


def _table(path: Path, rows: list[str], labels: list[int]) -> Path:
    path.write_text("sequence,label\n" + "".join(f"{row},{label}\n" for row, label in zip(rows, labels, strict=True)))
    return path


def _write(folder: Path) -> tuple[dict[str, Path], dict[str, Path], dict[str, Path]]:
    """For each split its positives, its negatives, and a table of both."""
    files: tuple[dict[str, Path], ...] = ({}, {}, {})
    for number, (name, num) in enumerate(SIZES.items()):
        bound, unbound = _rows(num, 2 * number), _rows(num + 3, 2 * number + 1)
        files[0][name] = _fasta(folder / f"{name}_bound.fa", bound)
        files[1][name] = _fasta(folder / f"{name}_unbound.fa", unbound)
        files[2][name] = _table(folder / f"{name}.csv", bound + unbound, [1] * num + [0] * (num + 3))
    return files[0], files[1], files[2]


def _build(folder: Path, **files: Any) -> Any:
    return build_dataset(DataConfig(), folder, read_sources(**files))


def _options(splits: dict[str, Path], negatives: dict[str, Path]) -> dict[str, Path]:
    return splits | {f"{name}_negatives": path for name, path in negatives.items()}


def test_splits_as_pairs_of_fasta_are_those_of_tables(tmp_path: Path):
    bound, unbound, tables = _write(tmp_path)
    of_pairs = _build(tmp_path / "pairs", **_options(bound, unbound))
    of_tables = _build(tmp_path / "tables", **tables)
    np.testing.assert_array_equal(of_pairs.codes, of_tables.codes)
    np.testing.assert_array_equal(of_pairs.targets, of_tables.targets)
    assert [of_pairs.rows(name) for name in SPLITS] == [of_tables.rows(name) for name in SPLITS]
    assert of_pairs.manifest["kinds"] == ["positive", "given"]
    roles = [source["role"] for source in of_pairs.manifest["sources"]]
    assert roles == [f"{name} {side}" for name in SPLITS for side in ("positives", "negatives")]


def test_one_split_may_be_a_table_and_another_fasta(tmp_path: Path):
    bound, unbound, tables = _write(tmp_path)
    mixed = _build(tmp_path / "mixed", **(tables | {"test": bound["test"], "test_negatives": unbound["test"]}))
    np.testing.assert_array_equal(mixed.codes, _build(tmp_path / "tables", **tables).codes)


def test_what_is_not_clear_is_refused_with_a_remedy(tmp_path: Path):
    bound, unbound, tables = _write(tmp_path)
    short = _fasta(tmp_path / "short.fa", _rows(20, 9, length=40))
    cases = [
        # One FASTA for both labels.
        (bound, r"train_bound.fa, line 1: looks like FASTA, which has no labels(.|\n)*--train and --train-negatives"),
        (tables | {"validation_negatives": unbound["test"]}, "23 rows with label 0, but is given as validation pos"),
        (_options(bound, unbound) | {"test_negatives": bound["test"]}, "as --test and as --test-negatives"),
        ({"train_negatives": unbound["train"]}, "the train split is missing: --train"),
        ({"positives": bound["train"], "test_negatives": unbound["test"]}, "can't be combined"),
        (
            _options(bound, unbound) | {"negatives": [unbound["train"]]},
            r"--negatives can't be combined with --train(.|\n)*give them as --train-negatives",
        ),
        ({"table": tables["test"], "negatives": [unbound["train"]]}, "put them into the table with label 0"),
        (_options(bound, unbound) | {"train_negatives": short}, "--length 40 takes the central 40 bp of both"),
        ({"table": bound["train"]}, "looks like FASTA, which has no labels"),
    ]
    for files, problem in cases:
        with pytest.raises(InputError, match=problem):
            _build(tmp_path / "out", **files)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["{}|{}|training", "{} label={}", "{}|{}", "{} {}"])
def test_labels_in_headers_are_parted_by_the_command_that_is_named(tmp_path: Path, form: str):
    rows = _rows(80, 3)
    text = "".join(f">{form.format(f's{number}', number % 2)}\n{row}\n" for number, row in enumerate(rows))
    (tmp_path / "OLD").write_text(text)
    with pytest.raises(InputError) as refused:
        _build(tmp_path / "out", table=tmp_path / "OLD")
    commands = refused.value.remedy.partition("may name a label: ")[2].split(" and ")
    for command in commands:
        processes.run(["sh", "-c", command], cwd=tmp_path)
    dataset = _build(tmp_path / "out", positives=tmp_path / "POSITIVES", negatives=[tmp_path / "NEGATIVES"])
    assert dataset.quality["num_positive"] == 40
    kinds = zip(dataset.examples["name"], dataset.examples["kind"], strict=True)
    assert all((int(re.findall(r"\d+", name)[0]) % 2 == 1) == (kind == "positive") for name, kind in kinds)


def test_places_as_a_given_split_are_refused_with_the_way_to_fasta(tmp_path: Path):
    (tmp_path / "p.bed").write_text("chr1\t100\t200\nchr1\t300\t400\n")
    with pytest.raises(InputError, match=r"p.bed, line 1: looks like BED, which has no labels(.|\n)*getfasta"):
        _build(tmp_path / "out", **dict.fromkeys(SPLITS, tmp_path / "p.bed"))


def test_tables_of_positives_alone_are_told_a_remedy_that_is_not_refused(tmp_path: Path):
    _, unbound, _ = _write(tmp_path)
    tables = {name: _table(tmp_path / f"p_{name}.csv", _rows(20, 7 + len(name)), [1] * 20) for name in SPLITS}
    with pytest.raises(InputError, match=r"positives only(.|\n)*positives and negatives apart: --train and --train-n"):
        _build(tmp_path / "out", **tables)
    assert len(_build(tmp_path / "out", **_options(tables, unbound))) == 3 * 20 + sum(SIZES.values()) + 9


def test_splits_without_negatives_and_with_matched_repeats_are_told_what_is_not_refused(tmp_path: Path):
    bound, unbound, tables = _write(tmp_path)
    positives = _table(tmp_path / "p.csv", _rows(20, 9), [1] * 20)
    with pytest.raises(InputError, match=r"the test split has no negatives(.|\n)*--test and --test-negatives"):
        _build(tmp_path / "out", **(tables | {"test": positives}))
    apart = tables | {"test": positives, "test_negatives": unbound["test"]}
    assert len(_build(tmp_path / "out", **apart)) > 0
    # A genome is refused beside given splits, so it is no remedy.
    with pytest.raises(InputError, match="--match-repeats out, since given splits keep their own negatives"):
        build_dataset(DataConfig(match_repeats=True), tmp_path / "more", read_sources(**_options(bound, unbound)))


def test_every_file_is_listed_once_so_that_none_is_overwritten_or_overlooked(tmp_path: Path):
    bound, unbound, _ = _write(tmp_path)
    sources = read_sources(**_options(bound, unbound))
    assert sorted(sources.list_files().values()) == sorted([*bound.values(), *unbound.values()])
    everything = {name: Path(name) for name in ("positives", "peaks", "genome", "blacklist", "table")}
    more = DatasetSources(**everything, negatives=(Path("n"),), avoid=(Path("a"),))
    assert set(more.list_files().values()) == {*everything.values(), Path("n"), Path("a")}
    with pytest.raises(InputError, match="would remove the input"):
        build_dataset(DataConfig(), tmp_path, sources)
