"""Medical volumes as states: NIfTI images on one grid, RAS+, scaled to [-1, 1]; or one frame of a sequence of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.domains import Domain, LabelledArray, Measurement
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.states import Conditioning, Leaf, StateSpec
from anydiff_volumes import cases
from anydiff_volumes.dicom import stated_modality
from anydiff_volumes.files import SUFFIXES, read_volumes, write_volumes
from anydiff_volumes.intensity import CT_WINDOW, MODALITIES, UNIT, shares, window
from anydiff_volumes.placement import (
    AFFINE,
    Placement,
    as_nifti,
    check_geometry,
    millimetres,
    place,
    squeezed,
    values_of,
)

if TYPE_CHECKING:
    from anydiff.states import ArrayCondition

MNI_ORIGIN = (-81.5, -110.5, -75.5)
"""Centre of the first voxel of the data sets' grid, RAS+ millimetres of MNI152 space."""
TOLERANCE = 1e-3


def centred(shape: Sequence[int], voxel_size: float) -> list[float]:
    """Centre of the first voxel of a grid around zero, millimetres."""
    return [-voxel_size * (size - 1) / 2 for size in shape]


class Volumes(Domain):
    """NIfTI volumes ``[X, Y, Z]`` of one grid as states ``[B, 1, X, Y, Z]`` in [-1, 1].

    On the grid MR volumes hold values in [0, 1] and CT volumes Hounsfield units from -1000 to 1000 (clamped). A volume
    from elsewhere is brought there, and back to its own geometry, by :meth:`conform`.

    Args:
        shape: voxels per axis.
        voxel_size: edge of a voxel in millimetres.
        origin: centre of the first voxel of what is decoded, RAS+ millimetres; None puts the grid's centre at zero.
        modality: ``mr`` or ``ct``.
        frames: length of the sequence a state belongs to; 0 for single volumes without conditions.
    """

    name = "volumes"
    suffixes = SUFFIXES
    condition_help = MappingProxyType({"frames": "FOLDER"})

    def __init__(
        self,
        shape: Sequence[int] = (28, 32, 28),
        voxel_size: float = 6.0,
        origin: Sequence[float] | None = None,
        modality: str = "mr",
        frames: int = 0,
    ) -> None:
        self.shape = tuple(natural_number("shape", size) for size in shape)
        if len(self.shape) != 3:
            raise AnydiffError(f"shape is {self.shape}, but a volume has three axes.")
        if not voxel_size > 0:
            raise AnydiffError(f"voxel_size is {voxel_size}, but must be positive (millimetres).")
        if modality not in MODALITIES:
            raise UnknownNameError("modality", str(modality), MODALITIES)
        self.voxel_size = float(voxel_size)
        self.modality = modality
        self.frames = natural_number("frames", frames, minimum=0)
        self.window = window(*CT_WINDOW) if modality == "ct" else window(0.0, 1.0)
        self.origin = origin
        self.affine = np.diag([self.voxel_size] * 3 + [1.0])
        self.affine[:3, 3] = (
            centred(self.shape, self.voxel_size) if origin is None else [float(each) for each in origin]
        )
        self._spec = StateSpec([Leaf("volume", (1, *self.shape), range=(-1.0, 1.0))])

    @property
    def spec(self) -> StateSpec:
        """One leaf named ``volume``, ``(1, X, Y, Z)``."""
        return self._spec

    @property
    def codec(self) -> dict[str, Any]:
        """What a voxel and a value are: edge, place, modality, and the frames of a sequence."""
        return {
            "voxel_size": self.voxel_size,
            "origin": self.affine[:3, 3].tolist(),
            "modality": self.modality,
            "frames": self.frames,
        }

    @property
    def conditions(self) -> dict[str, ArrayCondition]:
        """With ``frames``: the frames before the target, which of them were seen and when, and the target's time."""
        if not self.frames:
            return {}
        from anydiff.states import ArrayCondition

        return {
            "frames": ArrayCondition((self.frames, *self.shape)),
            "seen": ArrayCondition((self.frames,)),
            "times": ArrayCondition((self.frames,)),
            "target_time": ArrayCondition((1,)),
        }

    def conform(self, image: Any, name: str = "") -> tuple[Any, Placement]:
        """A volume of any orientation, size and scale on this domain's grid, and the way back.

        ``placement.restore(other)`` gives a volume on the grid the affine, shape, header and scale of ``image``, which
        an error calls ``name``, by default its file.

        Raises:
            AnydiffError: not three axes, no or a singular affine, values that are not finite or not of this modality.
        """
        name = name or _name(image, "the volume")
        self._check_modality(image, name)
        return_image, placement = place(image, self.shape, self.voxel_size, self.modality, name)
        if self.modality == "ct":
            values = self.window.decode(np.asarray(return_image.dataobj)).astype(np.float32)
            return_image = as_nifti(values, return_image.affine)
            # CT keeps Hounsfield units on the grid, so nothing is scaled on the way back.
            placement = replace(placement, window=window(0.0, 1.0))
        return return_image, placement

    def encode(self, objects: Sequence[Any]) -> Tensor:
        """States of NIfTI images that are on this grid already.

        Raises:
            AnydiffError: another shape, voxel size, orientation or range of values; the sentence names the first.
        """
        rows = [
            torch.from_numpy(self._shares(image, _name(image, f"volume {index}")))
            for index, image in enumerate(objects)
        ]
        if not rows:
            return torch.empty(0, *self.spec.shape)
        return UNIT.encode(torch.stack(rows)[:, None])

    def decode(self, states: Tensor, condition: Conditioning | None = None) -> list[Any]:
        """NIfTI images (float32) of ``states [B, 1, X, Y, Z]`` on this domain's grid; values are clamped to the range.

        They lie where the condition ``affine`` ``[B, 4, 4]`` says, if it is there: where what was measured of them is.

        Raises:
            AnydiffError: states of another shape or with values that are not finite.
        """
        self.spec.check(states)
        if not states.isfinite().all():
            raise AnydiffError(
                "the states hold a value that is not finite, so they are no volumes; look at the sampler."
            )
        decoded = UNIT.decode(states.detach().to("cpu", torch.float64).clamp(-1, 1))
        values = self.window.decode(decoded[:, 0].numpy()).astype(np.float32)
        told = None if condition is None else condition.given.get(AFFINE)
        places = [self.affine] * len(values) if told is None else told.double().cpu().numpy()
        return [as_nifti(each, place) for each, place in zip(values, places, strict=True)]

    def in_units(self, states: Tensor, condition: Conditioning) -> Tensor:
        """Values ``[B, 1, X, Y, Z]`` of the grid, [0, 1] for MR and Hounsfield units for CT; not clamped."""
        return self.window.decode(UNIT.decode(states))

    def _check_modality(self, image: Any, name: str) -> None:
        """Refuse a volume whose own header says another modality."""
        stated = stated_modality(image)
        if stated in MODALITIES and stated != self.modality:
            raise AnydiffError(
                f"{name} is of modality {stated.upper()!r}, as its DICOM series says, but this domain has modality "
                f"{self.modality!r}; say modality={stated!r}, or give other scans."
            )

    def _shares(self, image: Any, name: str) -> NDArray[np.float32]:
        check_geometry(image, name)
        self._check_modality(image, name)
        image = squeezed(image)
        sizes = nibabel.affines.voxel_sizes(millimetres(image))
        codes = "".join(nibabel.aff2axcodes(image.affine))
        fix = "bring it to the grid with domain.conform(image)"
        if tuple(image.shape) != self.shape:
            raise AnydiffError(f"{name} has shape {tuple(image.shape)}, but this domain has {self.shape}; {fix}.")
        if np.abs(sizes - self.voxel_size).max() > TOLERANCE * self.voxel_size:
            text = " x ".join(f"{size:.4g}" for size in sizes)
            kind = "anisotropic voxels" if sizes.max() > sizes.min() * (1 + TOLERANCE) else "voxels"
            raise AnydiffError(f"{name} has {kind} of {text} mm, but this domain has {self.voxel_size:g} mm; {fix}.")
        if codes != "RAS":
            raise AnydiffError(f"{name} is oriented {codes}, but states are RAS; {fix}.")
        values = values_of(image, name)
        low, high = float(values.min()), float(values.max())
        slack = TOLERANCE * (self.window.high - self.window.low)
        if self.modality == "mr" and not (self.window.low - slack <= low and high <= self.window.high + slack):
            raise AnydiffError(f"{name} holds values from {low:g} to {high:g}, but MR is scaled to 0 to 1; {fix}.")
        if self.modality == "ct" and 0 <= low < high <= 1:
            raise AnydiffError(
                f"{name} holds values from {low:g} to {high:g}, as MR on a grid has, but this domain has Hounsfield "
                "units (modality 'ct'); say modality='mr', or give it in Hounsfield units."
            )
        return shares(self.window, values)

    def read(self, path: str | Path) -> list[Any]:
        """Volumes of a NIfTI file, a folder of them, or a folder of one DICOM series (pydicom), as they are.

        Raises:
            AnydiffError: nothing there, not three axes, no or a singular affine, values that are not finite.
            FileFormatError: a file that is no readable volume.
        """
        return read_volumes(Path(path))

    def read_measurement(self, path: str | Path, output: Sequence[int], mask: str | Path | None = None) -> Measurement:
        """Volumes with NaN where no voxel was measured, on this grid or on that of an operator's blocks; they may lie
        anywhere, and what is restored lies there too. ``mask`` is a volume that is 1 where a voxel was measured.

        Raises:
            AnydiffError: another shape, voxel size or orientation, or a mask on another grid.
        """
        from anydiff_volumes.measured import read_measurement

        return read_measurement(self, Path(path), tuple(output), None if mask is None else Path(mask))

    def write(self, objects: Sequence[Any], path: str | Path) -> None:
        """Write to one ``.nii`` or ``.nii.gz``, or to a new folder of ``.nii.gz`` files: ``0007.nii.gz``, or
        ``case0003_member1.nii.gz`` where volumes know their case."""
        write_volumes(objects, Path(path))

    def labelled(self, objects: Sequence[Any], labels: Sequence[Any], members: Sequence[int]) -> list[Any]:
        """The volumes with case and member in their headers; see :mod:`anydiff_volumes.cases`."""
        return cases.labelled(objects, labels, members)

    def label_arrays(self, labels: Sequence[Any]) -> dict[str, LabelledArray]:
        """``name [case]`` and ``source [case]``: places in the lists of their attributes ``names``."""
        return cases.arrays(labels)

    def match(self, objects: Sequence[Any], labels: Sequence[Any]) -> list[int] | None:
        """The held-out case of each volume, by its header or the name of its file."""
        return cases.match(objects, labels)

    def draw(self, objects: Sequence[Any], path: str | Path, titles: Sequence[str] | None = None) -> None:
        """Write the three orthogonal planes through the middle of each volume, one row per volume (PNG)."""
        from anydiff_volumes.pictures import draw_planes

        draw_planes(objects, Path(path), titles)

    def parse_condition(self, text: Mapping[str, str], count: int) -> dict[str, Tensor]:
        """``{"frames": FOLDER, "times": "0,0.2", "target_time": "0.4"}``: :func:`anydiff_volumes.asked.asked_sequence`.

        Raises:
            UnknownNameError: a condition this domain does not have.
            AnydiffError: frames that are no sequence on this grid, or times that do not increase.
        """
        if not self.frames:
            return super().parse_condition(text, count)
        from anydiff_volumes.asked import asked_sequence

        return asked_sequence(self, text, count)

    def describe_condition(self, condition: Conditioning) -> list[str]:
        """How much of the sequence each sample was made from, and for which time."""
        if "seen" not in condition.given or "target_time" not in condition.given:
            return []
        pairs = zip(condition.given["seen"], condition.given["target_time"], strict=True)
        return [f"{int(seen.sum())} frames, t = {float(time):.2f}" for seen, time in pairs]


def _name(image: Any, default: str) -> str:
    """What to call a volume in an error: its file, where it has one."""
    file = image.get_filename() if hasattr(image, "get_filename") else None
    return f"{default} ({file!r})" if file else default
