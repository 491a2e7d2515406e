"""The trials of a search in a journal of Optuna, by ask and tell, so that a killed search goes on as if nothing was.

A trial is written once, with all its values, in one line; each result is one line more. What a new trial is depends on
the seed, its number and the trials before its round alone, and results are told in the order of numbers. So it does not
matter which training ended first, or when the search was killed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from ebox.errors import InputError, install_command
from ebox.settings.reading import Config
from ebox.tuning.spaces import Choices, Dimension, Kept, Space
from ebox.tuning.trials import Trial

if TYPE_CHECKING:
    import optuna

# In a study: what it searches. In a trial: the first of its round, what a rung measured, and why no further one did.
IDENTITY, FIRST, RUNG, FAILURE = "identity", "first", "rung_{}", "failure"
NAME = "ebox"
# What trials must say of themselves for a search to go on.
VERSION = 2
# With this a journal of Optuna begins.
HEAD = b'{"op_code":'


@final
class Journal:
    """The trials of one search, in a file."""

    def __init__(
        self, path: Path, space: Space, config: Config, identity: Mapping[str, Any], steps: tuple[int, ...]
    ) -> None:
        """Open the file, or begin it.

        Args:
            path: The file; this process alone may write to it.
            space: What is tried.
            config: The settings of all trials; the first trial takes its values from them where the space holds them.
            identity: What must be the same for the search to go on: plain values by section.
            steps: The length of each rung, for Optuna.

        Raises:
            InputError: no Optuna, a damaged file, or a search of something else.
        """
        check_optuna()
        self.space, self.settings, self.monitor = space, config.tuning, config.train.monitor
        self._given, self._steps = space.find(config), steps
        self._study = self._open(path, identity)

    def _open(self, path: Path, identity: Mapping[str, Any]) -> optuna.Study:
        import optuna
        from optuna.storages.journal import JournalFileBackend

        check_journal(path)
        _mend(path)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with _quiet():
            try:
                backend = JournalFileBackend(str(path))
                storage = optuna.storages.JournalStorage(backend)
                study = optuna.create_study(
                    study_name=NAME,
                    storage=storage,
                    direction="minimize" if self.monitor == "loss" else "maximize",
                    sampler=optuna.samplers.RandomSampler(seed=0),
                    load_if_exists=True,
                )
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"is no journal of a search: {error}", file=path, remedy="begin again with --overwrite"
                ) from None
            found = study.user_attrs.get(IDENTITY)
            if found is None:
                study.set_user_attr(IDENTITY, dict(identity))
            else:
                check_same(path, found, identity)
        return study

    def trials(self) -> list[Trial]:
        """All trials, by number."""
        return [_read_trial(frozen) for frozen in self._study.get_trials(deepcopy=False)]

    def ask_up_to(self, end: int, first: int) -> None:
        """Draw trials of the round that begins with trial `first` until there are `end`; those that are there stay."""
        import optuna

        there = self._study.get_trials(deepcopy=False)
        if len(there) >= end:
            return
        with _quiet():
            # Drawn in memory, and then written whole: a kill leaves no trial with half of its values.
            shadow = optuna.create_study(direction=self._study.direction)
            shadow.add_trials(there)
            distributions = {one.key: _make_distribution(one) for one in self.space.dimensions}
            for number in range(len(there), end):
                shadow.sampler = self._make_sampler(number, shadow)
                params = self._align(number, shadow, shadow.ask(distributions).params)
                self._study.add_trial(
                    optuna.trial.create_trial(
                        state=optuna.trial.TrialState.RUNNING,
                        params=params,
                        distributions=distributions,
                        user_attrs={FIRST: first},
                    )
                )

    def note(self, number: int, rung: int, result: Mapping[str, Any]) -> None:
        """Keep what a rung measured."""
        self._attach(number).set_user_attr(RUNG.format(rung), dict(result))

    def note_failure(self, number: int, failure: Mapping[str, Any]) -> None:
        """Keep why a trial has no further result."""
        self._attach(number).set_user_attr(FAILURE, dict(failure))

    def tell(self, number: int) -> None:
        """Tell Optuna how a trial ended: measured at the last rung, dropped before it, or failed."""
        from optuna.trial import TrialState

        trial = self.trials()[number]
        if trial.is_told:
            return
        with _quiet():
            attached = self._attach(number)
            reported = self._study.get_trials(deepcopy=False)[number].intermediate_values
            for step, result in zip(self._steps, trial.results, strict=False):
                if step not in reported:
                    attached.report(float(result[self.monitor]), step)
            state = trial.state(self.settings.rungs)
            if state == "whole":
                self._study.tell(number, trial.value(self.monitor))
            else:
                self._study.tell(number, state=TrialState.FAIL if state == "failed" else TrialState.PRUNED)

    def weigh(self) -> dict[str, float] | None:
        """The share of each setting in the spread of the first rung (fANOVA: Hutter 2014); None of too few trials."""
        import optuna

        measured = [trial for trial in self.trials() if trial.results]
        if len(measured) < 4 or len({trial.value(self.monitor, 0) for trial in measured}) < 2:
            return None
        distributions = {one.key: _make_distribution(one) for one in self.space.dimensions}
        with _quiet():
            study = optuna.create_study(direction=self._study.direction)
            study.add_trials(
                [
                    optuna.trial.create_trial(
                        value=trial.value(self.monitor, 0), params=dict(trial.kept), distributions=distributions
                    )
                    for trial in measured
                ]
            )
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self.settings.seed % 2**32)
            try:
                found = optuna.importance.get_param_importances(study, evaluator=evaluator)
            except (RuntimeError, ValueError):
                # All trials alike in what could be weighed.
                return None
        return {key: float(share) for key, share in found.items()}

    def _attach(self, number: int) -> optuna.trial.Trial:
        import optuna

        frozen = self._study.get_trials(deepcopy=False)[number]
        with _quiet():
            return optuna.trial.Trial(self._study, frozen._trial_id)

    def _make_sampler(self, number: int, shadow: optuna.Study) -> optuna.samplers.BaseSampler:
        """What draws a trial: seeded by its number, so that no trial before it matters but by its result."""
        import numpy as np
        import optuna

        seed = int(np.random.SeedSequence((self.settings.seed, number)).generate_state(1)[0])
        sampler: optuna.samplers.BaseSampler = optuna.samplers.TPESampler(seed=seed)
        if self.settings.sampler == "random":
            sampler = optuna.samplers.RandomSampler(seed=seed)
        fixed = self._fix(number, shadow)
        return optuna.samplers.PartialFixedSampler(fixed, sampler) if fixed else sampler

    def _fix(self, number: int, shadow: optuna.Study) -> dict[str, Kept]:
        """What is not drawn: the given settings in the first trial, and the shape of the one that leads some."""
        if number == 0:
            return self._given
        kept = self._leader(number, shadow)
        return {key: kept[key] for key in self.space.shape_keys} if kept else {}

    def _align(self, number: int, shadow: optuna.Study, kept: Mapping[str, Kept]) -> dict[str, Kept]:
        """The values drawn, but where a switch is on and the leader's off, or off and the leader's on, the leader's."""
        led = self._leader(number, shadow)
        return dict(kept) | {
            key: led[key]
            for key in self.space.switch_keys
            if led and self.space.is_on(key, led[key]) != self.space.is_on(key, kept[key])
        }

    def _leader(self, number: int, shadow: optuna.Study) -> Mapping[str, Kept]:
        """The values of the trial whose shape a trial has; none where it has its own."""
        leader = number - number % self.settings.shape_members
        return {} if leader == number else shadow.get_trials(deepcopy=False)[leader].params


def check_optuna() -> None:
    """Raise InputError where Optuna is not installed, with the command that installs it."""
    import importlib.util

    if importlib.util.find_spec("optuna") is None:
        raise InputError("a search needs Optuna, which is not installed", remedy=install_command("tune"))


def check_journal(path: Path) -> None:
    """Raise InputError for a file that no search wrote; the first line of one may have been cut off by a kill."""
    if not path.exists():
        return
    head = b""
    if path.is_file():
        with path.open("rb") as stream:
            head = stream.read(len(HEAD))
    if not path.is_file() or not HEAD.startswith(head):
        raise InputError(
            "is no journal of a search, so ebox did not write it",
            file=path,
            remedy="choose another --out, or remove it yourself",
        )


def check_same(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise InputError where a journal is of another search, naming what differs first."""
    for section, values in wanted.items():
        before = found.get(section, {})
        for key in [*values, *(key for key in before if key not in values)]:
            old, new = before.get(key), values.get(key)
            if old != new:
                name = section if section == key else f"{section} {key}"
                raise InputError(
                    f"this search was begun with {name} = {_show(old)}, not {_show(new)}",
                    file=path,
                    remedy="resume it with the same data, space and settings, or choose another --out",
                )


def make_identity(space: Space, config: Config, fingerprint: str) -> dict[str, Any]:
    """What must be the same for a search to go on."""
    settings: dict[str, Any] = {
        f"{section}.{name}": value for section, values in config.identity().items() for name, value in values.items()
    }
    return {
        "journal": {"version": VERSION},
        "dataset": {"fingerprint": fingerprint},
        "space": space.facts(),
        "setting": {key: value for key, value in settings.items() if key not in space.facts()}
        | {f"tuning.{name}": value for name, value in config.tuning.model_dump(mode="json").items()}
        | {f"evaluation.{name}": getattr(config.evaluation, name) for name in ("both_strands",)},
        "first trial": space.find(config),
    }


def _show(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _read_trial(frozen: optuna.trial.FrozenTrial) -> Trial:
    attributes = frozen.user_attrs
    results: list[Mapping[str, Any]] = []
    while RUNG.format(len(results)) in attributes:
        results.append(attributes[RUNG.format(len(results))])
    return Trial(
        frozen.number,
        frozen.params,
        tuple(results),
        attributes.get(FAILURE),
        is_told=frozen.state.is_finished(),
        first=attributes[FIRST],
    )


def _make_distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.kept)
    low, high, step, log = dimension.low, dimension.high, dimension.step, dimension.log
    if dimension.whole:
        return IntDistribution(int(low), int(high), log=log, step=1 if step is None else int(step))
    return FloatDistribution(float(low), float(high), log=log, step=step)


def _mend(path: Path) -> None:
    """Cut off a last line that a kill left unfinished, and the lock of a process that is gone."""
    lock = path.with_name(f"{path.name}.lock")
    lock.unlink(missing_ok=True)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        return
    written = path.read_bytes()
    whole = written.rfind(b"\n") + 1
    if whole < len(written):
        with path.open("r+b") as stream:
            stream.truncate(whole)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of Optuna that a part of it may change in a later version."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
