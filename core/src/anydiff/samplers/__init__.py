"""Samplers: one request, one face, whatever draws the samples (DESIGN 14)."""

from anydiff.samplers.adaptive_dpm_solver import AdaptiveDPMSolver
from anydiff.samplers.adaptive_ode import AdaptiveODE
from anydiff.samplers.exact_law import sampled_law
from anydiff.samplers.plan import DEFAULT_NFE, DEFAULT_SOLVER, PlanSampler, as_sampler, sample
from anydiff.samplers.sampler import Chunk, Sampler, SampleRequest

__all__ = [
    "DEFAULT_NFE",
    "DEFAULT_SOLVER",
    "AdaptiveDPMSolver",
    "AdaptiveODE",
    "Chunk",
    "PlanSampler",
    "SampleRequest",
    "Sampler",
    "as_sampler",
    "sample",
    "sampled_law",
]
