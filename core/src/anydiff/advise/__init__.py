"""What is wrong with a model's samples, and what to do: the error split into solver, network and finite sample."""

from anydiff.advise.advice import Advice, Share, Trial, advise
from anydiff.advise.levels import Level, denoising_levels

__all__ = ["Advice", "Level", "Share", "Trial", "advise", "denoising_levels"]
