"""Fixed encoders of the parts of an aggregate (:mod:`anydiff.pipeline.aggregate`), and how parts are read back."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anydiff.errors import AnydiffError


@dataclass(frozen=True, eq=False)
class Encoder:
    """E_i: a fixed linear map of one part into rows of the flattened space.

    Attributes:
        name: of the part.
        shape: of the part.
        size: entries of the space.
        weight: w_i.
        first: where the rows begin.
        matrix: float64 ``[rows, entries of the part]``; None takes the part as it is.
        classes: whether the part is one of some classes, one-hot: then columns are the codes of the classes, which need
            only differ.

    Raises:
        AnydiffError: columns from which the part does not follow.
    """

    name: str
    shape: tuple[int, ...]
    size: int
    weight: float = 1.0
    first: int = 0
    matrix: Tensor | None = None
    classes: bool = False

    def __post_init__(self) -> None:
        if self.matrix is None:
            return
        distances = torch.cdist(self.matrix.T, self.matrix.T) + torch.eye(self.matrix.shape[1])
        rank = int(torch.linalg.matrix_rank(self.matrix))
        if (self.classes and bool((distances < 1e-6).any())) or (not self.classes and rank < self.matrix.shape[1]):
            raise AnydiffError(
                f"the part {self.name!r} does not follow from its code of {len(self.matrix)} numbers (rank {rank}, "
                f"{self.matrix.shape[1]} columns); give it more dimensions."
            )

    @property
    def rows(self) -> slice:
        """Where the part lies in the flattened space."""
        return slice(self.first, self.first + (math.prod(self.shape) if self.matrix is None else len(self.matrix)))

    @functools.cached_property
    def inverse(self) -> Tensor:
        """The pseudo-inverse of the matrix, float64 ``[entries of the part, rows]``."""
        assert self.matrix is not None
        found: Tensor = torch.linalg.pinv(self.matrix)
        return found

    def encode(self, values: Tensor) -> Tensor:
        """E_i of values ``[B, *shape]``: ``[B, size]``, zero outside of the part's rows."""
        flat = values.flatten(1)
        share = flat.new_zeros(len(flat), self.size)
        share[:, self.rows] = flat if self.matrix is None else flat @ self.matrix.T.to(flat)
        return share

    def values(self, share: Tensor) -> Tensor:
        """The values ``[B, *shape]`` whose share is nearest to ``[B, size]``: of classes the code that is nearest."""
        found = share[:, self.rows]
        if self.matrix is None:
            return found.reshape(-1, *self.shape)
        if not self.classes:
            read: Tensor = found @ self.inverse.T.to(found)
            return read.reshape(-1, *self.shape)
        coded: Tensor = torch.nn.functional.one_hot(self.labels(share), self.matrix.shape[1]).to(share)
        return coded

    def labels(self, share: Tensor) -> Tensor:
        """The class ``[B]`` whose code is nearest to the share."""
        assert self.matrix is not None
        return torch.cdist(share[:, self.rows].double().cpu(), self.matrix.T).argmin(1).to(share.device)

    def projected(self, share: Tensor) -> Tensor:
        """What of ``[B, size]`` lies in the dimensions of this part."""
        if self.matrix is None:
            return self.encode(share[:, self.rows])
        kept = torch.zeros_like(share)
        found = share[:, self.rows]
        kept[:, self.rows] = found @ (self.matrix @ self.inverse).T.to(found)
        return kept


def codes(shape: Sequence[int], count: int, tile: Sequence[int] | None = None) -> Tensor:
    """``count`` patterns as columns ``[entries, count]``: cosines, slow ones first, orthogonal, of mean square 1.

    Args:
        shape: of a pattern.
        count: how many.
        tile: patterns of this shape are repeated until they fill ``shape``; None for patterns of all of it.

    Raises:
        AnydiffError: fewer entries than patterns, or a tile that does not fill the shape.
    """
    small = shape if tile is None else tile
    if len(small) != len(shape) or any(part < 1 or whole % part for whole, part in zip(shape, small, strict=True)):
        raise AnydiffError(f"tile {list(small)} does not fill shape {list(shape)}; give divisors of it, one per axis.")
    if math.prod(small) < count:
        raise AnydiffError(f"shape {list(small)} has room for {math.prod(small)} patterns, but there are {count}.")
    times = [whole // part for whole, part in zip(shape, small, strict=True)]
    patterns = _cosines(small)[:, :count].reshape(*small, count)
    return patterns.repeat(*times, 1).reshape(-1, count)


def _cosines(shape: Sequence[int]) -> Tensor:
    """All cosine patterns of a shape as columns, slow ones first."""
    pattern = torch.ones(1, 1, dtype=torch.float64)
    slowness = torch.zeros(1, dtype=torch.float64)
    for size in shape:
        places = (torch.arange(size, dtype=torch.float64) + 0.5) * (math.pi / size)
        waves = torch.cos(places[:, None] * torch.arange(size, dtype=torch.float64)) * math.sqrt(2)
        waves[:, 0] = 1.0
        pattern = torch.einsum("ab,cd->acbd", pattern, waves).reshape(pattern.shape[0] * size, -1)
        slowness = (slowness[:, None] + torch.arange(size, dtype=torch.float64).square()).flatten()
    return pattern[:, slowness.argsort(stable=True)]


def overlap(one: Encoder, two: Encoder) -> float:
    """The largest inner product of a column of one with a column of the other; 0 where they share no dimension."""
    first, last = max(one.rows.start, two.rows.start), min(one.rows.stop, two.rows.stop)
    if first >= last:
        return 0.0

    def columns(encoder: Encoder) -> Tensor:
        matrix = torch.eye(encoder.rows.stop - encoder.first).double() if encoder.matrix is None else encoder.matrix
        return matrix[first - encoder.first : last - encoder.first]

    return float((columns(one).T @ columns(two)).abs().max())
