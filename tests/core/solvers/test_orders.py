"""Measured orders: deterministic solvers on a Gaussian (closed form) and a mixture (Runge-Kutta reference).

The moments of the stochastic ones are computed exactly through the plan instead of by sampling.
"""

from __future__ import annotations

import math

import pytest
from checks import check_moments, measured_order
from exact import PATHS, moments, slopes, solver_entries

from anydiff.paths import time_grid
from anydiff.solvers import build_plan
from anydiff.solvers.ddim import DDIM, DDPM
from anydiff.solvers.runge_kutta import EDMHeun

DETERMINISTIC = [entry.name for entry in solver_entries(stochastic=False)]
DECLARED = {entry.name: entry.metadata["order"] for entry in solver_entries()}


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_order_on_a_gaussian(name):
    counts = (80, 160, 320) if DECLARED[name] < 3 else (160, 320)
    order = measured_order(name, PATHS["vp-linear"], "gaussian", counts)
    assert order > DECLARED[name] - 0.2, f"measured {order:.2f}, declared {DECLARED[name]}"


@pytest.mark.parametrize("path", ["vp-cosine", "sub-vp", "ve", "edm", "flow"])
@pytest.mark.parametrize("name", ["ddim", "heun", "edm", "dpm-solver++-2m"])
def test_order_on_every_path(name, path):
    order = measured_order(name, PATHS[path], "gaussian")
    assert abs(order - DECLARED[name]) < 0.2, f"measured {order:.2f}, declared {DECLARED[name]}"


@pytest.mark.parametrize("path", ["vp-linear", "vp-cosine", "edm", "flow"])
@pytest.mark.parametrize("name", ["ddim", "euler", "heun", "edm", "dpm-solver++-2m"])
def test_order_on_a_mixture(name, path):
    order = measured_order(name, PATHS[path], "mixture")
    assert abs(order - DECLARED[name]) < 0.2, f"measured {order:.2f}, declared {DECLARED[name]}"


@pytest.mark.parametrize("path", ["vp-linear", "vp-cosine", "sub-vp", "ve", "edm", "flow"])
def test_moments_of_the_stochastic_solvers(path):
    check_moments(PATHS[path])


@pytest.mark.parametrize(("solver", "order"), [(DDPM(), 1), (DDIM(1.0), 1), (DDIM(0.5), 1), (EDMHeun(churn=4.0), 2)])
def test_weak_order(solver, order):
    """The error of the output's variance, from the exact law at T, falls with the declared order."""
    path = PATHS["vp-linear"]
    variance = 0.25
    start = (0.3 * path.alpha(1.0), math.sqrt(path.alpha(1.0) ** 2 * variance + path.sigma(1.0) ** 2))
    last = path.alpha(path.t_end) ** 2 * variance + path.sigma(path.t_end) ** 2
    counts, errors = (80, 160, 320), []
    for steps in counts:
        plan = build_plan(solver, path, time_grid(path, steps, "log-snr"), "stop")
        errors.append(abs(moments(plan, path, 0.3, variance, start)[1] - last))
    assert abs(slopes(counts, errors) - order) < 0.2, errors


@pytest.mark.parametrize("solver", [DDPM(), DDIM(0.3), DDIM(1.0), EDMHeun(churn=8.0), DDIM()])
def test_a_point_mass_keeps_its_noise_level_at_any_step_size(solver):
    """x_0 = 0.4 surely, x_T exact: posterior-variance steps keep mean α 0.4 and variance σ² for any number of steps."""
    for path in (PATHS["vp-linear"], PATHS["vp-log-snr"], PATHS["edm"], PATHS["flow"]):
        for steps in (1, 3, 10):
            plan = build_plan(solver, path, time_grid(path, steps), "stop")
            start = (0.4 * path.alpha(path.t_start), path.sigma(path.t_start))
            mean, variance = moments(plan, path, 0.4, 0.0, start)
            assert mean == pytest.approx(0.4 * path.alpha(path.t_end), rel=1e-9)
            assert variance == pytest.approx(path.sigma(path.t_end) ** 2, rel=1e-6)
