"""What is wrong with a model's samples, and what to do: the error split into solver, network and finite sample."""

from anydiff.advise.advice import Advice, advise
from anydiff.advise.bench import Bench, Judged, Share, Trial
from anydiff.advise.levels import Level, denoising_levels
from anydiff.advise.ode_sde_gap import Gap, Residual, gap

__all__ = [
    "Advice",
    "Bench",
    "Gap",
    "Judged",
    "Level",
    "Residual",
    "Share",
    "Trial",
    "advise",
    "denoising_levels",
    "gap",
]
