"""Solvers of the same name on the same grid, start and target: the difference of the end states, ours against a peer's.

Both stop at the last positive noise level, and the peer's model is told the true noise level, so what remains is the
formula itself and rounding (diffusers: float32 coefficients).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from anydiff.registry import registry
from anydiff.solvers import Solver, build_plan, execute
from anydiff_benchmarks.peers import peer_azula, peer_diffusers, peer_k_diffusion
from anydiff_benchmarks.peers.cases import Counted
from anydiff_benchmarks.peers.targets import PATH, Target, sigma_max, sigma_min

STEPS = 10
Pair = tuple[str, str, str, Tensor, Tensor]


def ours(target: Target, levels: list[float], name: str, **options: Any) -> Tensor:
    """y at the last of the noise levels κ by our solver of that name."""
    solver: Solver = registry().build("solvers", name, **options)
    times = [min(PATH.time(-math.log(kappa)), PATH.t_start) for kappa in levels]
    plan = build_plan(solver, PATH, times, end="stop")
    start = target.unscaled_start() * PATH.alpha(times[0])
    return execute(plan, target.oracle, start) / PATH.alpha(times[-1])


_K_DIFFUSION: tuple[tuple[str, dict[str, Any], str, dict[str, Any], str], ...] = (
    ("sample_euler", {}, "ddim", {}, ""),
    ("sample_heun", {}, "edm", {}, ""),
    ("sample_dpm_2", {}, "dpm-solver-2", {}, ""),
    ("sample_lms", {}, "lms", {}, ""),
    ("sample_dpmpp_2s_ancestral", {"eta": 0.0}, "dpm-solver++-2s", {}, ""),
    ("sample_dpmpp_2m", {}, "dpm-solver++-2m", {}, ""),
    ("sample_dpmpp_2m_sde", {"eta": 0.0, "noise_sampler": 0, "solver_type": "heun"},
     "dpm-solver++-2m", {"form": "taylor"}, ""),
    ("sample_dpmpp_3m_sde", {"eta": 0.0, "noise_sampler": 0}, "dpm-solver++-3m",
     {"published": True, "form": "taylor"}, ""),
    ("sample_dpmpp_3m_sde", {"eta": 0.0, "noise_sampler": 0}, "dpm-solver++-3m", {"form": "taylor"},
     "it lacks the factor 2 of the second difference: order 2"),
)  # fmt: skip

_AZULA: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("DDIMSampler", "ddim", {}, ""),
    ("HeunSampler", "edm", {}, ""),
    ("zABSampler order=3", "adams-3", {"variable": "noise-level"}, ""),
    ("zEABSampler order=3", "adams-3", {}, ""),
    ("xEABSampler order=3", "adams-3", {"prediction": "data"}, ""),
    ("vABSampler order=3", "velocity-adams", {"degree": 3, "corrector": False}, ""),
)

_LOW = {"lower_order_final": True}
_END = {"final_sigmas_type": "sigma_min", "timestep_spacing": "linspace"}
_DIFFUSERS: tuple[tuple[str, dict[str, Any], str, dict[str, Any], str], ...] = (
    ("DPMSolverMultistepScheduler", {"solver_order": 1, **_END}, "ddim", {}, "float32"),
    ("DPMSolverMultistepScheduler", {"solver_order": 2, **_END}, "dpm-solver++-2m", _LOW, "float32"),
    ("DPMSolverMultistepScheduler", {"solver_order": 2, "algorithm_type": "dpmsolver", "solver_type": "heun", **_END},
     "adams-2", _LOW, "float32"),
    ("DPMSolverMultistepScheduler", {"solver_order": 3, "solver_type": "heun", **_END}, "dpm-solver++-3m",
     {"published": True, "form": "taylor", **_LOW}, "float32"),
    ("UniPCMultistepScheduler", {"solver_order": 2, **_END}, "unipc-2", _LOW, "float32"),
    ("UniPCMultistepScheduler", {"solver_order": 3, **_END}, "unipc-3", _LOW, "float32"),
    ("UniPCMultistepScheduler", {"solver_order": 3, "predict_x0": False, **_END}, "unipc-3",
     {"prediction": "noise", **_LOW}, "float32"),
)  # fmt: skip


def pairs(target: Target, libraries: dict[str, str]) -> Iterator[Pair]:
    """(library, its solver, ours and why they may differ, its end state, our end state)."""
    if "k-diffusion" in libraries:
        yield from _k_diffusion_pairs(target)
    if "azula" in libraries:
        yield from _azula_pairs(target)
    if "diffusers" in libraries:
        yield from _diffusers_pairs(target)


def _k_diffusion_pairs(target: Target) -> Iterator[Pair]:
    levels = torch.linspace(math.log(sigma_max()), math.log(sigma_min()), STEPS + 1, dtype=torch.float64).exp()
    for name, options, own, own_options, why in _K_DIFFUSION:
        given = {key: (lambda *_: 0.0) if key == "noise_sampler" else value for key, value in options.items()}
        sampler: Callable[..., Tensor] = getattr(peer_k_diffusion.sampling(), name)
        theirs = sampler(
            peer_k_diffusion.model(Counted(target)), target.unscaled_start(), levels, disable=True, **given
        )
        mine = ours(target, levels.tolist(), own, **own_options)
        yield "k-diffusion", name, _text(own, own_options, why), theirs, mine


def _azula_pairs(target: Target) -> Iterator[Pair]:
    levels = torch.linspace(math.log(sigma_max()), math.log(sigma_min()), STEPS + 1, dtype=torch.float64).exp()
    by_name = {(case.solver, case.grid): case for case in peer_azula.cases()}
    for name, own, options, why in _AZULA:
        calls = 2 if name == "HeunSampler" else 1
        theirs = by_name[name, "log-snr"].run(Counted(target), STEPS * calls)
        yield "azula", name, _text(own, options, why), theirs, ours(target, levels.tolist(), own, **options)


def _diffusers_pairs(target: Target) -> Iterator[Pair]:
    for name, options, own, own_options, why in _DIFFUSERS:
        scheduler = peer_diffusers.make(name, **options)
        scheduler.set_timesteps(STEPS)
        levels = [float(value) for value in scheduler.sigmas]
        theirs = peer_diffusers.loop(scheduler, Counted(target), exact_levels=True)
        theirs = theirs * (1 + levels[-1] ** 2) ** 0.5
        text = name.removesuffix("Scheduler") + "".join(f" {k}={v}" for k, v in options.items() if k not in _END)
        yield "diffusers", text, _text(own, own_options, why), theirs, ours(target, levels, own, **own_options)


def _text(name: str, options: dict[str, Any], why: str) -> str:
    shown = " ".join([name, *(f"{key}={value}" for key, value in options.items())])
    return f"{shown} ({why})" if why else shown


def agreements(target: Target, libraries: dict[str, str]) -> list[dict[str, Any]]:
    """A row for each pair: the root mean square difference relative to that of the end state."""
    rows = []
    with torch.no_grad():
        for library, name, own, theirs, mine in pairs(target, libraries):
            difference = float((theirs - mine).square().mean().sqrt() / mine.square().mean().sqrt())
            rows.append({"benchmark": "agreement", "target": target.name, "library": library, "solver": name,
                         "ours": own, "difference": difference})  # fmt: skip
    return rows
