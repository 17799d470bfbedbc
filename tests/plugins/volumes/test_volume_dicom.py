"""DICOM series: the place of every pixel, the order of slices, units, and what is wrong with a folder."""

import nibabel
import numpy as np
import pytest

from anydiff.errors import AnydiffError
from anydiff_volumes.domain import Volumes

pydicom = pytest.importorskip("pydicom")


def test_every_pixel_is_where_the_standard_says(tmp_path, write_slice):
    for number in (2, 0, 1):
        write_slice(tmp_path / f"{9 - number}.dcm", number)
    (tmp_path / "notes.txt").write_text("not a slice")
    image = Volumes().read(tmp_path)[0]
    assert image.shape == (5, 4, 3)
    column, row, number = 3, 2, 1
    assert np.asarray(image.dataobj)[column, row, number] == 2 * (100 + 20 + 3) - 1000
    origin = np.array([10.0, -20.0, 5.0]) + 3.0 * number * np.array([0.0, -0.6, 0.8])
    lps = origin + np.array([1.0, 0, 0]) * 1.5 * column + np.array([0, 0.8, 0.6]) * 2.0 * row
    world = nibabel.affines.apply_affine(image.affine, [column, row, number])
    assert np.allclose(world, lps * [-1, -1, 1], atol=1e-5)


def test_a_tilted_gantry_shears_the_affine(tmp_path, write_slice):
    """Slices that follow one another along a line that is not their normal keep their places."""
    for number in range(4):
        write_slice(tmp_path / f"{number}.dcm", number, aside=0.75 * number)
    image = Volumes().read(tmp_path)[0]
    lps = np.array([10.0, -20.0, 5.0]) + 3.0 * 3 * np.array([0.0, -0.6, 0.8]) + 0.75 * 3 * np.array([0.0, 0.8, 0.6])
    assert np.allclose(nibabel.affines.apply_affine(image.affine, [0, 0, 3]), lps * [-1, -1, 1], atol=1e-5)
    conformed, placement = Volumes(shape=(8, 8, 8), voxel_size=2.0, modality="ct").conform(image)
    assert np.array_equal(placement.restore(conformed).affine, image.affine)
    write_slice(tmp_path / "2.dcm", 2, aside=2.5)
    with pytest.raises(AnydiffError, match="slice 2 1 mm beside the line of the others"):
        Volumes().read(tmp_path)


def test_what_is_wrong_with_a_folder_is_told(tmp_path, write_slice):
    def folder(name, *slices):
        (tmp_path / name).mkdir()
        for index, options in enumerate(slices):
            write_slice(tmp_path / name / f"{index}.dcm", index, **options)
        return tmp_path / name

    for path, message in [
        (folder("gap", {}, {}, {"z": 9.0}, {"z": 12.0}), r"3 mm apart, but 6 mm behind .* a slice is missing"),
        (folder("twice", {}, {"z": 0.0}), "two slices at one place"),
        (folder("two", {}, {"series": "9.9"}), "holds 2 DICOM series"),
        (folder("spacing", {}, {"PixelSpacing": [2.0, 1.6]}), r"1\.dcm' has another size or direction"),
        (folder("place", {}, {"ImagePositionPatient": None}), r"1\.dcm' \(\?\) has no ImagePositionPatient"),
        (folder("report", {}, {"Rows": None, "Modality": "SR"}), r"1\.dcm' \(SR\) has no Rows.*remove it"),
        (folder("frames", {"NumberOfFrames": 3}), r"0\.dcm' holds 3 frames; convert it to NIfTI"),
        (folder("colour", {"SamplesPerPixel": 3}), r"0\.dcm' is a colour picture"),
        (folder("palette", {"PhotometricInterpretation": "PALETTE COLOR"}), r"0\.dcm' is a colour picture"),
        (folder("size", {}, {"rows": 3}), r"1\.dcm' has another size or direction than .*0\.dcm'"),
    ]:
        with pytest.raises(AnydiffError, match=message):
            Volumes().read(path)
    whole = (tmp_path / "size" / "0.dcm").read_bytes()
    (tmp_path / "size" / "1.dcm").unlink()
    (tmp_path / "size" / "0.dcm").write_bytes(whole[:-9])
    with pytest.raises(AnydiffError, match=r"pixels of .*0\.dcm' cannot be read"):
        Volumes().read(tmp_path / "size")
