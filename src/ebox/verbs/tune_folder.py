"""The folder of a search: its files, what may be written over, and what goes when nothing was measured."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ebox.errors import InputError
from ebox.storage import run_folder
from ebox.storage.publishing import check_absent
from ebox.storage.reads import keep_reads
from ebox.storage.targets import check_folder_target

JOURNAL, TABLE, BEST_CONFIG, BEST, WORK = "journal.log", "trials.tsv", "best.toml", "best", "work"
# The journal marks the folder, so it goes last.
OWN_FILES = (TABLE, run_folder.TUNING, BEST_CONFIG, BEST, WORK, JOURNAL)


def check_folder(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Raise InputError where a search can't be written, or would take the place of what is not its own."""
    from ebox.tuning.journal import check_journal

    check_folder_target(out)
    journal = out / JOURNAL
    if journal.exists():
        check_journal(journal)
        if not (resume or overwrite):
            raise InputError(
                "holds a search already",
                file=out,
                remedy="go on with it with --resume, or begin again with --overwrite",
            )
        return
    if _is_cleared(out):
        return
    if resume and out.is_dir() and any(out.iterdir()):
        raise InputError(
            f"holds no search to go on with (it has no {JOURNAL}), and is not empty",
            file=out,
            remedy="choose another --out, or remove it yourself",
        )
    check_absent(out, overwrite=overwrite, mark=JOURNAL)


@contextmanager
def nothing_left(out: Path) -> Iterator[None]:
    """After an error, leave nothing of a search that began in this block and measured nothing."""
    from ebox.tuning.journal import RUNG

    journal = out / JOURNAL
    begins = not journal.exists()
    try:
        yield
    except InputError:
        if begins and not (journal.exists() and RUNG.format(0).encode() in journal.read_bytes()):
            clear(out)
        raise


def clear(out: Path) -> None:
    """Remove the files of a search, but how often its test split was read stays."""
    keep_reads(out / BEST, out)
    for path in (out / name for name in OWN_FILES):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _is_cleared(out: Path) -> bool:
    """Whether of a search only the counts are left."""
    return out.is_dir() and [path.name for path in out.iterdir()] == [run_folder.TEST_READS]
