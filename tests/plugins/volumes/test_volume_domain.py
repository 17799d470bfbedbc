"""The domain: an exact codec, files, pictures, and bad input as one sentence that names the file and the fix."""

import nibabel
import numpy as np
import pytest
import torch
from nibabel.orientations import inv_ornt_aff
from PIL import Image

from anydiff.errors import AnydiffError, FileFormatError
from anydiff.registry import registry
from anydiff_volumes.domain import Volumes
from anydiff_volumes.pictures import draw_difference, draw_montage

SHAPE = (6, 8, 7)


def domain(**options):
    return Volumes(shape=SHAPE, voxel_size=2.0, **options)


def volumes(count=3, seed=0):
    values = np.random.default_rng(seed).random((count, *SHAPE)).astype(np.float32)
    return [nibabel.Nifti1Image(each, domain().affine) for each in values]


@pytest.mark.parametrize("name", ["one.nii", "one.nii.gz", "many"])
def test_what_is_written_is_read_back_exactly(tmp_path, name):
    images = domain().decode(domain().encode(volumes(1 if "." in name else 3)))
    domain().write(images, tmp_path / name)
    read = domain().read(tmp_path / name)
    assert len(read) == len(images)
    for one, two in zip(images, read, strict=True):
        assert np.array_equal(one.affine, two.affine)
        assert np.array_equal(np.asarray(one.dataobj), np.asarray(two.dataobj))
        assert two.header.get_xyzt_units()[0] == "mm"
        assert int(two.header["sform_code"]) == int(two.header["qform_code"]) == 1
    with pytest.raises(AnydiffError, match="exists; choose another name"):
        domain().write(images, tmp_path / name)


def test_the_codec_is_exact_and_clamps_samples():
    states = domain().encode(volumes())
    assert states.shape == (3, 1, *SHAPE)
    assert states.dtype == torch.float32
    assert torch.allclose(domain().encode(domain().decode(states)), states, atol=1e-6)
    assert np.asarray(domain().decode(states * 9)[0].dataobj).max() == 1
    assert domain().encode([]).shape == (0, 1, *SHAPE)
    with pytest.raises(AnydiffError, match="not finite"):
        domain().decode(states * float("nan"))
    centre = nibabel.affines.apply_affine(domain().affine, (np.array(SHAPE) - 1) / 2)
    assert np.allclose(centre, 0)
    assert domain(origin=(1, 2, 3)).affine[:3, 3].tolist() == [1, 2, 3]


def changed(image, *, affine=None, values=None):
    values = np.asarray(image.dataobj) if values is None else values
    return nibabel.Nifti1Image(values, image.affine if affine is None else affine)


def test_what_does_not_lie_on_the_grid_is_refused_with_the_fix(tmp_path):
    good = volumes(1)[0]
    values = np.asarray(good.dataobj)
    flat = np.array([[2.0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    for bad, message in [
        (changed(good, values=values[:-1]), r"volume 1 has shape \(5, 8, 7\).*conform"),
        (changed(good, values=np.stack([values] * 2, -1)), r"volume 1 has 4 axes.*slicer\[\.\.\., 0\]"),
        (changed(good, affine=np.diag([2, 2, 3, 1.0])), r"anisotropic voxels of 2 x 2 x 3 mm.*conform"),
        (changed(good, affine=np.diag([3, 3, 3, 1.0])), r"has voxels of 3 x 3 x 3 mm"),
        (changed(good, affine=np.diag([-2, 2, 2, 1.0])), r"oriented LAS, but states are RAS"),
        (changed(good, affine=flat), r"singular affine"),
        (changed(good, values=values * 900), r"holds values from .* to 89\d\.?\d*, but MR is scaled to 0 to 1"),
        (changed(good, values=np.where(values > 0.99, np.nan, values)), r"voxels that are not finite, the first at"),
    ]:
        with pytest.raises(AnydiffError, match=message):
            domain().encode([good, bad])
    nibabel.save(changed(good, affine=np.diag([-2, 2, 2, 1.0])), tmp_path / "left.nii")
    with pytest.raises(AnydiffError, match=r"volume 0 \(.*left\.nii'\) is oriented LAS"):
        domain().encode(domain().read(tmp_path / "left.nii"))
    with pytest.raises(AnydiffError, match=r"the volume \(.*left\.nii'\) has no value below 0.*CT"):
        domain(modality="ct").conform(domain().read(tmp_path / "left.nii")[0])
    bare = changed(good)
    bare.header["sform_code"] = bare.header["qform_code"] = 0
    with pytest.raises(AnydiffError, match="has no affine"):
        domain().encode([bare])


def test_unreadable_files_are_named_and_left_alone(tmp_path):
    image = volumes(1)[0]
    nibabel.save(image, tmp_path / "good.nii.gz")
    content = (tmp_path / "good.nii.gz").read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(content[:-200])
    (tmp_path / "text.nii").write_text("no volume at all")
    series = np.stack([np.asarray(image.dataobj)] * 2, -1)
    nibabel.save(nibabel.Nifti1Image(series, image.affine), tmp_path / "four.nii")
    holes = np.asarray(image.dataobj).copy()
    holes[1, 2, 3] = np.nan
    nibabel.save(nibabel.Nifti1Image(holes, image.affine), tmp_path / "nan.nii")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name, message in [
        ("cut.nii.gz", r"cut\.nii\.gz' cannot be read"),
        ("text.nii", r"text\.nii' cannot be read as a NIfTI file"),
        ("four.nii", r"four\.nii' has 4 axes"),
        ("nan.nii", r"nan\.nii' holds 1 voxels that are not finite, the first at \(1, 2, 3\)"),
        ("none.nii", r"none\.nii' does not exist"),
    ]:
        with pytest.raises(AnydiffError, match=message):
            domain().read(tmp_path / name)
    with pytest.raises(FileFormatError):
        domain().read(tmp_path / "text.nii")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnydiffError, match="holds no NIfTI files"):
        domain().read(tmp_path / "empty")
    with pytest.raises(AnydiffError, match="one NIfTI file, but 2 volumes"):
        domain().write(volumes(2), tmp_path / "two.nii")
    with pytest.raises(AnydiffError, match=r"ends in '\.png'"):
        domain().write(volumes(2), tmp_path / "two.png")


def test_damaged_and_foreign_files_are_one_sentence(tmp_path):
    image = volumes(1)[0]
    nibabel.save(image, tmp_path / "good.nii.gz")
    nibabel.save(image, tmp_path / "good.nii")
    packed, plain = (tmp_path / "good.nii.gz").read_bytes(), bytearray((tmp_path / "good.nii").read_bytes())
    # A checksum that differs stands for damage that still unpacks; nibabel does not read so far.
    (tmp_path / "sum.nii.gz").write_bytes(packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:])
    (tmp_path / "cut.nii").write_bytes(plain[:-50])
    for name, place, number in (("unit.nii", 123, 7), ("empty.nii", 42, 0)):
        (tmp_path / name).write_bytes(plain[:place] + bytes([number]) + plain[place + 1 :])
    plain[70:72] = b"\x77\x77"
    (tmp_path / "kind.nii").write_bytes(plain)
    colours = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, image.affine), tmp_path / "colour.nii")
    nibabel.save(nibabel.Nifti1Image(np.full(SHAPE, 1 + 2j, np.complex64), image.affine), tmp_path / "complex.nii")
    for name, message in [
        ("sum.nii.gz", r"sum\.nii\.gz' cannot be read as a NIfTI file \(CRC check failed.*get the file again"),
        ("cut.nii", r"cut\.nii' cannot be read"),
        ("unit.nii", r"unit\.nii' has the unknown unit of length 7.*set_xyzt_units"),
        ("empty.nii", r"empty\.nii' has shape \(0, 8, 7\), an axis without voxels"),
        ("kind.nii", r"kind\.nii' cannot be read as a NIfTI file"),
        ("colour.nii", r"colour\.nii' holds colours"),
        ("complex.nii", r"complex\.nii' holds complex64 values.*np\.abs"),
    ]:
        with pytest.raises(AnydiffError, match=message) as raised:
            domain().read(tmp_path / name)
        assert "\n" not in str(raised.value)


def test_options_are_checked():
    for options, message in [
        ({"shape": (4, 4)}, "three axes"),
        ({"voxel_size": 0}, "voxel_size is 0"),
        ({"modality": "pet"}, "unknown modality"),
    ]:
        with pytest.raises(AnydiffError, match=message):
            Volumes(**options)


def test_a_folder_of_scans_is_data(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(12):
        values = generator.integers(0, 500, (9, 9, 9)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(values, np.diag([-3.0, 3, 3, 1])), tmp_path / f"{number:02d}.nii.gz")
    options = {"path": str(tmp_path), "shape": [5, 6, 7], "voxel_size": 4.0}
    train, test = (
        registry().build("datasets", "volumes/folder", split=split, **options) for split in ("train", "test")
    )
    assert (len(train), len(test)) == (11, 1)
    assert test.files[0].name == "09.nii.gz"
    assert train.batch([0, 10])[0].shape == (2, 1, 5, 6, 7)
    assert -1 <= float(train.batch(range(11))[0].min()) < float(train.batch(range(11))[0].max()) <= 1
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1, 5, 1])), tmp_path / "thick.nii")
    with pytest.raises(AnydiffError, match=r"thick\.nii' has anisotropic voxels of 1 x 1 x 5 mm.*resample=True"):
        registry().build("datasets", "volumes/folder", **options)
    assert len(registry().build("datasets", "volumes/folder", resample=True, **options)) == 12


def test_pictures(tmp_path):
    one, two = volumes(2)
    domain().draw([one, two], tmp_path / "planes.png", ["first", "second"])
    draw_montage(one, tmp_path / "montage.png", columns=3)
    draw_difference(one, two, tmp_path / "difference.png")
    for name in ("planes", "montage", "difference"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert min(picture.size) > 100
    marked = np.zeros(SHAPE, np.float32)
    marked[0, SHAPE[1] // 2, -1] = 1  # left and up in the coronal plane
    domain().draw([nibabel.Nifti1Image(marked, domain().affine)], tmp_path / "mark.png")
    pixels = np.asarray(Image.open(tmp_path / "mark.png").convert("L"))
    rows, columns = np.nonzero(pixels > 200)
    width = pixels.shape[1] / 3
    assert rows.max() < pixels.shape[0] / 3, "up is up"
    assert width * 0.9 <= columns.min()
    assert columns.max() < width * 1.5, "the patient's left is on the left"
    turned = nibabel.Nifti1Image(marked[::-1, ::-1], domain().affine @ inv_ornt_aff([[0, -1], [1, -1], [2, 1]], SHAPE))
    domain().draw([turned], tmp_path / "turned.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "turned.png").convert("L")), pixels), "a file in LPS"
    thick = nibabel.Nifti1Image(marked, np.diag([2.0, 2, 6, 1]))
    domain().draw([thick], tmp_path / "thick.png")
    with Image.open(tmp_path / "thick.png") as picture:
        assert picture.size[1] > 2 * picture.size[0] / 3, "21 by 8 voxel edges, not 7 by 8"
    moved = nibabel.Nifti1Image(np.asarray(two.dataobj), two.affine + 3 * np.eye(4, 4, 3))
    with pytest.raises(AnydiffError, match="the volumes lie up to 3 mm apart"):
        draw_difference(one, moved, tmp_path / "x.png")
    with pytest.raises(AnydiffError, match="compare volumes of one grid"):
        draw_difference(one, nibabel.Nifti1Image(marked[:-1], domain().affine), tmp_path / "x.png")
