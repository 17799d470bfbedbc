"""Measurements as a domain reads them, and the units of a state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from anydiff.errors import AnydiffError
from anydiff.states import Conditioning

if TYPE_CHECKING:
    from anydiff.domains.domain import Domain


@dataclass(frozen=True)
class Measurement:
    """What a file says was measured.

    Attributes:
        values: float64 ``[C, *output]`` in the field's units, one row per case; NaN where nothing was measured.
        labels: what tells the cases apart, as :meth:`anydiff.domains.NamesCases.labels` gives it; None where nothing.
        condition: what else the file says of the cases, one row each: the place of a volume in the world. It is told to
            the domain alone, which makes objects by it, and not to the network.
    """

    values: Tensor
    labels: Sequence[Any] | None = None
    condition: Mapping[str, Tensor] = field(default_factory=dict)


def affine_units(domain: Domain, condition: Conditioning) -> tuple[Tensor, Tensor]:
    """(scale, offset) of a domain's ``in_units``; see :meth:`Domain.units`."""
    convert = getattr(domain, "in_units", None)
    shape = domain.spec.shape
    if convert is None:
        return torch.ones(1, *shape, dtype=torch.float64), torch.zeros(1, *shape, dtype=torch.float64)
    rows = next((len(value) for _, value in condition.tensors()), 1)
    points = [
        convert(torch.full((rows, *shape), level, dtype=torch.float64), condition).double()
        for level in (0.0, 1.0, -0.5)
    ]
    if points[0].numel() != rows * domain.spec.size:
        raise AnydiffError(
            f"domain {domain.name!r} has units of shape {tuple(points[0].shape[1:])} for states of shape "
            f"{tuple(shape)}, "
            "so they are not those of its entries; measure in the units of states (units=False), or a mask."
        )
    offset, one, other = (point.reshape(rows, *shape) for point in points)
    scale = one - offset
    if not torch.allclose(other, offset - 0.5 * scale, rtol=1e-5, atol=1e-6 * float(scale.abs().max())):
        raise AnydiffError(
            f"the units of domain {domain.name!r} are no affine function of the entries of a state, so that operators "
            "in "
            "these units would not be linear; measure a mask of entries, or in the units of states (units=False)."
        )
    return scale, offset


def whole_objects(domain: Domain, path: str | Path, output: Sequence[int], mask: str | Path | None) -> Measurement:
    """Objects of the domain's files as measurements of whole states; see :meth:`Domain.read_measurement`."""
    if mask is not None:
        raise AnydiffError(
            f"domain {domain.name!r} has no files of masks, but --mask is {str(mask)!r}; leave it out, or give mask= "
            "in Python."
        )
    if tuple(output) != tuple(domain.spec.shape):
        raise AnydiffError(
            f"domain {domain.name!r} reads measurements of whole states {tuple(domain.spec.shape)} alone, but this "
            f"operator gives {tuple(output)}; give the numbers in Python (pipeline.restore)."
        )
    states = domain.encode(list(domain.read(path))).double()
    scale, offset = affine_units(domain, Conditioning())
    return Measurement(states * scale + offset)
