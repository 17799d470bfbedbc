"""How long a fresh process takes: interpreter alone, our imports and command line, the peers' imports. Interleaved."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

#: what is measured -> the arguments of the interpreter
_OURS = {
    "python -c pass": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import anydiff": ["-c", "import anydiff"],
    "import anydiff.solvers": ["-c", "import anydiff.solvers"],
    "anydiff --help": ["-m", "anydiff", "--help"],
    "anydiff --version": ["-m", "anydiff", "--version"],
    "anydiff solvers": ["-m", "anydiff", "solvers"],
}
_PEERS = {
    "diffusers": {"import a diffusers scheduler": ["-c", "from diffusers import DDIMScheduler"]},
    "azula": {"import azula.sample": ["-c", "import azula.sample"]},
}


def measure(libraries: Mapping[str, str], rounds: int) -> list[dict[str, Any]]:
    """Rows of seconds per process: median and quartiles."""
    commands = dict(_OURS)
    for library, more in _PEERS.items():
        if library in libraries:
            commands.update(more)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, arguments in commands.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-W", "ignore", *arguments], check=True, capture_output=True)
            times[name].append(time.perf_counter() - begin)
    rows = []
    for name, values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        rows.append(
            {"benchmark": "start-up", "what": name, "rounds": rounds, "seconds": middle, "low": low, "high": high}
        )
    return rows
