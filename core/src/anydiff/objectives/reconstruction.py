"""What an autoencoder minimises (see :mod:`anydiff.networks.autoencoder`): two terms on one encoding."""

from __future__ import annotations

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.objectives.base import Objective, element_mean
from anydiff.objectives.call import Call
from anydiff.objectives.terms import Sum, Term, Weighted
from anydiff.paths.path import Path

_ASKED_BY, _FIX = (
    "the objective 'reconstruction', which needs a network with encode and decode,",
    "choose 'autoencoder'",
)


def _means(call: Call) -> Tensor:
    """E(x) ``[B, *latent_shape]``, computed once for both terms."""
    means: Tensor = call.once("means", lambda: call.head("encode", _ASKED_BY, _FIX)(call.clean))
    return means


class ReconstructionError(Objective):
    """mean (D(E(x) + s ε) - x)², ε the first entries of the example's own noise.

    Args:
        noise: s.
    """

    def __init__(self, noise: float) -> None:
        self.noise = noise

    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """The path's end for every example: clean data are what is reconstructed."""
        return torch.full_like(uniform, path.t_end)

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B]; the condition's ``loss_weight`` weighs the entries."""
        decode, means = call.head("decode", _ASKED_BY, _FIX), _means(call)
        size, entries = means[0].numel(), call.noise[0].numel()
        if size > entries:
            raise AnydiffError(
                f"the latent has {size} entries, but the state only {entries}; take fewer latent channels or "
                "a larger factor."
            )
        draws = call.noise.flatten(1)[:, :size].reshape(means.shape)
        error = (decode(means + self.noise * draws) - call.clean).square()
        return element_mean(error, call.condition.loss_weight)


class LatentSize(Term):
    """mean |E(x)|² over the entries of the latent."""

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B]."""
        return _means(call).square().flatten(1).mean(1)


class Reconstruction(Sum):
    r"""mean (D(E(x) + s ε) - x)² + β/2 · mean |E(x)|², the terms ``error`` and ``penalty``.

    The second term is the divergence of N(E(x), s² I) from N(0, I) per entry of the latent, without its constant
    (s² - 1 - log s²)/2. Minimising the sum is maximising the evidence of a Gaussian decoder of variance β dim(x) /
    (2 dim(z)). ε is the first entries of the example's own noise, so training is as reproducible as any. A network
    offers ``encode`` and ``decode`` as its heads.

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
        parts = {"error": Weighted(ReconstructionError(noise), 1.0)}
        if penalty > 0:
            parts["penalty"] = Weighted(LatentSize(), penalty / 2)
        super().__init__(parts)
