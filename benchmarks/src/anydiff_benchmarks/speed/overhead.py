"""Time per sampling step with a denoiser that costs nothing, in one interleaved run.

The floor is the least that a run can cost: the start copied once, since it belongs to the caller, and then one kernel
per row in place, every operand read once and the result written once (2 operands: ``add_``, 3: ``addcmul_``).
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers import FunctionDenoiser
from anydiff.solvers import compile_plan, execute
from anydiff_benchmarks.peers import peer_diffusers, peer_k_diffusion
from anydiff_benchmarks.peers.targets import PATH, sigma_max, sigma_min

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
Run = Callable[[], Any]


@dataclass(frozen=True)
class Contender:
    """A way to make ``steps`` steps of ``solver``.

    Attributes:
        library: name of the library, or "floor".
        solver: "ddim", "2m" or "heun".
        run: makes all steps.
        steps: how many.
    """

    library: str
    solver: str
    run: Run
    steps: int


def contenders(size: int, libraries: dict[str, str]) -> Iterator[Contender]:
    """Every library's DDIM, 2M and Heun on a float32 state ``[B, size/B]`` of ``size`` entries, and the floors."""
    steps = 20
    shape = (min(10, size), size // min(10, size))
    generator = torch.Generator().manual_seed(0)
    x, prediction = (torch.randn(shape, generator=generator) for _ in range(2))
    yield from _floors(x, prediction, steps)
    yield from _ours(x, prediction, steps)
    if "diffusers" in libraries:
        yield from _diffusers(x, prediction, steps)
    if "k-diffusion" in libraries:
        yield from _k_diffusion(x, prediction, steps)
    if "azula" in libraries:
        yield from _azula(x, prediction, steps)


def _floors(x: Tensor, prediction: Tensor, steps: int) -> Iterator[Contender]:
    older = prediction.clone()
    pairs = tuple(itertools.islice(itertools.cycle(((prediction, older), (older, prediction))), steps))

    def two_operands() -> Tensor:
        state = x.clone()
        for newest, _ in pairs:
            state.add_(newest, alpha=0.01)
        return state

    def three_operands() -> Tensor:
        state = x.clone()
        for newest, previous in pairs:
            state.addcmul_(newest, previous, value=1e-6)
        return state

    def stage_and_step() -> Tensor:
        state, stage = x.clone(), x.clone()
        for first, second in pairs:
            torch.add(state, first, alpha=0.01, out=stage)
            state.addcmul_(first, second, value=1e-6)
        return state

    yield Contender("floor", "ddim", two_operands, steps)
    yield Contender("floor", "2m", three_operands, steps)
    yield Contender("floor", "heun", stage_and_step, steps)


def _ours(x: Tensor, prediction: Tensor, steps: int) -> Iterator[Contender]:
    # Two tensors in turn, so that a row with two predictions reads two, as the floor's does.
    predictions = itertools.cycle((prediction, prediction.clone()))
    denoiser = FunctionDenoiser(lambda state, t: next(predictions), PATH)
    for text, name, calls in (("ddim", "ddim", 1), ("2m", "dpm-solver++-2m", 1), ("heun", "edm", 2)):
        plan = compile_plan(name, PATH, steps * calls, end="stop")

        def run(plan: Any = plan) -> Tensor:
            return execute(plan, denoiser, x)

        yield Contender("anydiff", text, run, steps)


def _diffusers(x: Tensor, prediction: Tensor, steps: int) -> Iterator[Contender]:
    for text, name, options in (
        ("ddim", "DDIMScheduler", {"clip_sample": False, "prediction_type": "sample"}),
        ("2m", "DPMSolverMultistepScheduler", {"prediction_type": "sample"}),
        ("heun", "HeunDiscreteScheduler", {}),
    ):
        scheduler = peer_diffusers.make(name, **options)

        def run(scheduler: Any = scheduler) -> Tensor:
            scheduler.set_timesteps(steps)
            sample = x
            for timestep in scheduler.timesteps:
                scheduler.scale_model_input(sample, timestep)
                sample = scheduler.step(prediction, timestep, sample).prev_sample
            return sample

        yield Contender("diffusers", text, run, steps)


def _k_diffusion(x: Tensor, prediction: Tensor, steps: int) -> Iterator[Contender]:
    sampling = peer_k_diffusion.sampling()
    # Without the appended zero, so that every one of the steps is a full one.
    levels = sampling.get_sigmas_karras(steps + 1, sigma_min(), sigma_max())[:-1]
    for text, name in (("ddim", "sample_euler"), ("2m", "sample_dpmpp_2m"), ("heun", "sample_heun")):
        sampler = getattr(sampling, name)

        def run(sampler: Callable[..., Tensor] = sampler) -> Tensor:
            return sampler(lambda y, sigma: prediction, x, levels, disable=True)

        yield Contender("k-diffusion", text, run, steps)


def _azula(x: Tensor, prediction: Tensor, steps: int) -> Iterator[Contender]:
    import azula.sample
    from azula.denoise import Denoiser, DiracPosterior
    from azula.noise import VPSchedule

    class Free(Denoiser):  # type: ignore[misc]  # azula is optional, so its classes have no types here
        def __init__(self) -> None:
            super().__init__()
            self.schedule = VPSchedule()

        def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> Any:
            return DiracPosterior(prediction)

    for text, name in (("ddim", "DDIMSampler"), ("2m", "xEABSampler"), ("heun", "HeunSampler")):
        sampler = getattr(azula.sample, name)(Free(), steps=steps, silent=True)

        def run(sampler: Callable[..., Tensor] = sampler) -> Tensor:
            return sampler(x)

        yield Contender("azula", text, run, steps)


def measure(size: int, libraries: dict[str, str], rounds: int) -> list[dict[str, Any]]:
    """Rows of microseconds per step (median, quartiles) and the median ratio to the floor of the same round."""
    found = list(contenders(size, libraries))
    repeats = 5 if size <= 10_000 else 1  # a turn of some milliseconds, so that it is not spent on filling caches
    times: dict[tuple[str, str], list[float]] = {(c.library, c.solver): [] for c in found}
    with torch.no_grad():
        for contender in found:
            contender.run()
        for _ in range(rounds):
            for contender in found:
                begin = time.perf_counter()
                for _ in range(repeats):
                    contender.run()
                spent = (time.perf_counter() - begin) / (repeats * contender.steps)
                times[contender.library, contender.solver].append(spent * 1e6)
    rows = []
    for (library, solver), values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        ratios = [value / floor for value, floor in zip(values, times["floor", solver], strict=True)]
        rows.append(
            {"benchmark": "overhead", "floats": size, "library": library, "solver": solver, "rounds": rounds,
             "microseconds": middle, "low": low, "high": high, "floors": statistics.median(ratios)}
        )  # fmt: skip
    return rows
