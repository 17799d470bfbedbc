"""Restoration of pictures from files to files: halves, small pictures, blurred ones; what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from anydiff.cli.main import run
from anydiff.errors import AnydiffError
from anydiff.inverse.operators import AveragePooling, Blur
from anydiff.pipeline import load
from anydiff.recipes.build import build_dataset

RECIPE = "images/fashion"


@pytest.fixture(scope="module")
def pipeline():
    return load(RECIPE)


@pytest.fixture(scope="module")
def truth(pipeline):
    """Brightness ``[4, 1, 28, 28]`` of held-out pictures."""
    states, _ = build_dataset(pipeline.recipe, "test").batch(range(4))
    return (states.double() + 1) * 127.5


def saved(path, values):
    Image.fromarray(np.rint(np.asarray(values).clip(0, 255)).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def half(tmp_path, truth):
    """A picture of which the right half is black, and the mask of its left half."""
    mask = np.zeros((28, 28))
    mask[:, :14] = 255
    return saved(tmp_path / "half.png", truth[0, 0].numpy() * (mask > 0)), saved(tmp_path / "mask.png", mask)


def left():
    mask = torch.ones(1, 28, 28, dtype=torch.bool)
    mask[..., 14:] = False
    return mask


def error(found, truth):
    states = torch.stack([torch.from_numpy(np.asarray(each, dtype=np.float64)) for each in found])
    return float((states - truth).square().mean().sqrt())


@pytest.mark.parametrize("method", ["mmps", "pigdm", "ddnm"])
def test_half_a_picture(tmp_path, half, pipeline, truth, method):
    out, picture = tmp_path / "out", tmp_path / "out.png"
    arguments = ["--measurement", half[0], "--mask", half[1], "--members", 3, "--nfe", 20, "--noise", 0.5]
    done = run(["restore", RECIPE, *map(str, [*arguments, "--out", out, "--picture", picture, "--method", method])])
    assert done == 0
    found = pipeline.domain.read(out)
    assert len(found) == 3
    assert picture.exists()
    near = error([np.asarray(each)[:, :14] for each in found], truth[0, 0, :, :14])
    right = error([np.asarray(each)[:, 14:] for each in found], truth[0, 0, :, 14:])
    other = error([np.asarray(each)[:, 14:] for each in found], truth[1, 0, :, 14:])
    assert near < 12  # of 255
    assert right < other


def test_a_small_picture(tmp_path, pipeline, truth):
    small = AveragePooling((1, 28, 28), 4).forward(truth[:2])
    folder = tmp_path / "small"
    folder.mkdir()
    for number, each in enumerate(small):
        saved(folder / f"{number}.png", each[0])
    arguments = ["--operator", "average-pooling", "--operator-option", "factor=4", "--noise", 0.5, "--nfe", 12]
    out = tmp_path / "out.npz"
    assert run(["restore", RECIPE, "--measurement", str(folder), *map(str, arguments), "--out", str(out)]) == 0
    found = pipeline.domain.read(out)
    assert len(found) == 2
    for each, wanted, whole in zip(found, small, truth, strict=False):
        states = torch.from_numpy(np.asarray(each, dtype=np.float64))[None, None]
        assert float((AveragePooling((1, 28, 28), 4).forward(states) - wanted).square().mean().sqrt()) < 6
        nearest = wanted.repeat_interleave(4, -1).repeat_interleave(4, -2)
        assert error([each], whole[0]) < error([nearest[0]], whole[0])


def test_a_blurred_picture(tmp_path, pipeline, truth):
    blur = Blur((1, 28, 28), 1.5)
    blurred = saved(tmp_path / "blurred.png", blur.forward(truth[:1])[0, 0])
    arguments = ["--operator", "blur", "--operator-option", "std=1.5", "--noise", "1", "--nfe", "12"]
    out = tmp_path / "sharp.png"
    assert run(["restore", RECIPE, "--measurement", str(blurred), *arguments, "--out", str(out)]) == 0
    (found,) = pipeline.domain.read(out)
    assert error([found], truth[0, 0]) < error([Image.open(blurred)], truth[0, 0])


def test_members_of_cases_are_the_same_however_many(pipeline, truth):
    options = {"mask": left(), "noise": 0.5, "nfe": 3, "seed": 5}
    some = pipeline.restore(truth[:2], members=2, **options)
    more = pipeline.restore(truth[:2], members=3, batch_size=2, **options)
    assert [len(each) for each in more] == [3, 3]
    for case in range(2):
        for member in range(2):
            one, two = (np.asarray(each[case][member], dtype=int) for each in (some, more))
            assert abs(one - two).max() <= 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: {"measurement": t[0, :, :14]}, r"the measurement has shape \(1, 14, 28\)"),
        (lambda t: {"measurement": t[0] + 300}, "outside of the whole range of the data .* in the data's units"),
        (lambda t: {"mask": torch.ones(1, 28, 28)}, "knows every entry and noise is 0"),
        (lambda t: {"mask": torch.zeros(1, 28, 28)}, "observes nothing"),
        (lambda t: {"mask": torch.ones(1, 7, 7)}, "give one truth value per measured entry"),
        (lambda t: {"noise": -1.0}, "noise is -1"),
        (lambda t: {"operator": "quantised", "operator_options": {"step": 16}, "mask": None}, "is not linear"),
        (lambda t: {"operator": "blurr"}, "blur"),
        (lambda t: {"method": "pidgm"}, "pigdm"),
        (lambda t: {"method": "ddnm", "nfe": 1}, "at least 2"),
        (lambda t: {"method": "ddnm", "solver": "ddim"}, "a plan of its own"),
        (lambda t: {"measurement": torch.where(t[0] > 100, t[0], torch.nan), "mask": torch.ones(1, 28, 28)}, "is NaN"),
    ],
)
def test_what_is_refused(pipeline, truth, change, sentence):
    options = {"measurement": truth[0], "mask": left(), "nfe": 2, **change(truth)}
    with pytest.raises(AnydiffError, match=sentence):
        pipeline.restore(options.pop("measurement"), **options)


def test_noise_of_other_units_is_told(pipeline, truth):
    with pytest.warns(UserWarning, match="118 times the whole range of the data"):
        pipeline.restore(truth[0], mask=left(), noise=30000.0, nfe=2)


def test_files_that_are_refused(tmp_path, half, truth, capsys):
    grey = saved(tmp_path / "grey.png", np.full((28, 28), 128))
    wide = saved(tmp_path / "wide.png", np.zeros((28, 14)))
    for arguments, sentence in (
        (["--measurement", half[0], "--mask", grey], "neither black (0) nor white (255)"),
        (["--measurement", wide, "--mask", half[1]], "is 14x28 with 1 channels, but this operator measures 28x28"),
        (["--measurement", half[0], "--operator", "average-pooling", "--operator-option", "factor=4"], "measures 7x7"),
        (["--measurement", half[0], "--mask", half[1], "--out", half[0]], "exists"),
    ):
        assert run(["restore", RECIPE, "--out", str(tmp_path / "never"), *map(str, arguments)]) == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "never").exists()
