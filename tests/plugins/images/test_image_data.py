"""Image data sets: the bundled part, IDX and CIFAR layouts made by hand, and a user's own folder."""

import gzip
import io
import json
import struct
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff.registry import registry
from anydiff_images import bundle
from anydiff_images.classes import CIFAR10_CLASSES, FASHION_CLASSES
from anydiff_images.data import CIFAR10, FashionMNIST, ImageDataset
from anydiff_images.folder import ImageFolder
from anydiff_images.idx import parse_idx, write_idx


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path / "home"))


# IDX ----------------------------------------------------------------------------------------------------------------

HAND_MADE = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 10, 11, 12, 20, 21, 22])


def test_idx_by_hand():
    expected = np.array([[[10, 11, 12]], [[20, 21, 22]]], np.uint8)
    assert np.array_equal(parse_idx(HAND_MADE, "x"), expected)
    assert np.array_equal(parse_idx(gzip.compress(HAND_MADE), "x"), expected)
    assert write_idx(expected) == HAND_MADE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HAND_MADE[:-1], "5 bytes of data, but its header says 6"),
        (HAND_MADE + b"!", "7 bytes of data"),
        (HAND_MADE[:9], "inside its IDX header"),
        (b"\x00\x00\x0d" + HAND_MADE[3:], "type 0x0d"),
        (b"PNG!", "no IDX file"),
        (b"", "no IDX file"),
        (gzip.compress(HAND_MADE)[:-9], "damaged gzip"),
    ],
    ids=["short", "long", "header", "type", "foreign", "empty", "gzip"],  # gzip has the time in it: no id for xdist
)
def test_bad_idx_is_named(content, message):
    with pytest.raises(FileFormatError, match=message) as caught:
        parse_idx(content, "train-images")
    assert "'train-images'" in str(caught.value)


# Fashion-MNIST ------------------------------------------------------------------------------------------------------


def test_the_bundled_part_is_what_the_ledger_says():
    for split, count, digest, mean in [
        ("train", 10000, "e2d7d11502c1", 73.171),
        ("test", 2000, "d7a4b9c3940f", 73.232),
    ]:
        data = registry().build("datasets", "images/fashion-mnist", split=split)
        assert len(data) == count
        assert data.hash.startswith(digest), "the bundled pixels, labels or scaling changed: all results change"
        assert data.labels.bincount().tolist() == [count // 10] * 10
        assert data.pixels.double().mean().item() == pytest.approx(mean, abs=1e-3)
        assert data.classes == list(FASHION_CLASSES)


def test_a_batch_is_scaled_and_labelled():
    data = FashionMNIST("test")
    states, condition = data.batch([5, 0, 5])
    assert states.shape == (3, 1, 28, 28)
    assert states.dtype == torch.float32
    assert condition.given["label"].tolist() == [5, 0, 5]
    assert torch.equal(states[0], states[2])
    assert torch.equal(states, data.pixels[[5, 0, 5]].float() / 127.5 - 1) or torch.allclose(
        states, data.pixels[[5, 0, 5]].float() / 127.5 - 1, atol=1e-6
    )
    assert states.min() == -1
    assert -1 <= states.max() <= 1
    assert data.spec.shape == (1, 28, 28)
    assert data.conditions["label"].classes == 10
    assert data.spec.leaf("image").range == (-1.0, 1.0)


@pytest.fixture
def official(tmp_path):
    """A folder like the official one, with 70 + 70 tiny 'images'; each tells its split, class and number."""
    folder = tmp_path / "fashion"
    folder.mkdir()
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = np.zeros((70, 28, 28), np.uint8)
        images[:, 0, 0], images[:, 0, 1], images[:, 0, 2] = np.arange(70), np.arange(70) % 10, 1 + (split == "test")
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(write_idx(images)))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(write_idx((np.arange(70) % 10).astype(np.uint8)))
    return folder


def test_the_full_set_from_a_folder(official):
    data = FashionMNIST("test", part="full", path=official)
    assert len(data) == 70
    assert data.pixels[:, 0, 0, 0].tolist() == list(range(70))
    assert data.labels.tolist() == [index % 10 for index in range(70)]
    assert (data.pixels[:, 0, 0, 2] == 2).all()
    (official / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(AnydiffError, match=r"t10k-labels-idx1-ubyte\.gz"):
        FashionMNIST("test", part="full", path=official)


def test_the_bundle_keeps_classes_and_splits_apart(official, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "PER_CLASS", {"train": 5, "test": 3})
    monkeypatch.setattr(bundle, "COLUMNS", 10)
    out = tmp_path / "small.png"
    bundle.write_bundle(official, out)
    for split, count, mark in (("train", 50, 1), ("test", 30, 2)):
        images, labels = bundle.read_bundle(split, out)
        assert images.shape == (count, 28, 28)
        assert (images[:, 0, 1] == labels).all()
        assert (images[:, 0, 2] == mark).all()
        assert len(set(images[:, 0, 0].tolist())) == count
        assert labels.tolist() == [index % 10 for index in range(count)]


def test_wrong_requests_for_fashion_mnist(official):
    with pytest.raises(UnknownNameError, match="'test'"):
        FashionMNIST("tset")
    with pytest.raises(UnknownNameError, match="'full'"):
        FashionMNIST(part="ful")
    with pytest.raises(AnydiffError, match="part='full'"):
        FashionMNIST(path=official)
    with pytest.raises(AnydiffError, match="anydiff data get images/fashion-mnist"):
        FashionMNIST(part="full")


# CIFAR-10 -----------------------------------------------------------------------------------------------------------


def test_cifar10_from_the_package_layout(tmp_path):
    pixels = np.zeros((10000, 32, 32, 3), np.uint8)
    pixels[3, 4, 5] = (10, 20, 30)
    picture = io.BytesIO()
    Image.fromarray(pixels.reshape(10000, 1024, 3)).save(picture, "png", compress_level=1)
    labels = json.dumps([index % 10 for index in range(10000)]).encode()
    with tarfile.open(tmp_path / "package.tgz", "w:gz", compresslevel=1) as file:
        for name, content in (("test_batch.png", picture.getvalue()), ("test_lables.json", labels)):
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    data = CIFAR10("test", tmp_path / "package.tgz")
    assert data.pixels.shape == (10000, 3, 32, 32)
    assert data.pixels[3, :, 4, 5].tolist() == [10, 20, 30]
    assert int((data.pixels != 0).sum()) == 3
    assert data.labels[:12].tolist() == [*range(10), 0, 1]
    with pytest.raises(FileFormatError, match="data_batch_1"):
        CIFAR10("train", tmp_path / "package.tgz")


def test_cifar10_from_the_binary_layout(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    record = np.zeros((2, 3073), np.uint8)
    record[0, 0], record[1, 0] = 7, 2
    record[1, 1 + 1024 + 4 * 32 + 5] = 99  # green, row 4, column 5
    (folder / "test_batch.bin").write_bytes(record.tobytes())
    for path in (folder, tmp_path):
        data = CIFAR10("test", path)
        assert data.labels.tolist() == [7, 2]
        assert data.pixels[1, 1, 4, 5] == 99
        assert data.classes == list(CIFAR10_CLASSES)
    with pytest.raises(AnydiffError, match="pickles"):
        CIFAR10("train", folder)
    (folder / "test_batch.bin").write_bytes(record.tobytes()[:-1])
    with pytest.raises(FileFormatError, match="6145 bytes"):
        CIFAR10("test", folder)
    with pytest.raises(AnydiffError, match="anydiff data get images/cifar10"):
        CIFAR10("test")


# Own folders --------------------------------------------------------------------------------------------------------


def picture(path, size=(8, 6), mode="RGB", value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 255)).save(path)


def test_a_folder_with_classes(tmp_path):
    for name in ("cat", "dog"):
        for index in range(20):
            picture(tmp_path / "pets" / name / f"{index:02d}.png", value=index + (100 if name == "dog" else 0))
    train, test = (ImageFolder(tmp_path / "pets", split) for split in ("train", "test"))
    assert (len(train), len(test)) == (36, 4)
    assert train.classes == ["cat", "dog"]
    assert test.pixels[:, 0, 0, 0].tolist() == [9, 19, 109, 119]
    assert test.labels.tolist() == [0, 0, 1, 1]
    assert test.spec.shape == (3, 6, 8), "channels, rows, columns"
    assert test.domain.parse_condition({"label": "Dog"}, 2)["label"].tolist() == [1, 1]


def test_a_folder_without_classes_and_with_own_splits(tmp_path):
    for split, count in (("train", 3), ("test", 2)):
        for index in range(count):
            picture(tmp_path / split / f"{index}.png", mode="L", value=index)
    data = ImageFolder(tmp_path, "train")
    assert (len(data), data.classes, data.labels, data.conditions) == (3, None, None, {})
    assert not data.batch([0, 2])[1]
    assert len(ImageFolder(tmp_path, "test")) == 2


def test_mixed_sizes_and_modes_name_the_first_file_and_the_fix(tmp_path):
    for index in range(3):
        picture(tmp_path / f"{index}.png")
    picture(tmp_path / "3.png", size=(9, 6))
    with pytest.raises(AnydiffError, match=r"3\.png' is 9x6 pixels, but '0\.png' is 8x6; give size=6"):
        ImageFolder(tmp_path)
    assert ImageFolder(tmp_path, size=5).spec.shape == (3, 5, 5)
    assert ImageFolder(tmp_path, size=(4, 7)).spec.shape == (3, 4, 7)
    picture(tmp_path / "3.png", mode="L")
    with pytest.raises(AnydiffError, match=r"3\.png' has mode 'L', but '0\.png' has 'RGB'; give channels=1"):
        ImageFolder(tmp_path)
    assert ImageFolder(tmp_path, channels=1).spec.shape == (1, 6, 8)


def test_unreadable_files_and_odd_folders(tmp_path):
    with pytest.raises(AnydiffError, match="does not exist"):
        ImageFolder(tmp_path / "none")
    (tmp_path / "a").mkdir()
    with pytest.raises(AnydiffError, match="holds no pictures"):
        ImageFolder(tmp_path)
    picture(tmp_path / "a" / "0.png")
    broken = tmp_path / "a" / "1.png"
    broken.write_bytes((tmp_path / "a" / "0.png").read_bytes()[:45])
    with pytest.raises(FileFormatError, match=r"1\.png' cannot be read as a picture"):
        ImageFolder(tmp_path)
    broken.unlink()
    with pytest.raises(AnydiffError, match="test split"):
        ImageFolder(tmp_path, "test")
    picture(tmp_path / "loose.png")
    with pytest.raises(AnydiffError, match=r"loose\.png"):
        ImageFolder(tmp_path)
    for options, message in [
        ({"channels": 2}, "channels is 2"),
        ({"size": 0}, "size is 0"),
        ({"size": (1, 2, 3)}, "size"),
    ]:
        with pytest.raises(AnydiffError, match=message):
            ImageFolder(tmp_path / "a", **options)


def test_the_hash_is_of_content_not_of_place(tmp_path):
    for place in ("one", "two"):
        for index in range(3):
            picture(tmp_path / place / f"{index}.png", value=index)
    one, two = ImageFolder(tmp_path / "one"), ImageFolder(tmp_path / "two")
    assert one.hash == two.hash
    picture(tmp_path / "two" / "1.png", value=77)
    assert ImageFolder(tmp_path / "two").hash != one.hash


def test_the_hash_sees_pixels_labels_names_and_shape():
    pixels, labels = np.zeros((2, 1, 2, 3), np.uint8), np.array([0, 1])
    known = ImageDataset("x", pixels, labels, ["a", "b"]).hash
    assert known == ImageDataset("y", pixels.copy(), labels.astype(np.int32), ("a", "b")).hash
    others = [
        ImageDataset("x", pixels + np.uint8(1), labels, ["a", "b"]),
        ImageDataset("x", pixels, labels[::-1], ["a", "b"]),
        ImageDataset("x", pixels, labels, ["a", "c"]),
        ImageDataset("x", pixels.reshape(2, 1, 3, 2), labels, ["a", "b"]),
        ImageDataset("x", pixels, None, None),
    ]
    assert len({known, *(other.hash for other in others)}) == 6


def test_idx_header_is_big_endian():
    assert write_idx(np.zeros((258, 1), np.uint8))[4:8] == struct.pack(">I", 258)
