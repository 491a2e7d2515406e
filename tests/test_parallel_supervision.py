"""The supervisor of a group, with workers that only play: whom it blames, when it starts again, and how it stops."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ebox.errors import (
    EXIT_BAD_INPUT,
    EXIT_INTERRUPTED,
    EXIT_LOST,
    EXIT_RESUMABLE,
    InputError,
    ResumableError,
    WorkersFailedError,
)
from ebox.workers import supervision
from ebox.workers.supervision import (
    BLAME_SECONDS,
    GRACE_SECONDS,
    LOST_MACHINE,
    SAVE_SECONDS,
    GroupPlan,
    StartFailedError,
    TooFewPlacesError,
    supervise,
)

Codes = Sequence[int | None]


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(supervision, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


class PlayedCrew:
    """Workers whose exit codes are written down, one moment after the other; the last moment stays."""

    def __init__(self, moments: Iterable[Codes], on_moment: Callable[[int], object] = lambda number: None) -> None:
        self.moments, self.on_moment, self.number = [list(codes) for codes in moments], on_moment, -1
        self.silent: list[float] = []
        self.told: dict[int, list[dict[str, Any]]] = {}
        self.signals: list[int] = []
        self.ended: list[float] = []

    def listen(self, seconds: float) -> list[dict[str, Any]]:
        assert 0.0 < seconds < 1.0
        self.number += 1
        self.on_moment(self.number)
        return self.told.pop(self.number, [])

    def codes(self) -> list[int | None]:
        assert self.number < 10_000, "the supervisor goes on for ever"
        return self.moments[min(self.number, len(self.moments) - 1)]

    def silences(self) -> list[float]:
        return self.silent or [0.0] * len(self.codes())

    def send_signal(self, number: int) -> None:
        self.signals.append(number)

    def end(self, seconds: float) -> list[dict[str, Any]]:
        self.ended.append(seconds)
        return self.told.pop(-1, [])


class Stage:
    """Starts one crew after the other, and remembers how many workers each was to have."""

    def __init__(self, *crews: PlayedCrew | Exception) -> None:
        self.crews, self.counts = list(crews), []  # type: list[PlayedCrew | Exception], list[int]

    def start(self, count: int, is_stopped: Callable[[], bool]) -> PlayedCrew:
        self.counts.append(count)
        self.is_stopped = is_stopped
        assert not is_stopped()
        crew = self.crews.pop(0)
        if isinstance(crew, Exception):
            raise crew
        return crew


def _run(
    stage: Stage,
    count: int = 2,
    newest: Callable[[], str | None] = lambda: None,
    **more: Any,
) -> tuple[int, list[Any], list[str]]:
    """How many finished, what was heard, and what was said at each restart."""
    heard: list[Any] = []
    said: list[str] = []
    plan = GroupPlan(stage.start, count, Path("logs"), newest, **more)
    return supervise(plan, heard.append, said.append), heard, said


DONE = [[0, 0]]


def test_a_group_is_done_when_all_of_it_is():
    crew = PlayedCrew([[None, None], [0, None], [0, 0]])
    assert _run(Stage(crew)) == (2, [], [])
    assert crew.number == 2
    assert crew.ended == [0.0]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (-9, "was ended by signal 9 (SIGKILL)"),
        (-1, "was ended by signal 1 (SIGHUP)"),
        (-40, "was ended by signal 40 (a real-time signal)"),
        (1, "ended with code 1"),
        (LOST_MACHINE, "was lost with its machine"),
    ],
)
def test_the_worker_that_failed_is_named_with_the_reason(code: int, reason: str):
    stage = Stage(PlayedCrew([[0, None, code]]), PlayedCrew([[0, 0, 0]]))
    _, _, said = _run(stage, 3)
    assert said == [f"worker 2 {reason}; starting again with 3 workers from the beginning (restart 1 of 3)"]


def test_workers_lost_at_their_start_are_named_as_the_first():
    _, _, said = _run(Stage(StartFailedError("was lost while it was started"), PlayedCrew(DONE)))
    assert said[0].startswith("worker 0 was lost while it was started; starting again with 2 workers")


def test_of_several_that_failed_the_first_that_did_not_only_lose_another_is_to_blame():
    _, _, said = _run(Stage(PlayedCrew([[EXIT_LOST, None, None], [EXIT_LOST, -9, 1]]), PlayedCrew([[0, 0, 0]])), 3)
    assert said[0].startswith("worker 1 was ended by signal 9")


def test_who_lost_another_one_waits_for_it_and_not_for_ever(clock: Clock):
    def pass_time(number: int) -> None:
        clock.now += 0.4 * BLAME_SECONDS

    crew = PlayedCrew([[None, None], [None, EXIT_LOST]], pass_time)
    _, _, said = _run(Stage(crew, PlayedCrew(DONE)))
    assert said[0].startswith("worker 1 lost the others;")
    # Seen at moment 1; two and a half moments are as long as it waits.
    assert crew.number == 4


def test_a_silent_worker_counts_as_hung_after_so_long():
    crew = PlayedCrew([[None, None]], lambda number: setattr(crew, "silent", [6.0, 5.0 + number]))
    _, _, said = _run(Stage(crew, PlayedCrew(DONE)), stall_seconds=6.0)
    assert said[0].startswith("worker 1 gave no sign of life for 6 s;")
    assert crew.number == 2


def test_attempts_that_get_on_go_on_with_all_workers_from_the_newest_checkpoint():
    after_attempt = [None, "step-1", "step-2", "step-3"]
    stage = Stage(*(PlayedCrew([[1, 0]]) for _ in range(3)), PlayedCrew(DONE))
    finished, _, said = _run(stage, newest=lambda: after_attempt[len(stage.counts)], min_workers=1)
    assert (finished, stage.counts) == (2, [2, 2, 2, 2])
    assert [text.split(" from ")[1] for text in said] == [f"step-{k} (restart {k} of 3)" for k in (1, 2, 3)]


def test_two_attempts_that_do_not_get_on_make_way_for_fewer_workers():
    stage = Stage(*(PlayedCrew([[1, None, None]]) for _ in range(6)), PlayedCrew(DONE))
    finished, _, said = _run(stage, 3, min_workers=2, max_restarts=9)
    # Not with fewer than asked for, however often it fails.
    assert stage.counts == [3, 3, 2, 2, 2, 2, 2]
    assert finished == 2
    assert "starting again with 2 workers" in said[1]


def test_without_leave_to_be_fewer_all_are_started_again():
    stage = Stage(*(PlayedCrew([[1, None]]) for _ in range(3)), PlayedCrew(DONE))
    assert _run(stage)[0] == 2
    assert stage.counts == [2, 2, 2, 2]


def test_one_that_got_on_in_between_is_given_two_more_attempts():
    after_attempt = [None, None, "step-1", "step-1"]
    stage = Stage(*(PlayedCrew([[1, None]]) for _ in range(3)), PlayedCrew(DONE))
    _run(stage, newest=lambda: after_attempt[len(stage.counts)], min_workers=1)
    assert stage.counts == [2, 2, 2, 2]


def test_a_group_that_fails_too_often_is_given_up():
    stage = Stage(*(PlayedCrew([[1, None]]) for _ in range(9)))
    with pytest.raises(WorkersFailedError, match="worker 0 ended with code 1, and the group has started again 2 times"):
        _run(stage, max_restarts=2)
    assert len(stage.counts) == 3
    with pytest.raises(WorkersFailedError, match="started again 0 times"):
        _run(Stage(PlayedCrew([[1, None]])), max_restarts=0)


def test_places_that_are_gone_are_done_without_but_not_at_the_start():
    failed, none = PlayedCrew([[1, None, None, None]]), TooFewPlacesError("no room")
    with pytest.raises(TooFewPlacesError):
        _run(Stage(none), 4, min_workers=1)
    stage = Stage(failed, none, none, PlayedCrew(DONE))
    assert _run(stage, 4, min_workers=2)[0] == 2
    assert stage.counts == [4, 4, 3, 2]
    with pytest.raises(TooFewPlacesError):
        _run(Stage(failed, none, none, none), 4, min_workers=2)


def test_fewer_places_that_are_no_group_make_way_for_still_fewer():
    failed, none = PlayedCrew([[1, None, None, None]]), TooFewPlacesError("no room")
    stage = Stage(failed, none, InputError("don't come out even"), PlayedCrew(DONE))
    finished, _, said = _run(stage, 4, min_workers=2)
    assert (finished, stage.counts) == (2, [4, 4, 3, 2])
    assert said[1] == "3 workers can't go on (don't come out even); starting again with 2"


def test_bad_input_of_a_worker_is_what_it_says_and_ends_all():
    crew = PlayedCrew([[None, EXIT_BAD_INPUT]])
    crew.told[1] = [{"kind": "error", "problem": "is bad", "file": "reads.fa", "line": 3}]
    with pytest.raises(InputError, match="is bad") as caught:
        _run(Stage(crew))
    assert (caught.value.file, caught.value.line) == ("reads.fa", 3)
    # The others may end by themselves: they were told too.
    assert crew.ended == [GRACE_SECONDS]


def test_bad_input_of_a_worker_that_says_nothing_names_its_log():
    crew = PlayedCrew([[None, None, EXIT_BAD_INPUT]])
    with pytest.raises(InputError, match="worker 2 stopped on bad input") as caught:
        _run(Stage(crew), 3)
    assert caught.value.file == "logs/worker-2.log"
    assert crew.ended == [0.0]


def test_an_error_after_a_restart_with_as_many_workers_is_an_error():
    with pytest.raises(InputError, match="is bad"):
        _run(Stage(PlayedCrew([[1, None]]), InputError("is bad")), min_workers=1)


def test_what_workers_tell_is_handed_on_in_order():
    crew = PlayedCrew([[None, None], [0, 0]])
    crew.told = {0: [{"kind": "prepared"}, {"kind": "entry", "entry": 1}], 1: [{"kind": "x"}], -1: [{"kind": "y"}]}
    _, heard, _ = _run(Stage(crew))
    assert [message["kind"] for message in heard] == ["prepared", "entry", "x", "y"]


@pytest.mark.parametrize(
    ("number", "code", "error"),
    [(signal.SIGTERM, EXIT_RESUMABLE, ResumableError), (signal.SIGINT, EXIT_INTERRUPTED, KeyboardInterrupt)],
)
def test_an_order_to_stop_is_passed_on_and_all_are_waited_for(number: int, code: int, error: type[BaseException]):
    def order(moment: int) -> None:
        if moment == 1:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    # One that was done already, and silent ones, are no failures now.
    crew = PlayedCrew([[None, None, 0], [None, None, 0], [None, code, 0], [code, code, 0]], order)
    crew.silent = [0.0, 0.0, 0.0]
    stage = Stage(crew)
    with pytest.raises(error):
        _run(stage, 3)
    assert stage.is_stopped()
    assert crew.signals == [number]
    assert crew.number == 3
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("code", "patience"), [(EXIT_RESUMABLE, SAVE_SECONDS), (-9, BLAME_SECONDS)])
def test_who_does_not_stop_is_waited_for_less_when_another_was_lost(clock: Clock, code: int, patience: float):
    def pass_time(moment: int) -> None:
        if moment == 0:
            signal.raise_signal(signal.SIGTERM)
        clock.now += 0.3 * patience

    crew = PlayedCrew([[None, code]], pass_time)
    with pytest.raises(ResumableError):
        _run(Stage(crew))
    # The order came before the first step of time, the loss was seen after it.
    assert crew.number == (3 if code == EXIT_RESUMABLE else 4)


def test_a_second_order_to_stop_does_not_wait():
    def order(moment: int) -> None:
        signal.raise_signal(signal.SIGTERM)

    crew = PlayedCrew([[None, None]], order)
    with pytest.raises(KeyboardInterrupt):
        _run(Stage(crew))
    assert crew.number == 1
    assert crew.signals == [signal.SIGTERM]
    assert crew.ended == [0.0]


def test_an_order_between_two_attempts_starts_none():
    def newest() -> str | None:
        if stage.counts:
            signal.raise_signal(signal.SIGTERM)
            return "step-1"
        return None

    stage = Stage(PlayedCrew([[1, None]]), PlayedCrew(DONE))
    with pytest.raises(KeyboardInterrupt):
        _run(stage, newest=newest)
    assert stage.counts == [2]
