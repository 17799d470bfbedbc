"""``python -m MODULE ...`` without the seconds that imports take, for tests whose subject is not the import.

A server imports the libraries that commands need, the core and the benchmark's engine, and asks none of them anything:
no plugin has been looked for. For each command it starts a copy of itself, which takes over the command's environment,
folder and streams and then does what ``python -m`` does: plugins are found and imported from the start, and the
interpreter ends as it always does.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO


class Warm:
    """One server; a test may ask for as many commands as it likes, one after the other."""

    def __init__(self) -> None:
        self.server: subprocess.Popen[bytes] | None = None
        self._last: Running | None = None

    def __call__(
        self, *arguments: str, env: dict[str, str], module: str = "anydiff", cwd: Path | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """What ``python -m module *arguments`` returns and prints in this environment and folder."""
        running = self.begin(*arguments, env=env, module=module, cwd=cwd)
        try:
            code = running.wait(timeout)
        except subprocess.TimeoutExpired:
            self.close()
            raise
        out, err = running.said()
        return subprocess.CompletedProcess([module, *arguments], code, out, err)

    def begin(
        self, *arguments: str, env: dict[str, str], module: str = "anydiff", cwd: Path | None = None
    ) -> Running:  # fmt: skip
        """The same, at work. The server has one at a time: what was begun before and still runs is killed."""
        if self._last is not None and self._last.poll() is None:
            os.kill(self._last.pid, signal.SIGKILL)
            self._last.wait()
        folder = tempfile.TemporaryDirectory()
        streams = [str(Path(folder.name) / name) for name in ("out", "err")]
        question = {"module": module, "arguments": arguments, "environment": env, "streams": streams,
                    "folder": str(cwd or Path.cwd())}  # fmt: skip
        if self.server is None:
            plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            self.server = subprocess.Popen(
                [sys.executable, __file__], env={**plain, "OMP_NUM_THREADS": "1"}, start_new_session=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            )  # fmt: skip
        self.server.stdin.write(f"{json.dumps(question)}\n".encode())
        self._last = Running(arguments, self.server.stdout, folder)
        return self._last

    def close(self) -> None:
        """End the server and whatever a command left."""
        if self.server is not None:
            with contextlib.suppress(OSError):
                os.killpg(self.server.pid, signal.SIGKILL)
            self.server.communicate()
            self.server = self._last = None


class Running:
    """A command at work in a process of its own.

    Attributes:
        pid: of the process.
    """

    def __init__(self, arguments: Sequence[str], answers: IO[bytes], folder: tempfile.TemporaryDirectory[str]) -> None:
        self.pid = int(answers.readline())  # without a buffer, so that a line that waits is seen to wait
        self._arguments, self._answers, self._folder = arguments, answers, folder
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, None while it runs; that of a signal is negative."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float = 300) -> int:
        """Its exit code."""
        if self._code is None:
            with selectors.DefaultSelector() as waiting:
                waiting.register(self._answers, selectors.EVENT_READ)
                answer = self._answers.readline() if waiting.select(timeout) else b""
            if not answer:
                raise subprocess.TimeoutExpired(str(self._arguments), timeout)
            self._code = int(answer)
        return self._code

    def said(self) -> tuple[str, str]:
        """What it printed to stdout and stderr until now."""
        out, err = (Path(self._folder.name, name).read_text() for name in ("out", "err"))
        return out, err


def serve() -> dict[str, object] | None:
    """Answer questions by the copy's number and, once it has ended, its exit code.

    Returns a question in the copy that is to do it, and nothing at the end.
    """
    answers = os.fdopen(os.dup(1), "w")
    while line := sys.stdin.readline():
        copy = os.fork()
        if copy == 0:
            return json.loads(line)
        print(copy, file=answers, flush=True)
        _, status = os.waitpid(copy, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)
    return None


def become(question: dict[str, object]) -> None:
    """Do what ``python -m`` does for the question, in its streams, folder and environment."""
    for number, path in ((0, os.devnull), *zip((1, 2), question["streams"], strict=True)):
        stream = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(question["folder"])
    os.environ.clear()
    os.environ.update(question["environment"])
    added = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [str(question["folder"]), *added, *sys.path[1:]]
    sys.argv = [str(question["module"]), *question["arguments"]]
    runpy.run_module(str(question["module"]), run_name="__main__", alter_sys=True)


def own_modules(package: str) -> list[str]:
    """Every module of ``package`` that is no program; none where the package is not installed."""
    with contextlib.suppress(ImportError):
        found = pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
        return [module.name for module in found if not module.name.endswith("__main__")]
    return []


if __name__ == "__main__":
    # Libraries of extras may be absent.
    for name in ("xarray", "zarr"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for name in (
        "torch",
        "torch._dynamo",  # which torch's optimisers import when they are made
        "scipy.stats",
        "safetensors.torch",
        "pydantic",
        "matplotlib.figure",
        "typer",
        "lightning_fabric",
    ):
        importlib.import_module(name)
    for package in ("anydiff", "anydiff_benchmarks"):
        for name in own_modules(package):
            importlib.import_module(name)
    gc.freeze()  # copies share what is there by now
    asked = serve()
    if asked is not None:
        become(asked)
