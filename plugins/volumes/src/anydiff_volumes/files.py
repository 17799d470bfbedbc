"""NIfTI files: read whole or not at all, written atomically, never over what is there."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel

from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import atomic_path
from anydiff_volumes.placement import check_geometry, values_of

SUFFIXES = (".nii", ".nii.gz")
UNREADABLE = (
    nibabel.filebasedimages.ImageFileError,
    nibabel.spatialimages.HeaderDataError,
    nibabel.wrapstruct.WrapStructError,
    OSError,
    EOFError,
    ValueError,
    zlib.error,
)
"""What nibabel raises for a file that is no volume, or a damaged one."""


def is_nifti(path: Path) -> bool:
    """Whether the name ends as a NIfTI file's does."""
    return path.name.lower().endswith(SUFFIXES)


def nifti_files(folder: Path) -> list[Path]:
    """The NIfTI files directly in ``folder``, sorted by name.

    Raises:
        AnydiffError: no such folder, or none in it.
    """
    if not folder.is_dir():
        raise AnydiffError(f"the folder {str(folder)!r} does not exist; check the path.")
    found = sorted(path for path in folder.iterdir() if is_nifti(path) and not path.name.startswith("."))
    if not found:
        raise AnydiffError(f"the folder {str(folder)!r} holds no NIfTI files ({', '.join(SUFFIXES)}); check the path.")
    return found


def read_nifti(path: Path) -> Any:
    """A NIfTI image with its affine and header as they are, and its data checked.

    Raises:
        AnydiffError: no such file, not three axes, no affine or a singular one, values that are not finite.
        FileFormatError: no NIfTI file, or a truncated one.
    """
    name = repr(str(path))
    if not path.is_file():
        raise AnydiffError(f"the volume {name} does not exist; check the path.")
    try:
        image: Any = nibabel.load(path)
    except UNREADABLE as error:
        raise FileFormatError(
            f"{name} is no NIfTI file ({' '.join(str(error).split())}); convert it, for example with nibabel.save."
        ) from error
    check_geometry(image, name)
    try:
        _check_compression(path)
        values_of(image, name)
    except AnydiffError as error:
        raise FileFormatError(str(error)) from error
    except UNREADABLE as error:
        raise FileFormatError(f"{name} cannot be read ({error}); it is damaged: get the file again.") from error
    return image


def _check_compression(path: Path) -> None:
    """Read a ``.gz`` to its end, where its check sum stands: nibabel stops before, so that it takes damaged voxels."""
    if path.name.lower().endswith(".gz"):
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass


def read_volumes(path: Path) -> list[Any]:
    """The volumes of a NIfTI file, of a folder of them, or of a folder that holds one DICOM series."""
    if path.is_dir():
        if any(is_nifti(file) for file in path.iterdir()):
            return [read_nifti(file) for file in nifti_files(path)]
        from anydiff_volumes.dicom import dicom_files, read_series

        if dicom_files(path):
            return [read_series(path)]
        return [read_nifti(file) for file in nifti_files(path)]
    return [read_nifti(path)]


def write_volumes(images: Sequence[Any], path: Path) -> None:
    """Write one volume to a ``.nii`` or ``.nii.gz`` file, or any number to a new folder of numbered files.

    Raises:
        AnydiffError: the path exists, or several volumes were given for one file.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise AnydiffError(f"{str(path)!r} exists; choose another name (nothing was overwritten).")
    if is_nifti(path):
        if len(images) != 1:
            raise AnydiffError(f"{str(path)!r} is one NIfTI file, but {len(images)} volumes were given; name a folder.")
        with atomic_path(path) as temporary:
            temporary.write_bytes(_content(images[0], path.name.lower().endswith(".gz")))
        return
    if path.suffix:
        raise AnydiffError(f"{str(path)!r} ends in {path.suffix!r}, but volumes are written to a folder or a .nii.gz.")
    digits = max(4, len(str(len(images) - 1)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
        try:
            for index, image in enumerate(images):
                (temporary / f"{index:0{digits}d}.nii.gz").write_bytes(_content(image, True))
            temporary.chmod(0o755)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise AnydiffError(
            f"cannot write {str(path)!r}: {error.strerror or error}; choose a folder you may write to."
        ) from error


def _content(image: Any, compressed: bool) -> bytes:
    content: bytes = image.to_bytes()
    # Without the time in the header the same volume is the same file.
    return gzip.compress(content, 6, mtime=0) if compressed else content
