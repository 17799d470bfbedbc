"""Who writes: processes with their machine, so that what a dead one left can be told from what a living one holds."""

from __future__ import annotations

import hashlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process on a machine.

    Attributes:
        pid: its number.
        host: first eight hex digits of the sha256 of its machine's name.
        started: when it began, in clock ticks since the machine's start, so that a number used again is another
            process; empty where the system does not tell (it does on Linux).
    """

    pid: int
    host: str
    started: str

    @classmethod
    def this(cls) -> Process:
        """The running process."""
        return cls(os.getpid(), _host(), _started(os.getpid()) or "")

    @property
    def text(self) -> str:
        """Itself for the name of a file: ``host-pid-started``."""
        return f"{self.host}-{self.pid}-{self.started}"

    @classmethod
    def parse(cls, text: str) -> Process | None:
        """The process of :attr:`text`; None where it is none."""
        parts = text.split("-")
        if len(parts) != 3 or not parts[1].isdigit():
            return None
        return cls(int(parts[1]), parts[0], parts[2])

    @property
    def runs(self) -> bool | None:
        """Whether it still runs; None where that cannot be told: on another machine, and on Windows."""
        if self.host != _host() or os.name == "nt":  # on Windows os.kill with signal 0 would end it
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except (OSError, OverflowError):  # another user's, so it runs
            pass
        started = _started(self.pid)
        return started is None or (started != "" and started == (self.started or started))


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _started(pid: int) -> str | None:
    """The start of a process in clock ticks; empty for one that has ended but was not waited for; None if unknown."""
    try:
        # The name of the program stands in parentheses and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return None
