"""Predictor-corrector runs that two claims share: exact score, 1,500 samples, energy distance to 3,000 data."""

from __future__ import annotations

import math

import torch

from anydiff.denoisers import GaussianMixtureOracle
from anydiff.paths import VE, GaussianPath, VPLinear
from anydiff.solvers import PredictorCorrector, compile_plan, execute
from anydiff.states import NoiseSource, StateSpec
from anydiff_benchmarks.claims._ode_targets import energy_distance

PATHS: dict[str, GaussianPath] = {"ve": VE(sigma_max=20.0, t_end=0.0), "vp": VPLinear()}


def target(name: str, path: GaussianPath) -> GaussianMixtureOracle:
    """G2: eight Gaussians of unequal weight on the unit circle; G16: six in 16 dimensions."""
    if name == "G2":
        angles = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
        return GaussianMixtureOracle(path, torch.stack([angles.cos(), angles.sin()], 1), 0.1, torch.arange(1, 9))
    means = 0.5 * torch.randn(6, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    return GaussianMixtureOracle(path, means, 0.1, torch.arange(1, 7))


def distance(path_name: str, target_name: str, corrections: int, nodes: int, seed: int) -> float:
    """Energy distance of the probability-flow predictor with ``corrections`` Langevin steps at each of ``nodes``."""
    path = PATHS[path_name]
    oracle = target(target_name, path)
    solver = PredictorCorrector("probability-flow", corrections, step="norm")
    plan = compile_plan(solver, path, nodes * (corrections + 1), "time", "stop")
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(1500, oracle.means.shape[1], generator=generator, dtype=torch.float64) * path.prior_std
    data = oracle.sample(3000, torch.Generator().manual_seed(50 + seed))
    noise = NoiseSource(StateSpec.single(tuple(oracle.means.shape[1:])), seed)
    return energy_distance(execute(plan, oracle, start, noise=noise), data)
