"""Publish whole files and folders: written beside their place, then renamed, so a kill leaves the old or the new."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ebox.errors import InputError

# Constants of Linux: renameat2(2), openat(2).
_CURRENT_FOLDER = -100
_RENAME_EXCHANGE = 2

# The programs with which a command line of ebox begins.
_PROGRAMS = ("ebox", "ebox.exe", "ebox/__main__.py")


@contextmanager
def publish_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it to `path`.

    Raises:
        InputError: the folder cannot be written, or the disk is full. Nothing is left behind.
    """
    target = Path(path)
    with explain_disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _flush(temporary)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def publish_folder(path: str | os.PathLike[str], *, overwrite: bool = False, mark: str | None = None) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success rename it to `path`.

    Args:
        path: The folder to publish.
        overwrite: Whether to replace a folder that exists; else it is an error.
        mark: A file that a folder must contain to be replaced, so that only folders of the same kind are.

    Raises:
        InputError: `path` exists and `overwrite` is false, or a disk error. Nothing is left behind.
    """
    target = Path(path)
    check_absent(target, overwrite=overwrite, mark=mark)
    with explain_disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
        try:
            with _name_target(temporary, target):
                yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            temporary.chmod(0o777 & ~_umask())
            _swap_in(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def check_absent(path: Path, *, overwrite: bool, mark: str | None = None) -> None:
    """Raise InputError if `path` has something that the caller did not ask to replace, or that is not ebox's."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if overwrite and mark is not None and not (path / mark).is_file():
        raise InputError(
            f"was not made by this command (it has no {mark}), so --overwrite does not replace it",
            file=path,
            remedy="choose another --out, or remove it yourself",
        )
    if overwrite:
        return
    raise InputError(
        "already exists and is not empty",
        file=path,
        remedy="choose another --out, or pass --overwrite to replace it",
    )


@contextmanager
def claim_folder(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes that claim it; the lock ends with the process, however it ends.

    Raises:
        InputError: another process has locked it.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                "another ebox is writing to this folder", file=folder, remedy="wait for it, or choose another --out"
            ) from None
        except OSError as error:
            # A folder on a disk without locks (some network disks) can't be claimed, but can be used.
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
                raise
        yield
    finally:
        os.close(handle)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Publish `value` as indented JSON (UTF-8; NaN and infinity are errors, since JSON has no such numbers)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with publish_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file that ebox wrote.

    Raises:
        InputError: the file is missing, cut off or not JSON; the message says which.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("is missing", file=path, remedy="check the path, or make it again") from None
    except OSError as error:
        raise InputError(f"can't be read: {error.strerror}", file=path) from None
    except json.JSONDecodeError as error:
        raise InputError(
            f"is not whole JSON: {error.msg}", file=path, line=error.lineno, remedy="make it again"
        ) from None
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text, so not JSON", file=path, remedy="make it again") from None


def find_command(command: Sequence[str] | None) -> list[str]:
    """The given command line; else that of this process, if it runs ebox and not a notebook or another program."""
    if command is not None:
        return list(command)
    return list(sys.argv) if any(Path(sys.argv[0]).match(program) for program in _PROGRAMS) else []


def _swap_in(temporary: Path, target: Path) -> None:
    """Rename `temporary` to `target`, exchanging it with an old folder in one system call.

    If the system has no such call, the old folder is moved aside first, which a kill can interrupt.
    """
    if not target.exists():
        temporary.replace(target)
        return
    if _exchange(temporary, target):
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    target.replace(aside / target.name)
    try:
        temporary.replace(target)
    except OSError:
        (aside / target.name).replace(target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _name_target(temporary: Path, target: Path) -> Iterator[None]:
    """Make a message about a file in the temporary folder name the folder that the user asked for."""
    try:
        yield
    except InputError as error:
        if error.file is None or not Path(error.file).is_relative_to(temporary):
            raise
        raise InputError(error.problem, file=target, remedy=error.remedy) from error


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one system call; False if the system or the disk can't do that."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    return rename(_CURRENT_FOLDER, os.fsencode(first), _CURRENT_FOLDER, os.fsencode(second), _RENAME_EXCHANGE) == 0


def _flush(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def explain_disk_errors(target: Path) -> Iterator[None]:
    """Turn disk errors into messages that say what to do."""
    try:
        yield
    except OSError as error:
        remedies = {
            errno.ENOSPC: "free some space, or choose an --out on another disk",
            errno.EDQUOT: "free some of your quota, or choose an --out on another disk",
            errno.ENOENT: "no folder can be made there; choose another --out",
            errno.EACCES: "choose an --out that you may write to",
            errno.EPERM: "choose an --out that you may write to",
            errno.EROFS: "choose an --out on a disk that is not read-only",
            errno.ENOTDIR: "a part of this path is a file, not a folder; choose another --out",
            errno.EISDIR: "there is a folder where a file should be written; choose another --out",
            errno.EEXIST: "there is a file where a folder should be; choose another --out",
            errno.ENAMETOOLONG: "choose a shorter --out",
        }
        remedy = remedies.get(error.errno or 0)
        if remedy is None:
            raise
        raise InputError(f"can't be written: {error.strerror}", file=target, remedy=remedy) from error
