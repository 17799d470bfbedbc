"""The exponential-integrator toolbox, in float64: what solvers in λ are written from.

Exact solution of the probability-flow ODE in the data prediction (Lu et al., DPM-Solver++, 2022):

    x_t = (σ_t/σ_s) x_s + σ_t ∫_{λ_s}^{λ_t} e^λ D(λ) dλ.

With D replaced by a polynomial in λ the integral is a sum of φ-functions.
"""

from __future__ import annotations

import numpy as np

from anydiff.solvers.program import LinearForm, Node


def step_size(s: Node, t: Node) -> float:
    """h = λ_t - λ_s > 0; inf if the step starts at pure noise or ends at clean data."""
    return t.log_snr - s.log_snr


def data_step(x: LinearForm, data: LinearForm, s: Node, t: Node) -> LinearForm:
    """The first-order step x_t = (σ_t/σ_s) x_s + α_t (1 - e^{-h}) D, exact if D is constant."""
    ratio = t.sigma / s.sigma
    # α_t (1 - e^{-h}) written so that h = inf gives α_t without a special case.
    return ratio * x + t.alpha * -np.expm1(-step_size(s, t)) * data
