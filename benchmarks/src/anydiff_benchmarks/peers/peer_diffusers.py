"""diffusers' schedulers through their public interface: ``set_timesteps``, ``scale_model_input``, ``step``.

The betas are chosen such that step i of 1000 has exactly the noise level of our path at t = (i + 1)/1000, so that
start, target and reference are shared. The model predicts the noise, at the time that the scheduler asks for.
"""

from __future__ import annotations

import functools
import importlib.metadata
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from anydiff_benchmarks.peers.cases import Case, Counted
from anydiff_benchmarks.peers.targets import PATH

DISTRIBUTION = "diffusers"
_SPACINGS = ("linspace", "trailing", "leading")
_SIGMAS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")


def version() -> str:
    """The installed version; raises ImportError where there is none."""
    import diffusers

    diffusers.utils.logging.set_verbosity_error()
    diffusers.schedulers.DDIMScheduler  # noqa: B018 (lazy modules fail here)
    return importlib.metadata.version(DISTRIBUTION)


@functools.cache
def betas() -> np.ndarray:
    """β_i = 1 - ᾱ_i/ᾱ_{i-1} with ᾱ_i = α(t)² at t = (i + 1)/1000."""
    cumulative = np.array([PATH.alpha((i + 1) / 1000) ** 2 for i in range(1000)])
    found: np.ndarray = 1 - cumulative / np.concatenate([[1.0], cumulative[:-1]])
    return found


def grids(*, lu: bool = False, finals: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """The grids a scheduler offers: (text, options)."""
    kinds: list[tuple[str, dict[str, Any]]] = [(s, {"timestep_spacing": s}) for s in _SPACINGS]
    kinds += [(s.split("_")[1], {s: True}) for s in (*_SIGMAS, *(("use_lu_lambdas",) if lu else ()))]
    for text, options in kinds:
        yield text, options
        if finals:
            yield f"{text} to sigma_min", {**options, "final_sigmas_type": "sigma_min"}


def _schedulers() -> Iterator[tuple[str, dict[str, Any], Iterator[tuple[str, dict[str, Any]]]]]:
    spacings = [(s, {"timestep_spacing": s}) for s in _SPACINGS]
    yield "DDIMScheduler", {"clip_sample": False}, iter(spacings)
    yield "DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}, iter(spacings)
    yield "PNDMScheduler", {}, iter(spacings)
    yield "PNDMScheduler", {"skip_prk_steps": True}, iter(spacings)
    for order in (1, 2, 3):
        for kind in ("dpmsolver++", "dpmsolver"):
            multistep: dict[str, Any] = {"solver_order": order, "algorithm_type": kind}
            kinds = grids(lu=True, finals=True)  # "dpmsolver" refuses to end at zero
            kept = iter([pair for pair in kinds if kind == "dpmsolver++" or pair[0].endswith("sigma_min")])
            yield "DPMSolverMultistepScheduler", multistep, kept
    yield "DPMSolverMultistepScheduler", {"solver_order": 2, "solver_type": "heun"}, grids(lu=True, finals=True)
    for order in (2, 3):
        yield (
            "DPMSolverSinglestepScheduler",
            {"solver_order": order, "lower_order_final": True},
            iter([("linspace", {}), *list(grids(lu=False))[3:]]),
        )
        variants: tuple[dict[str, Any], ...] = ({}, {"predict_x0": False}, {"solver_type": "bh1"})
        for options in variants:
            yield "UniPCMultistepScheduler", {"solver_order": order, **options}, grids(finals=True)
    for order in (1, 2, 3):
        yield "DEISMultistepScheduler", {"solver_order": order}, grids()
    for name in ("EulerDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler"):
        yield name, {}, grids()


def cases() -> Iterator[Case]:
    """Every deterministic scheduler with every grid it offers."""
    for name, options, kinds in _schedulers():
        text = name.removesuffix("Scheduler") + "".join(f" {k}={v}" for k, v in options.items() if k != "clip_sample")
        for grid, extra in kinds:
            yield Case("diffusers", text, grid, functools.partial(_run, name, {**options, **extra}))


@functools.cache
def make(name: str, **options: Any) -> Any:
    """A scheduler of that class on our path; ``set_timesteps`` makes it new (some take seconds to construct)."""
    import diffusers.schedulers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(diffusers.schedulers, name)(trained_betas=betas(), **options)


def _run(name: str, options: dict[str, Any], denoise: Counted, nfe: int) -> Tensor:
    """As many steps as fit the budget: Heun-like schedulers list two times per step, PNDM more at its start."""
    scheduler = make(name, **options)
    for steps in range(nfe, 0, -1):
        scheduler.set_timesteps(steps)
        if len(scheduler.timesteps) <= nfe:
            return loop(scheduler, denoise)
    raise ValueError(f"{name} cannot run with {nfe} calls")


def loop(scheduler: Any, denoise: Counted, exact_levels: bool = False) -> Tensor:
    """The documented sampling loop. ``exact_levels`` tells the model the true σ in place of the rounded time."""
    sample = denoise.target.start * float(scheduler.init_noise_sigma)
    for index, timestep in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(sample, timestep).double()
        kappa = float(scheduler.sigmas[index]) if exact_levels else level(float(timestep))
        alpha = (1 + kappa**2) ** -0.5
        data = denoise(scaled / alpha, kappa)
        noise = (scaled - alpha * data) / (alpha * kappa)
        sample = scheduler.step(noise, timestep, sample).prev_sample
    return sample.double()


def level(timestep: float) -> float:
    """κ of the (possibly fractional) step, as our path has it."""
    t = min((timestep + 1) / 1000, PATH.t_start)
    return PATH.sigma(t) / PATH.alpha(t)
