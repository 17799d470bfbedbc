"""What a call of a network costs: multiply-adds by shapes, seconds by interleaved clocks, memory by the system's count.

Multiply-adds are those of matrix products, convolutions and attention, from the shapes that a real call meets (torch's
``FlopCounterMode``, which counts a multiplication and an addition as two, so its number is halved). What is done entry
by entry (norms, activations, sums, interpolation) is not counted: it is a few percent of the arithmetic, though on
small networks it may be most of the time. That is why the seconds are measured and not derived.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from anydiff.errors import AnydiffError

Shape = tuple[int, ...]
Call = Callable[[], object]

FEWEST_ROUNDS = 5
MOST_ROUNDS = 100


@dataclass(frozen=True)
class MultiplyAdds:
    """What was counted.

    Attributes:
        total: multiply-adds of matrix products, convolutions and attention.
        uncounted: operations that multiply and add too and were met, but whose number is not known: the total is then a
            lower bound. Empty for every network of ours.
    """

    total: int
    uncounted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Latency:
    """Seconds of one call.

    Attributes:
        median: over the rounds.
        lower: their first quartile.
        upper: their third quartile.
        rounds: how many calls were timed.
    """

    median: float
    lower: float
    upper: float
    rounds: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """From at least two times."""
        lower, median, upper = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, lower, upper, len(seconds))


def _attention(query: Shape, key: Shape, value: Shape, *rest: Any, **named: Any) -> int:
    """Twice the multiply-adds of softmax(q kᵀ) v, for q ``[B, H, Q, D]``, k ``[B, H, K, D]``, v ``[B, H, K, E]``."""
    return int(2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))


def _matrix_vector(*shapes: Any, **named: Any) -> int:
    """Of a matrix ``[N, K]``, the largest operand of mv and addmv."""
    return 2 * max(math.prod(shape) for shape in shapes if isinstance(shape, torch.Size | tuple))


def _dot(one: Shape, *rest: Any, **named: Any) -> int:
    return 2 * math.prod(one)


def _quantised_linear(x: Shape, scale: Any, zero: Any, weight: Shape, *rest: Any, **named: Any) -> int:
    """x ``[*, K]`` by a weight ``[K, N]`` (torch.ops.onednn.qlinear_pointwise)."""
    return 2 * math.prod(x) * weight[-1]


def _quantised_convolution(x: Shape, scale: Any, zero: Any, weight: Shape, *rest: Any, **named: Any) -> int:
    """By a weight ``[C_out, C_in / groups, *kernel]`` (torch.ops.onednn.qconv_pointwise): each result is a dot product
    of that many entries."""
    return int(2 * math.prod(named["out_shape"]) * math.prod(weight[1:]))


def _mapping() -> dict[Any, Any]:
    """Operations that multiply and add and that torch's own table lacks."""
    found = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        torch.ops.aten._scaled_dot_product_fused_attention_overrideable: _attention,
        torch.ops.aten.mv: _matrix_vector,
        torch.ops.aten.addmv: _matrix_vector,
        torch.ops.aten.dot: _dot,
        torch.ops.aten.vdot: _dot,
    }
    if hasattr(torch.ops.onednn, "qlinear_pointwise"):
        found[torch.ops.onednn.qlinear_pointwise] = _quantised_linear
        found[torch.ops.onednn.qconv_pointwise] = _quantised_convolution
    return found


_UNKNOWN = ("rnn_layer", "_cudnn_rnn", "_native_multi_head", "_transformer_encoder", "aten._trilinear", "fft", "addbmm")
"""Parts of the names of operations that multiply and add, and that no table counts."""


class _Unknown(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the operations of :data:`_UNKNOWN` that are met."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        if any(part in name for part in _UNKNOWN):
            self.names.add(name.rpartition(".")[0])
        return func(*args, **(kwargs or {}))


def multiply_adds(call: Call) -> MultiplyAdds:
    """The multiply-adds of ``call()``, forward and (where it takes gradients) backward, from the shapes it meets."""
    counter, unknown = FlopCounterMode(display=False, custom_mapping=_mapping()), _Unknown()
    # The one that watches stands outside: the counter takes composite operations apart, and it sees the parts.
    with unknown, counter:
        call()
    return MultiplyAdds(counter.get_total_flops() // 2, tuple(sorted(unknown.names)))


def interleaved_seconds(
    calls: Mapping[str, Call], *, seconds: float = 2.0, synchronise: Call | None = None
) -> dict[str, Latency]:
    """How long each call takes, all of them in turn, so that what disturbs the machine disturbs all alike.

    Args:
        calls: name -> what is timed. Each is run once beforehand, untimed.
        seconds: about how long to go on for each call; between 5 and 100 rounds are made whatever it says.
        synchronise: waits until the device has finished.

    Raises:
        AnydiffError: ``seconds`` is not positive.
    """
    if not 0 < seconds < math.inf:
        raise AnydiffError(f"seconds is {seconds}, but must be a positive number.")
    wait = synchronise or (lambda: None)
    for call in calls.values():
        call()
    wait()
    times: dict[str, list[float]] = {name: [] for name in calls}
    names, began = list(calls), time.perf_counter()
    for number in range(MOST_ROUNDS):
        if number >= FEWEST_ROUNDS and time.perf_counter() - began > seconds * len(calls):
            break
        first = number % len(names)  # nobody is always the first
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            calls[name]()
            wait()
            times[name].append(time.perf_counter() - start)
    return {name: Latency.of(each) for name, each in times.items()}


def can_measure_memory() -> bool:
    """Whether this system tells the peak memory of a process since a moment (Linux)."""
    return Path("/proc/self/clear_refs").exists()


def peak_memory(call: Call) -> int:
    """Bytes that ``call()`` takes at its peak beyond what the process held before it, in resident memory.

    glibc keeps freed pieces unless ``MALLOC_MMAP_THRESHOLD_=65536`` stands in the environment when the process starts;
    with it the number is what the call needs. Run the call once beforehand: the first pays for the library's start.
    """
    gc.collect()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    call()
    return max(0, _status("VmHWM") - before)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
