"""Arrays of NumPy files: read, or refused in one sentence; nothing is unpickled and no header takes the memory."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from anydiff.data.arrays import read_array
from anydiff.errors import AnydiffError, FileFormatError


def test_arrays_are_read(tmp_path):
    values = np.arange(6).reshape(2, 3)
    np.savez(tmp_path / "a.npz", images=values, other=1)
    np.save(tmp_path / "a.npy", values)
    assert (read_array(tmp_path / "a.npz", "images") == values).all()
    assert (read_array(tmp_path / "a.npy", "images") == values).all()


def header(shape: tuple[int, ...]) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return content.getvalue()


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"images": b"text"}, "'images' of .* is a file of another kind and no array"),
        ({"images.npy": b"text"}, "(is a file of another kind|cannot be read)"),
        ({"labels.npy": b""}, r"has no array 'images' \(it has labels\); write it with np\.savez\(path, images=images"),
        ({}, r"it has none"),
        ({"images.npy": header((10**12,))}, "cannot be read|asks for"),
        ({"images.npy": header((5,)) + b"123"}, "cannot be read"),
    ],
)
def test_members_that_are_no_arrays_are_refused(tmp_path, members, sentence):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(FileFormatError, match=sentence):
        read_array(tmp_path / "a.npz", "images")


def test_archives_and_files_that_ask_for_too_much_are_refused(tmp_path):
    packed = zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED)
    with packed as archive, archive.open("images.npy", "w") as file:
        file.write(header((3 << 17,)) + bytes(3 << 20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anydiff.data.reading.FREE_BYTES", 1 << 20)
        patch.setattr("anydiff.data.reading.MAX_RATIO", 100)
        with pytest.raises(FileFormatError, match="its array 'images' asks for 3,145,"):
            read_array(tmp_path / "a.npz", "images")
    (tmp_path / "a.npy").write_bytes(header((10**12,)))
    with pytest.raises(FileFormatError, match=r"a\.npy' cannot be read"):
        read_array(tmp_path / "a.npy", "images")


def test_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.array([{}], dtype=object))
    with pytest.raises(FileFormatError, match="cannot be read as a NumPy file"):
        read_array(tmp_path / "a.npz", "images")
    with pytest.raises(AnydiffError, match="check the path"):
        read_array(tmp_path / "absent.npz", "images")
