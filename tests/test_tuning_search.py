"""The search with measures that are made up: which trials go on, that a kill changes nothing, and when time is up."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ebox.errors import InputError
from ebox.reporting.languages import find_language
from ebox.settings.reading import Config, make_config
from ebox.tuning.budget import Budget, Pace
from ebox.tuning.halving import Halving, shorten
from ebox.tuning.journal import Journal, make_identity
from ebox.tuning.results import COLUMNS, make_facts, note_best, write_table
from ebox.tuning.search import Search
from ebox.tuning.spaces import Space, read_space
from ebox.tuning.training import group_jobs
from ebox.tuning.trials import Job, Trial, find_best

WHOLE_STEPS = 90
SPACE = (
    "[model]\nnum_filters = {low = 8, high = 64, step = 8}\nactivation = {choices = ['relu', 'gelu']}\n"
    "[train]\nlearning_rate = {low = 1e-4, high = 1e-1, log = true}\ndropout = {low = 0.0, high = 0.6}\n"
)


class KilledError(BaseException):
    """Stands for a process that is gone."""


def score(config: Config, rung: int) -> float:
    """Best with the rate at 0.01, many filters and gelu; a longer training is better."""
    apart = abs(math.log10(config.train.learning_rate) + 2.0)
    return (
        0.9
        - 0.1 * apart
        + 0.001 * config.model.num_filters
        + 0.02 * (config.model.activation == "gelu")
        - 0.05 * abs(config.train.dropout - 0.3)
        + 0.03 * rung
    ) / 1.2


class Bench:
    """Measures by a formula, and counts; it can be killed, fail and take time."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.kill_after: int | None = None
        self.fails: Callable[[Job], str | None] = lambda job: None
        self.value: Callable[[Job], float] = lambda job: score(job.config, job.rung)

    def __call__(
        self,
        jobs: Sequence[Job],
        on_steps: Callable[[Job, int], None],
        on_done: Callable[[Job, Mapping[str, Any]], None],
        is_stopped: Callable[[], bool],
    ) -> bool:
        # The last first: the order in which trainings end must not matter.
        for job in reversed(jobs):
            if is_stopped():
                return False
            if self.kill_after is not None and len(self.jobs) >= self.kill_after:
                raise KilledError
            on_steps(job, job.steps // 2)
            self.jobs.append(job)
            problem = self.fails(job)
            on_done(job, {"problem": problem} if problem is not None else measured(job, self.value(job)))
        return True


def measured(job: Job, value: float) -> dict[str, Any]:
    return {
        "loss": 1.0 - value,
        "auroc": value,
        "auprc": value / 2,
        "steps": job.steps,
        "seconds": 2.0 + 0.1 * job.steps,
        "step_seconds": 0.1,
        "num_parameters": 1000,
    }


@pytest.fixture
def space(tmp_path: Path) -> Space:
    (tmp_path / "space.toml").write_text(SPACE)
    return read_space(tmp_path / "space.toml")


def make_search(
    folder: Path, space: Space, bench: Bench, trials: int | None = 12, seconds: float | None = None, **settings: Any
) -> Search:
    train = {"max_steps": WHOLE_STEPS, "monitor": settings.pop("monitor", "auroc")}
    # By default settings that the space does not hold.
    model = {"num_filters": 32, "activation": "relu"} if settings.pop("is_held", False) else {}
    config = make_config({"tuning": settings, "train": train, "model": model})
    halving = Halving.of(config.tuning)
    steps = tuple(halving.steps(rung, WHOLE_STEPS) for rung in range(halving.rungs))
    journal = Journal(folder / "journal.log", space, config, make_identity(space, config, "data"), steps)
    budget = Budget(halving, trials, seconds, carries=space.holds(config))
    return Search(journal, config, budget, bench, lambda config: WHOLE_STEPS)


def take_time(search: Search) -> Callable[[Job], None]:
    """Let each training take the time that it says it took."""

    def take(job: Job) -> None:
        search.budget = replace(search.budget, began=search.budget.began - 2.0 - 0.1 * job.steps)

    return take


def values_of(search: Search) -> list[tuple[Any, ...]]:
    return [(trial.number, dict(trial.kept), trial.results, trial.failure) for trial in search.journal.trials()]


# The rungs.


def test_a_rung_is_a_share_of_the_whole_training_and_keeps_one_in_some():
    halving = Halving(3, 3)
    assert [round(9 * halving.share(rung)) for rung in range(3)] == [1, 3, 9]
    assert [halving.steps(rung, 90) for rung in range(3)] == [10, 30, 90]
    assert (halving.sizes(9), halving.sizes(5), halving.sizes(1)) == ([9, 3, 1], [5, 1, 1], [1, 1, 1])
    assert halving.cost(9) == pytest.approx(3.0)
    assert Halving(1, 3).round_trials == 1
    # One that is carried to the end is one more, but for the first rung.
    assert halving.sizes(9, carries=True) == [9, 4, 2]
    assert halving.sizes(1, carries=True) == [1, 1, 1]
    assert halving.cost(9, carries=True) == pytest.approx(3.0 + 1 / 3 + 1)


def test_the_best_go_on_and_of_equals_the_earlier():
    halving = Halving(2, 3)
    values = {0: 0.5, 1: 0.9, 2: 0.7, 3: 0.9, 4: 0.1, 5: 0.7}
    assert halving.choose(values, 6, maximises=True) == [1, 3]
    assert halving.choose(values, 6, maximises=False) == [0, 4]
    assert halving.choose({2: 0.7}, 6, maximises=True) == [2]
    assert halving.choose({}, 6, maximises=True) == []
    assert halving.choose(values, 6, maximises=True, carried=4) == [1, 3, 4]
    assert halving.choose(values, 6, maximises=True, carried=3) == [1, 3]
    # One that failed goes nowhere.
    assert halving.choose(values, 6, maximises=True, carried=6) == [1, 3]


def test_a_short_training_has_a_whole_schedule_and_one_validation():
    config = shorten(make_config({"train": {"epochs": 12, "patience": 2}}), 40)
    assert (config.train.max_steps, config.train.validations, config.train.patience) == (40, 1, None)
    assert (config.train.keep, config.train.calibrate) == ("last", False)
    # Several dispatches, so that the time of the compiler can be told from that of the steps.
    assert config.train.steps_per_dispatch == 5


# A search.


def test_each_rung_trains_the_best_of_the_one_before(tmp_path: Path, space: Space):
    bench = Bench()
    search = make_search(tmp_path, space, bench, 9)
    assert search.run() == "done"
    trials = search.journal.trials()
    first = sorted(range(9), key=lambda number: -trials[number].results[0]["auroc"])
    assert sorted(job.number for job in bench.jobs if job.rung == 0) == list(range(9))
    assert sorted(job.number for job in bench.jobs if job.rung == 1) == sorted(first[:3])
    assert [job.number for job in bench.jobs if job.rung == 2] == first[:1]
    assert {job.rung: job.steps for job in bench.jobs} == {0: 10, 1: 30, 2: 90}
    assert [trial.state(3) for trial in trials].count("whole") == 1
    best = find_best(trials, "auroc")
    assert best is not None
    assert best.number == first[0]


def test_the_first_trial_has_the_settings_as_given(tmp_path: Path, space: Space):
    search = make_search(tmp_path, space, Bench(), 3)
    search.run()
    config = search.config
    # 128 filters lie outside of the space, and are drawn.
    kept = search.journal.trials()[0].kept
    assert kept["train.learning_rate"] == config.train.learning_rate
    assert kept["train.dropout"] == config.train.dropout
    assert kept["model.num_filters"] in range(8, 65, 8)


def test_the_settings_as_given_train_to_the_end_so_that_the_best_is_never_worse(tmp_path: Path, space: Space):
    def learn_slowly(job: Job) -> float:
        return (0.3, 0.5, 0.95)[job.rung] if job.number == 0 else score(job.config, job.rung)

    bench = Bench()
    bench.value = learn_slowly
    search = make_search(tmp_path, space, bench, 18, is_held=True)
    search.run()
    trials = search.journal.trials()
    rungs = [[job.number for job in bench.jobs if job.rung == rung and job.number < 9] for rung in range(3)]
    assert [len(numbers) for numbers in rungs] == [9, 4, 2]
    assert 0 in rungs[2]
    # Only in the first round.
    assert [sum(job.rung == rung and job.number >= 9 for job in bench.jobs) for rung in range(3)] == [9, 3, 1]
    best = find_best(trials, "auroc")
    assert best is not None
    assert best.number == 0


def test_the_best_is_compared_with_the_settings_as_given_at_one_length(tmp_path: Path, space: Space):
    search = make_search(tmp_path, space, Bench(), 9, is_held=True)
    search.run()
    trials = search.journal.trials()

    def tell(trials: Sequence[Trial]) -> str:
        return find_language().say(note_best(make_facts(trials, space, search.config, WHOLE_STEPS, None)))

    best = find_best(trials, "auroc")
    assert best is not None
    assert best.number != 0
    assert f"as they were given, came to {trials[0].results[2]['auroc']:.4f}." in tell(trials)
    short = [replace(trial, results=trial.results[:2]) for trial in trials]
    assert f"as they were given, came to {trials[0].results[1]['auroc']:.4f}." in tell(short)
    behind = [replace(trials[0], results=trials[0].results[:1]), *trials[1:]]
    assert "as they were given, was not trained as long, so that the two can't be compared." in tell(behind)
    failed = [replace(behind[0], failure={"code": "trial_failed"}), *trials[1:]]
    assert "as they were given, failed, so that" in tell(failed)


@pytest.mark.parametrize("kill_after", [10, 13])
def test_a_search_that_carries_the_settings_as_given_goes_on_after_a_kill(
    tmp_path: Path, space: Space, kill_after: int
):
    undisturbed = make_search(tmp_path / "whole", space, Bench(), 9, is_held=True)
    undisturbed.run()
    bench = Bench()
    bench.kill_after = kill_after
    with pytest.raises(KilledError):
        make_search(tmp_path / "killed", space, bench, 9, is_held=True).run()
    bench.kill_after = None
    resumed = make_search(tmp_path / "killed", space, bench, 9, is_held=True)
    resumed.run()
    assert values_of(resumed) == values_of(undisturbed)


def test_a_loss_is_minimised(tmp_path: Path, space: Space):
    search = make_search(tmp_path, space, Bench(), 9, monitor="loss")
    search.run()
    trials = search.journal.trials()
    best = find_best(trials, "loss")
    assert best is not None
    assert best.results[0]["loss"] == min(trial.results[0]["loss"] for trial in trials)


def test_trials_after_the_first_rounds_are_better_than_at_random(tmp_path: Path, space: Space):
    found = {}
    for sampler in ("tpe", "random"):
        search = make_search(tmp_path / sampler, space, Bench(), 63, sampler=sampler)
        search.run()
        late = search.journal.trials()[27:]
        found[sampler] = sum(trial.results[0]["auroc"] for trial in late) / len(late)
    assert found["tpe"] > found["random"] + 0.02


def test_the_same_seed_gives_the_same_search_and_another_seed_another(tmp_path: Path, space: Space):
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        search = make_search(tmp_path / name, space, Bench(), 21, seed=seed)
        search.run()
        found.append(values_of(search))
    assert found[0] == found[1]
    assert found[0][5] != found[2][5]


def test_trials_of_one_shape_differ_in_rates_alone(tmp_path: Path, space: Space):
    search = make_search(tmp_path, space, Bench(), 9, shape_members=3)
    search.run()
    trials = search.journal.trials()
    for leader in (0, 3, 6):
        shapes = [{key: trials[leader + more].kept[key] for key in space.shape_keys} for more in range(3)]
        assert shapes[0] == shapes[1] == shapes[2]
        assert len({trials[leader + more].kept["train.learning_rate"] for more in range(3)}) == 3


def test_trials_of_the_default_space_that_follow_each_other_train_as_one_population(tmp_path: Path):
    space = read_space()
    search = make_search(tmp_path, space, Bench(), 9, shape_members=3)
    search.journal.ask_up_to(18, 0)
    trials = search.journal.trials()
    jobs = [Job(one.number, 0, space.apply(search.config, one.kept), 10) for one in trials]
    assert [[job.number for job in group] for group in group_jobs(jobs, 3)] == [
        [first, first + 1, first + 2] for first in range(0, 18, 3)
    ]
    # The switches vary from group to group, and those that are on within one.
    rates = [[job.config.train.mutation_rate for job in jobs[first : first + 3]] for first in range(0, 18, 3)]
    assert {rate[0] > 0.0 for rate in rates} == {False, True}
    assert any(len(set(rate)) > 1 for rate in rates)


def test_jobs_of_which_one_has_a_part_that_others_lack_train_apart():
    def job(number: int, **train: float) -> Job:
        return Job(number, 0, make_config({"train": train}), 10)

    jobs = [job(0), job(1, mutation_rate=0.01), job(2, dropout=0.1), job(3, mutation_rate=0.03), job(4, noise=0.1)]
    assert [[one.number for one in group] for group in group_jobs(jobs, 4)] == [[0, 2], [1, 3], [4]]


# Kills.


def test_a_search_that_was_killed_anywhere_ends_as_one_left_alone(tmp_path: Path, space: Space):
    whole = Bench()
    undisturbed = make_search(tmp_path / "whole", space, whole, 12)
    undisturbed.run()
    expected, told = values_of(undisturbed), read_told(tmp_path / "whole")
    for kill_after in range(0, len(whole.jobs), 3):
        folder, bench = tmp_path / str(kill_after), Bench()
        bench.kill_after = kill_after
        with pytest.raises(KilledError):
            make_search(folder, space, bench, 12).run()
        bench.kill_after = None
        resumed = make_search(folder, space, bench, 12)
        assert resumed.run() == "done"
        assert values_of(resumed) == expected
        # No training twice, and none left out.
        done = [(job.number, job.rung) for job in bench.jobs]
        assert sorted(done) == sorted((job.number, job.rung) for job in whole.jobs)
        assert read_told(folder) == told


def read_told(folder: Path) -> list[tuple[int, int]]:
    """Which trials were told, in their order, and how they ended."""
    lines = [json.loads(line) for line in (folder / "journal.log").read_text().splitlines()]
    return [(line["trial_id"], line["state"]) for line in lines if line["op_code"] == 6]


def test_a_journal_may_end_at_any_byte(tmp_path: Path, space: Space):
    undisturbed = make_search(tmp_path / "whole", space, Bench(), 12)
    undisturbed.run()
    expected = values_of(undisturbed)
    written = (tmp_path / "whole" / "journal.log").read_bytes()
    begins = [0, *(place + 1 for place, byte in enumerate(written) if byte == 10)]
    for number, begin in list(enumerate(begins[:-1]))[::7]:
        folder = tmp_path / str(number)
        folder.mkdir()
        end = begin + (begins[number + 1] - begin) // 2
        (folder / "journal.log").write_bytes(written[:end])
        # What a process leaves that was killed while it wrote.
        (folder / "journal.log.lock").symlink_to(folder / "journal.log")
        search = make_search(folder, space, Bench(), 12)
        assert search.run() == "done"
        assert values_of(search) == expected


def test_a_finished_search_goes_on_with_more_trials(tmp_path: Path, space: Space):
    bench = Bench()
    make_search(tmp_path, space, bench, 10).run()
    before = len(bench.jobs)
    search = make_search(tmp_path, space, bench, 18)
    assert search.run() == "done"
    assert len(search.journal.trials()) == 18
    assert all(trial.is_told for trial in search.journal.trials())
    # The last round of the first call stays as it ended, and the next begins after it.
    assert min(job.number for job in bench.jobs[before:]) == 10
    assert [trial.first for trial in search.journal.trials()] == [0] * 9 + [9] + [10] * 8
    done = [(job.number, job.rung) for job in bench.jobs]
    assert len(set(done)) == len(done)


@pytest.mark.parametrize("seed", range(2))
def test_a_round_that_was_cut_short_stays_and_the_next_follows_it_also_after_a_kill(
    tmp_path: Path, space: Space, seed: int
):
    found = []
    for kill_after in (None, 2, 8):
        bench, folder = Bench(), tmp_path / str(kill_after)
        make_search(folder, space, bench, 12, seed=seed).run()
        before = values_of(make_search(folder, space, bench, 12, seed=seed))
        if kill_after is not None:
            bench.kill_after = len(bench.jobs) + kill_after
            with pytest.raises(KilledError):
                make_search(folder, space, bench, 18, seed=seed).run()
            bench.kill_after = None
        search = make_search(folder, space, bench, 18, seed=seed)
        assert search.run() == "done"
        assert values_of(search)[:12] == before
        states = [trial.state(3) for trial in search.journal.trials()]
        assert [states[begin:end].count("whole") for begin, end in ((0, 9), (9, 12), (12, 18))] == [1, 1, 1]
        found.append(values_of(search))
    assert found == [found[0]] * 3


def test_a_round_under_way_is_ended_whole_where_fewer_trials_are_asked_for(tmp_path: Path, space: Space):
    bench = Bench()
    bench.kill_after = 5
    with pytest.raises(KilledError):
        make_search(tmp_path, space, bench, 9).run()
    bench.kill_after = None
    search = make_search(tmp_path, space, bench, 3)
    assert search.run() == "done"
    assert [trial.is_told for trial in search.journal.trials()] == [True] * 9


@pytest.mark.parametrize("seed", range(2))
def test_a_search_of_minutes_goes_on_with_more_minutes(tmp_path: Path, space: Space, seed: int):
    bench, rounds = Bench(), []
    for seconds in (140.0, 200.0):
        search = make_search(tmp_path, space, bench, None, seconds, seed=seed)
        search.budget = replace(search.budget, finals=3)
        bench.fails = take_time(search)
        assert search.run() == "time"
        rounds.append(sorted({trial.first for trial in search.journal.trials()}))
    assert rounds[0] == [0, 9]
    assert rounds[1][:3] == [0, 9, 16]
    assert all(trial.is_told for trial in search.journal.trials())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"space": "dropout = {low = 0.0, high = 0.5}"}, "space train.dropout = .*0.6.*, not .*0.5"),
        ({"space": ""}, "space train.dropout = .*, not nothing"),
        ({"fingerprint": "other"}, "dataset fingerprint = data, not other"),
        ({"train": {"epochs": 3.0}}, "setting train.epochs = 12.0, not 3.0"),
        ({"tuning": {"seed": 4}}, "setting tuning.seed = 0, not 4"),
        ({"train": {"dropout": 0.2}}, "first trial train.dropout = 0.3, not 0.2"),
    ],
)
def test_a_journal_of_another_search_is_refused(tmp_path: Path, space: Space, change: dict[str, Any], problem: str):
    make_search(tmp_path, space, Bench(), 3).run()
    if "space" in change:
        (tmp_path / "space.toml").write_text(SPACE.replace("dropout = {low = 0.0, high = 0.6}", change["space"]))
        space = read_space(tmp_path / "space.toml")
    train = {"max_steps": WHOLE_STEPS, **change.get("train", {})}
    config = make_config({"train": train, "tuning": change.get("tuning", {})})
    identity = make_identity(space, config, change.get("fingerprint", "data"))
    with pytest.raises(InputError, match=problem) as caught:
        Journal(tmp_path / "journal.log", space, config, identity, (10, 30, 90))
    assert "another --out" in str(caught.value.remedy)


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path, space: Space):
    (tmp_path / "journal.log").write_text("what is this\nand this\n")
    with pytest.raises(InputError, match="no journal of a search"):
        make_search(tmp_path, space, Bench())


# Failures.


def test_a_trial_that_fails_is_left_behind_and_the_others_go_on(tmp_path: Path, space: Space):
    bench = Bench()
    bench.fails = lambda job: "the loss of step 3 is not finite" if job.number % 2 else None
    search = make_search(tmp_path, space, bench, 9)
    assert search.run() == "done"
    states = [trial.state(3) for trial in search.journal.trials()]
    assert states.count("failed") == 4
    assert states.count("whole") == 1
    failure = search.journal.trials()[1].failure
    assert failure == {"code": "trial_failed", "number": 1, "rung": 0, "error": "the loss of step 3 is not finite"}


def test_where_all_trials_fail_the_first_reasons_are_shown(tmp_path: Path, space: Space):
    bench = Bench()
    bench.fails = lambda job: f"no room for {job.config.model.num_filters}"
    with pytest.raises(
        InputError, match=r"all 9 trials failed; trial 0: no room for \d+; trial 1: .*trial 2"
    ) as caught:
        make_search(tmp_path, space, bench, 18).run()
    assert len(bench.jobs) == 9
    assert "trial 3" not in str(caught.value)
    assert "--overwrite" in str(caught.value.remedy)


def test_where_the_last_trial_fails_after_others_the_search_ends_with_the_reasons(tmp_path: Path, space: Space):
    bench = Bench()
    bench.fails = lambda job: "no room" if job.number or job.rung else None
    with pytest.raises(InputError, match="all 3 trials failed; trial 0: no room; trial 1"):
        make_search(tmp_path, space, bench, 3).run()


@pytest.mark.parametrize("rung", [0, 1])
def test_a_signal_ends_a_search_as_interrupted_also_when_its_time_is_up(tmp_path: Path, space: Space, rung: int):
    bench = Bench()
    search = make_search(tmp_path, space, bench, None, 60.0)

    def interrupt(job: Job) -> None:
        if job.rung == rung and search.signal is None:
            os.kill(os.getpid(), signal.SIGINT)
            search.budget = replace(search.budget, began=search.budget.began - 1000.0)

    bench.fails = interrupt  # type: ignore[assignment]
    assert search.run() == "interrupted"
    assert search.signal == signal.SIGINT


# Budgets.


@pytest.mark.parametrize(
    ("trials", "minutes", "problem"),
    [
        (None, None, "neither --trials nor --minutes"),
        (9, 5.0, "--trials and --minutes are given"),
        (0, None, "--trials 0 is not a number of trials"),
        (2, None, "--trials 2 is too few for one rung, of which one in 3 goes on"),
        (None, 0.0, "--minutes 0 is not a time"),
        (None, float("nan"), "is not a time"),
    ],
)
def test_a_budget_that_is_none_is_refused(trials: int | None, minutes: float | None, problem: str):
    with pytest.raises(InputError, match=problem):
        Budget.read(Halving(3, 3), trials, minutes, finals=3, processes=1)


def test_too_little_time_is_refused_with_what_is_needed(tmp_path: Path, space: Space):
    search = make_search(tmp_path, space, Bench(), None, 30.0)
    search.budget = replace(search.budget, finals=3)
    # A whole training takes 11 seconds: 3 of them after the search, and 2.1 in the smallest round, with 7 starts.
    with pytest.raises(InputError, match=r"--minutes 0\.5 is too short for one rung of 3 trials and 3") as caught:
        search.run()
    assert "--minutes 2 or more with --resume" in str(caught.value.remedy)


def test_a_search_ends_in_time_for_the_final_trainings(tmp_path: Path, space: Space):
    bench = Bench()
    search = make_search(tmp_path, space, bench, None, 140.0)
    search.budget = replace(search.budget, finals=3)
    bench.fails = take_time(search)
    assert search.run() == "time"
    pace = Pace.of(search.journal.trials(), search.halving)
    assert pace is not None
    assert pace.start == pytest.approx(2.0)
    assert pace.whole == pytest.approx(9.0)
    assert search.budget.reserve(search.journal.trials()) == pytest.approx(3 * 11 * 1.15)
    # A final training takes 11 s, a whole round 53 of the 140, and beside the final ones there is time for one of 7.
    assert len(search.journal.trials()) == 9 + 7
    assert search.budget.elapsed + 3 * 11 < 140.0


def test_time_that_is_up_leaves_a_round_open_and_the_best_of_the_longest(tmp_path: Path, space: Space):
    bench = Bench()
    search = make_search(tmp_path, space, bench, None, 60.0)

    def run_out(job: Job) -> None:
        if job.rung == 1:
            search.budget = replace(search.budget, began=search.budget.began - 1000.0)

    bench.fails = run_out  # type: ignore[assignment]
    assert search.run() == "time"
    trials = search.journal.trials()
    assert {trial.state(3) for trial in trials} == {"open"}
    best = find_best(trials, "auroc")
    assert best is not None
    assert len(best.results) == 2


@pytest.mark.parametrize("processes", [1, 2, 8])
def test_a_round_takes_as_many_turns_as_its_processes_need(processes: int):
    # A whole training takes a minute: 6.7 s, 20 s and 60 s for the rungs, of which the last have one trial.
    halving = Halving(3, 3)
    trials = [Trial(0, {}, ({"seconds": 60 / 9, "step_seconds": 2 / 3, "steps": 10},))]
    needed = 60 / 9 * math.ceil(3 / processes) + 20 + 60
    for spare, expected in ((2.0, True), (-2.0, False)):
        budget = Budget(halving, None, 1.15 * needed + spare, 0, processes)
        assert (budget.afford(trials, 9) >= 3) is expected
        assert budget.least_minutes([replace(trials[0], first=9)]) == math.ceil(1.15 * needed / 60)


def test_what_an_open_round_has_measured_costs_no_time(tmp_path: Path):
    rung = {"seconds": 60 / 9, "step_seconds": 2 / 3, "steps": 10}
    trials = [Trial(number, {}, (rung,)) for number in range(9)]
    # Three of 20 s and one of a minute are left.
    assert Budget(Halving(3, 3), None, 1.15 * 120 + 2).afford(trials, 0) == 9
    assert Budget(Halving(3, 3), None, 1.15 * 120 - 2).afford(trials, 0) < 9
    # Where the settings as given are carried to the end, four and two.
    assert Budget(Halving(3, 3), None, 1.15 * 120 + 2, carries=True).afford(trials, 0) < 9
    assert Budget(Halving(3, 3), None, 1.15 * 200 + 2, carries=True).afford(trials, 0) == 9


# What is found.


def test_facts_and_table_tell_of_every_trial(tmp_path: Path, space: Space):
    bench = Bench()
    bench.fails = lambda job: "too\nlarge" if job.number == 4 else None
    search = make_search(tmp_path, space, bench, 18)
    search.run()
    shares = search.journal.weigh()
    assert shares is not None
    assert sum(shares.values()) == pytest.approx(1.0)
    assert max(shares, key=lambda key: shares[key]) == "train.learning_rate"
    facts = make_facts(search.journal.trials(), space, search.config, WHOLE_STEPS, shares)
    json.dumps(facts, allow_nan=False)
    assert facts["rungs"] == [{"share": pytest.approx(3.0 ** (rung - 2)), "steps": 10 * 3**rung} for rung in range(3)]
    assert facts["given"] is None
    write_table(tmp_path / "trials.tsv", facts)
    head, *rows = [line.split("\t") for line in (tmp_path / "trials.tsv").read_text().splitlines()]
    assert head == [*COLUMNS, *space.facts(), "error"]
    assert [len(row) for row in rows] == [len(head)] * 18
    assert rows[4][2] == "failed"
    assert rows[4][-1] == "too large"
    best = rows[facts["best"]]
    assert (best[2], best[4]) == ("whole", "90")
    assert float(best[5]) == pytest.approx(facts["trials"][facts["best"]]["value"], abs=1e-6)


def test_few_trials_have_no_shares(tmp_path: Path, space: Space):
    search = make_search(tmp_path, space, Bench(), 3)
    search.run()
    assert search.journal.weigh() is None


def test_the_best_is_of_those_that_came_furthest():
    short = Trial(0, {}, ({"auroc": 0.99},))
    long = Trial(1, {}, ({"auroc": 0.8}, {"auroc": 0.9}))
    failed = Trial(2, {}, ({"auroc": 0.8}, {"auroc": 0.95}), {"code": "trial_failed"})
    assert find_best([short, long, failed], "auroc") == long
    assert find_best([failed], "auroc") is None
