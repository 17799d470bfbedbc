"""Noise laws and the source a sampler draws from.

A law says how independent standard normal numbers become the noise of one leaf; the source keys them by sample.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.states.spec import Leaf, StateSpec
from anydiff.states.streams import check_seed, standard_normal, uniform


class NoiseLaw(ABC):
    """The law of the noise ε of one sample, all its leaves together; a part of the path.

    Attributes:
        name: what errors call it.
        dtype: the type that draws keep whatever the states are; None for that of the states.
        gaussian: the entries are independent standard normal numbers. Scores, stochastic solvers, Langevin steps and
            what else is derived for Gaussian noise are licensed for such laws alone.
        variance: of one entry; infinite where the law has none.
        end_exponent: p of E[ε | y_κ] ~ κ^(p-1) for y_κ = x + κ ε as κ falls to 0, for data with a smooth density: 2
            where the variance is finite, as then E[ε | y] = -κ variance ∇log p(y) to leading order. The jump D - y is
            then p times the way that the flow dy/dκ = E[ε | y] has left, which is how a plan ends at no extra call.
    """

    name: str
    dtype: torch.dtype | None = None
    gaussian: bool = False
    variance: float = 1.0
    end_exponent: float = 2.0

    @abstractmethod
    def draw(self, leaf: Leaf, seed: int, samples: Sequence[int], draw: int) -> NDArray[np.float64]:
        """Noise ``[len(samples), *leaf.shape]`` for ``leaf``, a pure function of (seed, sample, draw, leaf name).

        What the leaves of a sample share is drawn from a stream that does not bear a leaf's name.
        """

    def log_density(self, noise: Tensor) -> Tensor:
        """log p(ε) in nats ``[B]``, float64, of noise ``[B, *shape]`` all of whose entries are free.

        Raises:
            AnydiffError: the density is not known.
        """
        raise AnydiffError(f"the density of {self.name} noise is not known, so it gives no likelihood.")


class GaussianNoise(NoiseLaw):
    """Standard normal noise that obeys the leaf's symmetry.

    A symmetric leaf takes one number per unordered pair from its upper triangle, mirrored, so that every entry keeps
    unit variance (averaging both triangles would halve it); a zero diagonal stays zero.
    """

    name = "gaussian"
    gaussian = True

    def log_density(self, noise: Tensor) -> Tensor:
        """-|ε|²/2 - d/2 log 2π."""
        flat = noise.double().flatten(1)
        return -flat.square().sum(1) / 2 - flat.shape[1] / 2 * math.log(2 * math.pi)

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


class UniformNoise(NoiseLaw):
    """One number in (0, 1) per entry, from which a class is drawn by inverse CDF: always float64.

    In float32 the least probable classes could not be told apart, nor drawn at all. A symmetric leaf takes its upper
    triangle, mirrored.
    """

    name = "uniform"
    dtype = torch.float64
    variance = 1 / 12

    def draw(self, leaf: Leaf, seed: int, samples: Sequence[int], draw: int) -> NDArray[np.float64]:
        """See :meth:`NoiseLaw.draw`."""
        drawn: NDArray[np.float64] = uniform(seed, samples, draw, leaf.name, leaf.shape or (1,)).numpy()
        drawn = drawn.reshape(len(samples), *leaf.shape)
        if leaf.symmetric:
            rows, columns = np.tril_indices(leaf.shape[0], k=-1)
            drawn[:, rows, columns] = drawn[:, columns, rows]
        return drawn


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
        """Draw number ``draw`` of each of ``samples``: ``[len(samples), *spec.shape]``, made in float64, then cast.

        A law with a type of its own (:attr:`NoiseLaw.dtype`) keeps it, whatever ``dtype`` says.
        """
        leaves = {
            leaf.name: torch.from_numpy(self.law.draw(leaf, self.seed, samples, draw)) for leaf in self.spec.leaves
        }
        if self.mask is not None:
            mask = self.mask.cpu()
            leaves = {name: self.spec.leaf(name).zero_out(value, mask) for name, value in leaves.items()}
        return self.spec.pack(leaves).to(dtype=self.law.dtype or dtype).to(device)
