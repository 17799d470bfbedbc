"""What anydiff remembers about plugins between runs, in the user's state folder (``ANYDIFF_HOME`` moves it).

``plugins/disabled.json``: names the user disabled. ``plugins/loading/``: a marker per plugin that is being imported
right now; one whose process is gone means that the import killed the interpreter (quarantine). A process that is
asked to end (SIGTERM, SIGINT) takes its marker along, so whoever was being imported is not blamed.
``plugins/last/``: the outcome of the last load of each plugin, so that lists need not import it, and of its trial
(:mod:`anydiff.plugins.trial`).

Nothing here may break a program: an unreadable or unwritable folder reads as "nothing is remembered". Only the
commands ``enable`` and ``disable``, whose whole job is to write, raise.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from anydiff.errors import AnydiffError
from anydiff.files import write_atomic

FOREIGN_MARKER_SECONDS = 120.0
"""A marker of another machine (shared home folder) counts as a crash after this time: its process cannot be asked."""


def home() -> Path:
    """Return the state folder: ``ANYDIFF_HOME``, or the platform's place for a user's state."""
    chosen = os.environ.get("ANYDIFF_HOME")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "anydiff"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "anydiff"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "anydiff"


def _folder(part: str = "") -> Path | None:
    try:
        return home() / "plugins" / part
    except (OSError, RuntimeError):  # no home folder can be found for this user
        return None


def _read(path: Path | None) -> Any:
    try:
        return json.loads(path.read_text("utf-8")) if path is not None else None
    except (OSError, ValueError):
        return None


# Disabled by the user -----------------------------------------------------------------------------------------------


def disabled() -> set[str]:
    """Return the names of the plugins that the user disabled."""
    content = _read(_folder("disabled.json"))
    return {name for name in content if isinstance(name, str)} if isinstance(content, list) else set()


def disable(name: str) -> None:
    """Remember that ``name`` is not to be loaded.

    Raises:
        AnydiffError: the state folder cannot be written.
    """
    _write_disabled(disabled() | {name})


def enable(name: str) -> None:
    """Forget that ``name`` was disabled or quarantined.

    Raises:
        AnydiffError: the state folder cannot be written.
    """
    names = disabled()
    if name in names:
        _write_disabled(names - {name})
    trial = _folder("last")
    doomed = [trial / f"{name}.json"] if trial is not None and recall(name).get("quarantined") else []
    for path in [*_markers(name), *doomed]:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise AnydiffError(f"cannot remove {str(path)!r} ({error.strerror}); remove this file yourself.") from error


def _write_disabled(names: set[str]) -> None:
    folder = _folder()
    if folder is None:
        raise AnydiffError("no home folder is known for this user; set ANYDIFF_HOME to a folder you may write to.")
    write_atomic(folder / "disabled.json", json.dumps(sorted(names)) + "\n")


# Quarantine ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def importing(name: str, version: str) -> Iterator[None]:
    """Leave a marker while the plugin ``name`` is imported; only a dead interpreter leaves it behind."""
    folder = _folder("loading")
    marker = folder / f"{name}.{socket.gethostname()}.{os.getpid()}.json" if folder is not None else None
    if marker is not None:
        content = {"version": version, "pid": os.getpid(), "host": socket.gethostname(), "time": time.time()}
        # Without a writable state folder there is no quarantine, but there are plugins.
        with contextlib.suppress(OSError):
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.write_text(json.dumps(content), "utf-8")

    def remove() -> None:
        if marker is not None:
            with contextlib.suppress(OSError):
                marker.unlink(missing_ok=True)

    try:
        with _before_ending(remove):
            yield
    finally:
        remove()


@contextlib.contextmanager
def _before_ending(act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` when this process is asked to end inside the block, and let it end as it would have."""
    names = ("SIGTERM", "SIGHUP")
    kinds = [getattr(signal, name) for name in names if hasattr(signal, name)]  # Windows has no SIGHUP
    # Only the main thread may; and who has a handler of their own has taken the ending into their hands.
    main = threading.current_thread() is threading.main_thread()
    kinds = [kind for kind in kinds if main and signal.getsignal(kind) is signal.SIG_DFL]

    def end(number: int, frame: object) -> None:
        act()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    for kind in kinds:
        signal.signal(kind, end)
    try:
        yield
    finally:
        for kind in kinds:
            if signal.getsignal(kind) is end:
                signal.signal(kind, signal.SIG_DFL)


def crashed(name: str, version: str) -> float | None:
    """Return when the import of this version of ``name`` ended the interpreter (seconds since 1970), or ``None``."""
    for marker in _markers(name):
        content = _read(marker)
        if not isinstance(content, dict):
            if _seconds_old(marker) > FOREIGN_MARKER_SECONDS:  # killed while it wrote the marker
                return time.time() - _seconds_old(marker)
            continue
        if content.get("version") != version:
            continue
        if content.get("host") == socket.gethostname():
            gone = not _alive(content.get("pid"))
        else:
            gone = _seconds_old(marker) > FOREIGN_MARKER_SECONDS
        if gone:
            when = content.get("time")
            return float(when) if isinstance(when, int | float) else 0.0
    return None


def _markers(name: str) -> list[Path]:
    folder = _folder("loading")
    try:
        return sorted(folder.glob(f"{name}.*.json")) if folder is not None else []
    except OSError:
        return []


def _seconds_old(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def _alive(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    if pid == os.getpid():
        return False  # our own markers are gone by now: a former process had the same number
    if sys.platform == "win32":
        import ctypes  # os.kill(pid, 0) would end the process there

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)
        ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def quarantined(name: str, version: str, fingerprint: Callable[[], str]) -> str:
    """Why this very code of ``name`` is quarantined since its trial; empty if it is not, or has changed since."""
    last = recall(name)
    if not last.get("quarantined") or last.get("version") != version or last.get("fingerprint") != fingerprint():
        return ""
    return str(last.get("problem") or "")


def tried(name: str, version: str, fingerprint: str) -> bool:
    """Whether this very code of ``name`` was loaded before, or failed with an error that could be caught."""
    last = recall(name)
    known = last.get("version") == version and last.get("fingerprint") == fingerprint
    return known and not last.get("quarantined")


# The last load ------------------------------------------------------------------------------------------------------


def remember(name: str, outcome: dict[str, Any]) -> None:
    """Keep the outcome of a load (plain data) for lists; written only when it changed."""
    folder = _folder("last")
    if folder is None or recall(name) == outcome:
        return
    # A list that shows less is no reason to fail.
    with contextlib.suppress(AnydiffError, OSError, TypeError):
        write_atomic(folder / f"{name}.json", json.dumps(outcome, indent=1) + "\n")


def recall(name: str) -> dict[str, Any]:
    """Return the outcome of the last load of ``name``, or an empty dict."""
    content = _read(_folder(f"last/{name}.json"))
    return content if isinstance(content, dict) else {}
