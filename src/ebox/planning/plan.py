"""The facts of a plan: every option with its time, money and energy, the choice, what would flip it, the stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from ebox.planning.choosing import Choice, Weighed, choose, give_reasons, pick_candidates
from ebox.planning.estimates import Estimate
from ebox.planning.jobs import JOBS
from ebox.planning.learning_curve import fit_learning_curve
from ebox.planning.money import HOUR, check_budget
from ebox.planning.options import Inputs, Option, list_options, note_options
from ebox.planning.outcomes import HANDLING_HOURS, Outcome, World, foresee_job
from ebox.planning.pareto import find_front
from ebox.planning.prediction import Way
from ebox.planning.prices import Owned, PriceBook
from ebox.planning.profiles import Profile
from ebox.planning.stages import plan_stages
from ebox.planning.steps_to_target import StepsModel
from ebox.planning.tornado import find_flips
from ebox.storage.notes import Code, note

# A number of devices counts as the most that help where the time is within this share of the least.
_AS_FAST = 1.05
_LEAST_SIZES = 3


class PlanNote(Code):
    """What to know of a plan as a whole."""

    UNREACHABLE = "target_unreachable"
    NO_LEARNING = "no_learning_measured"
    NO_TARGET = "no_target"
    NO_CURVE = "no_learning_curve"
    EQUAL_FACTORS = "equal_factors"
    TASK_RENTED = "task_rented"


@dataclass(frozen=True)
class Question:
    """What is asked.

    Args:
        dataset: Folder of the dataset.
        fingerprint: Of the dataset.
        length_bp: Length of its examples.
        num_train: Examples of its train split.
        target: Validation AUROC to reach; None: as many epochs as the settings say.
        budget: For a job; None: none.
        deadline_hours: From the order to the last result; None: none.
        trials: Trainings of a search.
        factors: How many factors.
        folds: Trainings of each factor.
        hour_worth: What an hour of waiting is worth.
    """

    dataset: str
    fingerprint: str
    length_bp: int
    num_train: int
    target: float | None
    budget: float | None
    deadline_hours: float | None
    trials: int
    factors: int
    folds: int
    hour_worth: float

    @property
    def trainings(self) -> dict[str, int]:
        """How many trainings each job has."""
        return dict(zip(JOBS, (1, self.trials, self.factors * self.folds), strict=True))

    def world(self, book: PriceBook) -> World:
        """What outcomes are computed with."""
        deadline = None if self.deadline_hours is None else self.deadline_hours * HOUR
        return World(book, self.trainings, deadline, self.hour_worth)

    def facts(self) -> dict[str, Any]:
        """As `plan.json` holds it."""
        target = None if self.target is None else {"metric": "auroc", "value": self.target}
        jobs = {name: {"trainings": number} for name, number in self.trainings.items()}
        jobs["factors"] |= {"factors": self.factors, "folds": self.folds}
        return {
            "dataset": self.dataset,
            "fingerprint": self.fingerprint,
            "length_bp": self.length_bp,
            "num_train": self.num_train,
            "target": target,
            "budget": self.budget,
            "deadline_hours": self.deadline_hours,
            "hour_worth": self.hour_worth,
            "handling_hours": HANDLING_HOURS,
            "jobs": jobs,
        }


@dataclass(frozen=True)
class Needed:
    """How many steps a training needs: to a target, or by the epochs of the settings.

    Args:
        model: Fitted to whole trainings; None: none was measured.
        target: Validation AUROC; None: none.
        epochs: Of the settings.
        max_steps: Of the settings.
        examples_an_epoch: Examples that one epoch shows.
        batch_size: Of the settings.
    """

    model: StepsModel | None
    target: float | None
    epochs: float
    max_steps: int | None
    examples_an_epoch: int
    batch_size: int

    @property
    def is_reachable(self) -> bool | None:
        """Whether some number of steps reaches the target; None: no target, or nothing was measured."""
        if self.model is None or self.target is None:
            return None
        return self._find(self.batch_size, "every-step", "exact") is not None

    def steps(self, way: Way) -> Estimate | None:
        """The steps of a training in a way; None: this way does not reach the target that others reach."""
        if self.model is None or self.target is None or not self.is_reachable:
            return Estimate.exact(self._plain(way.batch_size))
        return self._find(way.batch_size, way.sync, way.exchange)

    @property
    def expected(self) -> Estimate | None:
        """The validation AUROC of a training with the batch of the settings; None: nothing was measured."""
        steps = self.steps(Way(1, self.batch_size, "float32"))
        return None if self.model is None or steps is None else self.model.predict(steps.value, self.batch_size)

    @cached_property
    def _found(self) -> dict[tuple[int, str, str], Estimate | None]:
        return {}

    def _find(self, batch_size: int, sync: str, exchange: str) -> Estimate | None:
        """The steps to the target, which are many draws and are asked for again and again."""
        assert self.model is not None
        assert self.target is not None
        key = (batch_size, sync, exchange)
        if key not in self._found:
            self._found[key] = self.model.steps(self.target, batch_size, sync=sync, exchange=exchange)
        return self._found[key]

    def _plain(self, batch_size: int) -> float:
        if self.max_steps is not None:
            return float(self.max_steps)
        return float(max(1, round(self.epochs * self.examples_an_epoch / batch_size)))


@dataclass(frozen=True)
class Files:
    """The files that a plan was made from, as they were named.

    Args:
        profiles: With the profile of each.
        run: A run folder; None: none.
    """

    profiles: tuple[tuple[str, Profile], ...]
    run: str | None


def make_plan(question: Question, inputs: Inputs, needed: Needed, files: Files) -> dict[str, Any]:
    """All facts of a plan.

    Args:
        question: What is asked.
        inputs: What options are made from; their steps are those of `needed`.
        needed: How many steps a training needs.
        files: What was read.

    Raises:
        InputError: a budget below everything that is on offer.
    """
    options = list_options(inputs)
    world = question.world(inputs.book)
    _check_budget(question, inputs.book, options)
    outcomes = {job: [foresee_job(option, job, world) for option in options] for job in JOBS}
    front = {job: find_front([_measures(one) for one in outcomes[job]]) for job in JOBS}
    choices, tornado, candidates = {}, {}, {}
    for job in JOBS:
        weighed = [
            Weighed(option, one.money.value, one.seconds.value)
            for option, one in zip(options, outcomes[job], strict=True)
        ]
        choices[job] = choose(weighed, world, question.budget)
        chosen = (choices[job].best.option, choices[job].cheapest.option, choices[job].fastest.option)
        candidates[job] = pick_candidates(weighed, world, lambda one, kept=chosen: any(one is each for each in kept))
        tornado[job] = find_flips(candidates[job], job, world, question.budget, choices[job])
    today = datetime.now(UTC).date()
    return {
        "question": question.facts(),
        "profiles": [_describe_profile(file, profile) for file, profile in files.profiles],
        "prices": inputs.book.facts(today, {option.offer.id for option in options}),
        "accuracy": _describe_accuracy(question, needed),
        "options": [
            {
                **option.facts(),
                "jobs": {
                    job: {
                        **outcomes[job][place].facts(),
                        "pareto": front[job][place],
                        "within_budget": _is_within(outcomes[job][place].money.value, question.budget),
                        "within_deadline": _is_within(outcomes[job][place].seconds.value, world.deadline_seconds),
                    }
                    for job in JOBS
                },
            }
            for place, option in enumerate(options)
        ],
        "recommendation": {job: _recommend(choices[job], job, world, question, options, outcomes[job]) for job in JOBS},
        "tornado": tornado,
        "stages": plan_stages(_pick_staged(options, candidates), world, question.budget, question.trials),
        "statistics": _describe_statistics(inputs, needed, options, outcomes["one"]),
        "learning_curve": _describe_curve(inputs.machines[0].profile, question.num_train),
        "run": files.run,
        "remarks": [*note_options(inputs, options), *_note_plan(question, inputs, needed)],
    }


def _pick_staged(options: Sequence[Option], candidates: Mapping[str, Sequence[Option]]) -> list[Option]:
    """What a stage may be done on: what is good for one training or for a search, and every machine that one owns."""
    owned = [option for option in options if isinstance(option.offer, Owned)]
    return list({option.id: option for option in (*candidates["one"], *candidates["search"], *owned)}.values())


def _check_budget(question: Question, book: PriceBook, options: Sequence[Option]) -> None:
    """A budget below the least billing of all offers; a machine that one owns has none."""
    if question.budget is not None and not any(isinstance(option.offer, Owned) for option in options):
        check_budget(question.budget, book, {option.offer.id for option in options})


def _measures(outcome: Outcome) -> tuple[float, float, float | None]:
    joules = None if outcome.joules is None else outcome.joules.value
    return outcome.seconds.value, outcome.money.value, joules


def _is_within(value: float, limit: float | None) -> bool:
    return limit is None or value <= limit


def _recommend(
    choice: Choice, job: str, world: World, question: Question, options: Sequence[Option], outcomes: Sequence[Outcome]
) -> dict[str, Any]:
    place = next(number for number, option in enumerate(options) if option is choice.best.option)
    return choice.facts(list(give_reasons(choice, world, question.budget, outcomes[place])))


def _describe_profile(file: str, profile: Profile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "file": file,
        "created": profile.created,
        "device": profile.device.model_dump(mode="json"),
        "hardware": profile.device.hardware,
    }


def _describe_accuracy(question: Question, needed: Needed) -> dict[str, Any]:
    return {
        "target": question.target,
        "reachable": needed.is_reachable,
        "expected": None if needed.expected is None else needed.expected.facts(),
        "from": None if needed.model is None else "learning",
    }


def _describe_statistics(
    inputs: Inputs, needed: Needed, options: Sequence[Option], outcomes: Sequence[Outcome]
) -> dict[str, Any]:
    scale = inputs.machines[0].profile.noise_scale
    useful = None if needed.model is None else needed.model.useful_batch()
    batches = []
    for batch in sorted({option.way.batch_size for option in options}):
        steps = needed.steps(Way(1, batch, "float32"))
        if steps is not None:
            batches.append({"batch_size": batch, "steps": steps.facts(), "examples": steps.times(float(batch)).facts()})
    return {
        "noise_scale": None if scale is None else scale.model_dump(mode="json"),
        "useful_batch": None if useful is None else useful.facts(),
        "by_batch": batches,
        "most_devices": _find_most_devices(options, outcomes),
    }


def _find_most_devices(options: Sequence[Option], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """For each hardware and form, the fewest devices whose training is about as fast as with any more of them."""
    best: dict[tuple[str, str, str], dict[int, Estimate]] = {}
    for option, outcome in zip(options, outcomes, strict=True):
        facts = option.facts()
        counts = best.setdefault((facts["hardware"], option.way.exchange, option.way.sync), {})
        known = counts.get(option.num_devices)
        if known is None or outcome.seconds.value < known.value:
            counts[option.num_devices] = outcome.seconds
    rows = []
    for (hardware, exchange, sync), counts in best.items():
        least = min(one.value for one in counts.values())
        number = min(count for count, one in counts.items() if one.value <= least * _AS_FAST)
        rows.append(
            {
                "hardware": hardware,
                "exchange": exchange,
                "sync": sync,
                "num_devices": number,
                "considered": max(counts),
                "seconds": counts[number].facts(),
            }
        )
    return rows


def _describe_curve(profile: Profile, num_train: int) -> dict[str, Any] | None:
    """The learning curve over the data, where trainings on parts of it were measured."""
    # A training on all data that is shorter than those on parts would make more data look worse.
    most = max((one.num_steps for one in profile.data_curve), default=0)
    trainings = (*profile.data_curve, *(one for one in profile.learning if one.num_steps > most))
    points = sorted((one.num_examples, one.best_auroc) for one in trainings)
    if len({size for size, _ in points}) < _LEAST_SIZES:
        return None
    curve = fit_learning_curve(points)
    return {
        "points": [{"num_examples": size, "auroc": auroc} for size, auroc in points],
        "ceiling": curve.ceiling.facts(),
        "at_now": curve.predict(num_train).facts(),
        "at_twice": curve.predict(2 * num_train).facts(),
    }


def _note_plan(question: Question, inputs: Inputs, needed: Needed) -> list[dict[str, Any]]:
    notes: list[dict[str, Any]] = []
    if question.target is None:
        notes.append(note(PlanNote.NO_TARGET, {"epochs": needed.epochs}))
    if needed.model is None:
        notes.append(note(PlanNote.NO_LEARNING))
    elif needed.is_reachable is False:
        notes.append(note(PlanNote.UNREACHABLE, {"target": question.target, **needed.model.ceiling.facts()}))
    if not inputs.machines[0].profile.data_curve:
        notes.append(note(PlanNote.NO_CURVE))
    notes.append(note(PlanNote.EQUAL_FACTORS, {"factors": question.factors, "folds": question.folds}))
    return notes
