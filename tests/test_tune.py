"""`ebox tune`: what it refuses, and real searches that are killed, interrupted and gone on with."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import pytest

import ebox
import processes
from ebox.datasets.folder import Dataset
from ebox.errors import InputError
from ebox.progress import quiet
from ebox.reporting.report import write_report
from ebox.sequences import SimulationConfig, draw_simulation, write_simulation
from ebox.settings.reading import Config, format_config, make_config, read_config
from ebox.storage.stamps import TUNING, write_stamped
from ebox.tuning.results import make_facts
from ebox.tuning.spaces import read_space
from ebox.tuning.training import Trainer, start_workers
from ebox.tuning.trials import Job, Trial
from ebox.verbs import tune as tune_verb
from test_reporting_reading import make_run_folder

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: the extra cluster brings it")
SPACE = (
    "[model]\nnum_filters = {choices = [4, 8]}\n"
    "[train]\nlearning_rate = {low = 1e-4, high = 3e-2, log = true}\ndropout = {low = 0.0, high = 0.5}\n"
)
SMALL = {
    "model.architecture": "motif",
    "model.num_filters": 4,
    "model.dense_units": [4],
    "train.max_steps": 36,
    "train.batch_size": 32,
    "evaluation.num_bootstrap": 100,
    "evaluation.baselines": ["gc_logistic"],
}
TRIALS = 12


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    config = SimulationConfig(motifs=("MA0140.3",), length_bp=60, num_positives=300, num_negatives=300)
    write_simulation(draw_simulation(config), folder / "simulation")
    sources = ebox.read_sources(
        positives=folder / "simulation" / "positives.fa", negatives=[folder / "simulation" / "negatives.fa"]
    )
    ebox.build(folder / "data", sources)
    (folder / "space.toml").write_text(SPACE)
    return folder / "data"


def command(dataset: Path, out: Path, *more: object) -> list[str]:
    settings = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    space = dataset.parent / "space.toml"
    return processes.ebox("tune", dataset, "--space", space, "--out", out, "--seeds", "2", *settings, *more)


def read_trials(out: Path) -> list[tuple[object, ...]]:
    """What must be the same in each run of a search: all but times."""
    facts = json.loads((out / "tuning.json").read_text())
    measures = ("loss", "auroc", "auprc", "steps", "num_parameters")
    return [
        (
            trial["number"],
            trial["state"],
            trial["value"],
            tuple(sorted(trial["settings"].items())),
            tuple(tuple(rung[name] for name in measures) for rung in trial["rungs"]),
        )
        for trial in facts["trials"]
    ]


# What is refused before anything is written.


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"trials": None}, "neither --trials nor --minutes"),
        ({"trials": 2}, "too few for one rung"),
        ({"seeds": 0}, "--seeds 0 is not how many"),
        ({"config": {"train": {"seed": 2**32 - 1}}}, "give a lower --seed"),
        ({"config": {"tuning": {"shape_members": 2}}, "space": "[model]\npool_bp = {choices = [2, 4]}"}, "only shapes"),
        ({"config": {"ensemble": {"members": 5}}}, "single networks from fresh weights, so ensemble.members can't be"),
        (
            {"config": {"transfer": {"source": "runs/one", "freeze": "body"}}},
            "so transfer.source, transfer.freeze can't",
        ),
        ({"space": "[train]\ndropuot = {low = 0.0, high = 0.1}"}, "did you mean 'dropout'"),
        ({"dataset": "none"}, "none"),
    ],
)
def test_what_can_not_be_searched_is_refused_and_nothing_is_written(
    dataset: Path, tmp_path: Path, given: dict[str, object], problem: str
):
    space = tmp_path / "space.toml"
    space.write_text(str(given.get("space", SPACE)))
    place = dataset if "dataset" not in given else tmp_path / str(given["dataset"])
    options = {"trials": 6, "seeds": 2, **{key: given[key] for key in ("trials", "seeds") if key in given}}
    config = make_config(given.get("config", {}))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=problem):
        ebox.tune(place, tmp_path / "out", config, space=space, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_or_of_a_search_is_left_alone(dataset: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"already exists|was not made by this command"):
            ebox.tune(dataset, tmp_path / "out", trials=6, overwrite=overwrite)
    (tmp_path / "out" / "journal.log").write_text("")
    with pytest.raises(InputError, match="holds a search already") as caught:
        ebox.tune(dataset, tmp_path / "out", trials=6)
    assert "--resume" in str(caught.value.remedy)
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


class KilledError(BaseException):
    """Stands for a process that is gone."""


def make_up(monkeypatch: pytest.MonkeyPatch, outcome: Callable[[Job], Mapping[str, Any]]) -> list[Job]:
    """Let searches measure by a formula, without workers; the jobs that come."""
    done: list[Job] = []

    @contextmanager
    def start(*_: object) -> Iterator[object]:
        def measure(jobs: Sequence[Job], _: object, on_done: Callable[[Job, Mapping[str, Any]], None], *more: object):
            for job in jobs:
                on_done(job, outcome(job))
                done.append(job)
            return True

        yield measure

    monkeypatch.setattr(tune_verb._Job, "start_workers", start)
    return done


def fail(job: Job) -> Mapping[str, Any]:
    return {"problem": "out of memory"}


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("journal", [None, "Monday: fed the cat\nTuesday: again"])
@pytest.mark.parametrize("how", ["resume", "overwrite"])
def test_a_folder_that_no_search_made_is_left_as_it_is(dataset: Path, tmp_path: Path, journal: str | None, how: str):
    out = tmp_path / "out"
    for name in ("work/thesis.txt", "best/photo.txt", "trials.tsv"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
    if journal is not None:
        (out / "journal.log").write_text(journal)
    before = read_all(out)
    with pytest.raises(InputError, match=r"it has no journal.log|is no journal of a search") as caught:
        ebox.tune(dataset, out, trials=3, **{how: True})  # type: ignore[arg-type]
    assert "choose another --out, or remove it yourself" in str(caught.value.remedy)
    assert read_all(out) == before


def test_a_search_without_a_result_is_removed_by_the_call_that_began_it_alone(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out, space = tmp_path / "out", dataset.parent / "space.toml"
    make_up(monkeypatch, fail)
    with pytest.raises(InputError, match="all 3 trials failed"):
        ebox.tune(dataset, out, trials=3, space=space)
    assert not out.exists()

    def kill(job: Job) -> Mapping[str, Any]:
        (out / "work" / "checkpoint").parent.mkdir(parents=True)
        (out / "work" / "checkpoint").write_text("hours")
        raise KilledError

    make_up(monkeypatch, kill)
    with pytest.raises(KilledError):
        ebox.tune(dataset, out, trials=3, space=space)
    before = read_all(out)
    assert {"journal.log", "work/checkpoint"} <= set(before)
    make_up(monkeypatch, fail)
    with pytest.raises(InputError, match=r"train.epochs = 12.0, not 3.0"):
        ebox.tune(dataset, out, make_config({"train": {"epochs": 3}}), trials=3, space=space, resume=True)
    # Optuna adds a line whenever it opens a journal.
    assert (out / "journal.log").read_bytes().startswith(before["journal.log"])
    assert (out / "work" / "checkpoint").exists()
    with pytest.raises(InputError, match="all 3 trials failed"):
        ebox.tune(dataset, out, trials=3, space=space, resume=True)
    assert (out / "work" / "checkpoint").exists()
    # As the error says.
    with pytest.raises(InputError, match="all 3 trials failed"):
        ebox.tune(dataset, out, trials=3, space=space, overwrite=True)
    assert read_all(out) == {}


def test_the_printed_space_is_one_that_is_read(tmp_path: Path):
    from ebox.verbs.tune import describe

    text = describe(ebox.tune(print_space=True))
    (tmp_path / "space.toml").write_text(text)
    assert read_space(tmp_path / "space.toml") == read_space()


def test_without_dataset_or_folder_the_command_is_shown():
    with pytest.raises(InputError, match="no dataset") as caught:
        ebox.tune(trials=3)
    assert "ebox tune DATASET --out FOLDER" in str(caught.value.remedy)


# The report.


def test_the_report_of_a_run_shows_the_search_that_made_it(tmp_path: Path):
    (tmp_path / "space.toml").write_text(f"{SPACE}clip_norm = {{choices = ['none', 1]}}\n")
    space, config = read_space(tmp_path / "space.toml"), make_config({})
    trials = []
    for number in range(9):
        kept = {"model.num_filters": "8", "train.learning_rate": 0.001 * (number + 1), "train.dropout": 0.1}
        kept["train.clip_norm"] = "null" if number else "1.0"
        results = [
            {"loss": 0.5, "auroc": 0.8 + 0.01 * number, "auprc": 0.7, "steps": 4, "seconds": 1.0, "num_parameters": 9}
        ]
        failure = {"code": "trial_failed", "number": 3, "rung": 1, "error": "<b>bad</b>"} if number == 3 else None
        trials.append(Trial(number, kept, tuple(results * (3 if number == 8 else 1)), failure, is_told=True))
    facts: dict[str, Any] = make_facts(trials, space, config, 36, {"train.learning_rate": 0.7, "train.dropout": 0.3})
    run = make_run_folder(tmp_path / "run")
    assert "How the settings were found" not in write_report(run).read_text()
    write_stamped(run / "tuning.json", TUNING, facts)
    page = write_report(run).read_text()
    for words in (
        "How the settings were found",
        "9 trials: 1 trained to the end, 7 dropped after a shorter training, 1 failed.",
        "Trial 8 is the best of 9: validation AUROC 0.8800.",
        "They train for 4, 12, 36 steps with the batch as given; of each length one in 3 went on to the next.",
        "the test split was read for them alone",
        "Of ten or more trials the worst tenth stands on the edge",
        "train.learning_rate (70 %)",
        "Trial 3 failed: &lt;b&gt;bad&lt;/b&gt;.",
        "0.0001 to 0.03, by ratio",
        "<td>none · 1</td>",
        'id="tuning-history-title"',
        'id="tuning-importance-title"',
        'id="tuning-coordinates-title"',
    ):
        assert words in page, words
    assert "<b>bad" not in page
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation["test_reads"] = {"fingerprint": "test", "name": None, "num_reads": 3}
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    assert "the test split was read 3 times" in write_report(run).read_text()


# Real searches.


@pytest.mark.slow
def test_a_killed_search_ends_as_an_undisturbed_one(dataset: Path, tmp_path: Path):
    whole = tmp_path / "whole"
    done = processes.run(command(dataset, whole, "--trials", TRIALS, "--processes", 2))
    assert "is the best of 12" in done.stdout
    assert f"report: {whole / 'best' / 'report.html'}" in done.stdout
    expected = read_trials(whole)
    killed = tmp_path / "killed"
    for lines in (8, 30):
        with processes.started(
            command(dataset, killed, "--trials", TRIALS, "--processes", 2, "--resume"), ends=-signal.SIGKILL
        ) as process:
            process.wait_until(lambda lines=lines: count_lines(killed) >= lines)
            process.send_signal(signal.SIGKILL)
    processes.run(command(dataset, killed, "--trials", TRIALS, "--processes", 2, "--resume"))
    assert read_trials(killed) == expected
    check_files(whole)


@needs_ray
@pytest.mark.slow
def test_workers_of_a_cluster_find_what_those_of_this_machine_find_though_one_is_lost(dataset: Path, tmp_path: Path):
    here, there = tmp_path / "here", tmp_path / "there"
    processes.run(command(dataset, here, "--trials", TRIALS, "--processes", 2))
    cluster = ("--trials", TRIALS, "--cluster", "local", "--workers", 2)
    with processes.started(command(dataset, there, *cluster), ends=0) as process:
        process.wait_until(lambda: count_lines(there) >= 8)
        actors = [one for one in process.children(recursive=True) if "TrialActor" in " ".join(one.cmdline())]
        assert len(actors) == 2
        actors[0].kill()
        assert "starting another in its place" in process.finish()
    assert read_trials(there) == read_trials(here)
    check_files(there)
    # The settings are those of one training; on how many machines it runs is for others to say.
    assert read_config(there / "best.toml").parallel == make_config({}).parallel


@pytest.mark.slow
def test_trials_that_train_in_one_step_measure_what_they_measure_alone(dataset: Path, tmp_path: Path):
    config = make_config({"model": {"architecture": "motif", "num_filters": 4, "dense_units": [4]}})
    space, steps = read_space(dataset.parent / "space.toml"), 12
    values = [(0.003, 0.1), (0.01, 0.3), (1e6, 0.2)]
    configs = [
        space.apply(config, {"model.num_filters": "4", "train.learning_rate": rate, "train.dropout": dropout})
        for rate, dropout in values
    ]
    task = {
        "configs": [format_config(one) for one in configs],
        "folders": [str(tmp_path / str(number)) for number in range(3)],
        "steps": steps,
    }
    told: list[int] = []
    together = Trainer(dataset, config, side_by_side=True).train(task, told.append)
    alone = Trainer(dataset, config, side_by_side=False).train(task, quiet)
    assert told[-1] == 3 * steps
    for one, other in zip(together[:2], alone[:2], strict=True):
        assert one.keys() == other.keys()
        assert one["steps"] == other["steps"] == steps
        assert one["num_parameters"] == other["num_parameters"]
        for name in ("loss", "auroc", "auprc"):
            assert one[name] == pytest.approx(other[name], abs=1e-5)
    # A rate beyond all reason breaks one member alone.
    assert "not finite" in together[2]["problem"]
    assert "not finite" in alone[2]["problem"]


def test_members_without_room_beside_each_other_train_alone_and_one_without_any_fails_alone(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def run_out(*_: object) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    def train(_: Dataset, config: Config, steps: int, *more: Any) -> dict[str, float]:
        if config.train.dropout == 0.3:
            run_out()
        *_, on_steps = more
        on_steps(steps)
        return {"loss": config.train.dropout}

    monkeypatch.setattr("ebox.tuning.joint.train_together", run_out)
    monkeypatch.setattr("ebox.tuning.lone.train_alone", train)
    config, told = make_config({}), []
    task = {
        "configs": [format_config(make_config({"train": {"dropout": dropout}})) for dropout in (0.1, 0.3, 0.2)],
        "folders": [str(tmp_path / str(number)) for number in range(3)],
        "steps": 7,
    }
    found = Trainer(dataset, config, side_by_side=True).train(task, told.append)
    assert [one.get("loss") for one in found] == [0.1, None, 0.2]
    assert found[1] == {"problem": "a device has too little memory for this batch"}
    assert told == [7, 21]


def test_a_lost_worker_is_told_with_its_last_words(dataset: Path, tmp_path: Path):
    def die(*_: str) -> list[str]:
        return ["-c", "print('reading')\nraise MemoryError('no room for 3 GB')"]

    found: dict[int, Mapping[str, Any]] = {}
    config = make_config({})
    with start_workers(dataset, config, tmp_path / "work", die) as measure:
        measure([Job(0, 0, config, 3)], quiet, lambda job, result: found.update({job.number: result}), lambda: False)
    assert found[0]["problem"].startswith("its worker ended twice, with code 1; its last words: ")
    assert found[0]["problem"].endswith("| MemoryError: no room for 3 GB")


def count_lines(out: Path) -> int:
    """The lines of a journal until now."""
    journal = out / "journal.log"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def check_files(out: Path) -> None:
    """What a search leaves."""
    facts = json.loads((out / "tuning.json").read_text())
    best = facts["trials"][facts["best"]]
    config = read_config(out / "best.toml")
    assert config.train.learning_rate == best["settings"]["train.learning_rate"]
    assert config.train.max_steps == 36
    with (out / "trials.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [int(row["number"]) for row in rows] == list(range(TRIALS))
    run = out / "best"
    assert read_config(run / "config.toml").train.seed == 1
    assert read_config(run / "seeds" / "2" / "config.toml").train.seed == 2
    for folder in (run, out):
        reads = json.loads((folder / "test_reads.json").read_text())["tests"]
        assert [entry["num_reads"] for entry in reads] == [1]
    assert facts["final_seeds"] == [1, 2]
    assert "How the settings were found" in (run / "report.html").read_text()
    assert not (out / "work").exists()


@pytest.mark.slow
def test_ctrl_c_ends_after_the_rung_and_keeps_all(dataset: Path, tmp_path: Path):
    out = tmp_path / "out"
    with processes.started(command(dataset, out, "--trials", TRIALS), ends=130) as process:
        journal = out / "journal.log"
        process.wait_until(lambda: journal.exists() and b"rung_0" in journal.read_bytes())
        process.send_signal(signal.SIGINT)
    assert "--resume goes on" in process.stdout
    facts = json.loads((out / "tuning.json").read_text())
    assert facts["ended"] == "interrupted"
    assert [len(trial["rungs"]) for trial in facts["trials"]] == [1] * 9
    assert (out / "best.toml").exists()
    assert not (out / "best").exists()
    refused = processes.run(
        command(dataset, out, "--trials", TRIALS, "--resume", "--set", "train.weight_decay=0.5"), ends=2
    )
    assert "setting train.weight_decay = 0.01, not 0.5" in refused.stderr
    processes.run(command(dataset, out, "--trials", TRIALS, "--resume"))
    check_files(out)
    # Nothing is trained or measured again.
    before = (out / "best" / "evaluation.json").read_bytes()
    processes.run(command(dataset, out, "--trials", TRIALS, "--resume"))
    assert (out / "best" / "evaluation.json").read_bytes() == before
    check_files(out)


@pytest.mark.slow
def test_an_absent_device_is_refused_before_any_trial(dataset: Path, tmp_path: Path):
    done = processes.run(
        command(dataset, tmp_path / "out", "--trials", 3, "--platform", "gpu"), ends=2, variables={"JAX_PLATFORMS": ""}
    )
    assert "no GPU that JAX can use was found" in done.stderr
    assert "all 3 trials failed" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_minutes_are_kept_and_too_few_are_refused(dataset: Path, tmp_path: Path):
    done = processes.run(command(dataset, tmp_path / "out", "--minutes", 0.02), ends=2)
    assert "too short for one rung of 3 trials and 2 final trainings here" in done.stderr
    assert "with --resume" in done.stderr
