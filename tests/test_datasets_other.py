"""Other data than those of the training: labelled, cleaned and held against what the network was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ebox.cli.parameters import list_parts
from ebox.datasets.build import build_dataset
from ebox.datasets.folder import MANIFEST, SPLITS, Dataset
from ebox.datasets.other import choose_made, read_other, take_test
from ebox.datasets.sources import DatasetSources, read_sources
from ebox.errors import InputError
from ebox.settings.reading import Config, DataConfig, write_config
from ebox.storage import run_folder
from ebox.storage.publishing import read_json, write_json
from ebox.storage.reads import count_read
from ebox.storage.stamps import TEST_READS, write_stamped
from ebox.verbs import build as build_verb
from ebox.verbs import evaluate as evaluate_verb
from ebox.verbs.opening import open_dataset_of

LENGTH_BP = 60
CONFIG = DataConfig(length_bp=LENGTH_BP, negatives=("given",))


def _draw(num: int, seed: int, length: int = LENGTH_BP) -> list[str]:
    return ["".join(row) for row in np.random.default_rng(seed).choice(list("ACGT"), (num, length))]


def _write(path: Path, sequences: list[str], places: list[str] | None = None) -> Path:
    names = [f"{path.stem}{number}" for number in range(len(sequences))] if places is None else places
    path.write_text("".join(f">{name}\n{each}\n" for name, each in zip(names, sequences, strict=True)))
    return path


@pytest.fixture
def trained(tmp_path: Path) -> Dataset:
    """Random sequences with places, 100 of each class."""
    files = []
    for seed, name in enumerate(("p", "n")):
        places = [f"{10 + seed}:{1000 * row}-{1000 * row + LENGTH_BP}" for row in range(100)]
        files.append(_write(tmp_path / f"{name}.fa", _draw(100, seed), places))
    sources = DatasetSources(positives=files[0], negatives=(files[1],))
    return build_dataset(DataConfig(split="random"), tmp_path / "own", sources)


def _letters(dataset: Dataset, rows: slice) -> list[str]:
    return ["".join("ACGTN"[code] for code in row) for row in dataset.codes[rows]]


def test_what_was_trained_on_is_marked_by_sequence_relative_and_place(trained: Dataset, tmp_path: Path):
    old, new = _letters(trained, trained.rows("train")), _draw(40, 7)
    # A copy, a relative with three bases changed, and the place of an example under the other way to name it.
    changed = [("ACGT"["CGTA".index(base)] if at % 20 == 5 else base) for at, base in enumerate(old[1])]
    row = trained.examples.row(2, named=True)
    asked = [old[0], "".join(changed), *new]
    places = [f"chr{row['chrom']}:{row['start'] + 20}-{row['end'] + 20}" if at == 2 else f"x{at}" for at in range(42)]
    sources = DatasetSources(
        positives=_write(tmp_path / "a.fa", asked, places), negatives=(_write(tmp_path / "b.fa", _draw(30, 8)),)
    )
    found = read_other(CONFIG, sources, trained, path=tmp_path / "a.fa")
    test = found.dataset.rows("test")
    assert test.stop - test.start == 72
    assert found.dataset.examples["relative"][test.start :].is_not_null().to_list() == [True] * 3 + [False] * 69
    # Train and validation are those of the network.
    assert found.is_known
    for split in ("train", "validation"):
        np.testing.assert_array_equal(
            found.dataset.codes[found.dataset.rows(split)], trained.codes[trained.rows(split)], strict=True
        )
    assert found.dataset.kinds[test].tolist() == ["positive"] * 42 + ["given"] * 30
    told = {warning["code"] for warning in found.quality["warnings"]}
    assert {"leak_equal", "leak_overlap", "leak_relative"} <= told
    assert all(warning.get("of") in (None, "test") for warning in found.quality["warnings"])


def test_without_the_training_data_nothing_is_marked(tmp_path: Path):
    sources = DatasetSources(
        positives=_write(tmp_path / "a.fa", _draw(20, 1)), negatives=(_write(tmp_path / "b.fa", _draw(20, 2)),)
    )
    found = read_other(CONFIG, sources, None, path=tmp_path / "a.fa")
    assert not found.is_known
    sizes = {split: len(found.dataset.codes[found.dataset.rows(split)]) for split in ("train", "validation", "test")}
    assert sizes == {"train": 0, "validation": 0, "test": 40}
    assert found.dataset.examples["relative"].is_null().all()


def test_the_test_split_of_another_dataset_stands_beside_the_training_of_the_network(trained: Dataset, tmp_path: Path):
    sources = DatasetSources(
        positives=_write(tmp_path / "a.fa", _draw(60, 3)), negatives=(_write(tmp_path / "b.fa", _draw(60, 4)),)
    )
    other = build_dataset(DataConfig(), tmp_path / "other", sources)
    joined = take_test(trained, other).dataset
    assert _letters(joined, joined.rows("test")) == _letters(other, other.rows("test"))
    assert _letters(joined, joined.rows("validation")) == _letters(trained, trained.rows("validation"))
    assert joined.hash_split("test") == other.hash_split("test") != trained.hash_split("test")
    alone = take_test(None, other).dataset
    assert _letters(alone, slice(0, len(alone))) == _letters(other, other.rows("test"))


def _trained(kinds: list[str], *roles: str, **settings: Any) -> dict[str, Any]:
    """What of a manifest says how negatives were made."""
    return {"kinds": kinds, "config": settings, "sources": [{"role": role} for role in roles]}


def test_negatives_are_made_as_in_the_training_where_none_are_given(tmp_path: Path):
    alone, peaks = read_sources(positives="p.fa"), read_sources(peaks="p.bed", genome="g.fa")
    both, table = read_sources(positives="p.fa", negatives=("n.fa",)), read_sources(table="t.csv")
    auto = DataConfig()
    assert choose_made(auto, alone, _trained(["positive", "given", "shuffled"])).negatives == ("shuffled",)
    assert choose_made(auto, peaks, _trained(["positive", "matched"])).negatives == ("matched",)
    for given in (both, table):
        assert choose_made(auto, given, _trained(["positive", "shuffled"])).negatives == ("given",)
    for files, kind in ((peaks, "matched"), (alone, "shuffled")):
        with pytest.raises(InputError, match=rf"p\..*: there are no negatives.*\n.*--negative-kinds {kind}"):
            choose_made(auto, files, _trained(["positive", "given"]))
    asked = auto.model_copy(update={"negatives": ("shuffled",)})
    assert choose_made(asked, peaks, _trained(["positive", "given"])) == asked


def test_repeats_are_matched_as_in_the_training_where_negatives_are_matched(tmp_path: Path):
    peaks, kinds = read_sources(peaks="p.bed", genome="g.fa"), ["positive", "matched"]
    auto, by_letters = DataConfig(), _trained(kinds, match_repeats=True)
    assert choose_made(auto, peaks, by_letters).match_repeats is True
    assert choose_made(auto, peaks, _trained(kinds)).match_repeats is None
    # Nothing is matched beside given negatives, so nothing of repeats can be asked for.
    given = read_sources(positives="p.fa", negatives=("n.fa",))
    assert choose_made(auto, given, by_letters).match_repeats is None
    by_file = _trained(kinds, "peaks", "genome", "repeats", match_repeats=None)
    with pytest.raises(InputError, match=r"p\.bed: .* none is given here\n.*--set data\.match_repeats=false"):
        choose_made(auto, peaks, by_file)
    off = auto.model_copy(update={"match_repeats": False})
    assert choose_made(off, peaks, by_file).match_repeats is False
    assert choose_made(auto, read_sources(peaks="p.bed", genome="g.fa", repeats="r.bed"), by_file).match_repeats is None


def test_what_the_files_say_of_their_places_is_told_of_other_data_too(tmp_path: Path):
    genome = "".join(_draw(40, 5))
    (tmp_path / "g.fa").write_text(f">chr1\n{genome}\n>chr2\n{genome}\n")
    for name, first in (("p", 200), ("n", 1300)):
        lines = [f"chr1\t{first + 80 * row}\t{first + 80 * row + LENGTH_BP}\n" for row in range(12)]
        (tmp_path / f"{name}.bed").write_text("".join([*lines, "chrUn\t5\t65\n"]))
    sources = DatasetSources(
        peaks=tmp_path / "p.bed", negatives=(tmp_path / "n.bed",), genome=tmp_path / "g.fa", negative_names=("given",)
    )
    found = read_other(CONFIG, sources, None, path=tmp_path / "p.bed")
    assert {"unknown_chroms"} <= {warning["code"] for warning in found.quality["warnings"]}


def test_a_run_whose_dataset_is_of_another_version_is_trained_again(trained: Dataset, tmp_path: Path):
    facts = {"path": str(trained.path), "fingerprint": trained.fingerprint, "config": {}, "kinds": []}
    write_json(tmp_path / run_folder.DATASET, facts)
    assert open_dataset_of(tmp_path, None)[1]
    write_json(trained.path / MANIFEST, {**trained.manifest, "format_version": 1})
    with pytest.raises(InputError, match=r"version 1, written by(.|\n)*then train on it again"):
        open_dataset_of(tmp_path, None)


def test_evaluate_takes_the_files_of_build_but_no_splits_and_no_table_of_tracks():
    parts = {verb: list_parts(verb.VERB, getattr(verb, verb.VERB.name)) for verb in (build_verb, evaluate_verb)}
    files = {verb: next(part for part in each if part.parameter == "sources") for verb, each in parts.items()}
    names = {verb: {option.name for option in part.options} for verb, part in files.items()}
    splits = {f"--{split}{more}" for split in SPLITS for more in ("", "-negatives")}
    assert names[build_verb] - names[evaluate_verb] == {"--tracks", *splits}
    make = files[evaluate_verb].make
    nothing = {option.parameter: None for option in files[evaluate_verb].options}
    assert make(nothing) is None
    assert make({**nothing, "table": Path("t.csv")}) == read_sources(table="t.csv")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"negative_kinds": "shuffled"}, "data.negatives can't change a trained network, nor its data"),
        # A warning names this flag.
        ({"match_repeats": True}, "data.match_repeats can't change a trained network, nor its data"),
        ({"overrides": ["data.seed=1"]}, r"can't change a trained network\n.*only evaluation"),
    ],
)
def test_settings_of_data_are_for_files_that_are_given(
    given: dict[str, Any], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(run_folder, "check_run_folder", lambda path: None)
    parts = list_parts(evaluate_verb.VERB, evaluate_verb.evaluate)
    settings = next(part for part in parts if part.parameter == "config")
    nothing = {option.parameter: None for part in parts for option in part.options}
    with pytest.raises(InputError, match=problem):
        settings.make({**nothing, "run": tmp_path, **given})
    write_config(Config(data=DataConfig(negatives=("given",), max_n_fraction=0.3)), tmp_path / run_folder.CONFIG)
    # The dataset may have been built with other settings than the training says.
    manifest = {"path": "d", "fingerprint": "a", "kinds": [], "config": CONFIG.model_dump(mode="json")}
    write_json(tmp_path / run_folder.DATASET, manifest)
    read = settings.make({**nothing, "run": tmp_path, "table": Path("t.csv"), **given}).data
    changed = {"negatives": ("shuffled",) if "negative_kinds" in given else None, "seed": int("overrides" in given)}
    changed["match_repeats"] = True if "match_repeats" in given else None
    assert read == CONFIG.model_copy(update=changed)


def test_each_measuring_of_the_same_test_examples_counts(tmp_path: Path):
    assert count_read(tmp_path, "a", None)["num_reads"] == 1
    assert count_read(tmp_path, "b", "other")["num_reads"] == 1
    again = count_read(tmp_path, "a", "renamed")
    assert (again["num_reads"], again["name"]) == (2, None)
    tests = read_json(tmp_path / run_folder.TEST_READS)["tests"]
    assert [(entry["fingerprint"], entry["num_reads"]) for entry in tests] == [("a", 2), ("b", 1)]


@pytest.mark.parametrize("tests", ["", [1], [{"fingerprint": "a"}], None])
def test_a_damaged_count_is_named_with_what_to_do(tests: Any, tmp_path: Path):
    write_stamped(tmp_path / run_folder.TEST_READS, TEST_READS, {} if tests is None else {"tests": tests})
    with pytest.raises(InputError, match=r"test_reads\.json: does not say.*\n.*delete it"):
        count_read(tmp_path, "a", None)


def test_an_evaluation_from_before_the_count_is_counted(tmp_path: Path):
    (tmp_path / run_folder.EVALUATION).touch()
    assert count_read(tmp_path, "a", None)["num_reads"] == 2
