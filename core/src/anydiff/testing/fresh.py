"""Predicts with a saved network in a process that has only the file.

Importing torch is most of what such a process costs, so one server imports it once and starts a copy of itself for each
question. No plugin was ever loaded in the server: each copy finds and loads the plugin as a new program would.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import selectors
import signal
import subprocess
import sys
from typing import Any

CAN_COPY = hasattr(os, "fork")
DONE = "done:"
"""Begins the answer of a copy that came to its end."""


def predict(question: dict[str, Any]) -> None:
    """Load the weights and inputs that the question names, and write the prediction."""
    import torch

    from anydiff.plugins.report import report_to
    from anydiff.states import Conditioning
    from anydiff.testing.built import build_network
    from anydiff.testing.subject import subject
    from anydiff.training import load_into, load_weights, save_weights

    report_to(lambda sentence: None)
    torch.set_num_threads(question["threads"])
    plugin = subject(question["plugin"])
    entry = next(each for each in plugin.of_kind("networks") if each.name == question["network"])
    # Seeded as in the parent: what another seed changes is found by network.saves.
    network, _ = build_network(plugin, entry)
    load_into(network, load_weights(question["weights"])[0], repr(question["weights"]))
    inputs = load_weights(question["inputs"])[0]
    x, log_snr = inputs.pop("x"), inputs.pop("log_snr")
    with torch.no_grad():
        prediction = network(x, log_snr, Conditioning.from_tensors(inputs))
    save_weights(question["answer"], {"prediction": prediction}, {}, overwrite=True)


def ask(question: dict[str, Any], limit: float) -> str:
    """Have :func:`predict` answer in a process of its own; the last line that it said where it failed, else nothing.

    Args:
        question: plain data.
        limit: seconds.
    """
    server = _server()
    here = {"path": [path for path in sys.path if path], "environment": dict(os.environ), "folder": os.getcwd()}
    assert server.stdin is not None
    assert server.stdout is not None
    answer = ""
    with contextlib.suppress(OSError), selectors.DefaultSelector() as waiting:  # OSError: the server is gone
        server.stdin.write(json.dumps({**question, **here}) + "\n")
        server.stdin.flush()
        waiting.register(server.stdout, selectors.EVENT_READ)
        answer = server.stdout.readline() if waiting.select(limit) else ""
    if not answer or not CAN_COPY:
        _end(server)
        _server.cache_clear()
    said: str = json.loads(answer)["said"] if answer else f"no answer within {limit:g} s"
    return said


@functools.cache
def _server() -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "anydiff.testing.fresh"], env=environment, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    atexit.register(_end, process)
    return process


def _end(server: subprocess.Popen[str]) -> None:
    """End the server and whatever a plugin left in its group."""
    for stream in (server.stdin, server.stdout):
        with contextlib.suppress(OSError):
            stream.close()  # type: ignore[union-attr]
    with contextlib.suppress(OSError):
        if CAN_COPY:
            os.killpg(server.pid, signal.SIGKILL)
        else:
            server.kill()
    server.wait()


def main() -> None:
    """Answer the questions of stdin, one line each, by one line each; ends when the asking process does."""
    import torch  # noqa: F401

    import anydiff.testing.built  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a plugin prints is no answer
    for line in sys.stdin:
        print(json.dumps({"said": _answered(json.loads(line))}), file=answers, flush=True)


def _answered(question: dict[str, Any]) -> str:
    if not CAN_COPY:
        return _attempt(question)
    reading, writing = os.pipe()
    copy = os.fork()
    if copy == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the questions are the server's to read
        said = _attempt(question)
        os.write(writing, f"{DONE}{said}".encode()[:4096])
        os._exit(0)  # neither threads nor exit handlers of a plugin can keep this process
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        said = told.read().decode(errors="replace")
    os.waitpid(copy, 0)
    return said.removeprefix(DONE) if said.startswith(DONE) else "it ended the interpreter"


def _attempt(question: dict[str, Any]) -> str:
    """What went wrong where the asking process's folder, search path and environment are this one's."""
    try:
        os.chdir(question["folder"])
        os.environ.clear()
        os.environ.update(question["environment"])
        sys.path[:] = question["path"]
        predict(question)
    except BaseException as error:  # a plugin may raise anything
        return f"{type(error).__name__}: {error}".strip().splitlines()[-1]
    return ""


if __name__ == "__main__":
    main()
