"""A codebook: K vectors, of which the nearest stands for a feature, so that data become classes.

Van den Oord et al., "Neural discrete representation learning" (2017, arXiv:1711.00937). A feature f becomes the code
k = argmin_j |f - e_j|², and the decoder sees e_k. Gradients pass through the choice as if it were none (straight-
through), the codebook follows the features by |sg f - e_k|² and the features stay near it by |f - sg e_k|².
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anydiff.errors import AnydiffError, natural_number
from anydiff.states import permutation

#: Features of which a codebook begins, drawn evenly from all positions of the examples (Hu et al. 2022,
#: arXiv:2112.01799).
RESERVOIR = 15_000

#: Rounds of Lloyd's algorithm after the seeded start.
ROUNDS = 10


class Quantisation(NamedTuple):
    """What a codebook makes of features.

    Attributes:
        straight: e_k ``[B, d, *sizes]`` in value, the features in gradient: what a decoder is trained on.
        codes: k, int64 ``[B, *sizes]``.
        codebook: |sg f - e_k|², the mean over d and positions, ``[B]``.
        commitment: |f - sg e_k|², the same in value, ``[B]``.
    """

    straight: Tensor
    codes: Tensor
    codebook: Tensor
    commitment: Tensor


class Codebook(nn.Module):
    """K vectors of d numbers, a parameter called ``vectors``.

    Args:
        codes: K, at least 2.
        size: d.

    Raises:
        AnydiffError: an option out of range.
    """

    def __init__(self, codes: int, size: int) -> None:
        super().__init__()
        self.codes, self.size = natural_number("codebook", codes, 2), natural_number("code_size", size)
        self.vectors = nn.Parameter(torch.randn(codes, size))

    def encode(self, features: Tensor) -> Tensor:
        """The nearest code of every feature, int64 ``[B, *sizes]`` of ``[B, d, *sizes]``; of equal ones the first."""
        flat = features.movedim(1, -1).float()
        vectors = self.vectors.float()
        # |f|² is the same for all codes.
        distances = vectors.square().sum(1) - 2 * flat @ vectors.T
        return distances.argmin(-1)

    def embed(self, codes: Tensor) -> Tensor:
        """The vectors of codes, ``[B, d, *sizes]`` of int64 ``[B, *sizes]``.

        Raises:
            AnydiffError: a code that is none of 0 to K - 1.
        """
        if codes.is_floating_point():
            raise AnydiffError(f"codes are {codes.dtype}, but must be whole numbers; give int64.")
        if codes.numel() and (int(codes.min()) < 0 or int(codes.max()) >= self.codes):
            raise AnydiffError(
                f"codes lie between {int(codes.min())} and {int(codes.max())}, but this codebook has 0 to "
                f"{self.codes - 1}; the codes are of another autoencoder, or still masked."
            )
        return self.vectors[codes].movedim(-1, 1)

    def forward(self, features: Tensor) -> Quantisation:
        """The nearest vectors with what training needs of them; ``features [B, d, *sizes]``."""
        codes = self.encode(features.detach())
        embedded = self.embed(codes).to(features.dtype)
        rest = tuple(range(1, features.ndim))
        return Quantisation(
            straight=features + (embedded - features).detach(),
            codes=codes,
            codebook=(features.detach() - embedded).square().mean(rest),
            commitment=(features - embedded.detach()).square().mean(rest),
        )

    @torch.no_grad()
    def begin(self, features: Tensor, seed: int) -> None:
        """Put the vectors where features ``[B, d, *sizes]`` are: k-means with a seeded start (k-means++).

        Of more than 15,000 features that many are drawn, all positions of all examples alike.

        Raises:
            AnydiffError: fewer different features than codes.
        """
        points = features.movedim(1, -1).reshape(-1, self.size).double().cpu().numpy()
        if len(points) > RESERVOIR:
            points = points[permutation(seed, 0, "reservoir", len(points))[:RESERVOIR]]
        self.vectors.copy_(torch.from_numpy(k_means(points, self.codes, seed)))


def k_means(points: NDArray[np.float64], count: int, seed: int) -> NDArray[np.float64]:
    """``count`` centres of ``points [N, d]``: k-means++ and Lloyd's rounds, a pure function of its arguments.

    As many centres as there are different points are these points, in order.

    Raises:
        AnydiffError: fewer different points than centres.
    """
    from scipy.cluster.vq import kmeans2

    different = np.unique(points, axis=0)
    if len(different) < count:
        raise AnydiffError(
            f"a codebook of {count} codes was asked of {len(points)} features, of which only {len(different)} differ; "
            f"take a codebook of at most {len(different)}, or give more examples."
        )
    if len(different) == count:
        return different
    generator = np.random.Generator(np.random.Philox(key=seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a centre that no point is nearest to stays where it is
        centres, _ = kmeans2(points, count, iter=ROUNDS, minit="++", rng=generator)
    return np.asarray(centres, dtype=np.float64)
