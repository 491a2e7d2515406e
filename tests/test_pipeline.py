"""The main job from end to end: files in, a measured detector and its report out; resumable, and kind to bad input."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest

import processes
from ebox.datasets.folder import open_dataset
from ebox.datasets.sources import DatasetSources, read_sources
from ebox.errors import InputError
from ebox.evaluation.windows import plan_windows
from ebox.sequences import SimulationConfig, draw_simulation, read_fasta, write_fasta, write_simulation
from ebox.settings.reading import Config, EvaluationConfig, make_config, read_config, read_run_settings
from ebox.storage.publishing import claim_folder
from ebox.storage.run_folder import clear_run, find_seeds
from ebox.verbs.build import describe as describe_dataset
from ebox.verbs.evaluate import describe as describe_evaluation
from ebox.verbs.evaluate import describe_metrics, evaluate
from ebox.verbs.predict import describe as describe_scores
from ebox.verbs.predict import predict
from ebox.verbs.report import report
from ebox.verbs.run import RunResult, find_simulation, run
from ebox.verbs.train import train


def _config(**train: Any) -> Config:
    return make_config(
        {
            "data": {"negatives": ["given", "shuffled"], "track": "TAL1"},
            "model": {
                "architecture": "motif",
                "num_filters": 12,
                "filter_width_bp": 19,
                "strands": "both",
                "pooling": ["max"],
                "dense_units": [8],
            },
            "train": {
                "epochs": 6,
                "filter_dropout": 0.0,
                "dropout": 0.0,
                "shift_bp": 0,
                "learning_rate": 0.01,
                "negatives_per_positive": None,
                **train,
            },
            "evaluation": {"num_bootstrap": 100},
        }
    )


def _without_baselines() -> Config:
    return _config().model_copy(update={"evaluation": EvaluationConfig(baselines=(), num_bootstrap=100)})


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulation") / "s"
    config = SimulationConfig(motifs=("MA0140.3",), length_bp=80, num_positives=1200, num_negatives=1200)
    write_simulation(draw_simulation(config), folder)
    return folder


@pytest.fixture(scope="module")
def sources(simulation: Path) -> DatasetSources:
    return DatasetSources(positives=simulation / "positives.fa", negatives=(simulation / "negatives.fa",))


@pytest.fixture(scope="module")
def said() -> list[str]:
    """What the run of `finished` says before its end."""
    return []


@pytest.fixture(scope="module")
def finished(
    simulation: Path, sources: DatasetSources, said: list[str], tmp_path_factory: pytest.TempPathFactory
) -> RunResult:
    folder = tmp_path_factory.mktemp("runs") / "tal1"
    truth = simulation / "simulation.json"
    return run(folder, sources, _config(), simulation=truth, on_text=said.append, command=["ebox", "run"])


def test_the_main_job_says_of_its_data_what_build_says(finished: RunResult, said: list[str]):
    assert said == [describe_dataset(open_dataset(finished.folder / "dataset"))]
    assert "split: a random share" in said[0]


def test_the_main_job_finds_the_planted_motif_and_reports_it(finished: RunResult):
    value, low, high = finished.evaluation.metric("auroc")
    assert 0.9 < low <= value <= high
    ceiling = finished.evaluation.facts["ceiling"]
    assert ceiling is not None
    assert value < ceiling["auroc"]["value"] + 0.03
    track = finished.evaluation.facts["tracks"][0]
    assert set(track["splits"]["test"]["by_kind"]) == {"given", "shuffled"}
    assert value > track["baselines"]["gc_logistic"]["splits"]["test"]["metrics"]["auroc"]["high"]
    page = finished.report.read_text()
    assert "TAL1" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_run_folder_holds_what_the_formats_say(finished: RunResult):
    text = (Path(__file__).parents[1] / "docs" / "formats.md").read_text()
    for file in finished.folder.iterdir():
        assert f"`{file.name}" in text or file.name == "dataset" or "-other" in file.name, file.name
    facts = json.loads((finished.folder / "training.json").read_text())
    assert facts["steps"] == finished.training.steps
    for key in facts:
        assert f"`{key}`" in text


def test_the_learned_filters_resemble_what_was_planted(finished: RunResult):
    filters = json.loads((finished.folder / "filters.json").read_text())["filters"]
    first = filters[0]
    assert first["share_positive"] > first["share_negative"] + 0.3
    assert first["resembles"]["id"] == "MA0140.3" or "GATA" in first["resembles"]["name"]


@pytest.mark.slow
def test_evaluating_again_gives_the_same_numbers(finished: RunResult):
    before = json.loads((finished.folder / "evaluation.json").read_text())
    again = evaluate(finished.folder)
    assert again.facts["tracks"] == before["tracks"]


def test_a_finished_run_is_not_overwritten_unasked(finished: RunResult, sources: DatasetSources):
    with pytest.raises(InputError, match="--overwrite"):
        run(finished.folder, sources, _config())
    with pytest.raises(InputError, match="--overwrite"):
        train(finished.folder / "dataset", finished.folder, _config())


def test_resuming_with_other_data_is_refused(finished: RunResult, simulation: Path):
    other = DatasetSources(positives=simulation / "negatives.fa", negatives=(simulation / "positives.fa",))
    with pytest.raises(InputError, match="other data"):
        run(finished.folder, other, _config(), resume=True)


def test_resuming_a_finished_run_with_another_network_is_refused(finished: RunResult, sources: DatasetSources):
    with pytest.raises(InputError, match=r"begun with train.epochs = 6.0, not 7.0"):
        run(finished.folder, sources, _config(epochs=7), resume=True)


def test_a_refused_training_changes_nothing(finished: RunResult):
    before = {path.name: path.read_bytes() for path in finished.folder.iterdir() if path.is_file()}
    dataset = finished.folder / "dataset"
    absent = make_config({**_config().model_dump(), "parallel": {"platform": "gpu"}})
    with pytest.raises(InputError, match="GPU"):
        train(dataset, finished.folder, absent, overwrite=True)
    with pytest.raises(InputError, match="shorter than the first layer"):
        train(dataset, finished.folder, make_config({"model": {"filter_width_bp": 99}}), overwrite=True)
    with pytest.raises(InputError, match=r"begun with"):
        train(dataset, finished.folder, _config(seed=9), resume=True)
    with pytest.raises(InputError, match="is a dataset folder"):
        train(dataset, dataset, _config())
    assert before == {path.name: path.read_bytes() for path in finished.folder.iterdir() if path.is_file()}


def test_files_of_others_are_not_replaced(finished: RunResult, tmp_path: Path):
    (tmp_path / "config.toml").write_text("# mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"config\.toml, which no training wrote"):
            train(finished.folder / "dataset", tmp_path, _config(), overwrite=overwrite)
    assert (tmp_path / "config.toml").read_text() == "# mine"


def _quick(folder: Path, *overrides: str) -> Config:
    """The settings of a run with one baseline and few resamples."""
    quick = ("evaluation.baselines=['gc_logistic']", "evaluation.num_bootstrap=100")
    return read_run_settings(folder, ("evaluation", "data"), [*quick, *overrides])


def test_evaluating_another_dataset_leaves_the_run_as_it_is(
    finished: RunResult, sources: DatasetSources, tmp_path: Path
):
    from ebox.verbs.build import build

    before = (finished.folder / "evaluation.json").read_bytes()
    other = make_config({"data": {"negatives": ["given"], "seed": 5, "track": "TAL1"}})
    build(tmp_path / "other", sources, other)
    result = evaluate(finished.folder, tmp_path / "other", _quick(finished.folder))
    assert result.path.name == "evaluation-other.json"
    assert (finished.folder / "evaluation.json").read_bytes() == before
    # The same sequences, split by another seed: most of its test sequences trained this network.
    data, own = open_dataset(tmp_path / "other"), open_dataset(finished.folder / "dataset")
    trained = {row.tobytes() for row in own.codes[own.rows("train")]}
    shared = sum(row.tobytes() in trained for row in data.codes[data.rows("test")])
    seen = result.facts["seen_in_training"]
    assert seen == {"num_examples": shared, "of": data.rows("test").stop - data.rows("test").start}
    assert shared > 0.5 * seen["of"]
    assert f"{shared:,} of these" in describe_metrics(result.facts)
    # The network and its baseline were chosen on the same data: those of the run.
    ours, theirs = result.facts["tracks"][0], json.loads(before)["tracks"][0]
    assert ours["threshold"] == theirs["threshold"]
    assert ours["baselines"]["gc_logistic"]["threshold"] == theirs["baselines"]["gc_logistic"]["threshold"]
    assert result.facts["chosen_on"] == "chosen_on_training_data"
    assert json.loads(before)["seen_in_training"] is None
    build(tmp_path / "b" / "other", sources, other)
    with pytest.raises(InputError, match=r"evaluation-other\.json: is the evaluation of .*would be replaced"):
        evaluate(finished.folder, tmp_path / "b" / "other", _quick(finished.folder))
    with pytest.raises(InputError, match="leave --name out"):
        evaluate(finished.folder, name="mine")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of sequences of the same kind, a little longer than those of the run."""
    folder = tmp_path_factory.mktemp("others")
    config = SimulationConfig(motifs=("MA0140.3",), length_bp=90, num_positives=60, num_negatives=90, seed=3)
    write_simulation(draw_simulation(config), folder / "s")
    rows = ["sequence,label"]
    for label, name in ((1, "positives.fa"), (0, "negatives.fa")):
        codes = read_fasta(folder / "s" / name).matrix(90)
        rows += ["".join("ACGT"[code] for code in row) + f",{label}" for row in codes]
    (folder / "strangers.csv").write_text("\n".join([*rows, rows[1], "ACGT,0"]) + "\n")
    return folder


def test_every_row_of_a_table_is_test_in_one_step(finished: RunResult, others: Path, tmp_path: Path):
    folder, before = _copy(finished, tmp_path)
    asked = read_sources(table=others / "strangers.csv")
    result = evaluate(folder, sources=asked, config=_quick(folder))
    test, theirs = result.facts["tracks"][0]["splits"]["test"], json.loads(before["evaluation.json"])["tracks"][0]
    assert (test["num_examples"], test["num_positive"]) == (150, 60)
    assert list(test["by_kind"]) == ["given"]
    assert result.metric("auroc")[0] > 0.85
    assert result.facts["tracks"][0]["threshold"] == theirs["threshold"]
    assert result.facts["seen_in_training"] == {"num_examples": 0, "of": 150}
    said = describe_evaluation(result)
    for words in ("150 examples of 80 bp", "dropped, duplicate: 1", "dropped, too short: 1", "of the training data of"):
        assert words in said
    assert "validation" not in said
    after = _contents(folder)
    new = {"evaluation-strangers.json", "predictions-strangers.parquet", "dropped-strangers.tsv"}
    assert set(after) == {*before, *new}
    assert {name for name in before if before[name] != after[name]} == {"test_reads.json"}
    assert len((folder / "dropped-strangers.tsv").read_text().splitlines()) == 3
    table = polars.read_parquet(folder / "predictions-strangers.parquet")
    assert (table["split"].unique().to_list(), table.height) == (["test"], 150)
    again = evaluate(folder, sources=asked, config=_quick(folder), name="same")
    assert again.facts["test_reads"]["num_reads"] == 2
    assert "were measured 2 times" in describe_metrics(again.facts)


def test_other_sequences_without_what_they_need_are_refused_with_a_remedy_that_works(
    finished: RunResult, others: Path, tmp_path: Path
):
    folder, before = _copy(finished, tmp_path)
    (tmp_path / "short.fa").write_text(">a\nACGTACGT\n")
    positives, table = others / "s" / "positives.fa", others / "strangers.csv"
    (tmp_path / "one.csv").write_text("".join(table.read_text().splitlines(keepends=True)[:61]))
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"table": tmp_path / "one.csv"}, {}, r"positives only, no negatives\n.*rows with label 0"),
        ({"positives": tmp_path / "short.fa"}, {}, "the network reads 80 bp"),
        ({"negatives": [positives]}, {}, "give one of --positives, --peaks or --table"),
        ({"table": tmp_path / "absent.csv"}, {}, "there is no such file"),
        ({"table": table}, {"data": folder / "dataset"}, "--data is a dataset folder"),
        ({"table": table}, {"name": "../evaluation"}, "can't be the name"),
        ({"table": table}, {"name": ""}, "can't be the name"),
        ({"table": table}, {"name": "\N{GREEK SMALL LETTER ALPHA}" * 101}, "can't be the name"),
        ({"table": others}, {}, "is a folder, not a file\n.*--data"),
        ({"table": table}, {"config": _quick(folder, "data.length_bp=60")}, "the network reads 80 bp"),
        (dict.fromkeys(("train", "validation", "test"), table), {}, "every example is test here"),
    ]
    for files, options, problem in cases:
        with pytest.raises(InputError, match=problem):
            evaluate(folder, sources=read_sources(**files), **options)
    assert _contents(folder) == before
    # The run had shuffled negatives beside given ones: those can be made for positives alone.
    made = evaluate(folder, sources=read_sources(positives=positives), config=_quick(folder))
    assert set(made.facts["tracks"][0]["splits"]["test"]["by_kind"]) == {"shuffled"}


def test_without_its_training_data_a_network_keeps_its_threshold_and_has_no_baselines(
    finished: RunResult, others: Path, tmp_path: Path
):
    folder, before = _copy(finished, tmp_path)
    shutil.rmtree(folder / "dataset")
    (folder / "dataset.json").write_text(before["dataset.json"].decode().replace(str(finished.folder), str(tmp_path)))
    facts = evaluate(folder, sources=read_sources(table=others / "strangers.csv"), config=_quick(folder)).facts
    track, theirs = facts["tracks"][0], json.loads(before["evaluation.json"])["tracks"][0]
    assert (track["threshold"], track["share"]) == (theirs["threshold"], theirs["share"])
    assert track["baselines"]["gc_logistic"]["reason"] == {"code": "no_training_data"}
    assert track["comparison"] is None
    assert track["splits"]["validation"]["reason"] == {"code": "no_examples"}
    # That nothing is known of relatives is not the same as that there are none.
    assert facts["seen_in_training"] is None
    assert facts["chosen_on"] == "chosen_on_evaluation"
    said = describe_metrics(facts)
    assert "not fitted: the training data of the network are gone" in said
    assert "whether these sequences trained it is not known" in said
    (folder / "evaluation.json").unlink()
    facts = evaluate(folder, sources=read_sources(table=others / "strangers.csv"), config=_quick(folder)).facts
    assert (facts["tracks"][0]["threshold"]["value"], facts["chosen_on"]) == (0.5, "chosen_on_nothing")
    assert "calls are made at 0.5" in describe_metrics(facts)


def test_a_training_that_begins_again_forgets_what_was_measured(finished: RunResult, tmp_path: Path):
    folder, _ = _copy(finished, tmp_path)
    reads = json.loads((folder / "test_reads.json").read_text())["tests"]
    assert reads[0]["num_reads"] >= 1
    (folder / "evaluation-mine.json").write_text("{}")
    (folder / "notes-mine.json").write_text("{}")
    clear_run(folder)
    left = {path.name for path in folder.iterdir()}
    assert not {"test_reads.json", "evaluation-mine.json", "evaluation.json"} & left
    assert "notes-mine.json" in left


def _copy(finished: RunResult, tmp_path: Path) -> tuple[Path, dict[str, bytes]]:
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    return folder, _contents(folder)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_overwrite_that_is_refused_leaves_the_run(finished: RunResult, sources: DatasetSources, tmp_path: Path):
    folder, before = _copy(finished, tmp_path)
    (tmp_path / "protein.fa").write_text(">a\nMKWVTFISLLFLFSSAYS\n")
    with pytest.raises(InputError, match=r"protein\.fa"):
        run(folder, replace(sources, positives=tmp_path / "protein.fa"), _config(), overwrite=True)
    assert _contents(folder) == before


def test_an_overwrite_that_is_cut_off_in_the_build_leaves_the_run_and_is_not_resumed_on_the_old_data(
    finished: RunResult, simulation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, before = _copy(finished, tmp_path)
    other = DatasetSources(positives=simulation / "negatives.fa", negatives=(simulation / "positives.fa",))

    def cut_off(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ebox.datasets.build.write_dataset", cut_off)
        with pytest.raises(KeyboardInterrupt):
            run(folder, other, _config(), overwrite=True)
    assert _contents(folder) == before
    with pytest.raises(InputError, match="other data"):
        run(folder, other, _config(), resume=True)


@pytest.fixture(scope="module")
def seeded(
    finished: RunResult, sources: DatasetSources, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunResult, list[str], list[tuple[int, int]]]:
    """A finished run, resumed for one more seed; the stages, and how many seeds were told to be trained."""
    folder, _ = _copy(finished, tmp_path_factory.mktemp("seeded"))
    stages: list[str] = []
    told: list[tuple[int, int]] = []

    def tell(phrase: str, done: int, total: int) -> None:
        if phrase == "training seeds":
            told.append((done, total))

    result = run(folder, sources, _without_baselines(), resume=True, seeds=2, on_stage=stages.append, progress=tell)
    return result, stages, told


def test_another_seed_is_a_training_of_its_own_and_its_spread_stands_beside_the_interval(
    finished: RunResult, seeded: tuple[RunResult, list[str], list[tuple[int, int]]]
):
    result, stages, told = seeded
    assert stages == ["train, seed 2 of 2", "evaluate", "report"]
    assert told == [(1, 2), (2, 2)]
    other = result.folder / "seeds" / "1"
    assert sorted(os.listdir(result.folder / "seeds")) == ["1"]
    assert read_config(other / "config.toml").train.seed == 1
    assert read_config(other / "config.toml").data.seed == 0
    assert not (other / "dataset").exists()
    assert (other / "model" / "tensors.safetensors").read_bytes() != (
        finished.folder / "model" / "tensors.safetensors"
    ).read_bytes()
    before, track = finished.evaluation.facts["tracks"][0], result.evaluation.facts["tracks"][0]
    measured = json.loads((other / "evaluation.json").read_text())["tracks"][0]
    assert measured["baselines"] == {}
    assert before["seeds"] is measured["seeds"] is None
    assert {name: part["metrics"] for name, part in track["splits"].items()} == {
        name: part["metrics"] for name, part in before["splits"].items()
    }
    assert track["seeds"]["seeds"] == [0, 1]
    for name in ("auroc", "auprc", "accuracy", "mcc"):
        found = track["seeds"]["metrics"][name]
        assert found["values"] == [part["splits"]["test"]["metrics"][name]["value"] for part in (before, measured)]
        assert found["mean"] == pytest.approx(np.mean(found["values"]), abs=1e-6)
        assert found["sd"] == pytest.approx(abs(found["values"][0] - found["values"][1]) / np.sqrt(2), abs=1e-6)
        assert [found["min"], found["max"]] == sorted(found["values"])
    auroc = track["seeds"]["metrics"]["auroc"]
    words = f"{auroc['mean']:.4f} ± {auroc['sd']:.4f}"
    assert f"Over 2 seeds, mean ± standard deviation: AUROC {words}, AUPRC" in describe_metrics(result.evaluation.facts)
    page = result.report.read_text()
    assert f"<small>{words}</small>" in page
    assert "with seeds 0 and 1." in page
    assert "One training run" in finished.report.read_text()
    assert "One training run" not in page


def test_other_seeds_are_measured_again_with_the_run_and_are_found_where_it_was_moved(
    seeded: tuple[RunResult, list[str], list[tuple[int, int]]], tmp_path: Path
):
    folder = tmp_path / "moved"
    shutil.copytree(seeded[0].folder, folder)
    for place in (folder, folder / "seeds" / "1"):
        facts = json.loads((place / "dataset.json").read_text())
        (place / "dataset.json").write_text(json.dumps({**facts, "path": str(tmp_path / "gone")}))
    again = evaluate(folder, config=_without_baselines()).facts["tracks"][0]
    assert again["seeds"] == seeded[0].evaluation.facts["tracks"][0]["seeds"]


def test_other_data_are_measured_with_the_networks_of_all_seeds(
    seeded: tuple[RunResult, list[str], list[tuple[int, int]]], others: Path, tmp_path: Path
):
    folder = tmp_path / "copy"
    shutil.copytree(seeded[0].folder, folder)
    other, asked = folder / "seeds" / "1", read_sources(table=others / "strangers.csv")
    before = _contents(other)
    config = _quick(folder, "evaluation.baselines=[]")
    result = evaluate(folder, sources=asked, config=config)
    found = result.facts["tracks"][0]["seeds"]
    assert _contents(other) == before
    alone = evaluate(other, sources=asked, config=config)
    assert found["seeds"] == [0, 1]
    assert found["metrics"]["auroc"]["values"] == [each.metric("auroc")[0] for each in (result, alone)]
    assert found["metrics"]["accuracy"]["values"] == [each.metric("accuracy")[0] for each in (result, alone)]
    assert "Over 2 seeds" in describe_evaluation(result)
    # Without the training data each network keeps the threshold of its own evaluation.
    shutil.rmtree(folder / "dataset")
    for place in (folder, other):
        facts = json.loads((place / "dataset.json").read_text())
        (place / "dataset.json").write_text(json.dumps({**facts, "path": str(tmp_path / "gone")}))
    again = evaluate(folder, sources=asked, config=config).facts["tracks"][0]["seeds"]
    assert again["metrics"]["accuracy"] == found["metrics"]["accuracy"]


@pytest.mark.parametrize("text", ["[]", '{"seeds": 3}', '{"seeds": ["../1"]}'])
def test_a_damaged_request_is_named_with_what_to_do(text: str, sources: DatasetSources, tmp_path: Path):
    (tmp_path / "request.json").write_text(text)
    with pytest.raises(InputError, match=r"request\.json: does not say.*\n.*delete it"):
        run(tmp_path, sources, _config(), resume=True)
    with pytest.raises(InputError, match="does not say"):
        find_seeds(tmp_path)


def test_a_run_that_is_cut_off_in_a_seed_goes_on_there_with_as_many(
    finished: RunResult, sources: DatasetSources, tmp_path: Path
):
    folder, before = _copy(finished, tmp_path)
    stages: list[str] = []

    def stop(stage: str) -> None:
        stages.append(stage)
        raise KeyboardInterrupt

    for seeds in (3, None, 1):
        with pytest.raises(KeyboardInterrupt):
            run(folder, sources, _config(), resume=True, seeds=seeds, on_stage=stop)
        kept = json.loads((folder / "request.json").read_text())
        assert kept.get("seeds") == (None if seeds == 1 else [0, 1, 2])
    assert stages == ["train, seed 2 of 3", "train, seed 2 of 3", "evaluate"]
    assert _contents(folder) == before


def test_a_new_training_in_a_folder_removes_the_other_seeds(tmp_path: Path):
    for name in ("environment.json", "seeds/1/training.json", "mine.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    clear_run(tmp_path)
    assert os.listdir(tmp_path) == ["mine.txt"]


@pytest.mark.parametrize("seeds", [0, -1, 2**32 + 1])
def test_what_is_no_number_of_seeds_is_refused_and_nothing_written(seeds: int, sources: DatasetSources, tmp_path: Path):
    with pytest.raises(InputError, match=r"whole number from 1 on|give a lower --seed, or fewer --seeds"):
        run(tmp_path / "run", sources, _config(), seeds=seeds)
    assert os.listdir(tmp_path) == []


def test_the_best_possible_result_is_only_that_of_its_own_task(simulation: Path, tmp_path: Path):
    positives, negatives = simulation / "positives.fa", simulation / "negatives.fa"
    (tmp_path / "other.fa").write_text(">a\nACGT\n")
    whole = DatasetSources(positives=positives, negatives=(negatives,))
    assert find_simulation(whole, make_config({})) == simulation / "simulation.json"
    assert find_simulation(whole, make_config({"data": {"length_bp": 80}})) == simulation / "simulation.json"
    for sources, data in (
        (DatasetSources(positives=positives, negatives=(tmp_path / "other.fa",)), {}),
        (DatasetSources(positives=positives), {}),
        (whole, {"length_bp": 60}),
        (whole, {"negatives": ["given", "shuffled"]}),
    ):
        assert find_simulation(sources, make_config({"data": data})) is None


_RUN = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from test_pipeline import _config
from ebox.datasets.sources import DatasetSources
from ebox.verbs.run import run
s = Path(sys.argv[2])
sources = DatasetSources(positives=s / "positives.fa", negatives=(s / "negatives.fa",))
run(Path(sys.argv[1]), sources, _config(), resume=True, on_stage=lambda stage: print(stage, flush=True))
"""


@pytest.mark.slow
def test_a_run_killed_in_every_stage_is_finished_by_resuming(finished: RunResult, simulation: Path, tmp_path: Path):
    folder = tmp_path / "run"
    command = processes.python(_RUN, folder, simulation, Path(__file__).parent)
    for stage in ("build", "train", "evaluate"):
        with processes.started(command, ends=-signal.SIGKILL, devices=8) as process:
            process.wait_until(lambda process=process, stage=stage: stage in process.stdout.split())
            time.sleep(0.3)
            process.send_signal(signal.SIGKILL)
    processes.run(command, devices=8)
    ours = json.loads((folder / "evaluation.json").read_text())["tracks"]
    undisturbed = json.loads((finished.folder / "evaluation.json").read_text())["tracks"]
    assert ours == undisturbed


def test_prediction_reads_any_length_and_calls_by_the_threshold(finished: RunResult, simulation: Path, tmp_path: Path):
    positives = read_fasta(simulation / "positives.fa").matrix(80)[:50]
    negatives = read_fasta(simulation / "negatives.fa").matrix(80)[:50]
    long = np.concatenate([negatives[0], negatives[1], positives[0], negatives[2]])
    write_fasta(tmp_path / "a.fa", [f"p{i}" for i in range(50)], positives)
    result = predict(finished.folder, tmp_path / "a.fa", tmp_path / "a.tsv")
    lines = (tmp_path / "a.tsv").read_text().splitlines()
    assert lines[0].split("\t") == [
        "name",
        "length_bp",
        "TAL1_window_start",
        "TAL1_logit",
        "TAL1_probability",
        "TAL1_call",
        "TAL1_set",
    ]
    assert len(lines) == 51
    assert {line.split("\t")[6] for line in lines[1:]} <= {"bound", "unbound", "both", "none"}
    calls = [int(line.split("\t")[5]) for line in lines[1:]]
    assert calls == (result.probabilities[:, 0] >= result.thresholds[0]).astype(int).tolist()
    assert np.mean(calls) > 0.6
    write_fasta(tmp_path / "g.fa", ["chr1"], positives[:4].reshape(1, -1))
    (tmp_path / "p.bed").write_text("".join(f"chr1\t{80 * row}\t{80 * row + 80}\tp{row}\n" for row in range(4)))
    there = predict(finished.folder, bed=tmp_path / "p.bed", genome=tmp_path / "g.fa")
    np.testing.assert_allclose(there.logits[:, 0], result.logits[:4, 0], rtol=1e-5)
    assert there.names[1] == "p1::chr1:80-160(.)"
    with pytest.raises(InputError, match="is the file of the genome"):
        predict(finished.folder, bed=tmp_path / "p.bed", genome=tmp_path / "g.fa", out=tmp_path / "g.fa")
    (tmp_path / "b.fa").write_text(">long\n" + "".join("ACGTN"[c] for c in long) + "\n>short\nACGT\n")
    other = predict(finished.folder, tmp_path / "b.fa")
    assert other.lengths.tolist() == [320, 4]
    assert (other.num_windowed, other.num_padded) == (1, 1)
    assert other.windows[1, 0] == -38
    assert 0 <= other.windows[0, 0] <= 240
    # The best of several windows passes the threshold of one by chance: it is scored, not called.
    assert other.calls[0, 0] == -1
    assert other.calls[1, 0] in (0, 1)


def test_calls_for_a_stated_share_of_false_ones_are_those_of_the_evaluation(
    finished: RunResult, simulation: Path, tmp_path: Path
):
    folder, _ = _copy(finished, tmp_path)
    config = read_run_settings(folder, ("evaluation",), ("evaluation.prevalence=0.3", "evaluation.target_fdr=0.2"))
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"baselines": ()})})
    (track,) = evaluate(folder, config=config).facts["tracks"]
    expected = track["splits"]["test"]["prevalences"][-1]["calls"]["fdr"]["threshold"]["value"]
    assert expected is not None
    result = predict(folder, simulation / "positives.fa", prevalence=0.3, target_fdr=0.2)
    assert result.fdr_thresholds == (pytest.approx(expected, abs=1e-6),)
    assert result.calls_at_fdr is not None
    np.testing.assert_array_equal(result.calls_at_fdr[:, 0], result.probabilities[:, 0] >= result.fdr_thresholds[0])
    assert "at most 0.2 of the calls false: " in describe_scores(result)
    with pytest.raises(InputError, match=r"can't be kept: .* are too few to promise at most 1 % false calls"):
        predict(folder, simulation / "positives.fa", prevalence=0.001, target_fdr=0.01)
    with pytest.raises(InputError, match="target_fdr"):
        predict(folder, simulation / "positives.fa", prevalence=0.3, target_fdr=1.5)
    with pytest.raises(InputError, match=r"how rare positives are.*\n.*--prevalence"):
        predict(finished.folder, simulation / "positives.fa", target_fdr=0.2)
    (folder / "predictions.parquet").unlink()
    with pytest.raises(InputError, match=r"holds the validation scores\n.*ebox evaluate"):
        predict(folder, simulation / "positives.fa", prevalence=0.3, target_fdr=0.2)


def test_scores_replace_no_file_unasked_and_are_packed_by_name(finished: RunResult, simulation: Path, tmp_path: Path):
    few = tmp_path / "few.fa"
    few.write_text("".join((simulation / "positives.fa").read_text().splitlines(keepends=True)[:8]))
    predict(finished.folder, few, tmp_path / "a.tsv")
    predict(finished.folder, few, tmp_path / "a.tsv.gz")
    rows = (tmp_path / "a.tsv").read_text()
    assert gzip.decompress((tmp_path / "a.tsv.gz").read_bytes()).decode() == rows
    with pytest.raises(InputError, match=r"a\.tsv: already exists"):
        predict(finished.folder, few, tmp_path / "a.tsv")
    with pytest.raises(InputError, match="is the file of the sequences"):
        predict(finished.folder, few, few, overwrite=True)
    with pytest.raises(InputError, match="belongs to the run"):
        predict(finished.folder, few, finished.folder / "training.json", overwrite=True)
    (tmp_path / "a.tsv").write_text("old")
    done = processes.run(
        processes.ebox("predict", finished.folder, "--fasta", few, "--out", tmp_path / "a.tsv", "--overwrite")
    )
    assert done.stdout.endswith(f"predictions: {tmp_path / 'a.tsv'}\n")
    assert (tmp_path / "a.tsv").read_text() == rows
    # On standard output stand the rows and nothing else.
    done = processes.run(processes.ebox("predict", finished.folder, "--fasta", few, "--out", "-"), cwd=tmp_path)
    assert done.stdout == rows
    assert "4 sequences scored" in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["a.tsv", "a.tsv.gz", "few.fa"]


def test_a_report_replaces_no_file_unasked_but_the_one_of_its_run(
    finished: RunResult, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    page = report(finished.folder, finished.report).read_text()
    report(finished.folder, tmp_path / "r.html")
    (tmp_path / "r.html").unlink()
    with pytest.raises(InputError, match=r"r\.json: already exists"):
        report(finished.folder, tmp_path / "r.html")
    report(finished.folder, tmp_path / "r.html", overwrite=True)
    with pytest.raises(InputError, match=r"r\.html: already exists"):
        report(finished.folder, tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == page
    capfd.readouterr()
    report(finished.folder, "-")
    assert capfd.readouterr().out == page
    assert sorted(os.listdir(tmp_path)) == ["r.html", "r.json"]


@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"resume": True}])
def test_a_second_run_into_a_folder_is_refused_and_changes_nothing(
    finished: RunResult, sources: DatasetSources, tmp_path: Path, how: dict[str, bool]
):
    folder, before = _copy(finished, tmp_path)
    with claim_folder(folder), pytest.raises(InputError, match="another ebox is writing to this folder"):
        run(folder, sources, _config(), **how)
    assert _contents(folder) == before


def test_motifs_through_a_pipe_are_refused_before_a_run_begins(sources: DatasetSources, tmp_path: Path):
    os.mkfifo(tmp_path / "motifs")
    with pytest.raises(InputError, match=r"motifs: is a pipe or a device"):
        run(tmp_path / "run", sources, _config(), motifs=[tmp_path / "motifs"])
    assert os.listdir(tmp_path) == ["motifs"]


def test_an_empty_folder_that_a_killed_build_left_is_built_anew_by_a_resumed_run(
    sources: DatasetSources, tmp_path: Path
):
    (tmp_path / "run" / "dataset").mkdir(parents=True)
    stages = []

    def stop(stage: str) -> None:
        stages.append(stage)
        if stage == "train":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", sources, _config(), resume=True, on_stage=stop)
    assert stages == ["build", "train"]
    assert len(open_dataset(tmp_path / "run" / "dataset")) > 2400


def test_a_run_on_other_sequences_drops_the_best_possible_result_of_simulated_ones(
    simulation: Path, sources: DatasetSources, tmp_path: Path
):
    def stop(stage: str) -> None:
        if stage == "train":
            raise KeyboardInterrupt

    ceiling = tmp_path / "run" / "simulation.json"
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", sources, _config(), simulation=simulation / "simulation.json", on_stage=stop)
    assert ceiling.is_file()
    shutil.copy(simulation / "positives.fa", tmp_path / "others.fa")
    others = replace(sources, positives=tmp_path / "others.fa")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", others, _config(), overwrite=True, on_stage=stop)
    assert not ceiling.exists()


def test_windows_cover_every_base():
    windows = plan_windows([10, 100, 101, 437], 100)
    for owner, length in enumerate([10, 100, 101, 437]):
        starts = windows.start[windows.owner == owner]
        covered = np.zeros(length, bool)
        for start in starts:
            covered[max(start, 0) : start + 100] = True
        assert covered.all()
        assert len(starts) == 1 or starts[-1] == length - 100


@pytest.mark.slow
def test_a_changed_dataset_is_noticed(finished: RunResult, sources: DatasetSources, tmp_path: Path):
    from ebox.verbs.build import build

    build(tmp_path / "d", sources, make_config({"data": {"negatives": ["given"], "seed": 5}}))
    train(tmp_path / "d", tmp_path / "r", _config(max_steps=2))
    build(tmp_path / "d", sources, make_config({"data": {"negatives": ["given"], "seed": 6}}), overwrite=True)
    with pytest.raises(InputError, match="has changed since"):
        evaluate(tmp_path / "r")
    with pytest.raises(InputError, match=r"evaluation\.json"):
        report(tmp_path / "r")


def test_a_missing_model_says_what_to_do(tmp_path: Path):
    for function in (evaluate, report):
        with pytest.raises(InputError):
            function(tmp_path / "absent")


def test_filters_read_back_are_those_of_the_file(finished: RunResult):
    import ebox

    motifs = ebox.read_filters(finished.folder)
    entries = json.loads((finished.folder / "filters.json").read_text())["filters"]
    assert [motif.consensus for motif in motifs] == [entry["consensus"] for entry in entries]
    with pytest.raises(InputError, match="is missing"):
        ebox.read_filters(finished.folder / "absent")
