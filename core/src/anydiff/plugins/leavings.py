"""What an import leaves behind in the whole process, to the harm of every command: the trial's last look at it.

:class:`Before` notes the process as it is before the first plugin; :meth:`Before.harm` says what one changed since.
What libraries do in passing is let through: daemon threads, numbers drawn at random, filters of single warnings.
"""

from __future__ import annotations

import locale
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

LEAST_TORCH_SEED = 1 << 32
"""Torch draws the seed of its global generator from 53 bits; smaller ones are what people give."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Before:
    """The process before a plugin is loaded."""

    def __init__(self) -> None:
        import numpy as np

        self._environment = dict(os.environ)
        random.random()  # the first number replaces the state that :func:`_state` compares
        np.random.random()  # noqa: NPY002 - the global generator is what is looked at
        self._state = _state()
        self._filters = list(warnings.filters)

    def harm(self) -> str:
        """What was changed since, as the rest of a sentence about the plugin; empty where nothing."""
        found = ", ".join(self._found())
        return found and f"{found} when it is loaded"

    def _found(self) -> Iterator[str]:
        for number, name in ((1, "output"), (2, "error output")):
            try:
                os.fstat(number)
            except OSError:
                yield f"closes the program's {name}"
        if any(not each.daemon and each is not threading.current_thread() for each in threading.enumerate()):
            yield "leaves a thread running that keeps every command from ending"
        now = _state()
        for what, before in self._state.items():
            if now[what] != before:
                yield f"changes {what}"
        for each in warnings.filters:
            action, message, category, module, _ = each
            if each in self._filters or message is not None or module is not None:
                continue
            if action == "error":
                yield "makes warnings errors"
            if action == "ignore" and category is Warning:
                yield "silences all warnings"
        torch = sys.modules.get("torch")
        if torch is not None and hasattr(torch, "get_default_dtype"):
            yield from self._found_in_torch(torch)

    def _found_in_torch(self, torch: Any) -> Iterator[str]:
        if torch.get_default_dtype() != torch.float32:
            yield "changes torch's default type for every model"
        if torch.get_default_device().type != "cpu":
            yield "changes torch's default device for every model"
        if not torch.is_grad_enabled():
            yield "turns torch's gradients off for every training"
        if torch.initial_seed() < LEAST_TORCH_SEED:
            yield "seeds torch's global random numbers"
        if self._changed_threads(torch.get_num_threads()):
            yield "changes torch's number of threads for every command"

    def _changed_threads(self, now: int) -> bool:
        """Whether torch would have another number in a process without plugins; only torch itself can tell."""
        asked = self._environment.get("OMP_NUM_THREADS", "")
        if str(now) == asked or (not asked and now == os.cpu_count()):
            return False
        question = [sys.executable, "-P", "-c", "import torch; print(torch.get_num_threads())"]
        answer = subprocess.run(question, env=self._environment, capture_output=True, text=True, check=False)
        return answer.returncode == 0 and int(answer.stdout) != now


def _state() -> dict[str, Any]:
    """What no import has to change, by what it is called."""
    import numpy as np

    umask = os.umask(0o077)
    os.umask(umask)
    try:
        folder = os.getcwd()
    except OSError:  # it was deleted
        folder = ""
    # Seeding replaces the key; drawing a few numbers moves the position in it.
    key = np.random.get_state(legacy=False)["state"]["key"]  # noqa: NPY002
    return {
        "the working directory": folder,
        "the locale": locale.setlocale(locale.LC_ALL),
        "the permissions of new files": umask,
        "what Ctrl-C does": signal.getsignal(signal.SIGINT),
        "what a request to end does": signal.getsignal(signal.SIGTERM),
        "the number of threads of numerical libraries": [os.environ.get(name) for name in _THREADS],
        "the seed of Python's global random numbers": random.getstate()[1][:-1],
        "the seed of NumPy's global random numbers": key.tolist(),
        "NumPy's answer to overflow and division by zero": np.geterr(),
    }
