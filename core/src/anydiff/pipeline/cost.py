"""What a model costs: parameters, bytes, multiply-adds, seconds and memory of a call, and what a sample takes of them.

A call is one of the network as its recipe makes it: states of the recipe's shape (latents where it diffuses those), the
conditions of its domain, encoded once beforehand as sampling does, and the masks of as many nodes as sampling draws.
Costs depend on shapes and not on values, so conditions are class 0 and zeros, and no data are needed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException

from anydiff.adapters import foreign_source
from anydiff.autoregressive import BlockPlan
from anydiff.compression.cost import (
    Call,
    Latency,
    MultiplyAdds,
    can_measure_memory,
    interleaved_seconds,
    multiply_adds,
)
from anydiff.data.reading import Place, parse_json
from anydiff.denoisers import NetworkDenoiser
from anydiff.denoisers.base import batch_times
from anydiff.denoisers.wrappers import CountingDenoiser
from anydiff.domains import Domain
from anydiff.errors import AnydiffError, natural_number
from anydiff.networks import Autoencoder, counted_memory, estimate_memory
from anydiff.pipeline.load import weights_file
from anydiff.solvers.plan import Evaluate
from anydiff.states import ClassCondition, Conditioning, StateSpec, VectorCondition

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline

ROWS = 32
"""Rows of the call whose multiply-adds are counted; a row's share is what is told. Sizes differ between samples."""
BATCHES = (1, 32)


@dataclass(frozen=True)
class Cost:
    """What one model costs.

    Attributes:
        name: what the caller calls it.
        parameters: of the network.
        file_bytes: of the weights file; None where the model was loaded from none.
        multiply_adds: per network call and sample, conditions encoded beforehand.
        encoding: multiply-adds per sample of encoding its condition, once.
        calls: network calls of the recipe's own sampling; None where nothing is sampled (an autoencoder).
        rows: network rows per sample over all calls, counted; twice the calls under classifier-free guidance.
        uncounted: operations whose multiply-adds are not known (:class:`anydiff.compression.MultiplyAdds`).
        latency: rows of a call -> seconds of it.
        memory_predicted: rows of a call -> bytes beside the parameters, inputs included.
        memory_measured: the same as measured in a process of its own; empty where the system does not tell.
        threads: of torch, for the seconds.
    """

    name: str
    parameters: int
    file_bytes: int | None
    multiply_adds: int
    encoding: int
    calls: int | None
    rows: int | None
    uncounted: tuple[str, ...]
    latency: Mapping[int, Latency]
    memory_predicted: Mapping[int, int]
    memory_measured: Mapping[int, int] = field(default_factory=dict)
    threads: int = 1

    @property
    def per_sample(self) -> int | None:
        """Multiply-adds of a whole sample by the recipe's own sampling, decoding of latents not included."""
        return None if self.rows is None else self.rows * self.multiply_adds + self.encoding

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "multiply_adds_per_sample": self.per_sample}


def costs(
    pipelines: Mapping[str, Pipeline], *, batches: Sequence[int] = BATCHES, seconds: float = 2.0, memory: bool = True
) -> list[Cost]:
    """What each model costs, the calls of all of them timed in turn.

    Args:
        pipelines: name -> model.
        batches: rows of the calls that are timed.
        seconds: about how long each model is timed at each number of rows.
        memory: whether to measure memory too, which takes a process per model.

    Raises:
        AnydiffError: a number of rows or seconds is wrong, or a model cannot be called; the sentence says why.
    """
    sizes = [natural_number("batches", each) for each in batches]
    ready = {name: {size: network_call(each, size) for size in {ROWS, *sizes}} for name, each in pipelines.items()}
    latency = {
        size: interleaved_seconds({name: calls[size] for name, calls in ready.items()}, seconds=seconds)
        for size in sizes
    }
    return [
        replace(
            counted(each, name),
            latency={size: latency[size][name] for size in sizes},
            memory_predicted={size: predicted_memory(ready[name][size], each.domain) for size in sizes},
            memory_measured=measured_memory(each, sizes) if memory else {},
        )
        for name, each in pipelines.items()
    ]


def counted(pipeline: Pipeline, name: str = "") -> Cost:
    """What can be told without a clock: parameters, bytes, multiply-adds and calls."""
    call, encoding = network_multiply_adds(pipeline)
    calls, rows = _sampled(pipeline)
    return Cost(
        name=name or pipeline.recipe.name,
        parameters=pipeline.parameters,
        file_bytes=file_bytes(pipeline),
        multiply_adds=call.total,
        encoding=encoding.total,
        calls=calls,
        rows=rows,
        uncounted=tuple(sorted({*call.uncounted, *encoding.uncounted})),
        latency={},
        memory_predicted={},
        threads=torch.get_num_threads(),
    )


def network_multiply_adds(pipeline: Pipeline) -> tuple[MultiplyAdds, MultiplyAdds]:
    """Multiply-adds per sample of a network call, and of encoding the condition once; each a share of :data:`ROWS`."""

    def share(call: Call) -> MultiplyAdds:
        found = multiply_adds(call)
        return replace(found, total=round(found.total / ROWS))

    device = next(pipeline.denoiser.parameters()).device
    condition = example_conditioning(pipeline, ROWS).to(device)
    return share(network_call(pipeline, ROWS)), share(lambda: pipeline.denoiser.encode_condition(condition))


def example_conditioning(pipeline: Pipeline, rows: int) -> Conditioning:
    """Conditions of the right shapes: class 0, zeros, and masks as sampling draws them."""
    domain: Domain = pipeline.domain
    given: dict[str, Tensor] = {}
    for name, kind in domain.conditions.items():
        if isinstance(kind, ClassCondition):
            given[name] = torch.zeros(rows, dtype=torch.int64)
        else:
            given[name] = torch.zeros(rows, *((kind.size,) if isinstance(kind, VectorCondition) else kind.shape))
    return Conditioning(given, mask=domain.sample_mask(range(rows), 0) if domain.spec.masked else None)


@dataclass(frozen=True)
class NetworkCall:
    """A call of a network, ready to be made.

    Attributes:
        denoiser: whose network is called.
        x: noisy states ``[B, *shape]``.
        time: of the path.
        condition: encoded.
    """

    denoiser: NetworkDenoiser
    x: Tensor
    time: float
    condition: Conditioning

    def __call__(self) -> object:
        """What the network says."""
        with torch.no_grad():
            return self.denoiser.outputs(self.x, self.time, self.condition)

    @property
    def input_bytes(self) -> int:
        """Of the states and of all that is given beside them."""
        tensors = [self.x, *(tensor for _, tensor in self.condition.tensors())]
        return sum({each.data_ptr(): each.untyped_storage().nbytes() for each in tensors}.values())


def network_call(pipeline: Pipeline, rows: int) -> NetworkCall:
    """A call of the network on ``rows`` noisy states in the midst of its sampling; tried once.

    Raises:
        AnydiffError: it fails, for whatever reason.
    """
    denoiser = pipeline.denoiser
    spec = pipeline.domain.spec if pipeline.latent is None else pipeline.latent.spec
    device = next(denoiser.parameters()).device
    given = example_conditioning(pipeline, rows).to(device)
    time = _usual_time(pipeline)
    try:
        x = _states(spec, rows).to(device)
        x = x if given.mask is None else spec.project(x, given.mask)
        with torch.no_grad():
            call = NetworkCall(denoiser, x, time, denoiser.encode_condition(given))
        call()
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise AnydiffError(
            f"the network of {pipeline.recipe.name!r} cannot be called with {rows} rows ({reason.rstrip('.')}), so its "
            "cost cannot be told; mend the network or the model's recipe."
        ) from error
    return call


def _states(spec: StateSpec, rows: int) -> Tensor:
    """Any noisy states ``[rows, *shape]``: normal numbers, or classes where the states are such."""
    generator, classes = torch.Generator().manual_seed(0), spec.leaves[0].classes
    if spec.categorical and classes is not None:
        return torch.randint(classes, (rows, *spec.shape), generator=generator)
    return torch.randn(rows, *spec.shape, generator=generator)


def _usual_time(pipeline: Pipeline) -> float:
    """A time at which the recipe's own sampling calls the network; the middle of the path where that is not known."""
    with contextlib.suppress(AnydiffError):  # an autoencoder, or steps that are chosen on the way
        plan = pipeline.plan()
        whole = plan[0] if isinstance(plan, BlockPlan) else plan
        times = [each.t for each in whole.instructions if isinstance(each, Evaluate)]
        return times[len(times) // 2]
    return (pipeline.denoiser.path.t_start + pipeline.denoiser.path.t_end) / 2


def _sampled(pipeline: Pipeline) -> tuple[int | None, int | None]:
    """(network calls, network rows) of one sample by the recipe's own settings."""
    if isinstance(pipeline.denoiser.network, Autoencoder):
        return None, None
    denoiser = CountingDenoiser(pipeline.denoiser).eval()
    counting = replace(pipeline, denoiser=denoiser)
    condition = example_conditioning(pipeline, 1)
    begins = pipeline.denoiser.path.named("start")
    counting.sample_set(1, condition=condition, start=torch.zeros(1, *pipeline.domain.spec.shape) if begins else None)
    return denoiser.calls, denoiser.rows


def predicted_memory(call: NetworkCall, domain: Domain) -> int:
    """Bytes of a call beside the parameters, told from shapes; where they depend on values, storages are counted."""
    denoiser, rows = call.denoiser, len(call.x)
    # Class numbers are looked at by networks; soft labels, which mean the same, are not.
    classes = {name: kind for name, kind in domain.conditions.items() if isinstance(kind, ClassCondition)}
    soft = {name: torch.empty(rows, kind.classes) for name, kind in classes.items()}
    with contextlib.suppress(DataDependentOutputException):
        return estimate_memory(
            denoiser.network, tuple(call.x.shape[1:]), batch=rows, condition=call.condition.with_given(**soft),
            told=denoiser.path.told_size, dtype=call.x.dtype,
        ).activations  # fmt: skip
    times = batch_times(call.time, call.x)
    seen = denoiser.path.seen(call.x, times, denoiser.sigma_data)
    return counted_memory(denoiser.network, seen, denoiser.told(call.x, times), call.condition).activations


def measured_memory(pipeline: Pipeline, batches: Sequence[int]) -> dict[int, int]:
    """Rows of a call -> bytes it takes, in a process of its own whose allocator gives back what is freed.

    Empty where the system does not tell.
    """
    if not can_measure_memory():
        return {}
    with tempfile.TemporaryDirectory(prefix="anydiff-cost-") as folder:
        source = pipeline.origin
        if not source:
            source = str(Path(folder) / "model.safetensors")
            pipeline.save(source)
        done = subprocess.run(
            [sys.executable, "-m", "anydiff.pipeline.cost_child", source, *map(str, batches)],
            capture_output=True, text=True, check=False,
            env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": str(torch.get_num_threads())},
        )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise AnydiffError(f"the memory of {pipeline.recipe.name!r} cannot be measured ({last}); pass --no-memory.")
    told = Place(f"what the process said that measured the memory of {pipeline.recipe.name!r}")
    found = parse_json(done.stdout, told, "a JSON object", "pass --no-memory")
    return {int(rows): taken for rows, taken in found.items()}


def file_bytes(pipeline: Pipeline) -> int | None:
    """Of the weights on disk; None where the model was loaded from none, or from another library's folder."""
    if not pipeline.origin or foreign_source(pipeline.origin) is not None:
        return None
    return weights_file(pipeline.origin).stat().st_size
