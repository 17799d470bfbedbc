"""Reading plans as tables of numbers: what the coefficient tests stand on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from anydiff.denoisers.base import FunctionDenoiser
from anydiff.paths import EDM, VE, Flow, SubVP, VPCosine, VPLinear
from anydiff.solvers import Plan, build_plan, execute
from anydiff.solvers.plan import Combine, Evaluate
from anydiff.solvers.program import Node


def coefficients(plan: Plan) -> list[dict[str, float]]:
    """The rows of the plan that make states, in order."""
    return [dict(i.terms) for i in plan.instructions if isinstance(i, Combine)]


def same_coefficients(a: Plan, b: Plan, tolerance: float, skip_rows: int = 0) -> None:
    """The two plans make the same map, whatever kind of prediction they ask for: run on two linear denoisers."""
    assert a.nfe == b.nfe
    if skip_rows:
        rows = list(zip(coefficients(a), coefficients(b), strict=True))
        for ra, rb in rows[skip_rows:-1]:
            assert ra.keys() == rb.keys()
            np.testing.assert_allclose([ra[k] for k in ra], [rb[k] for k in ra], rtol=max(tolerance, 1e-15), atol=1e-13)
        return
    for slope in (0.0, 0.6):
        results = [_run_linear(plan, slope) for plan in (a, b)]
        np.testing.assert_allclose(results[0], results[1], rtol=max(tolerance, 1e-15))


def _run_linear(plan: Plan, slope: float) -> float:
    path = next(p for p in (VPLinear(), VPCosine(), SubVP(), VE(), EDM(), Flow()) if repr(p) == plan.path)
    oracle = FunctionDenoiser(lambda x, t: 0.3 + slope * path.alpha(t) * x / (1 + path.sigma(t) ** 2), path)
    start = torch.tensor([[1.7]], dtype=torch.float64) * path.prior_std
    return execute(plan, oracle, start).item()


def run_scalar(
    solver, path, times: Sequence[float], power: int, kind: str = "data", warm: bool = False, raw: bool = False
) -> float:
    """Relative error of the plan for a prediction that is (λ/3)^power along the path, a function of time alone.

    With ``warm`` the multistep history is filled with exact values first: the error is that of the last step alone.
    """
    nodes = [Node(path, t) for t in times]

    def value(t: float) -> float:
        return (path.log_snr(t) / 3) ** power

    if warm:
        return _last_step_error(solver, path, nodes, value)
    oracle = FunctionDenoiser(lambda x, t: torch.full_like(x, value(t)), path, kind)
    start = torch.tensor([[1.7]], dtype=torch.float64) * path.sigma(times[0])
    result = execute(build_plan(solver, path, times, end="stop"), oracle, start).item()
    return result if raw else abs(result / _exact(nodes[0], nodes[-1], start.item(), value, kind) - 1)


def _exact(s: Node, t: Node, x: float, value, kind: str) -> float:
    points, factors = np.polynomial.legendre.leggauss(60)
    levels = s.log_snr + (points + 1) / 2 * (t.log_snr - s.log_snr)
    factors = factors * (t.log_snr - s.log_snr) / 2
    m = np.array([value(s.at(level).t) for level in levels])
    if kind == "data":
        return t.sigma * (x / s.sigma + float(np.sum(factors * np.exp(levels) * m)))
    return t.alpha * (x / s.alpha - float(np.sum(factors * np.exp(-levels) * m)))


def _last_step_error(solver, path, nodes: Sequence[Node], value) -> float:
    """Rows after the start of the method, each from an exact state and an exact history."""
    # The plan's own rows: run it with states overwritten by exact ones before every row.
    plan = build_plan(solver, path, [n.t for n in nodes], end="stop")
    exact = {nodes[0].t: 1.7 * nodes[0].sigma}
    for node in nodes[1:]:
        exact[node.t] = _exact(nodes[0], node, exact[nodes[0].t], value, "data")
    registers: dict[str, float] = {"x0": exact[nodes[0].t]}
    order = getattr(solver, "degree", None) or solver.order
    evaluated = [i for i in plan.instructions if isinstance(i, Evaluate)]
    worst = 0.0
    for number, i in enumerate(plan.instructions):
        if isinstance(i, Evaluate):
            registers[i.out] = value(i.t)
        elif isinstance(i, Combine):
            result = sum(c * registers[r] for r, c in i.terms)
            following = [e for e in plan.instructions[number:] if isinstance(e, Evaluate)]
            t = following[0].t if following else nodes[-1].t
            # A corrected state comes after its node's evaluation and enters the next row unregistered or as a row.
            done = sum(isinstance(j, Evaluate) for j in plan.instructions[:number])
            if done >= order:
                worst = max(worst, abs(result / exact[t] - 1))
            registers[i.out] = exact[t]
    assert evaluated
    return worst
