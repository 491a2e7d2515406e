"""The search: rounds of trials, each halved rung by rung, until the trials or the time are used up."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, final

from ebox.errors import InputError
from ebox.progress import Progress, quiet
from ebox.settings.reading import Config
from ebox.storage.notes import note
from ebox.tuning.budget import Budget
from ebox.tuning.halving import Halving
from ebox.tuning.journal import Journal
from ebox.tuning.training import Measure
from ebox.tuning.trials import Failure, Job, Trial, find_best
from ebox.workers.interruption import Interruption

End = Literal["done", "time", "interrupted"]
# Called after each round with all trials.
OnRound = Callable[[Sequence[Trial]], None]
REASONS_SHOWN = 3
PHRASE = "searching"


@final
class Search:
    """One search, from where its journal stands to its end."""

    def __init__(
        self,
        journal: Journal,
        config: Config,
        budget: Budget,
        measure: Measure,
        count_steps: Callable[[Config], int],
        *,
        on_round: OnRound = quiet,
        on_interrupt: Callable[[], None] = quiet,
        progress: Progress = quiet,
    ) -> None:
        """Measure nothing yet.

        Args:
            journal: The trials until now.
            config: The settings of all trials, but for those that are searched.
            budget: When it ends.
            measure: Does jobs.
            count_steps: The steps of a whole training with some settings.
            on_round: Called after each round.
            on_interrupt: Called once when a first signal has come, which ends the search after the present rung.
            progress: Called with a phrase, the amount done, and the amount in all.
        """
        self.journal, self.config, self.budget, self.measure = journal, config, budget, measure
        self.count_steps, self.on_round, self.progress = count_steps, on_round, progress
        self._on_interrupt: Callable[[], None] | None = on_interrupt
        self.halving, self.monitor = Halving.of(config.tuning), config.train.monitor
        self._interruption = Interruption()
        self._under_way: dict[tuple[int, int], float] = {}

    def run(self) -> End:
        """Search, and say why it ended.

        Raises:
            InputError: all trials failed, or the time is too short for one rung.
            KeyboardInterrupt: a second signal came.
        """
        first = 0
        with self._interruption:
            while (end := self._find_end(first)) is not None:
                if self._interruption.asked:
                    return "interrupted"
                ended = self._run_round(range(first, end))
                if ended is not None:
                    return ended
                self._check_some_worked()
                first = end
            if self._interruption.asked:
                return "interrupted"
        return "done" if self.budget.trials is not None else "time"

    @property
    def signal(self) -> int | None:
        """The signal that interrupted it."""
        return self._interruption.number

    def _find_end(self, first: int) -> int | None:
        """The end of the round that begins with trial `first`; None where the budget holds no further round."""
        trials = self.journal.trials()
        end = self._end_of(first, trials)
        if end is not None or self.budget.trials is not None:
            return end
        if not any(trial.results for trial in trials):
            self._find_pace()
            if self._interruption.asked:
                return None
            trials = self.journal.trials()
        number = self.budget.afford(trials, first)
        if number < self.budget.least:
            if first == 0:
                self._refuse_time()
            return None
        return first + max(number, sum(trial.first == first for trial in trials))

    def _end_of(self, first: int, trials: Sequence[Trial]) -> int | None:
        """The end of a round that has ended, or that a number of trials asks for."""
        there = [trial for trial in trials if trial.first == first]
        # Trials are told when all of their round are measured: it gets no more, also where it was cut short.
        if any(trial.is_told for trial in there):
            return first + len(there)
        wanted = self.budget.trials
        if wanted is None or first >= wanted:
            return None
        return max(min(first + self.halving.round_trials, wanted), first + len(there))

    def _find_pace(self) -> None:
        """Measure the first rung of the first trial that has one, to know what trials take."""
        for number in range(self.halving.round_trials):
            self.journal.ask_up_to(number + 1, 0)
            is_measured = self._measure_rung([number], 0)
            if self._interruption.asked:
                return
            if not is_measured:
                made = sum(self._under_way.values())
                raise self._short_time(self.budget.guess_minutes(self.budget.elapsed / made) if made else None)
            if self.journal.trials()[number].results:
                return
        self._check_some_worked()

    def _refuse_time(self) -> None:
        trials = self.journal.trials()
        if not any(len(trial.results) == self.halving.rungs for trial in trials):
            raise self._short_time(self.budget.least_minutes(trials))

    def _short_time(self, needed: int | None) -> InputError:
        assert self.budget.seconds is not None
        enough = "more --minutes" if needed is None else f"--minutes {needed} or more"
        return InputError(
            f"--minutes {self.budget.seconds / 60.0:g} is too short for one rung of {self.budget.least} trials and "
            f"{self.budget.finals} final trainings here",
            remedy=f"give {enough} with --resume; or fewer --seeds, or shorter trainings (--epochs) in another --out",
        )

    def _run_round(self, block: range) -> End | None:
        """Halve a round; None where it was ended whole."""
        self.journal.ask_up_to(block.stop, block.start)
        if all(trial.is_told for trial in self.journal.trials()[block.start : block.stop]):
            return None
        standing, sizes = list(block), self.halving.sizes(len(block))
        carried = 0 if block.start == 0 and self.budget.carries else None
        for rung in range(self.halving.rungs):
            is_measured = self._measure_rung(standing, rung)
            # Whoever asked for an end gets it, though the time is up as well.
            if self._interruption.asked:
                return "interrupted"
            if not is_measured:
                return "time"
            if rung < self.halving.last:
                trials, num = self.journal.trials(), min(sizes[rung], len(standing))
                values = {
                    number: float(trials[number].results[rung][self.monitor])
                    for number in standing
                    if trials[number].failure is None
                }
                standing = self.halving.choose(values, num, maximises=self.monitor != "loss", carried=carried)
        for number in block:
            self.journal.tell(number)
        self.on_round(self.journal.trials())
        return None

    def _measure_rung(self, standing: Sequence[int], rung: int) -> bool:
        """Do what is left of a rung; whether all of it is done."""
        jobs = self._list_jobs(standing, rung)
        self._under_way = {}
        trials = self.journal.trials()

        def on_steps(job: Job, made: int) -> None:
            self._under_way[job.number, job.rung] = made / job.steps
            self._tell(trials)

        def on_done(job: Job, result: Mapping[str, Any]) -> None:
            nonlocal trials
            self._under_way.pop((job.number, job.rung), None)
            self._note(job, result)
            trials = self.journal.trials()
            self._tell(trials)

        self._tell(trials)
        return self.measure(jobs, on_steps, on_done, lambda: self._is_stopped(trials))

    def _is_stopped(self, trials: Sequence[Trial]) -> bool:
        """Whether the time is up; a signal is only said."""
        if self._interruption.asked and self._on_interrupt is not None:
            self._on_interrupt()
            self._on_interrupt = None
        return self.budget.is_over(trials)

    def _list_jobs(self, standing: Sequence[int], rung: int) -> list[Job]:
        trials, jobs = self.journal.trials(), []
        for number in standing:
            trial = trials[number]
            if trial.failure is not None or len(trial.results) > rung:
                continue
            try:
                config = self.journal.space.apply(self.config, trial.kept)
            except InputError as error:
                self._note_failure(Failure.REFUSED, number, rung, error.problem)
                continue
            jobs.append(Job(number, rung, config, self.halving.steps(rung, self.count_steps(config))))
        return jobs

    def _note(self, job: Job, result: Mapping[str, Any]) -> None:
        problem = result.get("problem")
        if problem is None and not math.isfinite(result[self.monitor]):
            problem = f"its {self.monitor} is not finite"
        if problem is None:
            self.journal.note(job.number, job.rung, result)
        else:
            self._note_failure(Failure.TRAINING, job.number, job.rung, problem)

    def _note_failure(self, code: Failure, number: int, rung: int, error: str) -> None:
        self.journal.note_failure(number, note(code, {"number": number, "rung": rung, "error": error}))

    def _check_some_worked(self) -> None:
        """Raise InputError where trials failed, and none is left that was measured."""
        trials = self.journal.trials()
        failed = [trial for trial in trials if trial.failure is not None]
        if not failed or find_best(trials, self.monitor) is not None:
            return
        reasons = [f"trial {trial.number}: {(trial.failure or {})['error']}" for trial in failed[:REASONS_SHOWN]]
        raise InputError(
            f"all {len(failed)} trials failed; " + "; ".join(reasons),
            remedy="try the settings with `ebox train`, mend the space (--space) or the data, and begin again with "
            "--overwrite",
        )

    def _tell(self, trials: Sequence[Trial]) -> None:
        """Say how far it is: in seconds of the time, or in thousandths of whole trainings."""
        if self.budget.seconds is not None:
            total = math.ceil(self.budget.seconds)
            self.progress(PHRASE, min(int(self.budget.elapsed), total), total)
            return
        whole, done, first = 0.0, 0.0, 0
        while (end := self._end_of(first, trials)) is not None:
            block, carries = trials[first:end], self.budget.carries and first == 0
            cost = self.halving.cost(end - first, carries=carries)
            made = sum(self.halving.share(rung) for trial in block for rung in range(len(trial.results)))
            whole += cost
            done += cost if any(trial.is_told for trial in block) else made
            first = end
        done += sum(part * self.halving.share(rung) for (_, rung), part in self._under_way.items())
        self.progress(PHRASE, min(round(1000 * done), round(1000 * whole)), round(1000 * whole))
