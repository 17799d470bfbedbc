"""Orders under classifier-free guidance: a large scale bends the flow, and the multistep methods keep theirs."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from exact import PATHS, reference, root_mean_square, slopes, starts
from torch import Tensor

from anydiff.denoisers import Denoiser, FunctionDenoiser, GaussianMixtureOracle
from anydiff.guidance import ClassifierFree
from anydiff.paths import time_grid
from anydiff.registry import registry
from anydiff.solvers import build_plan, execute
from anydiff.states import Conditioning

LABEL = torch.arange(16) % 2


@functools.cache
def guided(path: str, scale: float) -> Denoiser:
    """Two classes of two Gaussians each, so that one class alone is no Gaussian; w between them."""
    means = torch.tensor([[-0.8, 0.1], [-0.3, 0.9], [0.9, -0.2], [0.2, -0.8]], dtype=torch.float64)
    weights, classes = torch.tensor([1.0, 2.0, 2.0, 1.0]), torch.tensor([0, 0, 1, 1])
    layer = ClassifierFree(scale)(GaussianMixtureOracle(PATHS[path], means, 0.3, weights, classes))
    return FunctionDenoiser(lambda x, t: layer(x, t, Conditioning({"label": LABEL})), PATHS[path])


@functools.cache
def truth(path: str, scale: float) -> Tensor:
    """By the classical Runge-Kutta method, whose error at 1000 steps is below 1e-9."""
    return reference(PATHS[path], guided(path, scale), starts(PATHS[path]), PATHS[path].t_end, steps=1000)


@pytest.mark.parametrize("name", ["dpm-solver++-2m", "dpm-solver++-3m", "unipc-2", "deis-2"])
@pytest.mark.parametrize("scale", [1.0, 4.0, 7.5])
@pytest.mark.parametrize("path", ["vp-linear", "edm"])
def test_order_with_guidance(path: str, scale: float, name: str) -> None:
    solver = registry().build("solvers", name)
    counts, errors = (80, 160, 320), []
    for steps in counts:
        plan = build_plan(solver, PATHS[path], time_grid(PATHS[path], steps, "log-snr"), "stop")
        out = execute(plan, guided(path, scale), starts(PATHS[path]))
        errors.append(root_mean_square(out - truth(path, scale)))
    order = slopes(counts, errors)
    assert abs(order - solver.order) < 0.2, f"measured {order:.2f}, declared {solver.order}, errors {errors}"
    assert math.isclose(errors[0] / errors[1], 2**solver.order, rel_tol=0.2)
