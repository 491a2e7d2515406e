"""How the command line ends: a message and an exit code for each way to end."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

from ebox.errors import (
    EXIT_BAD_INPUT,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    InputError,
    ResumableError,
    WorkersFailedError,
)
from ebox.workers.contract import IN_GROUP

INTERRUPTED = "interrupted; what was published is whole, and `--resume` continues a training"
RESUMABLE = "stopped by SIGTERM; what was saved is whole, and the same command with --resume continues"


def run_app(app: Callable[[], object]) -> None:
    """Run the command line; each way to end has its exit code (docs/exit_codes.md)."""
    from ebox.cli import console

    console.show_warnings_plainly()
    try:
        app()
    except (InputError, ResumableError, WorkersFailedError) as error:
        console.note(RESUMABLE if isinstance(error, ResumableError) else f"error: {error}")
        end(error.exit_code)
    except KeyboardInterrupt:
        console.note(INTERRUPTED)
        end(EXIT_INTERRUPTED)
    except SystemExit as error:
        # Typer turns an interruption into this exit before it arrives here.
        if error.code == EXIT_INTERRUPTED:
            console.note(INTERRUPTED)
        if isinstance(error.code, int) and error.code:
            end(error.code)
        raise
    except MemoryError as error:
        console.note(
            f"error: there is too little memory: {error or 'an allocation failed'}\n"
            "  What to do: ask for less, or use a machine with more memory; `ebox doctor` shows what is free"
        )
        end(EXIT_BAD_INPUT)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        console.note(f"error: {place}{error.strerror or error}")
        end(EXIT_BAD_INPUT)
    except Exception:
        if IN_GROUP not in os.environ:
            raise
        traceback.print_exc()
        end(EXIT_FAILED)


def end(code: int) -> None:
    """End with a code; in a group of processes at once, since a normal exit would wait for the others."""
    if IN_GROUP in os.environ:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)
    sys.exit(code)
