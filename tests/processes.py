"""Processes that tests start: each says how it must end, shows what it printed otherwise, and leaves none behind."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, final

import psutil

# In the environment of a process, and so of all those that it starts: they are found after its death, too.
MARK = "EBOX_TESTS_PROCESS"
# How long the processes that a process started may outlive it.
GRACE_SECONDS = 20.0


def ebox(*words: object) -> list[str]:
    """The command line, as a user writes it."""
    return [sys.executable, "-m", "ebox", *map(str, words)]


def python(program: str, *arguments: object) -> list[str]:
    """A program that is given as text, with its arguments."""
    return [sys.executable, "-c", program, *map(str, arguments)]


@final
class Started:
    """A process that was started. It prints into files, so it never waits for a reader."""

    def __init__(
        self, process: subprocess.Popen[bytes], mark: str, ends: Collection[int], stdout: IO[bytes], stderr: IO[bytes]
    ) -> None:
        self.process, self.mark, self.ends = process, mark, ends
        self._files = (stdout, stderr)
        # All that were seen. One that is about to end shows no environment and no parent any more, but runs still.
        self._seen: set[psutil.Process] = set()
        self._kept: tuple[str, str] | None = None

    @property
    def stdout(self) -> str:
        return self._printed()[0]

    @property
    def stderr(self) -> str:
        return self._printed()[1]

    @property
    def output(self) -> str:
        """All that it printed."""
        return "".join(self._printed())

    @property
    def code(self) -> int | None:
        """Its exit code; below zero the number of the signal that ended it; None while it runs."""
        return self.process.poll()

    def _printed(self) -> tuple[str, str]:
        return (_read(self._files[0]), _read(self._files[1])) if self._kept is None else self._kept

    def wait_until(self, condition: Callable[[], bool], seconds: float = 120.0) -> None:
        """Wait for something that this process does before its end."""
        end = time.monotonic() + seconds
        while not condition():
            # It may have done it and ended since the condition was looked at.
            assert self.code is None or condition(), f"it ended with {self.code} before it did what the test waits for"
            assert time.monotonic() < end, f"it did not do what the test waits for within {seconds:g} s"
            time.sleep(0.02)

    def send_signal(self, number: int) -> None:
        """Send a signal to this process alone, which must be running."""
        assert self.code is None, f"it ended with {self.code} before it got signal {number}"
        self.process.send_signal(number)

    def children(self, *, recursive: bool = False) -> list[psutil.Process]:
        """The processes that it started and that live now."""
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children(recursive=recursive)
            self._seen.update(children)
            return children
        return []

    def finish(self, seconds: float = 300.0) -> str:
        """Wait until it ends as it must; all that it printed."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {seconds:g} s") from None
        assert self.code in self.ends, f"it ended with {self.code}, and not with {' or '.join(map(str, self.ends))}"
        return self.output

    def find_left(self) -> list[psutil.Process]:
        """The processes that it started, and those that they started, as far as they live now."""
        self._seen.update(self.children(recursive=True))
        for one in psutil.process_iter():
            # One that ends meanwhile, or that belongs to someone else, is none of them.
            with contextlib.suppress(psutil.Error):
                if one.pid != self.process.pid and one.environ().get(MARK) == self.mark:
                    self._seen.add(one)
        return [one for one in self._seen if lives(one)]

    def check_left(self) -> None:
        """Raise AssertionError where a process that it started outlives it for long."""
        end = time.monotonic() + GRACE_SECONDS
        while left := self.find_left():
            assert time.monotonic() < end, f"it left processes behind: {left}"
            time.sleep(0.05)

    def end(self) -> None:
        """Kill it and the processes that it started, as far as they live, and keep what it printed."""
        left = self.find_left()
        self.process.kill()
        self.process.wait()
        while left:
            for one in left:
                with contextlib.suppress(psutil.Error):
                    one.kill()
            psutil.wait_procs(left, 5.0)
            left = self.find_left()
        self._kept = self._printed()

    def describe(self) -> str:
        """What a person needs who looks for what went wrong."""
        command = shlex.join(map(str, self.process.args))
        return f"$ {command}\nexit code: {self.code}\nstdout:\n{self.stdout}\nstderr:\n{self.stderr}"


def lives(process: psutil.Process) -> bool:
    """Whether it still runs: one that has ended may be in the table of processes for a while."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _read(file: IO[bytes]) -> str:
    """What a file holds. Its position, where the process goes on writing, stays."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


@contextmanager
def started(
    command: Sequence[str],
    *,
    ends: int | Collection[int],
    devices: int = 1,
    variables: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    seconds: float = 300.0,
    pass_fds: Sequence[int] = (),
) -> Iterator[Started]:
    """A process that runs while the block does; where the block ends, its end is waited for.

    Args:
        command: Program and arguments.
        ends: The exit code that it must end with, or several of which one must be it; below zero the number of the
            signal that must end it.
        devices: How many devices JAX has there; one, as a user has it, unless the test needs more.
        variables: Added to the environment of the tests.
        cwd: The folder where it runs.
        seconds: How long its end may take from the end of the block.
        pass_fds: Descriptors that it inherits.

    Raises:
        AssertionError: It ended otherwise, or too late, or left a process behind.
    """
    mark = uuid.uuid4().hex
    environment = {**make_environment(devices), **(variables or {}), MARK: mark}
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": stderr}
        popen = subprocess.Popen(list(command), env=environment, cwd=cwd, pass_fds=pass_fds, **streams)
        process = Started(popen, mark, {ends} if isinstance(ends, int) else ends, stdout, stderr)
        try:
            yield process
            process.finish(seconds)
            process.check_left()
        except BaseException as error:
            error.add_note(process.describe())
            raise
        finally:
            process.end()


def run(command: Sequence[str], *, ends: int | Collection[int] = 0, **options: Any) -> Started:
    """A process from its start to its end, with the options of `started`."""
    with started(command, ends=ends, **options) as process:
        pass
    return process


def make_environment(devices: int = 1) -> dict[str, str]:
    """That of the tests, with one device, as a user has it, or with more."""
    variables = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    if devices > 1:
        variables["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    return variables


class PlayedProcess(subprocess.Popen[bytes]):
    """No process, but the end of a pipe that one would hold; closed when it is killed."""

    def __init__(self, handle: int, code: int | None = None) -> None:
        self.handle, self.code = handle, code

    def poll(self) -> int | None:
        return self.code

    def kill(self) -> None:
        assert self.code is None, "it has ended already"
        self.code = -9
        os.close(self.handle)

    def wait(self, timeout: float | None = None) -> int:
        assert self.code is not None, "it runs for ever"
        return self.code
