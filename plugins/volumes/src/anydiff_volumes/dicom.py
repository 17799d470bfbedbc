"""A DICOM series as one volume (extra ``dicom``): slices sorted along their normal, LPS turned to RAS, slope applied.

DICOM PS3.3 C.7.6.2: the centre of pixel (row r, column c) of a slice lies at

    position + (column direction) Δ_column c + (row direction) Δ_row r,

in LPS millimetres, ImageOrientationPatient giving the directions in which columns and rows *increase* (first three and
last three numbers) and PixelSpacing the distances between rows and between columns, in this order. Slices follow one
another along the line through their positions, which with a tilted gantry is no normal of them: the affine is sheared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anydiff.errors import AnydiffError, FileFormatError
from anydiff_volumes.placement import as_nifti

UNEVEN = 0.01
"""Largest deviation of a slice distance from their mean, as a share of it."""
ASKEW = 0.1
"""Largest distance of a slice from the line through the first and the last one, as a share of the slice distance."""
NEEDED = ("SeriesInstanceUID", "Rows", "Columns", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing")


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise AnydiffError(
            "reading DICOM needs pydicom, which is not installed; run `pip install 'anydiff-volumes[dicom]'`."
        ) from error
    return pydicom


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files directly in ``folder`` (by their signature), sorted by name."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            with path.open("rb") as file:
                if file.read(132)[128:] == b"DICM":
                    found.append(path)
    return found


def read_series(folder: Path) -> Any:
    """The one series in ``folder`` as a NIfTI image (RAS+, float32 with the rescale slope and intercept applied).

    Raises:
        AnydiffError: several series, slices of different size or direction, repeated or missing ones; no pydicom.
        FileFormatError: a slice that cannot be read, without a place, in colour, or of several frames.
    """
    pydicom = _pydicom()
    slices = []
    for path in dicom_files(folder):
        try:
            slices.append((path, pydicom.dcmread(path)))
        except Exception as error:  # pydicom raises many kinds for damaged files
            raise FileFormatError(f"{str(path)!r} is no readable DICOM file ({error}); remove or repair it.") from error
        _check_slice(*slices[-1])
    name = f"the series in {str(folder)!r}"
    series = {str(each.SeriesInstanceUID) for _, each in slices}
    if len(series) > 1:
        raise AnydiffError(f"{str(folder)!r} holds {len(series)} DICOM series; put each into a folder of its own.")
    first = slices[0][1]
    for path, each in slices:
        same = (each.Rows, each.Columns) == (first.Rows, first.Columns)
        same = same and np.allclose(each.PixelSpacing, first.PixelSpacing, rtol=1e-4)
        if not same or not np.allclose(each.ImageOrientationPatient, first.ImageOrientationPatient, atol=1e-4):
            raise AnydiffError(
                f"{str(path)!r} has another size or direction than {str(slices[0][0])!r}; sort them out."
            )
    across = np.array(first.ImageOrientationPatient[:3], float)
    down = np.array(first.ImageOrientationPatient[3:], float)
    normal = np.cross(across, down)
    slices.sort(key=lambda pair: float(np.dot(normal, np.array(pair[1].ImagePositionPatient, float))))
    step = _step([pair[1] for pair in slices], normal, name)
    between_rows, between_columns = (float(each) for each in first.PixelSpacing)
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = across * between_columns, down * between_rows, step
    lps[:3, 3] = np.array(slices[0][1].ImagePositionPatient, float)
    values = np.stack([_values(path, each) for path, each in slices], axis=-1)
    return as_nifti(values, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps, "anydiff: DICOM series")


def _check_slice(path: Path, each: Any) -> None:
    """Refuse what is no single grey picture with a place."""
    frames, channels = int(getattr(each, "NumberOfFrames", 1) or 1), int(getattr(each, "SamplesPerPixel", 1) or 1)
    if frames > 1:
        raise FileFormatError(f"{str(path)!r} holds {frames} frames; convert it to NIfTI, for example with dcm2niix.")
    missing = [name for name in NEEDED if getattr(each, name, None) in (None, "")]
    if missing:
        kind = getattr(each, "Modality", "?")
        raise FileFormatError(f"{str(path)!r} ({kind}) has no {missing[0]}, so it is no slice of a series; remove it.")
    if channels > 1:
        raise FileFormatError(f"{str(path)!r} is a colour picture, but a volume is grey; remove it.")


def _values(path: Path, each: Any) -> Any:
    """One slice ``[columns, rows]`` float32."""
    try:
        pixels = each.pixel_array
    except Exception as error:  # compressed with a codec that is not installed, or cut short
        raise FileFormatError(f"the pixels of {str(path)!r} cannot be read ({error}); get the file again.") from error
    slope, intercept = float(getattr(each, "RescaleSlope", 1)), float(getattr(each, "RescaleIntercept", 0))
    return (pixels.T * slope + intercept).astype(np.float32)


def _step(slices: list[Any], normal: Any, name: str) -> Any:
    """From one slice to the next, LPS millimetres ``[3]``."""
    if len(slices) == 1:
        return normal * float(getattr(slices[0], "SliceThickness", 1) or 1)
    positions = np.array([np.array(each.ImagePositionPatient, float) for each in slices])
    places = positions @ normal
    gaps = np.diff(places)
    if gaps.min() < 1e-3:
        raise AnydiffError(f"{name} holds two slices at one place ({places[int(gaps.argmin())]:.4g} mm); remove one.")
    typical = float(np.median(gaps))
    if np.abs(gaps - typical).max() > UNEVEN * typical:
        worst = int(np.abs(gaps - typical).argmax())
        raise AnydiffError(
            f"{name} has slices {typical:.4g} mm apart, but {gaps[worst]:.4g} mm behind {places[worst]:.4g} mm: a "
            "slice is missing; complete the series."
        )
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    askew = np.linalg.norm(positions - positions[0] - np.arange(len(slices))[:, None] * step, axis=1)
    if askew.max() > ASKEW * typical:
        raise AnydiffError(
            f"{name} has slice {int(askew.argmax())} {askew.max():.3g} mm beside the line of the others; remove it."
        )
    return step
