"""Geometry: every voxel keeps its place in the world, and the way to the grid and back is exact."""

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff_volumes.domain import Volumes
from anydiff_volumes.intensity import Window
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


def test_labels_are_never_mixed():
    image = scan((9, 9, 9), top=4)
    conformed, _ = place(image, (14, 14, 14), 2.0, "mr", "x", labels=True)
    assert set(np.unique(np.asarray(conformed.dataobj))) <= {0, 1, 2, 3}


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
    window = Window.of(values, "mr", "x")
    assert np.allclose(window.restore(window.scale(values)), np.clip(values, window.low, window.high), atol=1e-4)
    with pytest.raises(AnydiffError, match=r"'a' has no value below 0, but CT.*modality='mr'"):
        Window.of(values, "ct", "'a'")
    with pytest.raises(AnydiffError, match=r"down to -1000, which looks like CT.*modality='ct'"):
        Window.of(values - 1000, "mr", "'a'")
    with pytest.raises(AnydiffError, match="7 everywhere"):
        Window.of(np.full(3, 7.0), "mr", "'a'")
    with pytest.raises(UnknownNameError, match="unknown modality"):
        Window.of(values, "pet", "'a'")
