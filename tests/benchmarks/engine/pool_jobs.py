"""Jobs for the tests of the pool, in a module that imports little: every worker that is started imports it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from anydiff.errors import AnydiffError


def square(number, folder):
    (Path(folder) / f"{number}-{os.getpid()}-{time.monotonic_ns()}").touch()
    return number**2


def die_once(number, folder):
    """Kill the worker at work, the first time."""
    marker = Path(folder) / f"died-{number}"
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return square(number, folder)


def die(number, folder):
    (Path(folder) / f"dead-{time.monotonic_ns()}").touch()
    os.kill(os.getpid(), signal.SIGKILL)


def fail(number, folder):
    raise AnydiffError(f"{number} is not liked.")


def late(number, folder):
    (Path(folder) / f"late-{time.monotonic_ns()}").touch()
    raise TimeoutError(f"{number} took too long.")
