"""Scans on disk: NIfTI files and DICOM series, read whole or not at all; NIfTI is written atomically, over nothing."""

from __future__ import annotations

import gzip
import math
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel

from anydiff.data.reading import check_declared_size, reading
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import atomic_folder, atomic_path, check_suffix
from anydiff_volumes.cases import file_names
from anydiff_volumes.dicom import dicom_files, read_series
from anydiff_volumes.placement import check_geometry, squeezed, values_of

ENDINGS = (".nii", ".nii.gz")
SUFFIXES = ("", *ENDINGS)
"""What :func:`write_volumes` takes."""
SURPLUS = 1 << 24
"""Bytes that a compressed file may hold behind its data."""


def is_nifti(path: Path) -> bool:
    """Whether the name ends as a NIfTI file's does."""
    return path.name.lower().endswith(ENDINGS)


def scan_paths(folder: Path) -> list[Path]:
    """The scans in ``folder``, sorted by name: its NIfTI files, and its sub-folders that hold a DICOM series each.

    A folder of DICOM slices is one scan, itself. What is no scan is left out, and a warning counts it.

    Raises:
        AnydiffError: no such folder, none in it, or NIfTI files beside DICOM slices.
    """
    if not folder.is_dir():
        raise AnydiffError(f"the folder {str(folder)!r} does not exist; check the path.")
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    slices = dicom_files(folder)
    found = [path for path in inside if (bool(dicom_files(path)) if path.is_dir() else is_nifti(path))]
    if slices and found:
        raise AnydiffError(
            f"the folder {str(folder)!r} holds {len(slices)} DICOM slices beside {found[0].name!r}; put the "
            "series into a folder of its own."
        )
    if not slices and not found:
        raise AnydiffError(
            f"the folder {str(folder)!r} holds no NIfTI files ({', '.join(ENDINGS)}) and no folders of DICOM slices; "
            "check the path."
        )
    left = [path.name for path in inside if path not in {*found, *slices}]
    if left:
        shown = ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")
        warnings.warn(
            f"{len(left)} of {len(inside)} entries of {str(folder)!r} are no scans and are left out: {shown}.",
            stacklevel=2,
        )
    return found or [folder]


def read_scan(path: Path, missing: bool = False) -> Any:
    """The volume of a NIfTI file, or of a folder of DICOM slices; ``missing`` as for :func:`read_nifti`."""
    return read_series(path) if path.is_dir() else read_nifti(path, missing)


def read_nifti(path: Path, missing: bool = False) -> Any:
    """A NIfTI image with its affine and header as they are, and its data checked; one time point is no axis.

    Voxels may be NaN where ``missing`` says that some may not have been measured.

    Raises:
        AnydiffError: no such file, not three axes, no affine or a singular one, values that are not finite.
        FileFormatError: no NIfTI file, or a truncated one.
    """
    return _checked(path, [squeezed(_load(path))], missing)[0]


def read_sequence(path: Path) -> list[Any]:
    """The volumes of a folder of scans, or those along the fourth axis of one NIfTI file; checked as by
    :func:`read_nifti`."""
    if path.is_dir():
        return read_volumes(path)
    image = squeezed(_load(path))
    if len(image.shape) != 4:
        return _checked(path, [image])
    return _checked(path, [image.slicer[..., number] for number in range(image.shape[3])])


def _load(path: Path) -> Any:
    """The image in a file that is as long as its header says, its voxels not read yet."""
    if not path.is_file():
        raise AnydiffError(f"the volume {str(path)!r} does not exist; check the path.")
    with reading(path, "a NIfTI file", "convert it with nibabel.save, or get the file again"):
        _check_begins(path)
        image: Any = nibabel.load(path)
        _check_length(path, image)
    return image


def _check_begins(path: Path) -> None:
    """Refuse a ``.gz`` whose first part unpacks to less than a header: nibabel unpacks any number of empty parts."""
    if path.name.lower().endswith(".gz"):
        with path.open("rb") as file:
            begin = zlib.decompressobj(wbits=31).decompress(file.read(1 << 16), 352)
        if len(begin) < 348:
            raise EOFError(f"its first part unpacks to {len(begin)} bytes, which hold no header")


def _checked(path: Path, images: list[Any], missing: bool = False) -> list[Any]:
    """``images`` of the file ``path`` with places and values that are sound."""
    for image in images:
        check_geometry(image, repr(str(path)))
        try:
            with reading(path, "a NIfTI file", "get the file again"):
                values_of(image, repr(str(path)), missing)
        except AnydiffError as error:
            raise FileFormatError(str(error)) from error
    return images


def _check_length(path: Path, image: Any) -> None:
    """Refuse a file that is shorter than its header declares, before memory is taken for what it declares.

    A ``.gz`` is unpacked to its end, a piece at a time: its check sum stands there, and nibabel stops before.
    """
    data = image.dataobj
    voxels = math.prod(int(size) for size in image.shape)
    check_declared_size(voxels * max(4, data.dtype.itemsize), path, f"its volume of shape {tuple(image.shape)}")
    end = int(data.offset) + voxels * data.dtype.itemsize
    length = path.stat().st_size
    if path.name.lower().endswith(".gz"):
        length = 0
        with gzip.open(path) as file:
            while piece := file.read(1 << 20):
                length += len(piece)
                if length > end + SURPLUS:
                    raise EOFError(f"it unpacks to more than the {end} bytes that its header declares")
    if length < end:
        raise EOFError(f"its header declares {end} bytes, shape {tuple(image.shape)}, but it holds {length}")


def read_volumes(path: Path, missing: bool = False) -> list[Any]:
    """The volumes of a NIfTI file, of a folder of scans (:func:`scan_paths`), or of a folder of one DICOM series;
    ``missing`` as for :func:`read_nifti`."""
    return [read_scan(scan, missing) for scan in (scan_paths(path) if path.is_dir() else [path])]


def write_volumes(images: Sequence[Any], path: Path) -> None:
    """Write one volume to a ``.nii`` or ``.nii.gz`` file, or any number to a new folder.

    Files of the folder are called by case and member (:mod:`anydiff_volumes.cases`), or else numbered.

    Raises:
        AnydiffError: the path exists, or several volumes were given for one file.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise AnydiffError(f"{str(path)!r} exists; choose another name (nothing was overwritten).")
    if check_suffix(path, SUFFIXES, "volumes"):
        if len(images) != 1:
            raise AnydiffError(f"{str(path)!r} is one NIfTI file, but {len(images)} volumes were given; name a folder.")
        with atomic_path(path) as temporary:
            temporary.write_bytes(_content(images[0], path.name.lower().endswith(".gz")))
        return
    with atomic_folder(path) as folder:
        for name, image in zip(file_names(images), images, strict=True):
            (folder / name).write_bytes(_content(image, True))


def _content(image: Any, compressed: bool) -> bytes:
    content: bytes = image.to_bytes()
    # Without the time in the header the same volume is the same file.
    return gzip.compress(content, 6, mtime=0) if compressed else content
