"""A DICOM series as one volume (extra ``dicom``): slices sorted along their normal, LPS turned to RAS, slope applied.

DICOM PS3.3 C.7.6.2: the centre of pixel (row r, column c) of a slice lies at

    position + (column direction) Δ_column c + (row direction) Δ_row r,

in LPS millimetres, ImageOrientationPatient giving the directions in which columns and rows *increase* (first three and
last three numbers) and PixelSpacing the distances between rows and between columns, in this order. Slices follow one
another along the line through their positions, which with a tilted gantry is no normal of them: the affine is sheared.
Scanners round positions and tables jerk, so a slice may lie a tenth of the slice distance from its even place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from anydiff.data.reading import finite, reading
from anydiff.domains.kit import require
from anydiff.errors import AnydiffError, FileFormatError
from anydiff_volumes.placement import as_nifti

ASIDE = 0.1
"""Largest distance of a slice from its place on the even grid of the series, as a share of the slice distance."""
MISSING = 1.5
"""Slice distance, in typical ones, from which on a slice is missing; what lies between is an uneven series."""
NEEDED = ("SeriesInstanceUID", "Rows", "Columns", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing")
NOTE = "anydiff: DICOM series, "
"""What the header of a volume from a series says, with the series' Modality behind it."""


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files directly in ``folder`` (by their signature), sorted by name."""
    found = []
    with reading(folder, "a folder of scans", "check the path"):
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    for path in files:
        with reading(path, "a scan", "remove it"), path.open("rb") as file:
            if file.read(132)[128:] == b"DICM":
                found.append(path)
    return found


@dataclass(frozen=True)
class Slice:
    """What one file says.

    Attributes:
        path: the file.
        data: the pydicom data set, with the pixels.
        series: the series' number.
        size: rows and columns.
        across: unit vector in which columns increase, LPS.
        down: unit vector in which rows increase, LPS.
        position: centre of the first pixel, LPS millimetres.
        spacing: millimetres between rows and between columns.
        slope: RescaleSlope; None where the file has none or an empty one.
        intercept: RescaleIntercept, likewise.
    """

    path: Path
    data: Any
    series: str
    size: tuple[int, int]
    across: NDArray[np.float64]
    down: NDArray[np.float64]
    position: NDArray[np.float64]
    spacing: tuple[float, float]
    slope: float | None
    intercept: float | None

    @classmethod
    def read(cls, path: Path) -> Slice:
        """The slice in the file ``path``.

        Raises:
            FileFormatError: it cannot be read, has no place, is in colour, of several frames, or a field is no number.
        """
        try:
            data = require("pydicom", "reading DICOM", "anydiff-volumes[dicom]").dcmread(path)
        except AnydiffError:
            raise
        except Exception as error:  # pydicom raises many kinds for damaged files
            raise FileFormatError(f"{str(path)!r} is no readable DICOM file ({error}); remove or repair it.") from error
        _check_slice(path, data)
        directions = np.array(_numbers(path, data, "ImageOrientationPatient", 6)).reshape(2, 3)
        if not np.allclose(directions @ directions.T, np.eye(2), atol=1e-3):
            raise FileFormatError(
                f"ImageOrientationPatient of {str(path)!r} is {directions.ravel().tolist()}, but must be two unit "
                "vectors at right angles; repair or remove the file."
            )
        spacing = _numbers(path, data, "PixelSpacing", 2)
        slope, intercept = (_optional(path, data, name) for name in ("RescaleSlope", "RescaleIntercept"))
        if min(spacing) <= 0 or slope == 0:
            raise FileFormatError(
                f"PixelSpacing and RescaleSlope of {str(path)!r} are {spacing} and {slope}, but spacing must be "
                "positive and the slope not zero; repair or remove the file."
            )
        rows, columns = (int(_numbers(path, data, name, 1)[0]) for name in ("Rows", "Columns"))
        return cls(
            path=path,
            data=data,
            series=str(data.SeriesInstanceUID),
            size=(rows, columns),
            across=directions[0],
            down=directions[1],
            position=np.array(_numbers(path, data, "ImagePositionPatient", 3)),
            spacing=(spacing[0], spacing[1]),
            slope=slope,
            intercept=intercept,
        )

    @property
    def values(self) -> NDArray[np.float32]:
        """The pixels ``[columns, rows]`` with slope and intercept applied; without them as they are stored."""
        try:
            pixels = self.data.pixel_array
        except Exception as error:  # compressed with a codec that is not installed, or cut short
            raise FileFormatError(
                f"the pixels of {str(self.path)!r} cannot be read ({error}); get the file again."
            ) from error
        if pixels.shape != self.size:
            raise FileFormatError(
                f"the pixels of {str(self.path)!r} have shape {pixels.shape}, but Rows and Columns say {self.size}; "
                "get the file again."
            )
        slope, intercept = 1.0 if self.slope is None else self.slope, self.intercept or 0.0
        with np.errstate(over="ignore"):
            values = (pixels.T * slope + intercept).astype(np.float32)
        return finite(values, "the pixels", self.path)


def read_series(folder: Path) -> Any:
    """The one series in ``folder`` as a NIfTI image (RAS+, float32 with the rescale slope and intercept applied).

    An empty RescaleSlope or RescaleIntercept counts as none: 1 and 0, as DICOM says, if no slice of the series has one.

    Raises:
        AnydiffError: several series, slices of different size or direction, repeated, missing or uneven ones, slopes
            that only some slices have; no pydicom.
        FileFormatError: a slice that cannot be read, without a place, in colour, or of several frames.
    """
    slices = [Slice.read(path) for path in dicom_files(folder)]
    name = f"the series in {str(folder)!r}"
    _check_alike(slices, folder)
    first = slices[0]
    normal = np.cross(first.across, first.down)
    slices.sort(key=lambda each: float(normal @ each.position))
    between_rows, between_columns = first.spacing
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = first.across * between_columns, first.down * between_rows
    lps[:3, 2], lps[:3, 3] = _step(slices, normal, name), slices[0].position
    values = np.stack([each.values for each in slices], axis=-1)
    note = f"{NOTE}{getattr(first.data, 'Modality', None) or '?'}"
    return as_nifti(values, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps, note)


def stated_modality(image: Any) -> str | None:
    """The Modality of the DICOM series that ``image`` was read from, in small letters; None for any other volume."""
    header = getattr(image, "header", None)
    note = bytes(header["descrip"].tobytes()) if isinstance(header, nibabel.Nifti1Header) else b""
    text = note.rstrip(b"\0").decode("latin-1")
    return text.removeprefix(NOTE).lower() if text.startswith(NOTE) else None


def _check_alike(slices: Sequence[Slice], folder: Path) -> None:
    """Refuse slices that are not of one series, size, direction and kind of scaling."""
    series = {each.series for each in slices}
    if len(series) > 1:
        raise AnydiffError(f"{str(folder)!r} holds {len(series)} DICOM series; put each into a folder of its own.")
    first = slices[0]
    for each in slices:
        same = each.size == first.size and np.allclose(each.spacing, first.spacing, rtol=1e-4)
        if not same or not np.allclose((each.across, each.down), (first.across, first.down), atol=1e-4):
            raise AnydiffError(
                f"{str(each.path)!r} has another size or direction than {str(first.path)!r}; sort them out."
            )
        for tag in ("slope", "intercept"):
            if (getattr(each, tag) is None) != (getattr(first, tag) is None):
                one, other = (each, first) if getattr(each, tag) is None else (first, each)
                raise AnydiffError(
                    f"{str(one.path)!r} has no Rescale{tag.title()}, or an empty one, but {str(other.path)!r} has "
                    f"{getattr(other, tag):g}; give every slice of the series its own."
                )


def _check_slice(path: Path, data: Any) -> None:
    """Refuse what is no single grey picture with a place."""
    frames, channels = (_optional(path, data, name) or 1 for name in ("NumberOfFrames", "SamplesPerPixel"))
    if frames > 1:
        raise FileFormatError(f"{str(path)!r} holds {frames:g} frames; convert it to NIfTI, for example with dcm2niix.")
    missing = [name for name in NEEDED if _field(path, data, name) in (None, "")]
    if missing:
        kind = getattr(data, "Modality", "?")
        raise FileFormatError(f"{str(path)!r} ({kind}) has no {missing[0]}, so it is no slice of a series; remove it.")
    # Of a palette the pixels are numbers of colours; without the field they are grey.
    if channels > 1 or "COLOR" in str(_field(path, data, "PhotometricInterpretation")):
        raise FileFormatError(f"{str(path)!r} is a colour picture, but a volume is grey; remove it.")


def _field(path: Path, data: Any, name: str) -> Any:
    """The field as pydicom has it; None where it is absent."""
    try:
        return getattr(data, name, None)
    except Exception as error:  # a text that is no number, say
        raise FileFormatError(
            f"{name} of {str(path)!r} cannot be read ({error}); repair or remove the file."
        ) from error


def _numbers(path: Path, data: Any, name: str, count: int) -> list[float]:
    value = _field(path, data, name)
    try:
        numbers = [float(each) for each in (value if count > 1 else [value])]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        kind = "a number" if count == 1 else f"{count} numbers"
        raise FileFormatError(f"{name} of {str(path)!r} is {value!r}, but must be {kind}; repair or remove the file.")
    return numbers


def _optional(path: Path, data: Any, name: str) -> float | None:
    """A number; None where the field is absent or empty."""
    return None if _field(path, data, name) in (None, "") else _numbers(path, data, name, 1)[0]


def _step(slices: Sequence[Slice], normal: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """From one slice to the next, LPS millimetres ``[3]``."""
    if len(slices) == 1:
        return np.asarray(normal * (_optional(slices[0].path, slices[0].data, "SliceThickness") or 1.0))
    positions = np.array([each.position for each in slices])
    places = positions @ normal
    gaps = np.diff(places)
    if gaps.min() < 1e-3:
        raise AnydiffError(f"{name} holds two slices at one place ({places[int(gaps.argmin())]:.4g} mm); remove one.")
    typical = float(np.median(gaps))
    if gaps.max() > MISSING * typical:
        worst = int(gaps.argmax())
        raise AnydiffError(
            f"{name} has slices {typical:.4g} mm apart, but {gaps[worst]:.4g} mm behind {places[worst]:.4g} mm: a "
            "slice is missing; complete the series."
        )
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    away = positions - positions[0] - np.arange(len(slices))[:, None] * step
    along = np.abs(away @ normal)
    if along.max() > ASIDE * typical:
        raise AnydiffError(
            f"{name} has slices {gaps.min():.4g} to {gaps.max():.4g} mm apart, and slice {int(along.argmax())} lies "
            f"{along.max():.3g} mm from its even place; resample the series to even distances, with dcm2niix say."
        )
    aside = np.linalg.norm(away, axis=1)
    if aside.max() > ASIDE * typical:
        raise AnydiffError(
            f"{name} has slice {int(aside.argmax())} {aside.max():.3g} mm beside the line of the others; remove it."
        )
    return np.asarray(step)
