"""The law of an autoencoder's codes: a mixture of Gaussians, fitted when the autoencoder is trained.

A prior N(0, I) is far from the law of the codes, and what is decoded from it looks like nothing in the data. A mixture
closes most of that gap (Ghosh et al. 2020, arXiv:1903.12436; Pandey et al. 2022, arXiv:2201.00308). Its numbers are
buffers of the network, so they lie in the weights and belong to the model's hash. scikit-learn fits them; to draw from
them needs torch alone.
"""

from __future__ import annotations

import importlib

import torch
from torch import Tensor, nn

from anydiff.errors import AnydiffError, natural_number
from anydiff.optional import require

WHAT, INSTALL, INSTEAD = "fitting a density of codes", "anydiff[density]", "set network.options.density=null"
REGULARISED = 1e-4
"""Added to the diagonal of every covariance: codes that are constant would have none."""


class LatentDensity(nn.Module):
    """p(z) = Σ_k share_k N(z; mean_k, F_k F_k^T) over codes of ``size`` numbers; N(0, I) until it is fitted.

    Args:
        components: of the mixture.
        size: numbers per code.

    Raises:
        AnydiffError: one of them is no natural number.
    """

    shares: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, components: int, size: int) -> None:
        super().__init__()
        count = natural_number("density", components)
        self.size = size
        self.register_buffer("shares", torch.full((count,), 1 / count))
        self.register_buffer("means", torch.zeros(count, size))
        self.register_buffer("factors", torch.eye(size).repeat(count, 1, 1))

    @staticmethod
    def ready() -> None:
        """Refuse a training at whose end nothing could be fitted.

        Raises:
            AnydiffError: scikit-learn is not installed.
        """
        require("sklearn", WHAT, INSTALL, instead=INSTEAD)

    def fit(self, codes: Tensor, seed: int) -> None:
        """Fit the mixture to ``codes [N, size]`` by scikit-learn's expectation maximisation, begun by k-means.

        Raises:
            AnydiffError: fewer codes than components, or scikit-learn is not installed.
        """
        count = len(self.shares)
        if len(codes) < max(count, 2):
            raise AnydiffError(
                f"density is {count}, but there are {len(codes)} codes to fit it to; take fewer components."
            )
        self.ready()
        library = importlib.import_module("sklearn.mixture")
        mixture = library.GaussianMixture(count, covariance_type="full", reg_covar=REGULARISED, random_state=seed)
        mixture.fit(codes.flatten(1).double().numpy())
        covariances = torch.from_numpy(mixture.covariances_)
        self.shares.copy_(torch.from_numpy(mixture.weights_))
        self.means.copy_(torch.from_numpy(mixture.means_))
        self.factors.copy_(torch.linalg.cholesky(covariances))

    def draw(self, uniform: Tensor, normal: Tensor) -> Tensor:
        """Codes float64 ``[B, size]`` of numbers in (0, 1) ``[B]``, which choose components, and normal ones ``[B,
        size]``; row b follows from its own numbers alone."""
        edges = self.shares.double().cumsum(0)
        chosen = torch.searchsorted(edges / edges[-1], uniform.double()).clamp(max=len(edges) - 1)
        scaled = (self.factors.double()[chosen] * normal.double()[:, None, :]).sum(2)
        return self.means.double()[chosen] + scaled

    def log_density(self, codes: Tensor) -> Tensor:
        """log p, float64 ``[B]``, of ``codes [B, size]``."""
        law = torch.distributions.MultivariateNormal(self.means.double(), scale_tril=self.factors.double())
        inside: Tensor = law.log_prob(codes.double()[:, None])  # type: ignore[no-untyped-call]
        return torch.logsumexp(inside + self.shares.double().log(), 1)
