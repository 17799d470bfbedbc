"""Files and folders are written atomically: a reader sees the old content or the new one, never a part.

What is being written stands beside its target under a hidden name that ends in ``.part`` and tells the process that
writes it. A process that is killed leaves such a part behind; the next write to the same target removes it.

The ending of a name says what a file holds, so an ending that a writer does not have is refused (:func:`check_suffix`).
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from anydiff.errors import AnydiffError
from anydiff.processes import Process

__all__ = ["atomic_folder", "atomic_path", "check_suffix", "write_atomic"]

PART = ".part"
"""How the name of a temporary file or folder ends."""


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it to disk and rename it over ``path``.

    On any error the temporary file is removed and ``path`` is as it was before.

    Raises:
        AnydiffError: the folder cannot be written or the disk is full.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=_prefix(target), suffix=PART)
    except OSError as error:
        raise _cannot_write(target, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str], replace: bool = False) -> Iterator[Path]:
    """Yield a new folder beside ``path``; on success rename it to ``path``, which must not exist or be an empty folder.

    On any error the new folder is removed, and ``path`` is as it was before.

    Args:
        path: where the folder goes.
        replace: take the place of what stands there, which is kept until the new folder is whole.

    Raises:
        AnydiffError: ``path`` is a file or a folder that holds something, or cannot be written, or the disk is full.
    """
    target = Path(path)
    try:
        if not replace and target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise AnydiffError(
                f"{str(target)!r} exists and is not an empty folder; choose another name (nothing was overwritten)."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=_prefix(target), suffix=PART))
    except OSError as error:
        raise _cannot_write(target, error) from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if os.name == "nt" and target.is_dir():  # there a folder is not renamed over an empty one
            target.rmdir()
        if replace and target.exists():
            _swap(temporary, target)
        else:
            os.replace(temporary, target)
    except OSError as error:
        raise _cannot_write(target, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(made: Path, target: Path) -> None:
    """Rename ``made`` to ``target`` and remove what stood there; a kill between the renames leaves both whole."""
    before = target.with_name(f".{target.name[:60]}.{uuid.uuid4().hex}.before")
    os.rename(target, before)
    try:
        os.rename(made, target)
    except OSError:
        os.rename(before, target)
        raise
    if before.is_dir() and not before.is_symlink():
        shutil.rmtree(before, ignore_errors=True)
    else:
        before.unlink(missing_ok=True)


def remove_leftovers(target: Path) -> None:
    """Remove the parts of writes to ``target`` whose processes are dead; parts of other machines are left alone."""
    start = _prefix(target, "")
    for entry in target.parent.glob(f"{glob.escape(start)}*{PART}"):
        owner = Process.parse(entry.name.removeprefix(start).partition(".")[0])
        if owner is None or owner.runs is not False:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def is_part(entry: Path) -> bool:
    """Whether ``entry`` is named as what a write leaves when it is killed."""
    return entry.name.startswith(".") and entry.name.endswith(PART)


def temporary_name(target: Path) -> Path:
    """A new hidden name beside ``target`` that tells this process, to be linked or renamed to ``target``."""
    return target.with_name(f"{_prefix(target)}{uuid.uuid4().hex}{PART}")


def _prefix(target: Path, owner: str | None = None) -> str:
    # Cut, since names may have 255 bytes; two targets that share the rest only share the removal of dead parts.
    return f".{target.name[:60]}.{f'{Process.this().text}.' if owner is None else owner}"


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write ``content`` (text as UTF-8) to ``path`` atomically; see :func:`atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def check_suffix(path: str | os.PathLike[str], suffixes: Sequence[str], what: str) -> str:
    """The one of ``suffixes`` that the name of ``path`` ends in, whatever its case.

    Args:
        path: where something is to be written.
        suffixes: the endings that the writer has, ``".nii.gz"`` say; ``""`` for a folder, which has no ending unless it
            exists already. Where none is given, every name is taken and ``""`` returned.
        what: is written, for the error: ``"pictures"``.

    Raises:
        AnydiffError: another ending.
    """
    target = Path(path)
    name = target.name.lower()
    for suffix in sorted((each for each in suffixes if each), key=len, reverse=True):
        if name.endswith(suffix.lower()) and len(name) > len(suffix):
            return suffix
    if not suffixes or ("" in suffixes and (not target.suffix or target.is_dir())):
        return ""
    endings = [suffix for suffix in suffixes if suffix]
    wanted = [f"a file that ends in {_either(endings)}"] if endings else []
    folder = ["a folder, whose name has no ending"] if "" in suffixes else []
    given = f"ends in {target.suffix!r}" if target.suffix else "has no ending"
    raise AnydiffError(
        f"{str(target)!r} {given}, but {what} are written to {' or to '.join([*wanted, *folder])}; choose such a name."
    )


def _either(words: Sequence[str]) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _umask() -> int:
    # The mask can only be read by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _cannot_write(target: Path, error: OSError) -> AnydiffError:
    reason = error.strerror or str(error)
    return AnydiffError(
        f"cannot write {str(target)!r}: {reason}; free some space or choose a folder you may write to "
        "(nothing was overwritten)."
    )
