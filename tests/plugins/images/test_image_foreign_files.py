"""Pictures as other people have them: deep, turned, transparent, of many pages; and class numbers that must agree."""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

import anydiff
from anydiff.cli.app import app
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.pipeline import train
from anydiff.recipes import Recipe
from anydiff.recipes.build import build_dataset
from anydiff.registry import registry
from anydiff_images.data import ImageDataset
from anydiff_images.domain import Images
from anydiff_images.folder import ImageFolder

COLOURS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}


def held(domain, images):
    return domain.pixels(domain.encode(images))[:, 0].numpy()


# Values -------------------------------------------------------------------------------------------------------------

DEEP = np.array([[0, 128, 129], [257, 32896, 65535]], dtype=np.uint16)
BYTES = [[0, 0, 1], [1, 128, 255]]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npz"])
def test_sixteen_bits_become_eight_by_dividing_and_not_by_cutting(tmp_path, name):
    if name.endswith("npz"):
        np.savez(tmp_path / name, images=DEEP[None])
    else:
        Image.fromarray(DEEP).save(tmp_path / name)
    domain = Images(1, 2, 3)
    assert held(domain, domain.read(tmp_path / name)).tolist() == [BYTES]
    assert held(domain, [DEEP, Image.fromarray(DEEP)]).tolist() == [BYTES, BYTES]
    if not name.endswith("npz"):
        assert ImageFolder(tmp_path).pixels[0, 0].tolist() == BYTES


def test_colours_of_sixteen_bits_are_refused_since_pillow_cuts_them(tmp_path):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + DEEP[row].repeat(3).astype(">u2").tobytes() for row in range(2))
    header = struct.pack(">IIBBBBB", 3, 2, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    for read in (lambda: Images(3, 2, 3).read(tmp_path / "a.png"), lambda: ImageFolder(tmp_path)):
        with pytest.raises(FileFormatError, match=r"a\.png' holds colours of 16 bits per channel.*convert it"):
            read()


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_numbers_without_a_stated_range_are_refused_and_with_one_are_scaled(tmp_path, kind):
    top = 1 if kind is np.float32 else 1000
    values = np.array([[0, 0.25 * top, 0.5 * top], [0.5 * top, 0.75 * top, top]]).astype(kind)
    expected = np.rint(values.astype(float) * 255 / top).astype(int).tolist()
    domain = Images(1, 2, 3)
    Image.fromarray(values).save(tmp_path / "a.tif")
    np.savez(tmp_path / "a.npz", images=values[None])
    for source in (lambda: domain.encode([values]), lambda: domain.encode([Image.fromarray(values)])):
        with pytest.raises(AnydiffError, match=r"image 0 holds \w+ values from 0 to .*value_range="):
            source()
    for name in ("a.tif", "a.npz"):
        with pytest.raises(FileFormatError, match=rf"{name}' holds \w+ values from 0 to .*value_range="):
            domain.read(tmp_path / name)
        assert held(domain, domain.read(tmp_path / name, value_range=(0, top))).tolist() == [expected]
    assert domain.pixels(domain.encode([values], value_range=(0, top)))[0, 0].tolist() == expected
    (tmp_path / "a.npz").unlink()
    assert ImageFolder(tmp_path, value_range=[0, top]).pixels[0, 0].tolist() == expected
    with pytest.raises(AnydiffError, match=r"outside of value_range 0 to"):
        ImageFolder(tmp_path, value_range=[0, top / 2])


def test_pictures_are_upright_and_hidden_colours_stay_hidden(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    domain = Images(3, 6, 4)
    expected = np.rot90(pixels, -1).transpose(2, 0, 1)
    assert (domain.pixels(domain.encode(domain.read(tmp_path / "a.png")))[0].numpy() == expected).all()
    with Image.open(tmp_path / "a.png") as image:
        assert (domain.pixels(domain.encode([image]))[0].numpy() == expected).all()
    assert (ImageFolder(tmp_path).pixels[0].numpy() == expected).all()
    alpha = np.full((6, 4, 1), 255, np.uint8)
    opaque = np.concatenate([np.rot90(pixels, -1), alpha], axis=2)
    Image.fromarray(opaque).save(tmp_path / "a.png")
    assert (domain.pixels(domain.encode(domain.read(tmp_path)))[0].numpy() == expected).all()
    opaque[0, 0, 3] = 0
    Image.fromarray(opaque).save(tmp_path / "a.png")
    with pytest.raises(FileFormatError, match=r"a\.png' has 1 transparent pixels.*background="):
        domain.read(tmp_path)
    with pytest.raises(FileFormatError, match=r"a\.png' has 1 transparent pixels.*background="):
        ImageFolder(tmp_path, channels=3)
    assert ImageFolder(tmp_path, channels=3, background=[9, 8, 7]).pixels[0, :, 0, 0].tolist() == [9, 8, 7]
    assert domain.read(tmp_path, background=(9, 8, 7))[0].getpixel((0, 0)) == (9, 8, 7)
    assert ImageFolder(tmp_path).pixels[0, :, 0, 0].tolist() == [0, 0, 0, 0], "with alpha, no hidden colour"
    with pytest.raises(
        AnydiffError, match=r"image 0 has mode 'RGBA', but this domain has 'RGB'; put it on a background"
    ):
        domain.encode([Image.fromarray(opaque)])
    Images(4, 6, 4).draw([Image.fromarray(opaque)], tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.getpixel((10, 10)) == (255, 255, 255)


def test_pages_and_files_of_other_kinds_are_read_counted_or_refused(tmp_path):
    pages = [Image.new("L", (5, 6), 40 * page) for page in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    domain = Images(1, 6, 5)
    assert held(domain, domain.read(tmp_path / "a.tif"))[:, 0, 0].tolist() == [0, 40, 80]
    for read in (domain.read, ImageFolder):
        with pytest.raises(FileFormatError, match=r"a\.tif' holds 3 pages"):
            read(tmp_path)
    (tmp_path / "a.tif").unlink()
    pages[1].save(tmp_path / "0.png")
    (tmp_path / "1.jfif").write_bytes(b"")
    for read in (domain.read, ImageFolder):
        with pytest.raises(FileFormatError, match=r"1\.jfif"):
            read(tmp_path)
    (tmp_path / "1.jfif").unlink()
    (tmp_path / "notes.txt").write_text("none")
    for read in (domain.read, ImageFolder):
        with pytest.warns(UserWarning, match=r"holds 1 files that are no pictures \('notes\.txt'"):
            assert len(read(tmp_path)) == 1
    (tmp_path / "1.heic").write_bytes(b"...")
    for read in (domain.read, ImageFolder):
        with pytest.raises(AnydiffError, match=r"holds 1 pictures of a kind that is not read \('1\.heic'"):
            read(tmp_path)


def test_endings_say_what_is_written(tmp_path):
    for name in ("a.jpg", "a.tiff", "a.csv"):
        with pytest.raises(
            AnydiffError, match=r"images are written to a file that ends in \.npz or \.png or to a folder"
        ):
            Images(1, 6, 5).write([Image.new("L", (5, 6))], tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# Classes ------------------------------------------------------------------------------------------------------------


def pictures(folder, names, count, size=(8, 8)):
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", size, COLOURS.get(name, (number, 0, 0))).save(folder / name / f"{number}.png")


@pytest.fixture
def splits(tmp_path):
    """Classes a, b, c for training, of which testing has a and c alone."""
    pictures(tmp_path / "train", "abc", 2)
    pictures(tmp_path / "test", "ac", 1)
    return tmp_path


def test_both_splits_number_the_classes_alike(splits):
    train_split, test = (ImageFolder(splits, split) for split in ("train", "test"))
    assert train_split.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert test.labels.tolist() == [0, 2], "c is 2 in both"
    assert train_split.classes == test.classes == ["a", "b", "c"]
    other = ImageFolder(splits, "test", classes=["c", "b", "a"])
    assert (other.labels.tolist(), other.classes) == ([2, 0], ["c", "b", "a"])
    assert train_split.statistics == {"classes": ["a", "b", "c"]}
    pictures(splits / "test", "d", 1)
    for split in ("test", "train"):  # before a training, too, which would end at its evaluation
        with pytest.raises(
            AnydiffError, match=r"test' has the class 'd', but the classes for training are \['a', 'b', 'c'\]"
        ):
            ImageFolder(splits, split)


def test_lists_of_classes_and_folders_that_do_not_fit_are_refused(splits):
    for classes in (["a", "b"], ["a", "b", "c", "d"], ["a", "b", "x"], ["a", "a", "b", "c"]):
        with pytest.raises(AnydiffError, match=r"but the folders in .*train' are \['a', 'b', 'c'\]"):
            ImageFolder(splits, classes=classes)
    (splits / "val").mkdir()
    with pytest.warns(UserWarning, match=r"holds 1 folders that are neither a split nor a class \('val'"):
        ImageFolder(splits)
    (splits / "val").rmdir()
    (splits / "train" / "a" / "more").mkdir()
    with pytest.warns(UserWarning, match=r"a' holds 1 folders that are neither a split nor a class \('more'"):
        ImageFolder(splits)


def test_a_domain_of_other_class_numbers_than_its_data_is_refused(tmp_path):
    pictures(tmp_path / "own", COLOURS, 10)
    recipe = Recipe.parse(
        {
            "name": "own",
            "domain": {"name": "images", "options": {"channels": 3, "height": 8, "width": 8, "classes": [*COLOURS]}},
            "dataset": {"name": "images/folder", "options": {"path": str(tmp_path / "own")}},
            "network": {"name": "unet", "options": {"channels": 8, "multipliers": [1]}},
            "path": "vp-cosine",
            "parametrization": "velocity",
            "training": {"steps": 1, "batch_size": 2},
        },
        "recipe 'own'",
    )
    with pytest.raises(AnydiffError, match=r"classes = \['blue', 'green', 'red'\], but domain 'images' says \['red', "):
        build_dataset(recipe, "train")
    with pytest.raises(AnydiffError, match=r"domain.options.classes is \['red'.*domain.options.classes=null"):
        train(recipe, tmp_path / "run")
    ordered = recipe.with_changes(["dataset.options.classes=[red, green, blue]"])
    data = build_dataset(ordered, "train")
    for name, colour in COLOURS.items():
        row = int(np.argmax(data.labels.numpy() == [*COLOURS].index(name)))
        assert data.pixels[row, :, 0, 0].tolist() == list(colour)


def test_a_recipe_without_classes_takes_them_from_its_folder(tmp_path, monkeypatch):
    """The quickstart's recipe: classes are asked for by the names of their folders."""
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "pictures", COLOURS, 10)
    recipe = {
        "name": "mine",
        "domain": {"name": "images", "options": {"channels": 3, "height": 8, "width": 8}},
        "dataset": {"name": "images/folder", "options": {"path": "pictures", "size": 8, "channels": 3}},
        "network": {"name": "unet", "options": {"channels": 8, "multipliers": [1]}},
        "path": "vp-cosine",
        "parametrization": "velocity",
        "sigma_data": 0.5,
        "training": {"steps": 2, "batch_size": 4},
        "sampling": {"nfe": 1},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    run = CliRunner().invoke(app, ["train", "mine.yaml", "--out", "run"], catch_exceptions=False)
    assert run.exit_code == 0, run.output
    pipeline = anydiff.load("run")
    assert pipeline.domain.classes == ["blue", "green", "red"]
    assert build_dataset(pipeline.recipe, "test").classes == ["blue", "green", "red"]
    command = ["sample", "run", "--count", "2", "--condition", "label=green", "--out", "made"]
    made = CliRunner().invoke(app, command, catch_exceptions=False)
    assert made.exit_code == 0, made.output
    assert len(list((tmp_path / "made").iterdir())) == 2


def test_the_codec_says_the_classes_and_is_plain_data():
    assert json.loads(json.dumps(Images(1, 2, 2, ("b", "a")).codec)) == {"classes": ["b", "a"]}
    assert Images(1, 2, 2).codec == {"classes": None}
    data = registry().build("datasets", "images/fashion-mnist", split="test")
    assert isinstance(data, ImageDataset)
    assert data.statistics == {"classes": data.classes}
