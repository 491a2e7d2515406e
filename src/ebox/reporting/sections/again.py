"""The section on how to repeat a run: commands, machine, versions, workers and settings."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ebox.reporting.reading import RunFiles
from ebox.reporting.section import Section
from ebox.storage import run_folder

LONGEST_COMMAND_LINE = 60


def collect(files: RunFiles) -> dict[str, Any]:
    """Commands, machine, what the workers sent, the comparison of one worker with several, and every setting."""
    # An evaluation may have been repeated with other settings than those of the run.
    evaluated = files.evaluation.get("config")
    environment = files.get(run_folder.ENVIRONMENT)
    return {
        "environment": None if environment is None else _describe_environment(environment),
        "communication": _describe_communication(files.get(run_folder.TRAINING)),
        "parity": _describe_parity(files.get(run_folder.PARITY)),
        "commands": _list_commands(files),
        "settings": files.config.model_dump(mode="json") | ({} if evaluated is None else {"evaluation": evaluated}),
    }


def _describe_environment(environment: Mapping[str, Any]) -> dict[str, Any]:
    software = ("ebox", "python", "packages", "platform")
    keys = (*software, "devices", "num_processes", "cpu", "num_cores", "memory_bytes", "started")
    return {key: environment.get(key) for key in keys}


def _describe_communication(training: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the workers sent each other; None where there was one worker only."""
    sent = None if training is None else training.get("communication")
    if not isinstance(sent, Mapping) or sent.get("workers", 1) < 2:
        return None
    keys = ("workers", "exchange", "sync", "steps_a_meeting", "sent_bytes_a_step", "exact_bytes_a_step")
    return {key: sent.get(key) for key in (*keys, "ratio", "staleness")}


def _describe_parity(parity: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The result of `ebox doctor --parity`, where it was put into the run folder."""
    if parity is None:
        return None
    keys = ("steps", "tolerance", "overrides", "holds", "cases")
    return {key: parity.get(key) for key in keys}


def _list_commands(files: RunFiles) -> list[dict[str, Any]]:
    """The recorded command lines, in the order of the work, each once with all that it did."""
    environment = files.get(run_folder.ENVIRONMENT)
    kept = {
        "data": format_command(files.dataset.get("command")),
        "training": None if environment is None else format_command(environment.get("command")),
        "evaluation": format_command(files.evaluation.get("command")),
    }
    commands: list[dict[str, Any]] = []
    for did, line in kept.items():
        if line is not None and commands and commands[-1]["line"] == line:
            commands[-1]["did"].append(did)
        elif line is not None:
            commands.append({"did": [did], "line": line})
    return commands


def format_command(argv: Sequence[str] | None) -> str | None:
    """A command line, quoted for a shell, with the program's name without its folder."""
    if not argv:
        return None
    program = argv[0].replace("\\", "/").rsplit("/", 1)[-1]
    first = "ebox" if program in ("__main__.py", "ebox.exe") else program
    return shlex.join([first, *argv[1:]])


def continue_command(line: str) -> str:
    """Break a long command line before each option; for a POSIX shell it is still one command."""
    if len(line) <= LONGEST_COMMAND_LINE:
        return line
    parts: list[list[str]] = [[]]
    for word in shlex.split(line):
        if word.startswith("-") and parts[-1]:
            parts.append([])
        parts[-1].append(word)
    return " \\\n  ".join(shlex.join(part) for part in parts)


READS = (run_folder.CONFIG, run_folder.ENVIRONMENT, run_folder.TRAINING, run_folder.PARITY)
SECTION = Section("again", 100, collect, reads=READS, template="again.html.j2")
