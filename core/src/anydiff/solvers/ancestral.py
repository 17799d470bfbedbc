"""Ancestral steps of classes: D3PM, MDLM, VQ-Diffusion and RADD's Tweedie step are this one rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anydiff.paths.categorical import CategoricalPath
from anydiff.solvers.categorical import CategoricalSolver


@dataclass(frozen=True)
class Ancestral(CategoricalSolver):
    """Each entry is drawn from Σ_u p(x_0 = u | x_t) q(x_s | x_t, x_0 = u), independently given x_t.

    Exact for one entry, whatever the number of steps; between entries the error falls as 1/steps (Austin et al. 2021,
    arXiv:2107.03006; Sahoo et al. 2024, arXiv:2406.07524).
    """

    def transition(self, path: CategoricalPath, t: float, s: float, left: int) -> tuple[str, dict[str, Any]]:
        """See :meth:`CategoricalSolver.transition`."""
        options: dict[str, Any] = {
            "classes": path.bound,
            "data": [float(p) for p in path.marginal(s)],
            "step": [float(p) for p in path.kernel(s, t)],
        }
        if path.law is not None:
            options["law"] = list(path.law)
        return "posterior", options
