"""Geometry: every voxel keeps its place in the world, and the way to the grid and back is exact."""

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from anydiff.denoisers.wrappers import Windows, sweep
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff_volumes.domain import Volumes
from anydiff_volumes.intensity import window_of
from anydiff_volumes.placement import place, resample

CODES = ["RAS", "LPS", "PIR", "SAL", "ILA"]


def scan(shape=(9, 7, 8), sizes=(3.0, 3.0, 3.0), codes="RAS", seed=0, dtype=np.int16, top=900):
    """An MR scan of random values, in any orientation."""
    values = np.random.default_rng(seed).integers(0, top, shape).astype(dtype)
    to_world = nibabel.orientations.inv_ornt_aff(
        nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(codes)
        ),
        shape,
    )
    affine = np.diag([*np.array(sizes), 1.0]) @ to_world
    affine[:3, 3] += [-12.5, 4.0, 30.25]
    image = nibabel.Nifti1Image(values, affine)
    image.set_sform(affine, code=2)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"scanner 7"
    return image


@given(code=st.sampled_from(CODES), shape=st.tuples(*[st.integers(4, 9)] * 3), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_to_the_grid_and_back_is_exact_where_nothing_is_resampled(code, shape, seed):
    image = scan(shape, codes=code, seed=seed, top=50)
    conformed, placement = Volumes(shape=(10, 10, 10), voxel_size=3.0).conform(image)
    assert "".join(nibabel.aff2axcodes(conformed.affine)) == "RAS"
    back = placement.restore(conformed)
    assert back.shape == image.shape
    assert np.array_equal(back.affine, image.affine)
    window = placement.window
    expected = np.clip(np.asarray(image.dataobj), window.low, window.high)
    assert np.abs(np.asarray(back.dataobj) - np.rint(expected)).max() <= 0
    assert back.get_data_dtype() == np.int16
    for name in ("sform_code", "qform_code", "descrip", "xyzt_units"):
        assert back.header[name] == image.header[name], name
    assert np.allclose(back.header.get_zooms(), image.header.get_zooms())


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("voxel_size", [3.0, 2.0, 4.5])
def test_a_marked_voxel_keeps_its_place_in_the_world(code, voxel_size):
    image = scan((21, 22, 23), codes=code)
    place = np.indices(image.shape) - np.array([10, 11, 12]).reshape(3, 1, 1, 1)
    values = (1000 * np.exp(-(place**2).sum(axis=0) / 8)).astype(np.float32)
    image = nibabel.Nifti1Image(values, image.affine)
    conformed, _ = Volumes(shape=(40, 40, 40), voxel_size=voxel_size).conform(image)
    weights = np.asarray(conformed.dataobj, dtype=np.float64)
    centre = np.array([(grid * weights).sum() for grid in np.indices(weights.shape)]) / weights.sum()
    world = nibabel.affines.apply_affine(conformed.affine, centre)
    expected = nibabel.affines.apply_affine(image.affine, [10, 11, 12])
    assert np.abs(world - expected).max() < (1e-4 if voxel_size == 3.0 else 0.02)


@pytest.mark.parametrize(("unit", "per_millimetre"), [("micron", 1e3), ("meter", 1e-3), ("mm", 1), ("unknown", 1)])
def test_units_of_a_header_are_understood_and_kept(tmp_path, unit, per_millimetre):
    """An affine is in the header's unit: 3000 micrometres are 3 mm, not three metres."""
    image = scan(codes="LPS", top=50)
    affine = np.diag([per_millimetre] * 3 + [1.0]) @ image.affine
    other = nibabel.Nifti1Image(np.asarray(image.dataobj), affine)
    other.header.set_xyzt_units(unit, "sec")
    nibabel.save(other, tmp_path / "a.nii")
    domain = Volumes(shape=(10, 10, 10), voxel_size=3.0)
    (read,) = domain.read(tmp_path / "a.nii")
    (expected, _), (found, placement) = domain.conform(image), domain.conform(read)
    assert np.array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
    assert np.allclose(found.affine, expected.affine, atol=1e-4)
    assert found.header.get_xyzt_units()[0] == "mm"
    assert domain.encode([found]).shape == (1, 1, 10, 10, 10)
    back = placement.restore(found)
    assert np.array_equal(back.affine, read.affine)
    assert back.header.get_xyzt_units() == (unit, "sec")
    again = nibabel.Nifti1Image(np.asarray(found.dataobj), np.diag([per_millimetre] * 3 + [1.0]) @ found.affine)
    again.header.set_xyzt_units(unit)
    assert np.array_equal(domain.encode([again]), domain.encode([found]))


@pytest.mark.parametrize("kind", ["oblique", "disagreeing", "qform alone", "sheared", "thick", "one slice"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_awkward_affines_come_back_bit_for_bit(tmp_path, kind, suffix):
    turn, _ = np.linalg.qr(np.array([[1.0, 0.2, 0.1], [-0.2, 1.0, 0.3], [-0.1, -0.3, 1.0]]))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * 3.0, [-31.7, 12.2, 5.5]
    shape = (9, 8, 1) if kind == "one slice" else (9, 8, 7)
    if kind == "sheared":
        affine[0, 2] += 0.4
    if kind == "thick":
        affine[:3, 2] *= 2
    image = nibabel.Nifti1Image(np.random.default_rng(0).integers(0, 60, shape).astype(np.int16), affine)
    image.set_qform(np.diag([-3.0, -3, 3, 1]) if kind == "disagreeing" else affine, code=1)
    image.set_sform(None if kind == "qform alone" else affine, code=0 if kind == "qform alone" else 3)
    nibabel.save(image, tmp_path / f"a{suffix}")
    original = nibabel.load(tmp_path / f"a{suffix}")
    domain = Volumes(shape=(12, 12, 12), voxel_size=3.0)
    conformed, placement = domain.conform(*domain.read(tmp_path / f"a{suffix}"))
    domain.write([placement.restore(conformed)], tmp_path / f"b{suffix}")
    back = nibabel.load(tmp_path / f"b{suffix}")
    assert bytes(back.header.binaryblock) == bytes(original.header.binaryblock), "every field of the header"
    assert np.array_equal(back.affine, original.affine)
    for corner in np.ndindex(2, 2, 2):  # the grid's own affine says where its voxels lie
        on_grid = (np.array(corner) * 11.0).tolist()
        in_scan = nibabel.affines.apply_affine(np.linalg.inv(original.affine) @ conformed.affine, on_grid)
        turned = np.array(placement.scale) * on_grid + placement.offset
        axes = placement.orientation[:, 0].astype(int)
        expected = [
            turned[axis] if sign > 0 else size - 1 - turned[axis]
            for axis, sign, size in zip(axes, placement.orientation[:, 1], shape, strict=True)
        ]
        assert np.allclose(in_scan, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["big-endian", "nifti-2", "extension"])
def test_the_kind_of_a_file_and_its_extensions_come_back(tmp_path, kind):
    values = np.random.default_rng(0).integers(0, 60, (9, 8, 7)).astype(np.int16)
    affine = np.diag([3.0, 3, 3, 1])
    if kind == "nifti-2":
        image = nibabel.Nifti2Image(values, affine)
    else:
        header = nibabel.Nifti1Header(endianness=">" if kind == "big-endian" else "<")
        header.set_data_dtype(values.dtype.newbyteorder(header.endianness))
        image = nibabel.Nifti1Image(values, affine, header)
    if kind == "extension":
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"scanned on a Tuesday"))
    nibabel.save(image, tmp_path / "a.nii")
    original = nibabel.load(tmp_path / "a.nii")
    domain = Volumes(shape=(12, 12, 12), voxel_size=3.0)
    conformed, placement = domain.conform(*domain.read(tmp_path / "a.nii"))
    domain.write([placement.restore(conformed)], tmp_path / "b.nii")
    back = nibabel.load(tmp_path / "b.nii")
    assert type(back) is type(original)
    assert bytes(back.header.binaryblock) == bytes(original.header.binaryblock)
    assert [each.get_content() for each in back.header.extensions] == [
        each.get_content() for each in original.header.extensions
    ]
    window = placement.window
    expected = np.rint(np.clip(values, window.low, window.high))
    assert np.array_equal(np.asarray(back.dataobj), expected)


def test_a_volume_of_another_grid_is_not_restored():
    conformed, placement = Volumes(shape=(10, 10, 10), voxel_size=3.0).conform(scan())
    with pytest.raises(AnydiffError, match=r"has shape \(9, 10, 10\), but the grid .* has \(10, 10, 10\)"):
        placement.restore(nibabel.Nifti1Image(np.asarray(conformed.dataobj)[1:], conformed.affine))


def test_a_file_is_swept_one_window_at_a_time(tmp_path):
    """A volume larger than memory: slices of the file as it lies on disk, its slope applied."""
    image = scan((20, 18, 16), top=100)
    image.header.set_slope_inter(0.5, -7.0)
    for suffix in (".nii", ".nii.gz"):
        nibabel.save(image, tmp_path / f"a{suffix}")
        source = nibabel.load(tmp_path / f"a{suffix}").dataobj
        target = np.memmap(tmp_path / f"out{suffix}.raw", np.float32, "w+", shape=source.shape)

        def local(window):
            return ndimage.uniform_filter(window.astype(np.float64), 3, mode="constant")

        sweep(local, source, target, Windows((8, 8, 8), 4, margin=1))
        whole = local(np.asarray(source))
        assert np.abs(np.asarray(target) - whole).max() < 1e-5 * np.abs(whole).max()


def test_centres_of_the_fields_of_view_are_aligned():
    image = scan((8, 8, 8), sizes=(2.0, 2.0, 2.0))
    conformed, placement = place(image, (4, 4, 4), 4.0, "mr", "x")
    middle = nibabel.affines.apply_affine(image.affine, [3.5] * 3)
    assert np.allclose(nibabel.affines.apply_affine(conformed.affine, [1.5] * 3), middle)
    assert np.allclose(nibabel.affines.voxel_sizes(conformed.affine), 4.0)
    assert placement.scale == (2.0, 2.0, 2.0)
    assert placement.offset == (0.5, 0.5, 0.5)


def test_resampling_a_linear_ramp_is_exact_inside():
    ramp = np.arange(10.0)[:, None, None] * np.ones((10, 4, 4))
    found = resample(ramp, (19, 4, 4), (0.5, 1.0, 1.0), (0.0, 0.0, 0.0), fill=-1.0)
    assert np.allclose(found[:, 1, 1], np.arange(19) / 2)
    outside = resample(ramp, (12, 4, 4), (1.0, 1.0, 1.0), (-1.0, 0.0, 0.0), fill=-1.0)
    assert outside[:, 0, 0].tolist() == [-1.0, *range(10), -1.0]


def test_what_a_coarse_grid_cannot_hold_is_averaged_away():
    """A wave of 2.5 voxels sampled every 4 would come back as another wave of the same height."""
    wave = np.cos(2 * np.pi * np.arange(80.0) / 2.5)[:, None, None] * np.ones((80, 8, 8))
    found = resample(wave, (20, 2, 2), (4.0, 4.0, 4.0), (1.5, 1.5, 1.5), fill=0.0)
    assert np.abs(found[2:-2]).max() < 0.01


def test_labels_are_never_mixed():
    image = scan((9, 9, 9), top=4)
    conformed, _ = place(image, (14, 14, 14), 2.0, "mr", "x", labels=True)
    assert set(np.unique(np.asarray(conformed.dataobj))) <= {0, 1, 2, 3}


def test_large_labels_keep_their_numbers():
    """Atlases number regions beyond 16 bits; 70001 as int16 is another region, 4465."""
    values = np.zeros((6, 6, 6), np.int32)
    values[2:4, 2:4, 2:4], values[4, 4, 4] = 70001, 614454277
    image = nibabel.Nifti1Image(values, np.diag([3.0, 3, 3, 1]))
    placed, placement = place(image, (8, 8, 8), 3.0, "mr", "x", labels=True)
    assert set(np.unique(np.asarray(placed.dataobj))) == {0, 70001, 614454277}
    assert np.array_equal(np.asarray(placement.restore(placed).dataobj), values)
    with pytest.raises(AnydiffError, match=r"x holds 0.5, but labels are whole numbers"):
        place(nibabel.Nifti1Image(np.full((4, 4, 4), 0.5, np.float32), image.affine), (4, 4, 4), 3.0, "mr", "x", True)


def test_ct_keeps_hounsfield_units():
    values = np.random.default_rng(0).integers(-1000, 900, (6, 6, 6)).astype(np.int16)
    image = nibabel.Nifti1Image(values, np.diag([3.0, 3, 3, 1]))
    domain = Volumes(shape=(8, 8, 8), voxel_size=3.0, modality="ct")
    conformed, placement = domain.conform(image)
    held = np.asarray(conformed.dataobj)
    assert held.min() == -1000, "air around"
    assert np.abs(held[1:7, 1:7, 1:7] - values).max() < 0.1
    states = domain.encode([conformed])
    assert np.array_equal(np.asarray(placement.restore(domain.decode(states)[0]).dataobj), values)


def test_scaled_integers_come_back_in_their_own_units(tmp_path):
    image = scan(top=100)
    image.header.set_slope_inter(0.5, 10.0)
    nibabel.save(image, tmp_path / "a.nii")
    loaded = Volumes().read(tmp_path / "a.nii")[0]
    conformed, placement = Volumes(shape=(10, 10, 10), voxel_size=3.0).conform(loaded)
    back = placement.restore(conformed)
    difference = np.asarray(back.dataobj) - np.clip(loaded.get_fdata(), placement.window.low, placement.window.high)
    assert np.abs(difference).max() < 1e-4


def test_windows_invert_and_name_the_wrong_modality():
    values = np.array([0.0, 10.0, 50.0, 100.0])
    window = window_of(values, "mr", "x")
    assert np.allclose(window.decode(window.encode(values)), np.clip(values, window.low, window.high), atol=1e-4)
    with pytest.raises(AnydiffError, match=r"'a' has no value below 0, but CT.*modality='mr'"):
        window_of(values, "ct", "'a'")
    with pytest.raises(AnydiffError, match=r"down to -1000, which looks like CT.*modality='ct'"):
        window_of(values - 1000, "mr", "'a'")
    with pytest.raises(AnydiffError, match="7 everywhere"):
        window_of(np.full(3, 7.0), "mr", "'a'")
    with pytest.raises(UnknownNameError, match="unknown modality"):
        window_of(values, "pet", "'a'")
