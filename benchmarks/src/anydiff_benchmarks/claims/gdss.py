"""GDSS: one score of the joint density, split by leaf, is what couples nodes and edges; S4 reaches PC at half the cost.

Check A is analytic: two leaves of one number each, data ±(1/2, 1/2) with correlation 0.9 within a mode, exact scores.
Check B of the sheet, the paper's networks trained on two-community graphs with three seeds, is not part of it yet.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from anydiff.denoisers import Denoiser
from anydiff.paths import ProductPath, VPLinear
from anydiff.solvers import sample
from anydiff.states import Leaf, StateSpec
from anydiff_benchmarks.claims.base import Claim, Verdict

CLAIM = Claim(
    slug="gdss",
    paper="Jo, Lee, Hwang 2022, arXiv:2202.02514 (GDSS)",
    says=(
        "Node features and adjacency diffuse by their own processes, and only the partial scores of the joint density "
        "reproduce their correlation; S4 reaches the predictor-corrector's quality at half its network calls."
    ),
    check=(
        "Mixture of N(±(0.5, 0.5), 0.01 [[1, 0.9], [0.9, 1]]) with one coordinate per leaf, VP β from 0.1 to 20, exact "
        "scores, 4,000 samples, 64 network calls: S4 with 64 steps, predictor-corrector with 32, snr 0.1, and S4 with "
        "each leaf's own marginal score; share of samples whose coordinates agree in sign, and sliced 2-Wasserstein "
        "distance (64 directions; of fresh data: the floor). Euler-Maruyama with 1,000 steps: correlation in a mode."
    ),
    threshold=(
        "S4: at least 0.98 of equal sign and a distance of at most 0.12, both better than the predictor-corrector; "
        "marginal scores: 0.50 ± 0.05 of equal sign; correlation within a mode 0.9 ± 0.03; in the mean over seeds."
    ),
    seeds=(0, 1, 2),
    needs=("anydiff-molecules",),
    minutes=1,
)

MODES = torch.tensor([[0.5, 0.5], [-0.5, -0.5]], dtype=torch.float64)
COVARIANCE = 0.01 * torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
COUNT, CALLS = 4000, 64


class Correlated(Denoiser):
    """The exact E[x_0 | x_t] of the mixture, or with ``joint`` false that of each coordinate by itself."""

    def __init__(self, joint: bool) -> None:
        self.spec = StateSpec([Leaf("nodes", (1,)), Leaf("edges", (1,))])
        self.path = ProductPath((("nodes", VPLinear()), ("edges", VPLinear()))).bind(self.spec)
        self.joint = joint

    def native(self, x: Tensor, t: float | Tensor, **condition: Tensor) -> Tensor:
        """See the class."""
        x = x.double()
        alpha, sigma = self.path.alpha(float(t))[0, 0], self.path.sigma(float(t))[0, 0]  # type: ignore[index]
        if self.joint:
            return _posterior(x, MODES, COVARIANCE, float(alpha), float(sigma))
        parts = [
            _posterior(x[:, [i]], MODES[:, [i]], COVARIANCE[i : i + 1, i : i + 1], float(alpha), float(sigma))
            for i in (0, 1)
        ]
        return torch.cat(parts, dim=1)


def _posterior(x: Tensor, means: Tensor, covariance: Tensor, alpha: float, sigma: float) -> Tensor:
    total = alpha**2 * covariance + sigma**2 * torch.eye(len(covariance), dtype=torch.float64)
    residual = x[:, None] - alpha * means
    solved = torch.linalg.solve(total, residual.transpose(1, 2)).transpose(1, 2)
    weight = (-(residual * solved).sum(2) / 2).softmax(dim=1)
    return (weight[..., None] * (means + alpha * solved @ covariance)).sum(dim=1)


def truth(count: int, seed: int) -> Tensor:
    """Draws of the data."""
    generator = np.random.default_rng([seed, 7])
    noise = generator.standard_normal((count, 2)) @ np.linalg.cholesky(COVARIANCE.numpy()).T
    return torch.from_numpy(MODES.numpy()[generator.integers(2, size=count)] + noise)


def sliced_wasserstein(first: Tensor, second: Tensor, directions: int = 64) -> float:
    """Root of the mean squared 2-Wasserstein distance over directions spread evenly on the half circle."""
    angles = torch.arange(directions, dtype=torch.float64) * math.pi / directions
    axes = torch.stack([angles.cos(), angles.sin()])
    one, two = (each.double() @ axes for each in (first, second))
    return float((one.sort(dim=0).values - two.sort(dim=0).values).square().mean().sqrt())


def measure(seed: int) -> dict[str, float]:
    """Every number of one seed."""
    from anydiff_molecules.gdss_solvers import S4, GDSSPredictorCorrector

    def draw(solver: object, nfe: int, joint: bool = True) -> Tensor:
        denoiser = Correlated(joint)
        return sample(
            denoiser, denoiser.spec, COUNT, nfe=nfe, solver=solver, seed=seed, grid="time", end="stop",  # type: ignore[arg-type]
            batch_size=COUNT, dtype=torch.float64,
        )  # fmt: skip

    data = truth(COUNT, seed)
    drawn = {
        "s4": draw(S4(snr=0.1), CALLS),
        "pc": draw(GDSSPredictorCorrector(snr=0.1), CALLS),
        "marginal": draw(S4(snr=0.1), CALLS, joint=False),
    }
    numbers = {"floor_w2": sliced_wasserstein(truth(COUNT, seed + 1000), data)}
    for name, states in drawn.items():
        numbers[f"{name}_sign"] = float((states[:, 0] * states[:, 1] > 0).double().mean())
        numbers[f"{name}_w2"] = sliced_wasserstein(states, data)
    fine = draw(GDSSPredictorCorrector(corrections=0), 1000)
    numbers["em_sign"] = float((fine[:, 0] * fine[:, 1] > 0).double().mean())
    mode = fine[(fine > 0).all(dim=1)]
    numbers["em_correlation"] = float(torch.corrcoef(mode.T)[0, 1])
    return numbers


def judge(rows: list[dict[str, float]]) -> Verdict:
    """See the threshold."""
    mean = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    s4 = mean["s4_sign"] >= 0.98 and mean["s4_w2"] <= 0.12
    better = mean["s4_sign"] > mean["pc_sign"] and mean["s4_w2"] < mean["pc_w2"]
    coupled = abs(mean["marginal_sign"] - 0.5) <= 0.05 and abs(mean["em_correlation"] - 0.9) <= 0.03
    sentence = (
        f"Equal sign and sliced W2 at 64 calls: S4 {mean['s4_sign']:.3f}, {mean['s4_w2']:.3f}; predictor-corrector "
        f"{mean['pc_sign']:.3f}, {mean['pc_w2']:.3f}; marginal scores {mean['marginal_sign']:.3f}; floor "
        f"{mean['floor_w2']:.3f}; correlation in a mode {mean['em_correlation']:.3f}."
    )
    return Verdict("reproduced" if s4 and better and coupled else "not reproduced", sentence)
