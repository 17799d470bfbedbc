"""Files are written atomically: a reader sees the old bytes or the new ones, never a part.

The ending of a name says what a file holds, so an ending that a writer does not have is refused (:func:`check_suffix`).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from anydiff.errors import AnydiffError


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
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
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
