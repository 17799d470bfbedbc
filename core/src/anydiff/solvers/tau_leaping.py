"""Tau-leaping of classes: the reverse rates at the beginning of a step, held for its whole length (Euler)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from anydiff.paths.categorical import CategoricalPath
from anydiff.solvers.ancestral import Ancestral

MOST = 1e12
"""What an infinite rate (of replacements at t = 1) is cut to: every probability is then 1."""


@dataclass(frozen=True)
class TauLeaping(Ancestral):
    """Jumps of each entry with the probability (t - s) times its reverse rate at t (Campbell et al. 2022,
    arXiv:2205.14987; the Euler sampler of SEDD). The last step, to t = 0, is the exact posterior of each entry.

    On the linear schedule of the path ``masked`` it is the ancestral sampler; on the geometric one its first steps
    exceed probability 1 or never fire.
    """

    exact_for_one: ClassVar[bool] = False

    def transition(self, path: CategoricalPath, t: float, s: float, left: int) -> tuple[str, dict[str, Any]]:
        """See :meth:`CategoricalSolver.transition`."""
        if s == 0:
            return super().transition(path, t, s, left)
        kept, replaced, masked = (float(p) for p in path.marginal(t))
        slope = float(path.decay(torch.tensor(t, dtype=torch.float64)))  # -dᾱ/dt
        if path.share == 1:
            reveal, replace = slope / masked, 0.0
        else:
            to_mask = path.share * slope / (1 - masked)
            reveal = to_mask * (kept + replaced) / masked if masked else 0.0
            replace = slope / kept - to_mask if kept else MOST
        options: dict[str, Any] = {
            "classes": path.bound,
            "data": [kept, replaced, masked],
            "reveal": (t - s) * reveal,
            "replace": min((t - s) * replace, MOST),
        }
        if path.law is not None:
            options["law"] = list(path.law)
        return "leap", options
