"""Pictures with holes: opaque pixels stay, transparent ones are drawn."""

import numpy as np
import pytest
import torch
from PIL import Image

from anydiff.errors import AnydiffError, FileFormatError
from anydiff_images.domain import Images


def picture(path, mode="LA", hole=True, half=False, tint=0):
    grey = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)
    alpha = np.full((28, 28), 255, np.uint8)
    if hole:
        alpha[10:20] = 0
    if half:
        alpha[0, 0] = 100
    if mode == "LA":
        bands = [grey, alpha]
    elif mode == "RGBA":
        bands = [grey, grey + tint, grey, alpha]
    else:
        bands = [grey]
    Image.merge(mode, [Image.fromarray(np.asarray(band, np.uint8)) for band in bands]).save(path)
    return grey, alpha == 255


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_opaque_pixels_are_known_and_transparent_ones_are_not(tmp_path, mode):
    grey, known = picture(tmp_path / "hole.png", mode)
    domain = Images()
    found = domain.parse_known(str(tmp_path / "hole.png"))
    assert found.values.shape == found.mask.shape == (1, 1, 28, 28)
    assert torch.equal(found.mask[0, 0], torch.from_numpy(known))
    want = domain.scale(torch.from_numpy(grey))
    assert torch.equal(found.values[0, 0][found.mask[0, 0]], want[torch.from_numpy(known)])
    colour = Images(channels=3).parse_known(str(tmp_path / "hole.png"))
    assert torch.equal(colour.values[0, 2][found.mask[0, 0]], want[torch.from_numpy(known)])


def test_a_folder_is_several_pictures(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    assert len(Images().parse_known(str(tmp_path)).mask) == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"hole": False}, r"picture 0 of .*p\.png' has no transparent pixel.*make the hole transparent"),
        ({"mode": "L"}, "has no transparent pixel"),
        ({"half": True}, "has 1 half transparent pixels"),
        ({"mode": "RGBA", "tint": 1}, "has colours, but the pictures here are grey"),
    ],
)
def test_what_is_not_said_is_asked_for(tmp_path, options, sentence):
    picture(tmp_path / "p.png", **options)
    with pytest.raises(FileFormatError, match=sentence):
        Images().parse_known(str(tmp_path / "p.png"))


def test_transparency_that_is_data_is_no_hole(tmp_path):
    picture(tmp_path / "p.png", "RGBA")
    with pytest.raises(AnydiffError, match="known_mask="):
        Images(channels=4).parse_known(str(tmp_path / "p.png"))


def test_another_size_is_refused(tmp_path):
    picture(tmp_path / "p.png")
    with pytest.raises(AnydiffError, match=r"is 28x28x1 .* but this domain has\s+32x32x1"):
        Images(height=32, width=32).parse_known(str(tmp_path / "p.png"))
