"""One CT scan with organ labels, from its container: patches to train on, and the labels that belong to them.

The scan is TotalSegmentator's test case: a trunk of 122 x 101 x 112 voxels of 3 mm. One patient is no population; what
is measured on it is patch-level, of demonstration size.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from torch import Tensor

from anydiff.data import Dataset, cached_container, read_members
from anydiff.data.reading import reading
from anydiff.domains import Domain
from anydiff.domains.kit import check_split, domain_of_data
from anydiff.errors import AnydiffError, natural_number
from anydiff.states import Conditioning
from anydiff_volumes import ledger
from anydiff_volumes.domain import Volumes
from anydiff_volumes.intensity import UNIT, shares
from anydiff_volumes.placement import check_geometry, values_of

VOXEL_SIZE = 3.0


def scan_with_labels(source: Path | None = None) -> tuple[Any, Any]:
    """The CT scan and its organ labels, as NIfTI images in RAS+ axes (which interpolates nothing).

    Args:
        source: the archive; None for the fetched one.

    Raises:
        AnydiffError: it was not fetched yet, or scan and labels do not lie on one grid.
        FileFormatError: the file is not that archive.
    """
    members = read_members(source or cached_container(ledger.CT_ORGANS), ledger.CT_ORGANS_MEMBERS.values())
    scan, labels = (_image(members[member], member) for member in ledger.CT_ORGANS_MEMBERS.values())
    if scan.shape != labels.shape or not np.allclose(scan.affine, labels.affine, atol=1e-3):
        raise AnydiffError(
            f"the scan has shape {scan.shape} and its labels {labels.shape}, and their affines must be the same too; "
            "give labels of the same grid."
        )
    return scan, labels


def _image(content: bytes, name: str) -> Any:
    with reading(name, "a NIfTI file", "fetch it again"):
        image = nibabel.Nifti1Image.from_bytes(gzip.decompress(content))
    check_geometry(image, repr(name))
    return nibabel.as_closest_canonical(image)


class CTOrgans(Dataset):
    """Patches of one CT scan in Hounsfield units from -1000 to 1000, with the truth ``labels [B, *shape]`` for metrics.

    Patches for testing lie in the upper quarter of the scan, those for training wholly below it.

    Args:
        split: ``train`` or ``test``.
        shape: voxels of a patch, 3 mm each; None for the domain's.
        stride: voxels from one patch to the next.
        path: the archive; None for the fetched one (``anydiff data get volumes/ct-organs``).
        domain: the recipe's; None makes one of 32 x 32 x 24 voxels.
    """

    name = "volumes/ct-organs"

    def __init__(
        self,
        split: str = "train",
        shape: Sequence[int] | None = None,
        stride: int = 8,
        path: str | None = None,
        domain: Domain | None = None,
    ) -> None:
        check_split(split)
        own: dict[str, Any] = {"shape": shape, "voxel_size": VOXEL_SIZE, "modality": "ct", "frames": 0}
        self._domain = domain_of_data(Volumes, domain, {"shape": (32, 32, 24)}, **own)
        scan, labels = scan_with_labels(Path(path) if path else None)
        values = shares(self._domain.window, values_of(scan, "the scan"))
        self._scan = UNIT.encode(torch.from_numpy(values))
        self._labels = torch.from_numpy(np.asarray(labels.dataobj).astype(np.int16))
        border = self._scan.shape[2] * 3 // 4
        sizes = self._scan.shape
        depth = (0, border) if split == "train" else (border, sizes[2])
        extent = ((0, sizes[0]), (0, sizes[1]), depth)
        step = natural_number("stride", stride)
        axes = [range(low, high - size + 1, step) for (low, high), size in zip(extent, self._domain.shape, strict=True)]
        self.corners = list(itertools.product(*axes))
        if not self.corners:
            raise AnydiffError(
                f"shape is {self._domain.shape}, but the {split} part of the scan has "
                f"{tuple(high - low for low, high in extent)} voxels; choose smaller patches."
            )

    @property
    def domain(self) -> Volumes:
        """CT of 3 mm."""
        return self._domain

    def __len__(self) -> int:
        return len(self.corners)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States ``[B, 1, *shape]`` in [-1, 1] and the labels of their voxels."""
        corners = [self.corners[index] for index in indices]
        return self._cut(self._scan, corners)[:, None], Conditioning(truth={"labels": self._cut(self._labels, corners)})

    def _cut(self, volume: Tensor, corners: Sequence[tuple[int, ...]]) -> Tensor:
        shape = self._domain.shape
        patches = [
            volume[tuple(slice(first, first + size) for first, size in zip(corner, shape, strict=True))]
            for corner in corners
        ]
        return torch.stack(patches)
