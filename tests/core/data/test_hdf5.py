"""HDF5 before it is read: bombs, loops and damage end in one sentence, in little time and memory."""

from __future__ import annotations

import os
import time

import h5py
import numpy as np
import pytest

from anydiff.data import hdf5
from anydiff.data.hdf5 import check_hdf5
from anydiff.errors import AnydiffError, FileFormatError


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("hdf5") / "good.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("group/values", data=np.arange(1000.0), chunks=(100,), compression="gzip")
        file.attrs["title"] = "good"
        file["names"] = ["a", "b"]
    return path


def test_a_good_file_passes_and_is_looked_at_once(good, monkeypatch):
    check_hdf5(good)
    monkeypatch.setattr(hdf5._scout, "ask", lambda *_: pytest.fail("asked again"))
    check_hdf5(good)


@pytest.mark.timing
@pytest.mark.parametrize("chunks", [None, (1 << 20,), (1 << 29,)])
def test_a_small_file_that_declares_gigabytes_is_refused(tmp_path, chunks):
    path = tmp_path / "bomb.h5"
    with h5py.File(path, "w") as file:
        options = {"chunks": chunks, "compression": "gzip"} if chunks else {}
        file.create_dataset("x", shape=(960_000_000,), dtype="f8", fillvalue=1.0, **options)
    assert path.stat().st_size < 8000
    start = time.perf_counter()
    with pytest.raises(
        FileFormatError, match=r"bomb\.h5' has .* bytes, but its array 'x' .* asks for 7,680,000,000 bytes"
    ):
        check_hdf5(path)
    assert time.perf_counter() - start < 5


def test_a_huge_chunk_of_a_small_array_is_refused(tmp_path):
    path = tmp_path / "chunk.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", shape=(10,), maxshape=(None,), dtype="f8", chunks=(1 << 27,), compression="gzip")
    with pytest.raises(FileFormatError, match=r"one chunk of its array 'x'"):
        check_hdf5(path)


def test_many_arrays_that_ask_for_too_much_together_are_refused(tmp_path):
    path = tmp_path / "many.h5"
    with h5py.File(path, "w") as file:
        for number in range(10):
            file.create_dataset(f"x{number}", shape=(30_000_000,), dtype="f8")
    with pytest.raises(FileFormatError, match="all that it holds asks for 2,400,000,000 bytes"):
        check_hdf5(path)


def test_numbers_of_other_files_are_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(80))
    layout = h5py.VirtualLayout((20,), "f4")
    layout[:] = h5py.VirtualSource("gone.hdf5", "x", shape=(20,))
    writers = {
        "its link 'x' leads to another file, 'other'": lambda f: f.update({"x": h5py.ExternalLink("other", "/x")}),
        "its link 'x' leads to '/x', where nothing is": lambda f: f.update({"x": h5py.SoftLink("/x")}),
        "its array 'x' takes its numbers from another file, 'secret'": lambda f: f.create_dataset(
            "x", (20,), "f4", external=[("secret", 0, 80)]
        ),
        "its array 'x' takes its numbers from another file, 'gone": lambda f: f.create_virtual_dataset("x", layout),
    }
    for number, (says, write) in enumerate(writers.items()):
        with h5py.File(tmp_path / f"{number}.hdf5", "w") as file:
            write(file)
        with pytest.raises(FileFormatError, match=says):
            check_hdf5(tmp_path / f"{number}.hdf5")
    with h5py.File(tmp_path / "soft.hdf5", "w") as file:
        file["y"], file["x"], file["all"] = [1.0, 2.0], h5py.SoftLink("/y"), file["/"]
    check_hdf5(tmp_path / "soft.hdf5")


def test_complex_numbers_are_refused(tmp_path):
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["x"] = np.ones(3, dtype=np.complex64)
    with pytest.raises(FileFormatError, match=r"'x' of .*c\.h5' is complex64, but must be real numbers"):
        check_hdf5(tmp_path / "c.h5")


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_what_is_no_hdf5_is_one_sentence(tmp_path, content):
    (tmp_path / "a.nc").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"a\.nc' cannot be read as a NetCDF file \(.*\); write it again"):
        check_hdf5(tmp_path / "a.nc", "a NetCDF file", "write it again")
    with pytest.raises(AnydiffError, match="cannot read"):
        check_hdf5(tmp_path / "absent.nc")


def test_a_library_that_never_ends_is_stopped_and_the_next_file_is_read(tmp_path, good, monkeypatch):
    fifo = tmp_path / "never.h5"
    os.mkfifo(fifo)  # opening it waits for a writer for ever
    path = tmp_path / "link.h5"
    path.write_bytes(b"x")
    real = hdf5._scout.ask
    monkeypatch.setattr(hdf5._scout, "ask", lambda question, seconds: real({"path": str(fifo)}, 0.5))
    with pytest.raises(FileFormatError, match=r"link\.h5' did not end opening within"):
        check_hdf5(path)
    monkeypatch.undo()
    hdf5._known.clear()
    check_hdf5(good)


def test_damaged_files_end_in_a_sentence_or_pass(tmp_path, good):
    content = good.read_bytes()
    generator = np.random.default_rng(0)
    path = tmp_path / "m.h5"
    refused = 0
    for _ in range(60):
        changed = bytearray(content)
        for place in generator.integers(0, len(content), 3):
            changed[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(changed[: len(changed) if generator.random() < 0.8 else int(generator.integers(len(changed)))])
        hdf5._known.clear()
        try:
            check_hdf5(path)
        except FileFormatError:
            refused += 1
    assert 10 < refused <= 60
