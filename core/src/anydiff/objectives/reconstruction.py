"""What an autoencoder minimises (see :mod:`anydiff.networks.autoencoder`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError
from anydiff.objectives.base import Objective, element_mean
from anydiff.paths.base import GaussianPath
from anydiff.states import UNCONDITIONAL, Conditioning


class Reconstruction(Objective):
    r"""mean (D(E(x) + s ε) - x)² + β/2 · mean |E(x)|².

    The second term is the divergence of N(E(x), s² I) from N(0, I) per entry of the latent, without its constant
    (s² - 1 - log s²)/2. Minimising the sum is maximising the evidence of a Gaussian decoder of variance β dim(x) /
    (2 dim(z)). ε is the first entries of the example's own noise, so training is as reproducible as any.

    Args:
        noise: s, standard deviation of the noise on the latents, which should have unit scale.
        penalty: β.

    Raises:
        AnydiffError: a number that is negative; or, when called, a network without ``encode`` and ``decode``, or
            latents with more entries than the state.
    """

    def __init__(self, noise: float = 0.1, penalty: float = 1e-3) -> None:
        for name, value in (("noise", noise), ("penalty", penalty)):
            if not 0 <= value < float("inf"):
                raise AnydiffError(f"{name} is {value}, but must be a finite number of at least 0.")
        self.noise, self.penalty = noise, penalty

    def times(self, path: GaussianPath, uniform: Tensor) -> Tensor:
        """The path's end for every example: clean data are what is reconstructed."""
        return torch.full_like(uniform, path.t_end)

    def noise_weight(self, path: GaussianPath, t: Tensor, sigma_data: float) -> Tensor:
        """One: no noise level weighs more than another."""
        return torch.ones_like(t)

    def __call__(
        self, denoiser: Denoiser, clean: Tensor, noise: Tensor, uniform: Tensor, condition: Conditioning = UNCONDITIONAL
    ) -> Tensor:
        """Loss per example [B]; the condition's ``loss_weight`` weighs the entries, all else is not used."""
        network: Any = getattr(denoiser, "network", None)
        if not (hasattr(network, "encode") and hasattr(network, "decode")):
            raise AnydiffError(
                "the objective 'reconstruction' needs a network with encode and decode; choose 'autoencoder'."
            )
        means: Tensor = network.encode(clean)
        size = means[0].numel()
        if size > noise[0].numel():
            raise AnydiffError(
                f"the latent has {size} entries, but the state only {noise[0].numel()}; take fewer latent channels or "
                "a larger factor."
            )
        draws = noise.flatten(1)[:, :size].reshape(means.shape)
        error = (network.decode(means + self.noise * draws) - clean).square()
        return element_mean(error, condition.loss_weight) + self.penalty / 2 * means.square().flatten(1).mean(1)
