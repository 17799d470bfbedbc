"""What a call of a network really takes, measured in a process of its own, beside what was estimated (Linux only)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_MEASURE = """
import gc, json, sys, torch
from pathlib import Path
from anydiff.networks import estimate_memory
torch.set_num_threads(1)
small, cases = json.loads(sys.argv[1])

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

def call(network, x, training):
    result = network(x, torch.zeros(len(x)))
    if training:
        result.square().mean().backward()

def measured(large, training):
    with torch.set_grad_enabled(training):
        call(*made(*small), training)  # the library's own start-up
        network, x = made(*large)
        estimate = estimate_memory(network, x.shape[1:], batch=len(x), training=training).activations
        gc.collect()
        before = status("VmRSS") - x.nbytes
        Path("/proc/self/clear_refs").write_text("5")
        call(network, x, training)
    return [estimate, status("VmHWM") - before]

print(json.dumps([measured(*case) for case in cases]))
"""


def can_measure() -> bool:
    """Whether this system tells the peak memory of a process since a moment."""
    return Path("/proc/self/clear_refs").exists()


def measured_memory(
    source: str, small: Sequence[Any], cases: Sequence[tuple[Sequence[Any], bool]]
) -> list[tuple[int, int]]:
    """(estimated, measured) activations in bytes of one call of a network, for each of ``cases``, in one process.

    Memory that glibc would keep for itself goes back to the system at once in that process, else single measurements
    differ twofold.

    Args:
        source: Python that defines ``made(*sizes) -> (network, x)``, x ``[B, *shape]``.
        small: sizes of a first call, which pays for the library's start-up.
        cases: (sizes of the call that is measured, whether with a backward pass).
    """
    done = subprocess.run(
        [sys.executable, "-c", source + _MEASURE, json.dumps([small, cases])],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
    )
    return [(estimate, measured) for estimate, measured in json.loads(done.stdout)]
