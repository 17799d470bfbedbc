"""Volumes restored from files to files: missing voxels, coarser grids, sinograms; their place in the world is kept."""

from __future__ import annotations

import re

import nibabel
import numpy as np
import pytest
import torch

from anydiff.cli.main import run
from anydiff.errors import AnydiffError
from anydiff.inverse.operators import Radon
from anydiff.pipeline import load

RECIPE = "volumes/brain"
PLACE = np.array([[6.0, 0, 0, 12.5], [0, 6, 0, -40], [0, 0, 6, 7], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def truth():
    """Voxels ``[28, 32, 28]`` in [0, 1] of a held-out brain."""
    pipeline = load(RECIPE)
    (image,) = pipeline.domain.decode(pipeline.reference(1).states)
    return np.asarray(image.dataobj, dtype=np.float32)


def saved(path, values, affine=PLACE):
    image = nibabel.Nifti1Image(np.asarray(values, dtype=np.float32), affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return str(path)


def restored(tmp_path, measurement, *arguments, nfe="6"):
    out = tmp_path / "out.nii.gz"
    ask = ["restore", RECIPE, "--measurement", str(measurement), "--out", str(out), "--nfe", nfe, "--overwrite"]
    assert run([*ask, *map(str, arguments)]) == 0
    return nibabel.load(out)


def test_missing_voxels_are_filled_where_the_file_lies(tmp_path, truth):
    gaps = truth.copy()
    gaps[:, :, 10:13] = np.nan
    found = restored(tmp_path, saved(tmp_path / "gaps.nii.gz", gaps), "--noise", 0.01, "--method", "ddnm", nfe="8")
    values = np.asarray(found.dataobj)
    assert np.allclose(found.affine, PLACE)
    assert np.abs(values - truth)[~np.isnan(gaps)].mean() < 0.03
    hidden = np.abs(values - truth)[np.isnan(gaps)].mean()
    assert hidden < 0.6 * np.abs(truth.mean() - truth)[np.isnan(gaps)].mean()


def test_a_mask_is_a_volume_of_ones(tmp_path, truth):
    seen = np.ones_like(truth)
    seen[14:] = 0
    names = saved(tmp_path / "whole.nii", truth), saved(tmp_path / "mask.nii", seen)
    found = restored(tmp_path, names[0], "--mask", names[1], nfe="2")
    assert np.abs(np.asarray(found.dataobj) - truth)[:14].max() < 1e-4
    assert np.abs(np.asarray(found.dataobj) - truth)[14:].max() > 0.1


def test_a_coarser_grid_is_one_of_blocks(tmp_path, truth):
    """Blocks of 2 x 2 x 2 voxels: the fine grid lies where their voxels do."""
    coarse = truth.reshape(14, 2, 16, 2, 14, 2).mean((1, 3, 5))
    place = PLACE.copy()
    place[:3, :3] *= 2
    place[:3, 3] += 3
    found = restored(
        tmp_path, saved(tmp_path / "coarse.nii", coarse, place), "--operator", "average-pooling",
        "--operator-option", "factor=[2, 2, 2]", "--noise", 0.01, "--method", "ddnm",
    )  # fmt: skip
    assert np.allclose(found.affine, PLACE)
    again = np.asarray(found.dataobj).reshape(14, 2, 16, 2, 14, 2).mean((1, 3, 5))
    assert np.abs(again - coarse).mean() < 0.03


def test_a_sinogram_has_its_own_angles_and_units(tmp_path, truth):
    """Line integrals along the last two axes, of as many angles as the file says; noise in their units, too."""
    angles = [0.0, 40.0, 80.0, 120.0, 160.0]
    operator = Radon((1, *truth.shape), angles)
    integrals = operator.forward(torch.from_numpy(truth)[None, None].double()).numpy() / operator.factor
    np.savez(tmp_path / "sinogram.npz", sinogram=integrals, angles=angles)
    found = restored(tmp_path, tmp_path / "sinogram.npz", "--operator", "radon", "--noise", 0.1, "--method", "pigdm")
    again = operator.forward(torch.from_numpy(np.asarray(found.dataobj)).double()[None, None]).numpy() / operator.factor
    assert np.abs(again - integrals).mean() < 0.1 * np.abs(integrals).mean()


@pytest.mark.parametrize(
    ("arrays", "options", "sentence"),
    [
        ({"sinogram": np.zeros((1, 28, 2, 28)), "angles": [0.0, 0.0]}, ["radon"], "0 degrees is given twice"),
        (
            {"sinogram": np.zeros((1, 28, 2, 28)), "angles": [0.0, 90.0]},
            ["radon", "--operator-option", "angles=[0, 45]"],
            "the file has the angles 0, 90 .* but the operator 0, 45",
        ),
        (
            {"sinogram": np.zeros((1, 28, 2, 20)), "angles": [0.0, 90.0]},
            ["radon", "--operator-option", "detectors=28"],
            r"has shape \(1, 28, 2, 20\), but the operator gives \(1, 28, 2, 28\)",
        ),
        ({"sinogram": np.zeros((1, 28, 2, 28))}, ["mask"], "holds a sinogram, but the operator is mask"),
        ({"sinogram": np.zeros(1), "measurement": np.zeros(1)}, ["radon"], "keep one"),
    ],
)
def test_sinograms_that_are_refused(tmp_path, capsys, arrays, options, sentence):
    np.savez(tmp_path / "s.npz", **arrays)
    ask = ["restore", RECIPE, "--measurement", str(tmp_path / "s.npz"), "--noise", "0.1", "--nfe", "2"]
    assert run([*ask, "--out", str(tmp_path / "o.nii"), "--operator", *options]) == 2
    assert re.search(sentence, capsys.readouterr().err)
    assert not (tmp_path / "o.nii").exists()


def test_files_that_are_refused(tmp_path, truth, capsys):
    gaps = truth.copy()
    gaps[0] = np.nan
    turned = np.diag([-6.0, 6, 6, 1])
    moved = PLACE.copy()
    moved[0, 3] += 30
    infinite = gaps.copy()
    infinite[1, 0, 0] = np.inf
    whole = saved(tmp_path / "whole.nii", gaps)
    for arguments, sentence in (
        ([saved(tmp_path / "a.nii", gaps[:20])], "has shape (20, 32, 28), but this operator measures (28, 32, 28)"),
        ([saved(tmp_path / "b.nii", gaps, np.diag([5.0, 5, 5, 1]))], "has voxels of 5 x 5 x 5 mm"),
        ([saved(tmp_path / "c.nii", gaps, turned)], "is oriented LAS, but states are RAS"),
        ([saved(tmp_path / "d.nii", infinite)], "voxels that are not finite"),
        ([saved(tmp_path / "e.nii", 400 * gaps)], "outside of the whole range of the data"),
        ([saved(tmp_path / "f.nii", np.full_like(truth, np.nan))], "observes nothing"),
        ([whole, "--mask", saved(tmp_path / "g.nii", 0.5 * np.ones_like(truth))], "other values than 0 and 1"),
        ([whole, "--mask", saved(tmp_path / "h.nii", np.ones_like(truth), moved)], "on another grid"),
        ([whole, "--operator", "blur", "--operator-option", "std=1", "--mask", "absent.nii"], "does not exist"),
    ):
        out = tmp_path / "out.nii"
        assert run(["restore", RECIPE, "--measurement", *map(str, arguments), "--nfe", "2", "--out", str(out)]) == 2
        assert sentence in capsys.readouterr().err
        assert not out.exists()


def test_latents_are_measured_through_their_decoder(truth):
    """Half of a brain, seen with noise: by DPS, and not by methods of linear operators."""
    pipeline = load("volumes/brain-latent")
    seen = np.zeros_like(truth, dtype=bool)
    seen[:14] = True
    options = {"mask": seen[None], "noise": 0.02, "nfe": 8}
    ((found,),) = pipeline.restore(truth[None], method="dps", **options)
    (free,) = pipeline.sample(1, nfe=8)
    off = [((np.asarray(each.dataobj) - truth)[seen] ** 2).mean() for each in (found, free)]
    assert off[0] < 0.4 * off[1]
    with pytest.raises(AnydiffError, match="is not linear, which this method needs; use the method 'dps'"):
        pipeline.restore(truth[None], **options)
