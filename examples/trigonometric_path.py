"""A path in thirty lines: from data to noise on a circle, x_t = cos(π t/2) x_0 + sin(π t/2) ε (Albergo et al. 2023).

Try `anydiff --plugins-dir examples check trigonometric_path`, or `anydiff --plugins-dir examples train two_moons/small
--set path=trigonometric_path --out runs/circle`.
"""

import math
from dataclasses import dataclass

import torch

from anydiff import hookimpl
from anydiff.paths import GaussianPath, check_range


@hookimpl
def register_paths(register):
    register("trigonometric_path", "data and noise on a circle", "trigonometric_path:Trigonometric")


@dataclass(frozen=True)
class Trigonometric(GaussianPath):
    """α_t = cos(π t/2), σ_t = sin(π t/2), t in [t_end, t_start]; ``t_start`` stops short of 1, where α = 0."""

    t_start: float = 0.999
    t_end: float = 1e-3

    def __post_init__(self):
        check_range(self, latest=0.9999)

    def _alpha(self, t):
        return torch.cos(math.pi / 2 * t)

    def _sigma(self, t):
        return torch.sin(math.pi / 2 * t)

    def _log_snr(self, t):
        return -torch.log(torch.tan(math.pi / 2 * t))

    def _time(self, log_snr):
        return 2 / math.pi * torch.atan(torch.exp(-log_snr))
