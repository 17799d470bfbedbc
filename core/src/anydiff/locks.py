"""A lock is a file that names the process which owns something; another process is refused with that name."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Self

from anydiff.errors import AnydiffError
from anydiff.files import remove_leftovers, temporary_name
from anydiff.processes import Process


class Lock:
    """The right of one process to write something; for use with ``with``, or by :meth:`acquire` and :meth:`release`.

    A lock whose process is dead does not block, and a process may take a lock of its own again.

    Args:
        path: the file that tells who owns it: process, machine and since when (JSON). Its folder must exist.
        what: what it guards, for the sentence: ``"the run 'runs/fashion'"``.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self.what = what
        since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        about = {**asdict(Process.this()), "machine": socket.gethostname(), "since": since, "id": uuid.uuid4().hex}
        self.content = json.dumps(about) + "\n"

    def acquire(self) -> None:
        """Write the file.

        Raises:
            AnydiffError: another process owns it, or the file cannot be written.
        """
        try:
            remove_leftovers(self.path)
            while not self._create():
                self._take_over()
        except OSError as error:
            raise AnydiffError(
                f"cannot write {str(self.path)!r}: {error.strerror or error}; choose a folder you may write to."
            ) from error

    def release(self) -> None:
        """Remove the file if it is still this lock's; a forked child of the owner leaves it alone."""
        if self._read() == self.content and json.loads(self.content)["pid"] == os.getpid():
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _create(self) -> bool:
        """Make the file with its content in one step; False where one exists."""
        draft = temporary_name(self.path)
        draft.write_text(self.content, encoding="utf-8")
        try:
            os.link(draft, self.path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links: the content follows a moment after the file
            return self._create_in_two_steps()
        finally:
            draft.unlink(missing_ok=True)
        return True

    def _create_in_two_steps(self) -> bool:
        try:
            with open(self.path, "x", encoding="utf-8") as file:
                file.write(self.content)
        except FileExistsError:
            return False
        return True

    def _read(self) -> str | None:
        try:
            return self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def _take_over(self) -> None:
        """Remove the file of a dead process, or say who owns it; one process after the other.

        Between a look at the file and its removal another process could take it over, and a third one while the file is
        away: two would own it.
        """
        with _alone_in(self.path.parent):
            self._remove_if_dead()

    def _remove_if_dead(self) -> None:
        content = self._read()
        if content is None:
            return  # its owner has just removed it
        try:
            about = json.loads(content)
            owner = Process(int(about["pid"]), str(about["host"]), str(about["started"]))
            name = f"process {owner.pid} on {about['machine']!r} since {about['since']}"
        except (ValueError, KeyError, TypeError, RecursionError):
            raise AnydiffError(
                f"{str(self.path)!r} guards {self.what}, but does not tell for whom; remove the file if nothing writes "
                "there."
            ) from None
        if owner != Process.this() and owner.runs is None:
            raise AnydiffError(
                f"{self.what} is in use by {name}; wait for it, or remove {str(self.path)!r} if it no longer runs."
            )
        if owner != Process.this() and owner.runs:
            raise AnydiffError(f"{self.what} is in use by {name}; wait for it or stop it (kill {owner.pid}).")
        aside = temporary_name(self.path)
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            os.rename(self.path, aside)
            if aside.read_text(encoding="utf-8", errors="replace") != content:
                # A living process took the lock over in between, where folders cannot be locked: give it back.
                with contextlib.suppress(FileExistsError):
                    os.link(aside, self.path)
            aside.unlink()


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """While this lasts no other process is in here for ``folder``; the system frees it when a process dies.

    Where the system cannot lock a folder (Windows, where no process is known to be dead; some network drives) nobody is
    kept out.
    """
    descriptor = None
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
