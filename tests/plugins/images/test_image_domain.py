"""The image domain: exact codec, files, grids and conditions."""

import numpy as np
import pytest
import torch
from PIL import Image

from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff.states import Conditioning
from anydiff_images.domain import Images

CLASSES = ["T-shirt/top", "Ankle boot", "Sneaker"]


def noise(count, channels, height, width, seed=0):
    shape = (count, height, width, channels) if channels > 1 else (count, height, width)
    return list(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.0, 1.0), (-3.0, 0.5)])
def test_the_round_trip_is_exact(channels, bounds):
    domain = Images(channels, 5, 7, range=bounds)
    arrays = noise(4, channels, 5, 7)
    states = domain.encode(arrays)
    assert states.shape == (4, channels, 5, 7)
    assert states.dtype == torch.float32
    decoded = domain.decode(states)
    assert all(np.array_equal(np.asarray(image), array) for image, array in zip(decoded, arrays, strict=True))
    assert torch.equal(domain.encode(decoded), states)


def test_every_byte_has_its_value_and_comes_back():
    domain = Images(1, 16, 16)
    states = domain.encode([np.arange(256, dtype=np.uint8).reshape(16, 16)])
    assert states[0, 0, 0, 0] == -1
    assert states[0, 0, 15, 15] == 1
    assert torch.allclose(states.flatten(), torch.arange(256) / 127.5 - 1, atol=1e-6)
    assert np.asarray(domain.decode(states)[0]).ravel().tolist() == list(range(256))


def test_decode_clamps_and_rounds_to_the_nearest_byte():
    domain = Images(1, 1, 4)
    states = torch.tensor([-7.0, 9.0, -1 + 2 * 10.49 / 255, -1 + 2 * 10.51 / 255]).reshape(1, 1, 1, 4)
    assert np.asarray(domain.decode(states)[0]).ravel().tolist() == [0, 255, 10, 11]
    assert domain.decode(states.to(torch.bfloat16))[0].size == (4, 1)
    with pytest.raises(AnydiffError, match="not finite"):
        domain.decode(states * float("nan"))
    with pytest.raises(AnydiffError, match="needs"):
        domain.decode(states[0])


def test_axes_are_rows_then_columns():
    array = np.zeros((2, 3, 3), np.uint8)
    array[0, 2, 1] = 255  # row 0, column 2, green
    states = Images(3, 2, 3).encode([array])
    assert states[0, 1, 0, 2] == 1
    assert int((states > -1).sum()) == 1


def test_encode_refuses_what_does_not_fit():
    domain = Images(3, 4, 4)
    good = Image.new("RGB", (4, 4))
    for bad, message in [
        (Image.new("L", (4, 4)), "image 1 has mode 'L'"),
        (Image.new("RGB", (4, 5)), "image 1 is 5x4x3"),
        (np.zeros((4, 4, 3)), "image 1 holds float64"),
    ]:
        with pytest.raises(AnydiffError, match=message):
            domain.encode([good, bad])
    assert domain.encode([]).shape == (0, 3, 4, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"channels": 2}, "channels"), ({"height": 0}, "height"), ({"width": 1.5}, "width"), ({"range": (1, 1)}, "range")],
)
def test_a_domain_refuses_bad_sizes(options, message):
    with pytest.raises(AnydiffError, match=message):
        Images(**options)


@pytest.mark.parametrize("name", ["samples", "samples.npz"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_written_is_read_back(tmp_path, name, channels):
    domain = Images(channels, 6, 5)
    images = domain.decode(domain.encode(noise(12, channels, 6, 5)))
    domain.write(images, tmp_path / name)
    again = domain.read(tmp_path / name)
    assert torch.equal(domain.encode(again), domain.encode(images))
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_one_png(tmp_path):
    domain = Images(1, 6, 5)
    images = domain.decode(domain.encode(noise(2, 1, 6, 5)))
    domain.write(images[:1], tmp_path / "one.png")
    assert torch.equal(domain.encode(domain.read(tmp_path / "one.png")), domain.encode(images[:1]))
    with pytest.raises(AnydiffError, match="2 images were given"):
        domain.write(images, tmp_path / "two.png")
    with pytest.raises(AnydiffError, match=r"'\.jpg'"):
        domain.write(images, tmp_path / "two.jpg")


def test_nothing_is_overwritten(tmp_path):
    domain = Images(1, 6, 5)
    images = domain.decode(domain.encode(noise(2, 1, 6, 5)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("keep")
    with pytest.raises(AnydiffError, match="not an empty folder"):
        domain.write(images, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["precious.txt"]
    (tmp_path / "empty").mkdir()
    domain.write(images, tmp_path / "empty")
    assert len(list((tmp_path / "empty").iterdir())) == 2


def test_reading_what_is_not_there_or_no_image(tmp_path):
    domain = Images(1, 6, 5)
    for name in ("none.png", "none.npz"):
        with pytest.raises(AnydiffError, match=rf"cannot read .*{name}': No such file.*check the path"):
            domain.read(tmp_path / name)
    with pytest.raises(AnydiffError, match="holds no pictures"):
        domain.read(tmp_path)
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(FileFormatError, match=r"a\.png"):
        domain.read(tmp_path)
    for content in ({"pixels": np.zeros(3)}, {"images": np.zeros((2, 3, 3))}, {"images": np.array([{}], object)}):
        np.savez(tmp_path / "x.npz", **content)
        with pytest.raises(FileFormatError, match=r"x\.npz"):
            domain.read(tmp_path / "x.npz")


def test_a_grey_file_is_read_into_a_colour_domain(tmp_path):
    Image.new("L", (5, 6), 9).save(tmp_path / "grey.png")
    domain = Images(3, 6, 5)
    assert domain.pixels(domain.encode(domain.read(tmp_path / "grey.png"))).unique().tolist() == [9]


def test_the_grid_shows_each_image_enlarged_in_its_place(tmp_path):
    domain = Images(1, 28, 28, CLASSES)
    images = [Image.new("L", (28, 28), 20 * index) for index in range(12)]
    domain.draw(images, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (4 * 90 + 6, 3 * 90 + 6), "four columns of 84 + 6 pixels"
        for index in range(12):
            assert grid.getpixel((6 + index % 4 * 90 + 40, 6 + index // 4 * 90 + 40)) == (20 * index,) * 3
    domain.draw(images, tmp_path / "titled.png", [CLASSES[index % 3] for index in range(12)])
    with Image.open(tmp_path / "titled.png") as grid:
        assert grid.height == 3 * (90 + 16) + 6
        assert grid.getpixel((6 + 40, 6 + 2 * 106 + 80)) == (160,) * 3, "image 8, lowest rows"
        beneath = np.asarray(grid.convert("L").crop((6, 6 + 84, 90, 6 + 100)))
        assert (beneath < 128).any(), "the title is there"
    with pytest.raises(AnydiffError, match="3 titles were given for 12 images"):
        domain.draw(images, tmp_path / "x.png", ["a", "b", "c"])
    with pytest.raises(AnydiffError, match="no image to draw"):
        domain.draw([], tmp_path / "x.png")


def test_conditions_by_name_index_and_list():
    domain = Images(1, 28, 28, CLASSES)

    def parse(text, count=4):
        return domain.parse_condition({"label": text}, count)["label"].tolist()

    assert parse("sneaker") == [2, 2, 2, 2]
    assert parse("t-shirt/top, 2") == [0, 2, 0, 2]
    assert parse("1", count=2) == [1, 1]
    assert domain.parse_condition({}, 4) == {}
    assert domain.describe_condition(Conditioning(domain.parse_condition({"label": "2,Ankle Boot"}, 3))) == [
        "Sneaker",
        "Ankle boot",
        "Sneaker",
    ]
    assert domain.describe_condition(Conditioning()) == []
    assert domain.conditions["label"].classes == 3


def test_wrong_conditions_are_answered_with_the_nearest():
    domain = Images(1, 28, 28, CLASSES)
    for text, message in [
        ("boot", "'Ankle boot'"),
        ("snaeker", "'Sneaker'"),
        ("3", "0 to 2"),
        ("-1", "0 to 2"),
        (",", "class"),
    ]:
        with pytest.raises(AnydiffError, match=message):
            domain.parse_condition({"label": text}, 4)
    with pytest.raises(UnknownNameError, match="'label'"):
        domain.parse_condition({"lable": "sneaker"}, 4)
    with pytest.raises(AnydiffError, match="no classes"):
        Images(1, 28, 28).parse_condition({"label": "sneaker"}, 4)
