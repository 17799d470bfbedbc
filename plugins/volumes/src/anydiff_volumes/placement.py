r"""Where a volume lies in the world, and the way to a common grid and back.

NIfTI: world = affine @ (i, j, k, 1) in RAS+ millimetres; voxel sizes are the column norms of the 3 x 3 part. On the way
to a grid a volume is turned to the nearest RAS+ axes (no interpolation), scaled to the modality's range, resampled
along its own axes with the *centres of the fields of view* aligned, and cropped or padded. Along an axis, voxel i
of the grid of n' voxels of size d' is looked up at

.. math:: s(i) = (i - (n' - 1)/2) \, d'/d + (n - 1)/2

of the volume's n voxels of size d; the affine follows, so that every voxel keeps its place in the world. Where d' = d
the shift is rounded to whole voxels and nothing is interpolated. :meth:`Placement.restore` undoes all of it.

A header may count in metres or micrometres (``xyzt_units``), as microscopes do; nibabel's affine is in these units. On
a grid everything is in millimetres, and what is restored has the header's own unit again.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import nibabel
import numpy as np
from nibabel import orientations
from numpy.typing import NDArray
from scipy import ndimage

from anydiff.domains.kit import Limits
from anydiff.errors import AnydiffError
from anydiff_volumes.intensity import shares, window, window_of

Array = NDArray[Any]
CUBES = 1.5
"""Longest edge over shortest edge up to which voxels count as cubes."""
LABEL_ROUNDING = 0.25
"""Largest deviation of a label from a whole number that can be the rounding of a file."""
QFORM = 1e-3
"""Largest distance, in voxels, between a volume's corners by qform and by sform if both are to say one place."""

AFFINE = "affine"
"""The condition that says where a volume lies: ``[B, 4, 4]``, RAS+ millimetres."""

UNITS = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}
"""Millimetres per unit of length by its code in a NIfTI header (none stated, metre, millimetre, micrometre)."""


def millimetres(image: Any) -> NDArray[np.float64]:
    """The affine ``[4, 4]`` of ``image`` from voxels to RAS+ millimetres, whatever unit its header counts in."""
    affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= UNITS[_unit_code(image)]
    return affine


def _unit_code(image: Any) -> int:
    return int(image.header["xyzt_units"]) % 8 if hasattr(image.header, "get_xyzt_units") else 0


def three_axes(shape: Sequence[int]) -> tuple[int, ...]:
    """``shape`` without axes of length one behind the third: a file with a single time point is one volume."""
    sizes = tuple(int(size) for size in shape)
    return sizes[:3] if all(size == 1 for size in sizes[3:]) else sizes


def squeezed(image: Any) -> Any:
    """``image`` without axes of length one behind the third; what is stored and the rest of the header stay."""
    shape = three_axes(image.shape)
    if shape == tuple(image.shape):
        return image
    single = type(image)(image.dataobj.reshape(shape), image.affine, image.header.copy())
    if image.get_filename():
        single.set_filename(image.get_filename())
    return single


def check_geometry(image: Any, name: str) -> None:
    """Refuse what is no single three-dimensional volume with a place in the world; ``name`` says which it is.

    Raises:
        AnydiffError: another number of axes, one without voxels, no affine in the header, one that is singular or not
            finite, or a unit of length that NIfTI does not have.
    """
    shape = three_axes(image.shape)
    if len(shape) != 3:
        extra = "; take one of its volumes with image.slicer[..., 0]" if len(shape) == 4 else ""
        raise AnydiffError(f"{name} has {len(shape)} axes, {shape}, but a volume has 3{extra}.")
    if min(shape) < 1:
        raise AnydiffError(f"{name} has shape {shape}, an axis without voxels; repair its header.")
    header = image.header
    if _unit_code(image) not in UNITS:
        raise AnydiffError(
            f"{name} has the unknown unit of length {_unit_code(image)} (xyzt_units); set millimetres with "
            "image.header.set_xyzt_units('mm')."
        )
    if hasattr(header, "get_sform") and int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        raise AnydiffError(
            f"{name} has no affine (sform and qform codes are both 0), so left and right are unknown; set one with "
            "image.set_sform(affine, code=1)."
        )
    if _mirrored(header):
        raise AnydiffError(
            f"the sform and the qform of {name} are mirror images of one another, so left and right are unknown; drop "
            "the wrong one with image.set_qform(None, 0) or image.set_sform(None, 0)."
        )
    linear = np.asarray(image.affine)[:3, :3]
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(linear)) <= 1e-9 * np.linalg.norm(linear) ** 3:
        raise AnydiffError(f"{name} has the singular affine {np.asarray(image.affine).tolist()}; repair its header.")


def _mirrored(header: Any) -> bool:
    """Whether sform and qform, both stated, differ in handedness: other readers would swap left and right."""
    if not hasattr(header, "get_sform") or not (int(header["sform_code"]) and int(header["qform_code"])):
        return False
    one, two = (np.linalg.det(form[:3, :3]) for form in (header.get_sform(), header.get_qform()))
    return bool(one * two < 0)


def check_cubes(image: Any, name: str) -> None:
    """Refuse voxels that are far from cubes; resampling would invent what lies between thick slices."""
    check_geometry(image, name)
    sizes = nibabel.affines.voxel_sizes(millimetres(image))
    if sizes.max() > CUBES * sizes.min():
        text = " x ".join(f"{size:.3g}" for size in sizes)
        raise AnydiffError(
            f"{name} has anisotropic voxels of {text} mm; resample it, or say resample=True to interpolate between its "
            "slices."
        )


def values_of(image: Any, name: str, missing: bool = False) -> NDArray[np.float32]:
    """The voxel values, float32, with the header's slope and intercept applied; NaN is a value that was not measured
    where ``missing`` allows that.

    Raises:
        AnydiffError: the data end too early, hold a NaN or an infinity, or are complex or colours.
    """
    kind = np.dtype(image.get_data_dtype())
    if kind.kind not in "iufb":
        text, fix = ("colours", "take one channel") if kind.names else (f"{kind} values", "take the magnitude, np.abs")
        raise AnydiffError(f"{name} holds {text}, but a volume has one real number per voxel; {fix}.")
    try:
        values = np.asarray(image.dataobj, dtype=np.float32)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise AnydiffError(f"the data of {name} cannot be read ({reason}); get the file again.") from error
    wrong = np.isinf(values) if missing else ~np.isfinite(values)
    if wrong.any():
        first = tuple(int(index) for index in np.argwhere(wrong)[0])
        raise AnydiffError(
            f"{name} holds {int(wrong.sum())} voxels that are not finite, the first at {first}; replace them, for "
            "example by np.nan_to_num."
        )
    return values


def labels_of(image: Any, name: str) -> Array:
    """The voxel values of a label map, as int16 where that holds them and else int32.

    A file that scales its numbers (``scl_slope``) holds whole numbers up to half a step of that scale, and floats up to
    their own rounding: such values are the whole numbers next to them. A step of more than half a label tells too
    little, and a deviation of more than a quarter is never rounded.

    Raises:
        AnydiffError: as :func:`values_of`; or a value that is no whole number of 32 bits.
    """
    values_of(image, name)  # readable and finite, but with the digits of float32
    values = np.asarray(image.dataobj)
    whole = values if values.dtype.kind in "iub" else np.rint(values)
    wrong = np.abs(whole - values) > _rounding(image, values)
    wrong |= (whole > np.iinfo(np.int32).max) | (whole < np.iinfo(np.int32).min)
    if wrong.any():
        raise AnydiffError(
            f"{name} holds {values[wrong][0]:g}, but labels are whole numbers of at most 32 bits; give a label map."
        )
    small = np.iinfo(np.int16)
    labels: Array = whole.astype(np.int16 if small.min <= whole.min() and whole.max() <= small.max else np.int32)
    return labels


def _rounding(image: Any, values: Array) -> Array | float:
    """How far from a whole number a label may lie in this file, per voxel or for all."""
    if values.dtype.kind in "iub":
        return 0.0
    slope, intercept = _scaling(image)
    step = abs(slope) / 2 if np.dtype(image.get_data_dtype()).kind in "iu" and slope != 1.0 else 0.0
    digits = 4 * float(np.finfo(np.float32).eps) * np.maximum(np.abs(values), max(1.0, abs(intercept)))
    return np.minimum(step + digits, LABEL_ROUNDING)


def _scaling(image: Any) -> tuple[float, float]:
    """Slope and intercept by which the file's stored numbers become values; (1, 0) for an array in memory."""
    return float(getattr(image.dataobj, "slope", 1.0)), float(getattr(image.dataobj, "inter", 0.0))


@dataclass(frozen=True)
class Placement:
    """How one volume came to a grid: everything :meth:`restore` needs.

    Attributes:
        affine: of the original, float64 ``[4, 4]``.
        shape: of the original.
        header: of the original.
        kind: what :meth:`restore` stores: the original's integers if they had no slope, else floats.
        orientation: nibabel's axis codes of the original, as ``io_orientation`` gives them.
        window: how intensities were scaled.
        outside: the value of voxels that the grid does not reach.
        grid_affine: of the volume on the grid, in millimetres.
        grid_shape: of the volume on the grid.
        scale: d'/d per axis, after the turn to RAS+.
        offset: s(0) per axis.
        labels: whether values are names and not amounts, so that nothing lies between two of them.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, ...]
    header: Any = field(repr=False)
    kind: np.dtype[Any]
    orientation: NDArray[np.float64]
    window: Limits
    outside: float
    grid_affine: NDArray[np.float64]
    grid_shape: tuple[int, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    labels: bool = False

    def restore(self, image: Any) -> Any:
        """A volume on the grid as a NIfTI image of the original's affine, shape, header, type and intensities.

        Voxels that the grid does not reach get the lowest value of the scan's window. A file that scales its integers
        (slope and intercept) comes back as floats of the same values.

        Raises:
            AnydiffError: ``image`` has another shape than the grid.
        """
        image = squeezed(image)
        if tuple(image.shape) != self.grid_shape:
            raise AnydiffError(
                f"the volume to restore has shape {tuple(image.shape)}, but the grid that {self.shape} was brought to "
                f"has {self.grid_shape}; give a volume on that grid."
            )
        values = self.window.decode(np.asarray(image.dataobj, dtype=np.float64))
        turned = orientations.ornt_transform(orientations.axcodes2ornt("RAS"), self.orientation)
        order = np.argsort(self.orientation[:, 0])
        shape = tuple(self.shape[axis] for axis in order)
        scale = [1 / each for each in self.scale]
        offset = [-first / each for first, each in zip(self.offset, self.scale, strict=True)]
        back = resample(values, shape, scale, offset, fill=self.outside, nearest=self.labels)
        back = orientations.apply_orientation(back, turned)
        if self.kind.kind in "iu":
            limits = np.iinfo(self.kind)
            back = np.clip(np.rint(back), limits.min, limits.max)
        back = back.astype(self.kind).reshape(self.shape)
        header = self.header.copy()
        header.set_slope_inter(1.0, 0.0)
        header.set_data_dtype(back.dtype)
        kind: Any = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
        return kind(back, self.affine, header)


def place(
    image: Any, shape: Sequence[int], voxel_size: float, modality: str, name: str, labels: bool = False
) -> tuple[Any, Placement]:
    """``image`` on a grid of ``shape`` voxels of ``voxel_size`` mm along its own axes, and the way back.

    Args:
        image: any nibabel volume.
        shape: of the grid.
        voxel_size: edge of the grid's voxels in millimetres.
        modality: says how intensities are scaled, see :mod:`anydiff_volumes.intensity`.
        name: what to call it in an error.
        labels: nearest neighbour instead of interpolation, and no scaling.
    """
    check_geometry(image, name)
    original, image = image, squeezed(image)
    values = labels_of(image, name) if labels else values_of(image, name)
    scaling = window(0.0, 1.0) if labels else window_of(values, modality, name)
    orientation = orientations.io_orientation(image.affine)
    turned = orientations.apply_orientation(values if labels else shares(scaling, values), orientation)
    affine = millimetres(image) @ orientations.inv_ornt_aff(orientation, image.shape)
    sizes = nibabel.affines.voxel_sizes(affine)
    scale, offset = [], []
    for count, size, wanted in zip(turned.shape, sizes, shape, strict=True):
        ratio = 1.0 if abs(voxel_size - size) < 1e-4 * size else float(voxel_size / size)
        first = (count - 1) / 2 - (wanted - 1) / 2 * ratio
        scale.append(ratio)
        offset.append(float(np.floor(first)) if ratio == 1.0 else first)
    placed = resample(turned, shape, scale, offset, fill=0.0, nearest=labels)
    grid_affine = affine.copy()
    grid_affine[:3, 3] += affine[:3, :3] @ np.array(offset)
    grid_affine[:3, :3] = affine[:3, :3] * np.array(scale)
    header = original.header.copy() if isinstance(image.header, nibabel.Nifti1Header) else nibabel.Nifti1Header()
    if not isinstance(image.header, nibabel.Nifti1Header):
        header.set_data_dtype(image.get_data_dtype())
    placement = Placement(
        affine=np.array(image.affine),
        shape=tuple(original.shape),
        header=header,
        kind=_stored_kind(image),
        orientation=orientation,
        window=scaling,
        outside=scaling.low,
        grid_affine=grid_affine,
        grid_shape=tuple(shape),
        scale=tuple(scale),
        offset=tuple(offset),
        labels=labels,
    )
    return as_nifti(placed if labels else placed.astype(np.float32), grid_affine), placement


def _stored_kind(image: Any) -> np.dtype[Any]:
    """The type that holds an image's values: its own integers, but floats where the file scales them."""
    kind: np.dtype[Any] = np.dtype(image.get_data_dtype())
    # A slice of a scaled file is an array of floats under a header that still says integers.
    floats = isinstance(image.dataobj, np.ndarray) and image.dataobj.dtype.kind == "f"
    if kind.kind in "iu" and not floats and _scaling(image) == (1.0, 0.0):
        return kind
    return np.dtype(np.float64 if kind == np.float64 else np.float32)


def as_nifti(values: Array, affine: NDArray[np.float64], note: str = "anydiff") -> Any:
    """A NIfTI image in millimetres with sform and, where it can hold it, qform set to ``affine``.

    A qform is a rotation and voxel sizes. It cannot hold a shear (a tilted gantry), so it then has code 0: readers that
    prefer it would put the volume somewhere else.
    """
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    if not _same_place(image.get_qform(), affine, values.shape):
        image.set_qform(affine, code=0)
    image.header["descrip"] = note.encode()[:79]
    return image


def _same_place(one: Array, other: Array, shape: Sequence[int]) -> bool:
    """Whether two affines put the corners of a volume at one place, up to :data:`QFORM` voxels."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape[:3]) - 1)
    places = [nibabel.affines.apply_affine(affine, corners) for affine in (one, other)]
    distance = np.linalg.norm(places[0] - places[1], axis=-1).max()
    return bool(distance <= QFORM * nibabel.affines.voxel_sizes(other).min())


def resample(
    values: Array,
    shape: Sequence[int],
    scale: Sequence[float],
    offset: Sequence[float],
    *,
    fill: float,
    nearest: bool = False,
) -> Array:
    """Voxel i of the result is ``values`` at ``scale * i + offset``, linearly; ``fill`` outside.

    Axes that shrink are smoothed first, by a Gaussian of (ratio - 1)/2 voxels. Whole shifts copy and do not
    interpolate.
    """
    if all(each == 1 for each in scale) and all(float(first).is_integer() for first in offset):
        return _shifted(values, shape, [int(first) for first in offset], fill)
    if not nearest and any(each > 1 for each in scale):
        values = ndimage.gaussian_filter(values, [max(each - 1, 0) / 2 for each in scale], mode="nearest")
    # Half a voxel beyond the last centre still belongs to the volume: "nearest" there, and "fill" farther out.
    found: Array = ndimage.affine_transform(
        values, np.array(scale), np.array(offset), tuple(shape), order=0 if nearest else 1, mode="nearest"
    )
    for axis, (count, each, first) in enumerate(zip(values.shape, scale, offset, strict=True)):
        place = each * np.arange(shape[axis]) + first
        outside = (place < -0.5) | (place > count - 0.5)
        found[(slice(None),) * axis + (outside,)] = fill
    return found


def _shifted(values: Array, shape: Sequence[int], offset: Sequence[int], fill: float) -> Array:
    result = np.full(tuple(shape), fill, dtype=values.dtype)
    source, target = [], []
    for count, size, first in zip(values.shape, shape, offset, strict=True):
        begin, end = max(first, 0), min(first + size, count)
        source.append(slice(begin, max(end, begin)))
        target.append(slice(begin - first, max(end, begin) - first))
    result[tuple(target)] = values[tuple(source)]
    return result
