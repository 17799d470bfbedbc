"""Volumes as other people have them: shears, scaled labels, one time point, DICOM with gaps in it, sizes that lie."""

from __future__ import annotations

import gzip
import json
import warnings

import nibabel
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from anydiff.cli.app import app
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.recipes import Recipe
from anydiff.recipes.build import build_dataset
from anydiff.registry import registry
from anydiff.states import Conditioning
from anydiff_volumes.domain import Volumes
from anydiff_volumes.placement import place

SHAPE = (6, 8, 7)


def scan(path, affine=None, shape=(9, 8, 7), values=None, top=500):
    values = np.random.default_rng(0).integers(0, top, shape).astype(np.int16) if values is None else values
    image = nibabel.Nifti1Image(values, np.diag([3.0, 3, 3, 1]) if affine is None else affine)
    nibabel.save(image, path)
    return image


# Affines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shear", [0.0, 0.05, 0.4])
def test_a_qform_is_stated_only_where_it_says_the_same_place(tmp_path, shear):
    """Readers that prefer the qform put a sheared grid millimetres away, where sform and qform disagree."""
    affine = np.diag([3.0, 3, 3, 1])
    affine[1, 2] = shear
    scan(tmp_path / "a.nii", affine, (60, 60, 60))
    domain = Volumes(shape=(60, 60, 60), voxel_size=3.0)
    conformed, _ = domain.conform(*domain.read(tmp_path / "a.nii"))
    domain.write([conformed], tmp_path / "b.nii.gz")
    back = nibabel.load(tmp_path / "b.nii.gz")
    assert int(back.header["sform_code"]) == 1
    assert int(back.header["qform_code"]) == (0 if shear else 1)
    assert np.allclose(back.get_sform(), conformed.affine, atol=1e-5)
    place_of_qform, coded = back.get_qform(coded=True)
    corner = np.array([59.0, 59, 59])
    if coded:
        expected = nibabel.affines.apply_affine(back.get_sform(), corner)
        assert np.allclose(nibabel.affines.apply_affine(place_of_qform, corner), expected, atol=1e-3)


def test_a_tilted_series_is_written_without_a_qform(tmp_path, write_slice):
    (tmp_path / "series").mkdir()
    for number in range(6):
        write_slice(tmp_path / "series" / f"{number}.dcm", number, aside=0.75 * number)
    (image,) = Volumes().read(tmp_path / "series")
    Volumes().write([image], tmp_path / "a.nii")
    back = nibabel.load(tmp_path / "a.nii")
    assert (int(back.header["sform_code"]), int(back.header["qform_code"])) == (1, 0)
    assert np.allclose(back.affine, image.affine, atol=1e-5)


@pytest.mark.parametrize("linear", [np.zeros((3, 3)), np.full((3, 3), 2.0), np.diag([3.0, 0, 3])])
def test_an_affine_that_is_no_map_is_refused(tmp_path, linear):
    image = scan(tmp_path / "a.nii")
    affine = np.eye(4)
    affine[:3, :3] = linear
    image.header["sform_code"] = 1
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        image.header[name] = affine[row]
    header = bytes(image.header.binaryblock)
    (tmp_path / "zero.nii").write_bytes(header + (tmp_path / "a.nii").read_bytes()[len(header) :])
    with pytest.raises(AnydiffError, match=r"zero\.nii' has the singular affine .*repair its header"):
        Volumes().read(tmp_path / "zero.nii")


# Labels -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stored", "labels"), [(np.int16, 4), (np.uint8, 4), (np.uint8, 100), (np.int16, 3000)])
def test_label_maps_that_a_file_scales_keep_their_numbers(tmp_path, stored, labels):
    """nibabel fits a slope to floats that are saved as integers: label 1 of 4 comes back as 1.00002."""
    values = np.random.default_rng(0).integers(0, labels + 1, (6, 6, 6)).astype(np.float64)
    values[0, 0, :2] = 0, labels
    image = nibabel.Nifti1Image(values, np.diag([3.0, 3, 3, 1]))
    image.set_data_dtype(stored)
    nibabel.save(image, tmp_path / "a.nii")
    loaded = nibabel.load(tmp_path / "a.nii")
    assert not np.array_equal(np.asarray(loaded.dataobj), values), "the fixture needs a slope"
    placed, placement = place(loaded, (8, 8, 8), 3.0, "mr", "x", labels=True)
    assert np.array_equal(np.asarray(placed.dataobj)[1:7, 1:7, 1:7], values)
    assert np.array_equal(np.asarray(placement.restore(placed).dataobj), values)


def test_intensities_are_no_labels_whatever_their_slope(tmp_path):
    for top in (1.0, 60.0, 900.0):
        image = nibabel.Nifti1Image(np.random.default_rng(0).random((6, 6, 6)) * top, np.diag([3.0, 3, 3, 1]))
        image.set_data_dtype(np.uint8)
        nibabel.save(image, tmp_path / "a.nii")
        with pytest.raises(AnydiffError, match="but labels are whole numbers"):
            place(nibabel.load(tmp_path / "a.nii"), (8, 8, 8), 3.0, "mr", "x", labels=True)


# One time point -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [1.0, 0.5])
def test_one_time_point_is_one_volume(tmp_path, slope):
    values = np.random.default_rng(0).integers(0, 200, (9, 8, 7, 1)).astype(np.int16)
    image = nibabel.Nifti1Image(values, np.diag([3.0, 3, 3, 1]))
    image.header.set_slope_inter(slope, 0)
    nibabel.save(image, tmp_path / "a.nii.gz")
    domain = Volumes(shape=(12, 12, 12), voxel_size=3.0)
    (read,) = domain.read(tmp_path / "a.nii.gz")
    assert read.shape == (9, 8, 7)
    assert np.array_equal(read.get_fdata(), nibabel.load(tmp_path / "a.nii.gz").get_fdata()[..., 0])
    assert read.get_filename() == str(tmp_path / "a.nii.gz")
    (flat, _), (found, placement) = domain.conform(read), domain.conform(nibabel.load(tmp_path / "a.nii.gz"))
    assert np.array_equal(np.asarray(found.dataobj), np.asarray(flat.dataobj))
    back = placement.restore(found)
    assert back.shape == (9, 8, 7, 1), "the original's shape"
    assert (
        np.abs(back.get_fdata() - np.minimum(nibabel.load(tmp_path / "a.nii.gz").get_fdata(), 99.5 * slope * 2)).max()
        < 2
    )
    on_grid = nibabel.Nifti1Image(np.asarray(found.dataobj)[..., None], found.affine)
    assert torch.equal(domain.encode([on_grid]), domain.encode([found]))
    domain.write([read], tmp_path / "b.nii")
    assert nibabel.load(tmp_path / "b.nii").shape == (9, 8, 7)
    two = nibabel.Nifti1Image(np.repeat(values, 2, axis=3), image.affine)
    with pytest.raises(AnydiffError, match=r"has 4 axes, \(9, 8, 7, 2\).*slicer"):
        domain.conform(two)


def test_a_volume_cut_from_a_scaled_series_keeps_its_fractions(tmp_path):
    """The advice is image.slicer[..., 0]: its array is scaled already, while its header still says integers."""
    values = np.random.default_rng(0).integers(0, 100, (6, 6, 6, 2)).astype(np.int16)
    image = nibabel.Nifti1Image(values, np.diag([3.0, 3, 3, 1]))
    image.header.set_slope_inter(0.01, 0)
    nibabel.save(image, tmp_path / "a.nii")
    one = nibabel.load(tmp_path / "a.nii").slicer[..., 0]
    conformed, placement = Volumes(shape=(8, 8, 8), voxel_size=3.0).conform(one)
    back = placement.restore(conformed).get_fdata()
    window = placement.window
    assert np.abs(back - np.clip(values[..., 0] * 0.01, window.low, window.high)).max() < 1e-6


# Sizes that lie -----------------------------------------------------------------------------------------------------


def header_of(shape, kind=np.int16):
    header = nibabel.Nifti2Header()
    header.set_data_dtype(kind)
    header.set_data_shape(shape)
    header.set_sform(np.diag([3.0, 3, 3, 1]), code=1)
    header["vox_offset"] = 544
    return bytes(header.binaryblock) + bytes(4)


@pytest.mark.parametrize("shape", [(30000, 30000, 30000), (1 << 40, 1 << 40, 1 << 40), (2000, 2000, 10)])
@pytest.mark.parametrize("packed", [False, True])
def test_a_declared_size_is_checked_before_memory_is_taken(tmp_path, shape, packed):
    content = header_of(shape) + bytes(1000)
    path = tmp_path / ("a.nii.gz" if packed else "a.nii")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(FileFormatError, match=r"a\.nii.*(bytes of memory|but it holds 1544)"):
        Volumes().read(path)


def test_a_file_that_begins_with_empty_parts_is_refused(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(50 * gzip.compress(b""))
    with pytest.raises(FileFormatError, match="first part unpacks to 0 bytes, which hold no header"):
        Volumes().read(tmp_path / "a.nii.gz")


def test_a_file_that_unpacks_to_more_than_it_declares_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("anydiff_volumes.files.SURPLUS", 1 << 12)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header_of((4, 4, 4)) + bytes(1 << 21)))
    with pytest.raises(FileFormatError, match=r"unpacks to more than the 672 bytes"):
        Volumes().read(tmp_path / "a.nii.gz")


# DICOM --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def series(tmp_path, write_slice):
    def write(name, *slices, **common):
        (tmp_path / name).mkdir(parents=True)
        for number, options in enumerate(slices):
            write_slice(tmp_path / name / f"{number}.dcm", number, **{**common, **options})
        return tmp_path / name

    return write


def test_an_empty_slope_is_none_if_the_whole_series_has_none(series):
    plain = np.asarray(Volumes().read(series("plain", {}, {}, RescaleSlope=None, RescaleIntercept=None))[0].dataobj)
    assert plain[3, 2, 1] == 123
    (empty,) = Volumes().read(series("empty", {}, {}, RescaleSlope="", RescaleIntercept=""))
    assert np.array_equal(np.asarray(empty.dataobj), plain)
    (shifted,) = Volumes().read(series("shifted", {}, {}, RescaleSlope=""))
    assert np.array_equal(np.asarray(shifted.dataobj), plain - 1000)
    for path, message in [
        (
            series("some", {}, {"RescaleSlope": ""}),
            r"1\.dcm' has no RescaleSlope, or an empty one, but .*0\.dcm' has 2",
        ),
        (series("zero", {"RescaleSlope": 0}), r"RescaleSlope of .*0\.dcm' are .* the slope not zero"),
        (series("turn", {"ImageOrientationPatient": [0] * 6}), r"ImageOrientationPatient of .*0\.dcm'.*unit vectors"),
        (series("flat", {"PixelSpacing": [0, 1]}), r"PixelSpacing .*0\.dcm' are .*must be positive"),
        (series("other", {"rows": 4}, {"Rows": 2, "Columns": 10}), r"1\.dcm' has another size or direction"),
        (
            series("huge", {}, {}, RescaleSlope=1e38, RescaleIntercept=1e300),
            r"pixels of .*0\.dcm' has 20 .* not finite",
        ),
        (series("short", {"ImagePositionPatient": [1, 2]}), r"ImagePositionPatient of .*must be 3 numbers"),
    ]:
        with pytest.raises(AnydiffError, match=message):
            Volumes().read(path)


def test_slices_jitter_but_none_is_missing(series):
    places = 3.0 * np.arange(8) + 0.06 * np.array([0, 1, -1, 1, 0, -1, 1, 0])
    (image,) = Volumes().read(series("jitter", *({"z": float(each)} for each in places)))
    assert np.allclose(nibabel.affines.voxel_sizes(image.affine), [1.5, 2.0, 3.0])
    with pytest.raises(AnydiffError, match=r"slices 3 to 4 mm apart, and slice \d lies .* from its even place"):
        Volumes().read(series("uneven", *({"z": each} for each in (0.0, 3.0, 6.0, 10.0, 13.0))))
    with pytest.raises(AnydiffError, match="a slice is missing"):
        Volumes().read(series("gap", *({"z": each} for each in (0.0, 3.0, 6.0, 12.0, 15.0))))


def test_folders_of_series_are_data_and_what_is_left_out_is_counted(series, tmp_path):
    for number in range(11):
        series(f"scans/{number:02d}", {"rows": 6}, {"rows": 6}, {"rows": 6}, Modality="CT")
    scan(
        tmp_path / "scans" / "11.nii.gz",
        values=np.random.default_rng(0).integers(-900, 500, (9, 9, 9)).astype(np.int16),
    )
    (tmp_path / "scans" / "notes.txt").write_text("none")
    options = {
        "path": str(tmp_path / "scans"),
        "shape": [5, 6, 4],
        "voxel_size": 2.0,
        "modality": "ct",
        "resample": True,
    }
    with pytest.warns(UserWarning, match=r"1 of 13 entries of .*scans' are no scans and are left out: notes\.txt"):
        train = registry().build("datasets", "volumes/folder", split="train", **options)
    assert (len(train), train.files[-1].name, train.files[0].name) == (11, "11.nii.gz", "00")
    assert train.batch([0])[0].shape == (1, 1, 5, 6, 4)
    (tmp_path / "scans" / "notes.txt").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(registry().build("datasets", "volumes/folder", split="test", **options)) == 1
        assert len(Volumes().read(tmp_path / "scans")) == 12
    with pytest.raises(AnydiffError, match=r"of modality 'CT', as its DICOM series says.*say modality='ct'"):
        registry().build("datasets", "volumes/folder", **{**options, "modality": "mr"})
    scan(tmp_path / "scans" / "00" / "a.nii")
    with pytest.raises(AnydiffError, match=r"holds 3 DICOM slices beside 'a\.nii'"):
        Volumes().read(tmp_path / "scans" / "00")


# What a domain and its data must agree in ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("domain.options.voxel_size=3.0", "voxel_size = 6.0, but domain 'volumes' says 3.0"),
        ("domain.options.modality=ct", "modality = 'mr', but domain 'volumes' says 'ct'"),
        ("domain.options.origin=[0, 0, 0]", "has origin = "),
        ("domain.options.frames=6", "has frames = 0"),
    ],
)
def test_domain_and_data_agree_in_voxels_and_modality(change, message):
    recipe = (
        registry().build("recipes", "volumes/brain").with_changes(["dataset.options={train_size: 2, test_size: 2}"])
    )
    assert isinstance(recipe, Recipe)
    assert len(build_dataset(recipe, "train")) == 2
    with pytest.raises(AnydiffError, match=message):
        build_dataset(recipe.with_changes([change]), "train")


def test_values_from_zero_to_one_are_no_hounsfield_units():
    domain = Volumes(shape=SHAPE, voxel_size=2.0, modality="ct")
    values = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    with pytest.raises(AnydiffError, match=r"volume 0 holds values from .*as MR on a grid.*say modality='mr'"):
        domain.encode([nibabel.Nifti1Image(values, domain.affine)])
    states = domain.encode([nibabel.Nifti1Image(values * 300 - 100, domain.affine)])
    assert np.allclose(np.asarray(domain.decode(states)[0].dataobj), values * 300 - 100, atol=1e-3)


# Conditions from the command line -----------------------------------------------------------------------------------


@pytest.fixture
def frames(tmp_path):
    """Three frames on the grid of a domain of six, as a folder and as one file of four axes."""
    domain = Volumes(shape=SHAPE, voxel_size=2.0, frames=6)
    values = np.random.default_rng(0).random((3, *SHAPE)).astype(np.float32)
    images = [nibabel.Nifti1Image(each, domain.affine) for each in values]
    domain.write(images, tmp_path / "frames")
    nibabel.save(nibabel.Nifti1Image(np.moveaxis(values, 0, -1), domain.affine), tmp_path / "frames.nii.gz")
    return domain, images, tmp_path


def test_a_sequence_is_asked_for_by_its_files(frames):
    domain, images, folder = frames
    for name in ("frames", "frames.nii.gz"):
        asked = domain.parse_condition({"frames": str(folder / name)}, 2)
        assert {key: tuple(value.shape) for key, value in asked.items()} == {
            key: (2, *kind.shape) for key, kind in domain.conditions.items()
        }
        assert torch.allclose(asked["frames"][1, :3], domain.encode(images)[:, 0])
        assert asked["seen"].tolist() == [[1, 1, 1, 0, 0, 0]] * 2
        assert torch.allclose(asked["times"][0, :3], torch.tensor([0, 1, 2]) / 6)
        assert asked["target_time"].tolist() == [[0.5]] * 2
        assert domain.describe_condition(Conditioning(asked)) == ["3 frames, t = 0.50"] * 2
    given = {"frames": str(folder / "frames"), "times": "0, 0.1, 0.7", "target_time": "0.9"}
    asked = domain.parse_condition(given, 1)
    assert torch.allclose(asked["times"][0], torch.tensor([0, 0.1, 0.7, 0, 0, 0]))
    assert torch.allclose(asked["target_time"], torch.tensor([[0.9]]))
    assert domain.parse_condition({}, 3) == {}


def test_a_sequence_that_is_none_is_refused(frames):
    domain, images, folder = frames
    path = str(folder / "frames")
    moved = nibabel.Nifti1Image(np.asarray(images[0].dataobj), domain.affine + np.eye(4, 4, 3))
    domain.write([images[0], moved], folder / "moved")
    domain.write(images * 2, folder / "many")
    (folder / "coarse").mkdir()
    scan(folder / "coarse" / "0.nii")
    for text, message in [
        ({"times": "0"}, "give its volumes too, frames=FOLDER"),
        ({"frames": path, "sex": "f"}, "unknown condition 'sex'"),
        ({"frames": path, "times": "0,1"}, "times are 2 numbers, but frames are 3"),
        ({"frames": path, "times": "0,0.5,0.4"}, "must increase"),
        ({"frames": path, "target_time": "0.1"}, "must increase"),
        ({"frames": path, "target_time": "soon"}, "target_time holds 'soon', but a time is a number from 0 to 1"),
        ({"frames": str(folder / "many")}, "holds 6 volumes, but the model looks at up to 5"),
        ({"frames": str(folder / "moved")}, "frame 1 of .* lies up to 1 mm from frame 0"),
        ({"frames": str(folder / "coarse")}, r"conform\(image\)"),
        ({"frames": str(folder / "none")}, "does not exist"),
    ]:
        with pytest.raises(AnydiffError, match=message):
            domain.parse_condition(text, 1)
    with pytest.raises(AnydiffError, match="unknown condition 'frames'"):
        Volumes(shape=SHAPE, voxel_size=2.0).parse_condition({"frames": path}, 1)


def test_the_command_line_draws_the_frame_behind_a_sequence(tmp_path):
    data = registry().build("datasets", "volumes/sequences", split="test", test_size=1)
    states, _ = data.sequence(0)
    data.domain.write(data.domain.decode(states[:3, None]), tmp_path / "frames")
    command = ["sample", "volumes/sadm", "--count", "1", "--nfe", "1", "--condition", f"frames={tmp_path / 'frames'}"]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "next.nii.gz")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    made = nibabel.load(tmp_path / "next.nii.gz")
    assert np.allclose(made.affine, data.domain.affine)
    truth = (states[3].numpy() + 1) / 2
    latest = (states[2].numpy() + 1) / 2
    error = np.abs(made.get_fdata() - truth).mean()
    assert error < 2 * np.abs(latest - truth).mean(), "near the next frame, and not noise"


def test_the_codec_is_plain_data():
    codec = Volumes(frames=3).codec
    assert json.loads(json.dumps(codec)) == codec
