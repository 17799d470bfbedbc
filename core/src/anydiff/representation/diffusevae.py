"""DiffuseVAE (Pandey et al. 2022, TMLR, arXiv:2201.00308): a code says what is drawn, a diffusion adds the detail.

Stage 1 is an autoencoder whose latents have one position, a recipe of its own. Stage 2 names it as ``refines`` and is
told, as the condition ``input``, what the autoencoder makes of a code. In training this is a code drawn about that of
the example itself, so that the diffusion tolerates what codes lack; in sampling a code drawn from the density of codes.

Formulation 1 of the paper is any path; formulation 2, where states lie around the reconstruction, is the path
``known-shift`` (:class:`anydiff.paths.KnownShift`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from anydiff.data import Dataset
from anydiff.data.dataset import Occasion
from anydiff.data.pairs import NAME
from anydiff.domains import Domain
from anydiff.domains.kit import content_hash
from anydiff.errors import AnydiffError
from anydiff.networks import Autoencoder
from anydiff.states import Conditioning
from anydiff.states.streams import standard_normal, uniform
from anydiff.training import weights_hash

STREAM = "refines"
"""Names the random numbers of codes: none is shared with a state's noise."""
KEPT = 200_000
"""Codes of examples that a data set keeps; those used longest ago go first."""


class Refinement:
    """What a diffusion refines: reconstructions of codes.

    Args:
        autoencoder: stage 1, trained.
        spread: s, the deviation with which its codes were trained: a code of x is drawn from N(E(x), s² I).
        domain: of stage 2, which has the condition ``input``.

    Raises:
        AnydiffError: an autoencoder of states of another shape or with a codebook, or a domain without ``input``.
    """

    def __init__(self, autoencoder: Autoencoder, spread: float, domain: Domain) -> None:
        if NAME not in domain.conditions:
            raise AnydiffError(
                f"refines is set, but the domain {domain.name!r} has no condition {NAME!r} for the reconstruction; set "
                "domain.options.input=true."
            )
        if tuple(autoencoder.shape) != tuple(domain.spec.shape):
            raise AnydiffError(
                f"refines is an autoencoder of states of shape {tuple(autoencoder.shape)}, but the domain "
                f"{domain.name!r} has {tuple(domain.spec.shape)}; train one on this domain, or change refines."
            )
        if autoencoder.codebook is not None:
            raise AnydiffError(
                "refines is an autoencoder with a codebook, whose codes are classes and are not drawn about a mean; "
                "name one without, or set latent in place of refines."
            )
        self.autoencoder, self.spread = autoencoder.eval().requires_grad_(False), spread

    @property
    def size(self) -> int:
        """Numbers per code."""
        return self.autoencoder.latent_leaf.size

    @torch.no_grad()
    def codes(self, states: Tensor) -> Tensor:
        """E(x) float32 ``[B, size]`` of states ``[B, *shape]``, each made alone."""
        rows = [self.autoencoder.encode(row[None].float().cpu()) for row in states]
        return torch.cat(rows).flatten(1) if rows else torch.empty(0, self.size)

    @torch.no_grad()
    def reconstructed(self, codes: Tensor) -> Tensor:
        """States float32 ``[B, *shape]`` of ``codes [B, size]``, each made alone: rows cannot mix."""
        rows = codes.float().cpu().reshape(len(codes), 1, *self.autoencoder.latent_shape)
        made = [self.autoencoder.decode(row) for row in rows]
        return torch.cat(made) if made else torch.empty(0, *self.autoencoder.shape)

    def about(self, codes: Tensor, seed: int, positions: Sequence[int]) -> Tensor:
        """Reconstructions ``[B, *shape]`` of codes drawn about ``codes [B, size]``, for these places of a training."""
        noise = torch.from_numpy(standard_normal(seed, positions, 0, f"{STREAM}/about", (self.size,)))
        return self.reconstructed(codes.double() + self.spread * noise)

    def drawn(self, seed: int, samples: Sequence[int]) -> Tensor:
        """Reconstructions ``[B, *shape]`` of codes from the density, or of N(0, I) codes where there is none.

        Row b depends on ``seed`` and ``samples[b]`` alone.
        """
        noise = torch.from_numpy(standard_normal(seed, samples, 0, f"{STREAM}/code", (self.size,)))
        density = self.autoencoder.density
        if density is None:
            return self.reconstructed(noise)
        return self.reconstructed(density.draw(uniform(seed, samples, 0, f"{STREAM}/component"), noise))


class RefinedDataset(Dataset):
    """Data with their own reconstructions as the condition ``input``: of drawn codes in training, of E(x) elsewhere.

    Args:
        inner: the data.
        refinement: makes the reconstructions.
    """

    def __init__(self, inner: Dataset, refinement: Refinement) -> None:
        self.name, self.inner, self.refinement = inner.name, inner, refinement
        self._known: OrderedDict[int, Tensor] = OrderedDict()

    @property
    def domain(self) -> Domain:
        """The domain of the data."""
        return self.inner.domain

    @property
    def statistics(self) -> Mapping[str, Any]:
        """Those of the data."""
        return self.inner.statistics

    @cached_property
    def hash(self) -> str:
        """sha256 of the data's hash, of the autoencoder's weights and of the spread of codes."""
        weights = weights_hash(self.refinement.autoencoder.state_dict())
        return content_hash(f"{self.inner.hash}/{weights}/{self.refinement.spread}")

    def __len__(self) -> int:
        return len(self.inner)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States and conditions of the data, and as ``input`` the reconstruction of E(x)."""
        states, condition = self.inner.batch(indices)
        return states, self._with(condition, self.refinement.reconstructed(self._codes(indices, states)))

    def drawn(self, occasion: Occasion) -> tuple[Tensor, Conditioning]:
        """The same for places of a training, with codes drawn anew at each."""
        states, condition = self.inner.drawn(occasion)
        codes = self._codes(occasion.indices(occasion.positions), states)
        return states, self._with(condition, self.refinement.about(codes, occasion.seed, occasion.positions))

    @staticmethod
    def _with(condition: Conditioning, made: Tensor) -> Conditioning:
        return replace(condition, given={**condition.given, NAME: made})

    def _codes(self, indices: Sequence[int], states: Tensor) -> Tensor:
        return torch.stack([self._code(index, states[row]) for row, index in enumerate(indices)])

    def _code(self, index: int, state: Tensor) -> Tensor:
        code = self._known.pop(index, None)
        if code is None:
            code = self.refinement.codes(state[None])[0]
        self._known[index] = code
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return code
