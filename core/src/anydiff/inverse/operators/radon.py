"""Line integrals of a picture at several angles: computed tomography with parallel beams, as one sparse matrix.

A pixel throws its shadow onto the detectors: cut into 3 x 3 parts, each of which is shared between the two detectors
beside the place where its line meets them. The adjoint is the transpose of the same matrix.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, natural_number
from anydiff.inverse.operators.base import LinearOperator, checked_shape
from anydiff.inverse.operators.matrix import compressed, typed

PARTS = 3


@dataclass(frozen=True, eq=False)
class Radon(LinearOperator):
    """A x = factor · (line integrals of the last two axes), ``[..., angles, detectors]``, of norm 1.

    Angles and detectors are those of scikit-image's ``radon``: the picture is turned by each angle about its centre and
    summed along columns. A detector is as wide as a pixel. A sinogram of line integrals is multiplied by ``factor``
    before it is a measurement.

    Args:
        shape: of one state, two axes at least.
        angles: in degrees, or how many of them at equal steps of 180 degrees.
        detectors: how many; as many as the picture is wide by default.

    Attributes:
        factor: what the norm of the line integrals was divided by, as a factor.
    """

    shape: tuple[int, ...]
    angles: tuple[float, ...]
    output: tuple[int, ...]
    factor: float
    matrix: Tensor = field(repr=False)
    transposed: Tensor = field(repr=False)

    def __init__(self, shape: Sequence[int], angles: int | Sequence[float], detectors: int | None = None) -> None:
        size = checked_shape(shape)
        if len(size) < 2:
            raise AnydiffError(f"shape is {size}, but line integrals need states of two axes at least.")
        theta = _angles(angles)
        count = size[-1] if detectors is None else natural_number("detectors", detectors)
        object.__setattr__(self, "shape", size)
        object.__setattr__(self, "angles", theta)
        object.__setattr__(self, "output", (*size[:-2], len(theta), count))
        found = _shadows((size[-2], size[-1]), theta, count)
        length = _norm(found)
        object.__setattr__(self, "factor", 1 / length)
        object.__setattr__(self, "matrix", compressed(found / length))
        object.__setattr__(self, "transposed", compressed((found / length).t()))

    def forward(self, x: Tensor) -> Tensor:
        """The scaled line integrals."""
        rows = x.reshape(-1, self.matrix.shape[1])
        return (typed(self.matrix, x.dtype, x.device) @ rows.T).T.reshape(-1, *self.output)

    def adjoint(self, y: Tensor) -> Tensor:
        """The back-projection."""
        rows = y.reshape(-1, self.matrix.shape[0])
        return (typed(self.transposed, y.dtype, y.device) @ rows.T).T.reshape(-1, *self.shape)


def _angles(angles: int | Sequence[float]) -> tuple[float, ...]:
    if isinstance(angles, int):
        return tuple(180.0 * each / natural_number("angles", angles) for each in range(angles))
    theta = tuple(float(each) for each in angles)
    if not theta or not all(math.isfinite(each) for each in theta):
        raise AnydiffError(f"angles are {list(theta)}, but must be finite degrees, one at least.")
    seen = sorted(each % 360 for each in theta)
    twice = next((b for a, b in itertools.pairwise(seen) if b - a < 1e-9), None)
    if twice is not None:
        raise AnydiffError(
            f"the angle {twice:g} degrees is given twice; give each once, and the mean of its measurements with less "
            "noise."
        )
    return theta


def _shadows(size: tuple[int, int], angles: tuple[float, ...], detectors: int) -> Tensor:
    """The matrix of line integrals, sparse float64 ``[angles * detectors, pixels]``."""
    height, width = size
    inner = (torch.arange(PARTS, dtype=torch.float64) + 0.5) / PARTS - 0.5
    row, column, down, across = torch.meshgrid(
        torch.arange(float(height)).double(), torch.arange(float(width)).double(), inner, inner, indexing="ij"
    )
    pixel = (row * width + column).long().flatten()
    y, x = (row + down - height // 2).flatten(), (column + across - width // 2).flatten()
    places, values = [], []
    for number, angle in enumerate(angles):
        turn = math.radians(angle)
        at = math.cos(turn) * x - math.sin(turn) * y + detectors // 2
        low = at.floor()
        for detector, share in ((low, 1 - (at - low)), (low + 1, at - low)):
            inside = (detector >= 0) & (detector < detectors)
            places.append(torch.stack([number * detectors + detector[inside].long(), pixel[inside]]))
            values.append(share[inside] / PARTS**2)
    shape = (len(angles) * detectors, height * width)
    return torch.sparse_coo_tensor(torch.cat(places, 1), torch.cat(values), shape, check_invariants=False).coalesce()


def _norm(matrix: Tensor, steps: int = 100) -> float:
    """The largest singular value, by the power method."""
    x = torch.randn(matrix.shape[1], 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    length = 1.0
    for _ in range(steps):
        x = matrix.t() @ (matrix @ x)
        length = float(x.norm())
        x = x / length
    return math.sqrt(length)
