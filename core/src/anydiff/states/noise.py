"""Noise laws and the source a sampler draws from.

A law says how independent standard normal numbers become the noise of one leaf; the source keys them by sample.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.states.spec import Leaf, StateSpec
from anydiff.states.streams import check_seed, standard_normal


class NoiseLaw(ABC):
    """How noise of unit scale is drawn for one leaf; a part of the path (DESIGN 3)."""

    name: str

    @abstractmethod
    def draw(self, leaf: Leaf, seed: int, samples: Sequence[int], draw: int) -> NDArray[np.float64]:
        """Noise ``[len(samples), *leaf.shape]`` for ``leaf``, a pure function of (seed, sample, draw, leaf name)."""


class GaussianNoise(NoiseLaw):
    """Standard normal noise that obeys the leaf's symmetry.

    A symmetric leaf takes one number per unordered pair from its upper triangle, mirrored, so that every entry keeps
    unit variance (averaging both triangles would halve it); a zero diagonal stays zero.
    """

    name = "gaussian"

    def draw(self, leaf: Leaf, seed: int, samples: Sequence[int], draw: int) -> NDArray[np.float64]:
        """See :meth:`NoiseLaw.draw`."""
        noise = standard_normal(seed, samples, draw, leaf.name, leaf.shape)
        if leaf.symmetric:
            rows, columns = np.tril_indices(leaf.shape[0], k=-1)
            noise[:, rows, columns] = noise[:, columns, rows]
        if leaf.zero_diagonal:
            index = np.arange(leaf.shape[0])
            noise[:, index, index] = 0.0
        return noise


class NoiseSource:
    """The noise of a sample set: draw ``m`` of sample ``k`` depends on (seed, k, m, leaf) alone.

    Args:
        spec: what one sample is.
        seed: whole number in [0, 2^64).
        law: the path's noise law.
        mask: optional node mask ``[B, N]``; draws for absent nodes are zero (the other numbers do not change).
    """

    def __init__(self, spec: StateSpec, seed: int, law: NoiseLaw | None = None, mask: Tensor | None = None) -> None:
        self.spec = spec
        self.seed = check_seed(seed)
        self.law = law if law is not None else GaussianNoise()
        self.mask = spec.check_mask(mask) if mask is not None and spec.masked else None

    def draw(
        self,
        samples: Sequence[int],
        draw: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Draw number ``draw`` of each of ``samples``: ``[len(samples), *spec.shape]``, made in float64, then cast."""
        leaves = {
            leaf.name: torch.from_numpy(self.law.draw(leaf, self.seed, samples, draw)) for leaf in self.spec.leaves
        }
        if self.mask is not None:
            mask = self.mask.cpu()
            leaves = {name: self.spec.leaf(name).zero_out(value, mask) for name, value in leaves.items()}
        return self.spec.pack(leaves).to(dtype=dtype).to(device)
