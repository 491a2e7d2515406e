"""Search for better settings on the validation split, and train the best anew."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebox.errors import InputError, ResumableError
from ebox.progress import OnEntry, OnStage, OnText, PathLike, Progress, quiet
from ebox.storage import run_folder
from ebox.storage.publishing import claim_folder, find_command
from ebox.storage.stamps import TUNING, write_stamped
from ebox.verbs.evaluate import EvaluationResult, describe_metrics
from ebox.verbs.report import report
from ebox.verbs.tune_folder import BEST, BEST_CONFIG, JOURNAL, TABLE, WORK, check_folder, clear, nothing_left
from ebox.verbs.tuned import Final
from ebox.verbs.verb import Verb

if TYPE_CHECKING:
    from ebox.datasets.folder import Dataset
    from ebox.settings.reading import Config
    from ebox.tuning.budget import Budget
    from ebox.tuning.spaces import Space
    from ebox.tuning.training import Measure
    from ebox.tuning.trials import Trial

_EXAMPLES = """Examples:
  ebox tune data/tal1 --out tune/tal1 --minutes 20
  ebox tune data/tal1 --out tune/tal1 --trials 64 --processes 2
  ebox tune data/tal1 --out tune/tal1 --trials 64 --cluster auto --workers 8
  ebox tune --print-space > space.toml
  ebox tune data/tal1 --space space.toml --out tune/mine --trials 64
Ctrl-C ends after the present rung and keeps all; the same command with --resume goes on.
"""
VERB = Verb(
    "tune",
    arguments={"dataset": "DATASET"},
    settings=(
        "train",
        *(f"parallel.{name}" for name in ("platform", "devices", "processes", "cluster", "workers")),
        "tuning",
    ),
    epilog=_EXAMPLES,
)
# What one training on this machine has of `parallel`, whatever the search had.
ALONE = {"processes": 1, "cluster": None, "workers": 1, "worker_cpus": None, "worker_gpus": None}


@dataclass(frozen=True)
class TuningResult:
    """A search that ended.

    Args:
        folder: Its folder; None where only the space was asked for.
        facts: What it found (docs/formats.md).
        evaluation: That of the best settings, trained anew.
        report: The page about them.
        space: The default space as text, where it was asked for.
    """

    folder: Path | None = None
    facts: Mapping[str, Any] | None = None
    evaluation: EvaluationResult | None = None
    report: Path | None = None
    space: str | None = None


def tune(
    dataset: PathLike | None = None,
    out: PathLike | None = None,
    config: Config | None = None,
    *,
    trials: int | None = None,
    minutes: float | None = None,
    space: PathLike | None = None,
    print_space: bool = False,
    seeds: int | None = 3,
    resume: bool = False,
    overwrite: bool = False,
    on_stage: OnStage = quiet,
    on_entry: OnEntry = quiet,
    on_text: OnText = quiet,
    progress: Progress = quiet,
    command: Sequence[str] | None = None,
) -> TuningResult:
    """Search for better settings on the validation split, and train the best anew.

    Trials come from a space of settings, and successive halving drops most of them after short trainings. The best is
    trained anew with fresh seeds; the first of these is the run folder OUT/best, and for it the test split is read.

    Args:
        dataset: Dataset folder made by `ebox build`.
        out: Folder to write.
        config: The settings of all trials, but for those that are searched; none: the defaults.
        trials: How many choices of settings to try.
        minutes: How long search and final trainings may take from now on; what is measured after them comes on top.
        space: File with the space to search (TOML); none: that of ebox.
        print_space: Print the space of ebox, to edit it, and end.
        seeds: How many times the best settings are trained anew.
        resume: Go on where an interrupted search stopped, also with more trials; begin where there is none.
        overwrite: Replace an earlier search in --out.
        on_stage: Called with the name of each stage as it begins.
        on_entry: Called with every entry of the final trainings' metrics and the number of steps in all.
        on_text: Called with a line on the best trial after each round.
        progress: Called with a phrase, the number done, and the number in all.
        command: The command line to keep; none: that of this process.

    Raises:
        InputError: a bad dataset or space, a search of something else in `out`, too small a budget, or all trials
            failed.
        ResumableError: SIGTERM ended the search after a rung; all is kept, and `resume` goes on.
        KeyboardInterrupt: SIGINT did.
    """
    from ebox.settings.reading import Config
    from ebox.tuning.spaces import DEFAULT_SPACE, read_space

    if print_space:
        return TuningResult(space=DEFAULT_SPACE.read_text(encoding="utf-8"))
    if dataset is None or out is None:
        missing = "dataset to search on" if dataset is None else "folder to write"
        raise InputError(f"there is no {missing}", remedy="write ebox tune DATASET --out FOLDER --trials 27")
    config = Config() if config is None else config
    chosen = read_space(None if space is None else Path(space))
    job = _Job(Path(dataset), Path(out), config, chosen, 3 if seeds is None else seeds, find_command(command))
    budget = job.check(trials, minutes, resume=resume, overwrite=overwrite)
    data = job.open_data()
    with claim_folder(job.out):
        # Again, since another process may have searched there meanwhile.
        check_folder(job.out, resume=resume, overwrite=overwrite)
        if overwrite and not resume:
            clear(job.out)
        on_stage("search")
        with nothing_left(job.out):
            facts, ended = _search(job, data, budget, on_text, progress)
        if ended is not None:
            on_text(f"{describe_best(facts)}\nthe search ended after the present rung; --resume goes on")
            _stop(ended)
        best = job.read_best()
        final = Final(job.dataset, data.fingerprint, job.out / BEST, best, job.final_seeds, job.command)
        trained = final.train(budget, on_stage, on_entry)
        if len(trained) < job.seeds:
            on_text(f"the time was enough for {len(trained)} of {job.seeds} final trainings")
        on_stage("evaluate")
        facts["final_seeds"] = trained
        write_stamped(job.out / run_folder.TUNING, TUNING, facts)
        evaluation = final.measure(facts, progress)
        on_stage("report")
        return TuningResult(job.out, facts, evaluation, report(job.out / BEST))


@dataclass(frozen=True)
class _Job:
    """What was asked for."""

    dataset: Path
    out: Path
    config: Config
    space: Space
    seeds: int
    command: list[str]

    @property
    def alone(self) -> Config:
        """The settings, for one training on this machine."""
        return self.config.model_copy(update={"parallel": self.config.parallel.model_copy(update=ALONE)})

    @property
    def final_seeds(self) -> list[int]:
        """Seeds that no trial had."""
        first = self.config.train.seed
        return list(range(first + 1, first + 1 + self.seeds))

    def check(self, trials: int | None, minutes: float | None, *, resume: bool, overwrite: bool) -> Budget:
        """The budget, after every check that needs no training.

        Raises:
            InputError: one of them failed; nothing is written.
        """
        from ebox.settings.fields import SEED_END
        from ebox.tuning.budget import Budget
        from ebox.tuning.halving import Halving
        from ebox.tuning.journal import check_optuna
        from ebox.tuning.training import check_here

        check_here(self.config)
        self._check_sections()
        last = SEED_END - 1 - self.config.train.seed
        if not 1 <= self.seeds <= last:
            raise InputError(
                f"--seeds {self.seeds} is not how many networks to train with seeds above {self.config.train.seed}",
                remedy=f"give a number from 1 to {last:,}" if last > 0 else "give a lower --seed",
            )
        members = self.config.tuning.shape_members
        if members > 1 and len(self.space.shape_keys) == len(self.space.dimensions):
            raise InputError(
                f"tuning.shape_members = {members} asks for trials of one shape, but the space varies only shapes",
                remedy="add train.learning_rate or another rate to the space, or leave tuning.shape_members out",
            )
        workers, halving = self.config.parallel.num_started, Halving.of(self.config.tuning)
        carries = self.space.holds(self.config)
        budget = Budget.read(halving, trials, minutes, finals=self.seeds, processes=workers, carries=carries)
        check_folder(self.out, resume=resume, overwrite=overwrite)
        check_optuna()
        return budget

    def _check_sections(self) -> None:
        """Raise InputError for settings with which a trial, one network from fresh weights, can't be trained."""
        for section, flag in (("transfer", "--from RUN"), ("ensemble", "--ensemble 5")):
            given = getattr(self.config, section)
            plain = type(given)()
            keys = [
                f"{section}.{name}" for name in type(given).model_fields if getattr(given, name) != getattr(plain, name)
            ]
            if keys:
                raise InputError(
                    f"a search trains single networks from fresh weights, so {', '.join(keys)} can't be kept",
                    remedy=f"leave [{section}] out; with what is found, train by `ebox train {self.dataset} "
                    f"--config {self.out / BEST_CONFIG} {flag} --out RUN`",
                )

    def open_data(self) -> Dataset:
        """The dataset, after a check that it can be trained on."""
        from ebox.datasets.folder import open_dataset
        from ebox.training.loop import check_trainable

        data = open_dataset(self.dataset, verify="full")
        check_trainable(data, self.config)
        return data

    def read_best(self) -> Config:
        """The best settings, with the devices of this machine."""
        from ebox.settings.reading import read_config

        return read_config(self.out / BEST_CONFIG).model_copy(update={"parallel": self.alone.parallel})

    def start_workers(self, fingerprint: str) -> AbstractContextManager[Measure]:
        """What trains the trials: workers of this machine, or of a Ray cluster."""
        folder = self.out / WORK
        if self.config.parallel.cluster is None:
            from ebox.tuning.training import start_workers

            return start_workers(self.dataset, self.config, folder, worker_arguments)
        from ebox.tuning.ray_workers import start_ray_workers

        return start_ray_workers(self.dataset, fingerprint, self.config, folder)


def worker_arguments(dataset: str, config: str) -> list[str]:
    """The arguments to `python` that start a worker of a search."""
    return ["-m", "ebox.verbs.tune_worker", dataset, config]


def _search(
    job: _Job, data: Dataset, budget: Budget, on_text: OnText, progress: Progress
) -> tuple[dict[str, Any], int | None]:
    """Search, and write what was found; the signal that ended it, if one did."""
    from ebox.training.sampling import make_order
    from ebox.tuning.halving import Halving
    from ebox.tuning.journal import Journal, make_identity
    from ebox.tuning.results import make_facts, write_table
    from ebox.tuning.search import Search

    targets = data.targets[data.rows("train")]

    def count_steps(config: Config) -> int:
        train = config.train
        negatives = train.negatives_per_positive
        order = make_order(targets, seed=0, batch_size=train.batch_size, negatives_per_positive=negatives)
        return order.count_steps(train.epochs, train.max_steps)

    whole, halving = count_steps(job.config), Halving.of(job.config.tuning)
    steps = tuple(halving.steps(rung, whole) for rung in range(halving.rungs))
    identity = make_identity(job.space, job.config, data.fingerprint)
    journal = Journal(job.out / JOURNAL, job.space, job.config, identity, steps)

    def describe_round(trials: Sequence[Trial]) -> None:
        on_text(describe_best(make_facts(trials, job.space, job.config, whole, None)))

    with job.start_workers(data.fingerprint) as measure:
        search = Search(
            journal,
            job.config,
            budget,
            measure,
            count_steps,
            on_round=describe_round,
            on_interrupt=lambda: on_text("ending after the present rung; a second Ctrl-C ends at once"),
            progress=progress,
        )
        ended = search.run()
    facts = {
        "dataset": {"path": str(job.dataset.resolve()), "fingerprint": data.fingerprint},
        "command": job.command,
        "budget": {"trials": budget.trials, "minutes": None if budget.seconds is None else budget.seconds / 60.0},
        "ended": ended,
        "final_seeds": [],
        "evaluation": job.config.evaluation.model_dump(mode="json"),
        **make_facts(journal.trials(), job.space, job.config, whole, journal.weigh()),
    }
    write_stamped(job.out / run_folder.TUNING, TUNING, facts)
    write_table(job.out / TABLE, facts)
    _write_best(job, facts)
    if ended != "interrupted":
        shutil.rmtree(job.out / WORK, ignore_errors=True)
        return facts, None
    return facts, search.signal


def _write_best(job: _Job, facts: Mapping[str, Any]) -> None:
    """Publish the settings of the best trial, for `ebox train --config`."""
    from ebox.settings.reading import make_config, write_config

    if facts["best"] is None:
        return
    # On how many machines it is trained is for those to say who train with it.
    values = job.alone.model_dump(mode="json")
    for key, value in facts["trials"][facts["best"]]["settings"].items():
        section, _, name = key.partition(".")
        values[section][name] = value
    write_config(make_config(values), job.out / BEST_CONFIG)


def _stop(number: int) -> None:
    if number == signal.SIGTERM:
        raise ResumableError("the search was stopped after a rung; `--resume` goes on")
    raise KeyboardInterrupt


def describe_best(facts: Mapping[str, Any]) -> str:
    """The best trial until now, in a line."""
    from ebox.reporting.languages import find_language
    from ebox.tuning.results import note_best

    return find_language().say(note_best(facts))


def describe(result: TuningResult) -> str:
    """The best settings, how they did on validation and test, and where all is."""
    from ebox.reporting.languages import find_language
    from ebox.tuning.results import note_counts

    if result.space is not None:
        return result.space.rstrip()
    assert result.facts is not None
    assert result.folder is not None
    assert result.evaluation is not None
    facts = result.facts
    settings = facts["trials"][facts["best"]]["settings"]
    return "\n".join(
        [
            find_language().say(note_counts(facts)),
            describe_best(facts),
            *(f"  {key} = {value}" for key, value in settings.items()),
            describe_metrics(result.evaluation.facts),
            f"settings: {result.folder / BEST_CONFIG}",
            f"trials: {result.folder / TABLE}",
            f"report: {result.report}",
        ]
    )
