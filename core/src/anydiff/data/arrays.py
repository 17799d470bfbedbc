"""Arrays of NumPy files (``.npy``, ``.npz``), bounded before they are read and never unpickled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydiff.data.reading import Source, check_declared_size, located, reading
from anydiff.errors import FileFormatError


def array_names(path: Source) -> tuple[str, ...]:
    """The names of the arrays in an ``.npz`` file.

    Raises:
        AnydiffError: the file does not exist or may not be read.
        FileFormatError: it is damaged, or no archive of arrays.
    """
    with reading(path, "an archive of NumPy arrays", "write it with np.savez"):
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise FileFormatError(f"{located(path)} is one array and no archive; write it with np.savez.")
        with loaded as archive:
            return tuple(archive.files)


def read_array(path: Source, name: str, advice: str = "") -> NDArray[Any]:
    """The array called ``name`` of an ``.npz`` file, or the one array of an ``.npy`` file.

    Args:
        path: the file.
        name: of the array in an archive.
        advice: the fix; how to write such a file by default.

    Raises:
        AnydiffError: the file does not exist or may not be read.
        FileFormatError: it is damaged, asks for too much memory, has no such member, or the member is no array of
            plain values.
    """
    advice = advice or f"write it with np.savez(path, {name}={name})"
    with reading(path, f"a NumPy file with the array {name!r}", advice):
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            check_declared_size(loaded.nbytes, path, f"its array of shape {loaded.shape}")
            array = np.array(loaded)
        else:
            with loaded as archive:
                if name not in archive.files:
                    known = ", ".join(archive.files) or "none"
                    raise FileFormatError(f"{located(path)} has no array {name!r} (it has {known}); {advice}.")
                members = set(archive.zip.namelist())
                member = f"{name}.npy" if f"{name}.npy" in members else name
                check_declared_size(archive.zip.getinfo(member).file_size, path, f"its array {name!r}")
                array = archive[name]
    if not isinstance(array, np.ndarray):
        raise FileFormatError(f"{name!r} of {located(path)} is a file of another kind and no array; {advice}.")
    return array
