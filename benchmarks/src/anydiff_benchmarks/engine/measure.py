"""What a sample costs, measured and not declared: network calls, rows, seconds, memory."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

MEBIBYTE = 2.0**20


@dataclass
class Cost:
    """What a block took.

    Attributes:
        seconds: wall clock, after the device has finished.
        peak_memory: most memory at any moment, in MiB.
        memory_kind: what that memory is.
    """

    seconds: float = 0.0
    peak_memory: float = 0.0
    memory_kind: str = ""


@contextlib.contextmanager
def measured(device: str) -> Iterator[Cost]:
    """Measure the block: the device is idle when the clock starts and when it stops."""
    cost = Cost()
    synchronise(device)
    read_peak = _start_peak(device)
    began = time.perf_counter()
    yield cost
    synchronise(device)
    cost.seconds = time.perf_counter() - began
    cost.peak_memory, cost.memory_kind = read_peak()


def synchronise(device: str) -> None:
    """Wait until ``device`` has finished what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


class _start_peak:
    """Reset the peak of the device's memory; calling the result gives (MiB, what it is)."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.resettable = False
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)
        else:
            # Linux: writing 5 resets the high-water mark of this process's resident memory.
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")
                self.resettable = True

    def __call__(self) -> tuple[float, str]:
        if self.device.startswith("cuda"):
            return torch.cuda.max_memory_allocated(self.device) / MEBIBYTE, "allocated on the device"
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = Path("/proc/self/status").read_text()
            line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
            kind = "resident, whole process" if self.resettable else "resident, whole process, since its start"
            return int(line.split()[1]) / 1024, kind
        return _resource_peak()


def _resource_peak() -> tuple[float, str]:
    """Systems without /proc: the high-water mark since the process began."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0, "not measured"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MEBIBYTE if sys.platform == "darwin" else 1024), "resident, whole process, since its start"
