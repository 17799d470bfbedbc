"""Score-SDE: exact likelihoods by the probability-flow ODE, latents that come back, and correctors at equal steps."""

from __future__ import annotations

import math

import torch

from anydiff.denoisers import GaussianMixtureOracle, GaussianOracle
from anydiff.paths import VE, GaussianPath, SubVP, VPLinear
from anydiff.samplers import AdaptiveODE
from anydiff_benchmarks.claims._correctors import distance
from anydiff_benchmarks.claims._ode_targets import mean
from anydiff_benchmarks.claims.base import Claim, Verdict

CLAIM = Claim(
    slug="score_sde",
    paper="Song et al. 2021, Score-based generative modeling through SDEs, ICLR 2021, arXiv:2011.13456",
    says="The probability-flow ODE gives exact likelihoods (2.99 bits per dimension on CIFAR-10) and latents; Langevin "
    "correctors improve every predictor at the same steps.",
    check="Likelihood of 100 points of the eight-mode ring (sd 0.2) under VP, sub-VP and VE with exact score and exact "
    "trace, tolerance 1e-7, against the density the path ends with; bits per dimension of a Gaussian; "
    "latent round trip. "
    "Energy distance to 3,000 data of 1,500 samples of the probability-flow predictor with and without one "
    "Langevin step "
    "per node: VE with 30 nodes and VP with 100, mixtures in 2 and 16 dimensions.",
    threshold="In every seed: mean absolute error of log p below 1e-2 and its mean within 2e-3 on all three "
    "paths, bits "
    "per dimension to 1e-3, round trip to 1e-5; with the corrector, mean energy distance over the seeds at most 0.6 of "
    "that without, on both paths and targets.",
    seeds=(0, 1, 2),
    minutes=2,
    files=(
        "anydiff/paths/variance_preserving.py",
        "anydiff/paths/variance_exploding.py",
        "anydiff/samplers/adaptive_ode.py",
        "anydiff/solvers/predictor_corrector.py",
    ),
    recipes=("images/fashion sampling.solver.name=adaptive-ode",),
)
PATHS: dict[str, GaussianPath] = {"vp": VPLinear(t_end=1e-5), "sub-vp": SubVP(t_end=1e-5), "ve": VE()}
NODES = {"ve": 30, "vp": 100}
STD = 0.2


def ring(path: GaussianPath) -> GaussianMixtureOracle:
    """G2 of the sheets with sd 0.2: eight unequal Gaussians on the unit circle."""
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    return GaussianMixtureOracle(path, torch.stack([angle.cos(), angle.sin()], 1), STD, torch.arange(1, 9))


def log_density(oracle: GaussianMixtureOracle, x: torch.Tensor, kappa: float) -> torch.Tensor:
    """log of the mixture's density with noise of level κ on it."""
    variance = STD**2 + kappa**2
    squares = torch.cdist(x, oracle.means).square()
    weights = (oracle.weights / oracle.weights.sum()).log()
    return torch.logsumexp(weights - squares / (2 * variance), 1) - math.log(2 * math.pi * variance)


def measure(seed: int) -> dict[str, float]:
    """Errors of likelihood, bits and round trip, and the energy distances."""
    numbers = {}
    ode = AdaptiveODE(rtol=1e-7, atol=1e-7)
    for name, path in PATHS.items():
        oracle = ring(path)
        x = oracle.sample(100, torch.Generator().manual_seed(seed))
        kappa = path.sigma(path.t_end) / path.alpha(path.t_end)
        error = ode.log_likelihood(oracle, x) - log_density(oracle, x, kappa)
        numbers[f"{name} log p, mean absolute error"] = float(error.abs().mean())
        numbers[f"{name} log p, mean error"] = float(error.mean())
        back = ode.decode(oracle, ode.encode(oracle, x))
        numbers[f"{name} round trip"] = float((back - x).abs().max())
    path = PATHS["vp"]
    x = torch.randn(100, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x = STD * (x - x.mean(0)) / (x - x.mean(0)).square().mean(0).sqrt()  # so that its entropy is the law's
    bits = float(ode.bits_per_dimension(GaussianOracle(path, torch.zeros(2), STD**2), x).mean())
    numbers["bits per dimension, error"] = bits - math.log2(STD * math.sqrt(2 * math.pi * math.e))
    for name, nodes in NODES.items():
        for target in ("G2", "G16"):
            for corrections in (0, 1):
                numbers[f"{name} {target} corrections {corrections}"] = distance(name, target, corrections, nodes, seed)
    return numbers


def judge(rows: list[dict[str, float]]) -> Verdict:
    """The bounds of the threshold."""

    def worst(text: str) -> float:
        values = [abs(value) for row in rows for name, value in row.items() if name.endswith(text)]
        return max(values) if all(math.isfinite(value) for value in values) else math.inf

    def ratio(path: str, target: str) -> float:
        return mean(rows, f"{path} {target} corrections 1") / mean(rows, f"{path} {target} corrections 0")

    ratios = {f"{path} {target}": ratio(path, target) for path in NODES for target in ("G2", "G16")}
    holds = (
        worst("mean absolute error") < 1e-2
        and worst("mean error") < 2e-3
        and worst("dimension, error") < 1e-3
        and worst("round trip") < 1e-5
        and all(0 < value <= 0.6 for value in ratios.values())
    )
    return Verdict(
        "reproduced" if holds else "not reproduced",
        f"log p errs by {worst('mean absolute error'):.1e} at most (mean {worst('mean error'):.1e}), bits "
        f"per dimension by "
        f"{worst('dimension, error'):.1e}, latents come back to {worst('round trip'):.1e}; energy distance with over "
        f"without a corrector at the same nodes: {', '.join(f'{name} {value:.2f}' for name, value in ratios.items())}.",
    )
