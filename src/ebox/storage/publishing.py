"""Publish whole files and folders: written beside their place, then renamed, so a kill leaves the old or the new."""

from __future__ import annotations

import ctypes
import errno
import gzip
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ebox.errors import InputError
from ebox.storage.targets import check_folder_target, check_target, is_packed, is_stream, open_stream

# Constants of Linux: renameat2(2), openat(2).
_CURRENT_FOLDER = -100
_RENAME_EXCHANGE = 2

# The programs with which a command line of ebox begins.
_PROGRAMS = ("ebox", "ebox.exe", "ebox/__main__.py")


@contextmanager
def publish_file(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path; on success flush it to disk and rename it to `path`, or send it to what stands there.

    Links are followed. Standard output (`-`), a device and a pipe get the bytes and stay what they are. Under a name
    that ends in .gz the bytes are packed.

    Args:
        path: The file to publish.
        overwrite: Whether to replace a file that exists; else it is an error, also where it came meanwhile.

    Raises:
        InputError: the file exists, no file can be written there, or the disk is full. Nothing is left behind.
    """
    check_target(path)
    streamed = is_stream(path)
    target = Path(os.path.realpath(path))
    with explain_disk_errors(Path(path)):
        if not streamed:
            target.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.gettempdir()) if streamed else target.parent
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:200]}.", suffix=".tmp", dir=place)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            if is_packed(path):
                _pack(temporary)
            if streamed:
                with temporary.open("rb") as whole, open_stream(path) as stream:
                    shutil.copyfileobj(whole, stream)
                return
            _flush(temporary)
            temporary.chmod(0o666 & ~_umask())
            _put_in(temporary, target, path, overwrite=overwrite)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def publish_folder(path: str | os.PathLike[str], *, overwrite: bool = False, mark: str | None = None) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success rename it to `path`, or to where that link leads.

    Args:
        path: The folder to publish.
        overwrite: Whether to replace a folder that exists; else it is an error, also where it came meanwhile.
        mark: A file that a folder must contain to be replaced, so that only folders of the same kind are.

    Raises:
        InputError: `path` exists and `overwrite` is false, or a disk error. Nothing is left behind.
    """
    asked, target = Path(path), Path(os.path.realpath(path))
    check_absent(asked, overwrite=overwrite, mark=mark)
    with explain_disk_errors(asked):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
        try:
            with _name_target(temporary, asked):
                yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            temporary.chmod(0o777 & ~_umask())
            _swap_in(temporary, target, asked, overwrite=overwrite)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def check_absent(path: Path, *, overwrite: bool, mark: str | None = None) -> None:
    """Raise InputError if `path` has something that the caller did not ask to replace, or that is not ebox's."""
    check_folder_target(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if overwrite and mark is not None and not (path / mark).is_file():
        raise InputError(
            f"was not made by this command (it has no {mark}), so --overwrite does not replace it",
            file=path,
            remedy="choose another --out, or remove it yourself",
        )
    if not overwrite:
        raise refuse_present(path)


def refuse_present(path: str | os.PathLike[str]) -> InputError:
    """The error for a file or folder that exists, where the caller did not ask to replace it."""
    return InputError(
        "already exists and is not empty" if Path(path).is_dir() else "already exists",
        file=path,
        remedy="choose another --out, or pass --overwrite to replace it",
    )


@contextmanager
def claim_folder(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes that claim it; the lock ends with the process, however it ends.

    A folder that does not exist is made, and removed at the end if it is still empty.

    Raises:
        InputError: another process has locked it, or it can't be made.
    """
    check_folder_target(folder)
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    with explain_disk_errors(folder):
        handle = _lock(folder)
    try:
        yield
    finally:
        # Before the lock ends: who locks the folder next must find it gone, or keep it.
        with suppress(OSError):
            for place in missing:
                place.rmdir()
        if handle is not None:
            os.close(handle)


def _lock(folder: Path) -> int | None:
    """Make the folder if it does not exist, and lock it; None where the system has no such locks."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        if sys.platform == "win32":
            return None
        handle = os.open(folder, os.O_RDONLY)
        try:
            _lock_opened(handle, folder)
            # The one before may have removed or replaced the folder after it was opened here.
            if _is_same_folder(handle, folder):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock_opened(handle: int, folder: Path) -> None:
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            "another ebox is writing to this folder", file=folder, remedy="wait for it, or choose another --out"
        ) from None
    except OSError as error:
        # A folder on a disk without locks (some network disks) can't be claimed, but can be used.
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF):
            raise


def _is_same_folder(handle: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), folder.stat())
    except FileNotFoundError:
        return False


def write_json(path: str | os.PathLike[str], value: Any, *, overwrite: bool = True, indent: int | None = 2) -> None:
    """Publish `value` as JSON (UTF-8; NaN and infinity are errors, since JSON has no such numbers).

    Args:
        path: The file.
        value: What it will hold.
        overwrite: Whether to replace a file that is there.
        indent: Spaces of a level; None: all in one line, which is smaller, and 10 times as fast.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    with publish_file(path, overwrite=overwrite) as temporary:
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


def _pack(file: Path) -> None:
    """Replace a file by its gzip; without time and name in the header the same bytes give the same bytes."""
    with tempfile.TemporaryFile(dir=file.parent) as packed:
        with file.open("rb") as plain, gzip.GzipFile("", "wb", 6, packed, mtime=0) as stream:
            shutil.copyfileobj(plain, stream)
        packed.seek(0)
        with file.open("wb") as target:
            shutil.copyfileobj(packed, target)


def _put_in(temporary: Path, target: Path, asked: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Rename `temporary` to `target`; a file that stands there is only replaced when asked."""
    if not overwrite:
        try:
            os.link(temporary, target)
            return
        except FileExistsError:
            raise refuse_present(asked) from None
        except OSError:
            # Some disks can't give a file a second name; there, a look has to do.
            if target.exists():
                raise refuse_present(asked) from None
    temporary.replace(target)


def _swap_in(temporary: Path, target: Path, asked: Path, *, overwrite: bool) -> None:
    """Rename `temporary` to `target`, exchanging it with an old folder in one system call.

    If the system has no such call, the old folder is moved aside first, which a kill can interrupt.
    """
    if not overwrite:
        try:
            # Takes the place of an empty folder, and of nothing else.
            temporary.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise refuse_present(asked) from None
        return
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
            errno.ELOOP: "its links lead in a circle; choose another --out",
            errno.EPIPE: "its reader ended before all was written; let it read to the end",
            errno.EBADF: "it was not opened for writing; choose another --out",
        }
        remedy = remedies.get(error.errno or 0)
        if remedy is None:
            raise
        raise InputError(f"can't be written: {error.strerror}", file=target, remedy=remedy) from error
