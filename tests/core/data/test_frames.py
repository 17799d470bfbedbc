"""The one reader of pictures and frames: no value changes in silence, no hidden colour shows, no page is left out."""

from __future__ import annotations

import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from anydiff.data.frames import Conversion, frame_bytes, picture_bytes, picture_files, read_pages, read_picture
from anydiff.errors import AnydiffError, FileFormatError, NonFiniteError


def test_sixteen_bits_are_divided_by_257(tmp_path):
    values = np.array([[0, 128, 129, 257, 32767, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values).save(tmp_path / "a.tif")
    for name in ("a.png", "a.tif"):
        assert read_picture(tmp_path / name)[..., 0].tolist() == [[0, 0, 1, 1, 127, 255]]
    every = np.arange(65536, dtype=np.uint16)
    assert (frame_bytes(every, "x") == np.rint(every / 257)).all()


def test_a_sixteen_bit_grey_map_of_twelve_bits_is_scaled_by_its_own_maximum(tmp_path):
    values = np.array([0, 2047, 4095], dtype=">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 4095\n" + values.tobytes())
    assert read_picture(tmp_path / "a.pgm")[..., 0].tolist() == [[0, 127, 255]]


@pytest.mark.parametrize(
    ("values", "stated", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], dtype=np.float32), (0, 1), [0, 128, 255]),
        (np.array([[0, 2000, 4000]], dtype=np.int32), (0, 4000), [0, 128, 255]),
        (np.array([[-1.0, 0.0, 1.0]], dtype=np.float32), (-1, 1), [0, 128, 255]),
        (np.array([[0, 2048, 4095]], dtype=np.uint16), (0, 4095), [0, 128, 255]),
    ],
)
def test_other_numbers_need_a_stated_range(tmp_path, values, stated, expected):
    Image.fromarray(values).save(tmp_path / "a.tif")
    got = read_picture(tmp_path / "a.tif", Conversion(value_range=stated))[..., 0].tolist()[0]
    assert got == [expected[0], pytest.approx(expected[1], abs=1), expected[2]]
    with pytest.raises(FileFormatError, match=r"a\.tif' holds values .* outside of value_range"):
        read_picture(tmp_path / "a.tif", Conversion(value_range=(stated[0], stated[1] - 0.25)))
    if values.dtype != np.uint16:
        with pytest.raises(FileFormatError, match=r"a\.tif' holds (float|int)32 values from .*value_range=\[0, "):
            read_picture(tmp_path / "a.tif")


def test_frames_are_finite_real_numbers():
    with pytest.raises(NonFiniteError, match="frame 3"):
        frame_bytes(np.array([0.0, np.nan]), "frame 3", (0, 1))
    with pytest.raises(FileFormatError, match="complex"):
        frame_bytes(np.array([1j]), "frame 3", (0, 1))
    with pytest.raises(FileFormatError, match="holds bytes, but value_range"):
        frame_bytes(np.zeros(2, dtype=np.uint8), "frame 3", (0, 1))
    assert frame_bytes(np.array([True, False]), "frame 3").tolist() == [255, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    # How a camera that was held otherwise stores the same scene.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    assert read_picture(tmp_path / "a.png")[..., 0].tolist() == upright.tolist()


HIDDEN = np.array([[[200, 10, 10, 255], [255, 0, 0, 0], [0, 0, 255, 51]]], dtype=np.uint8)


def test_hidden_colours_never_show(tmp_path):
    Image.fromarray(HIDDEN).save(tmp_path / "a.png")
    for channels in (1, 3):
        with pytest.raises(FileFormatError, match=r"a\.png' has 2 transparent pixels.*background=\[255, 255, 255\]"):
            read_picture(tmp_path / "a.png", Conversion(channels))
    white = read_picture(tmp_path / "a.png", Conversion(3, background=(255, 255, 255)))
    assert white.tolist() == [[[200, 10, 10], [255, 255, 255], [204, 204, 255]]]
    assert read_picture(tmp_path / "a.png", Conversion(1, background=(0, 0, 0)))[0, 1].tolist() == [0]
    kept = [[[200, 10, 10, 255], [0, 0, 0, 0], [0, 0, 255, 51]]]
    assert read_picture(tmp_path / "a.png").tolist() == kept
    assert read_picture(tmp_path / "a.png", Conversion(4)).tolist() == kept


def test_transparency_of_palettes_grey_and_key_colours_is_seen(tmp_path):
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "palette.png", transparency=0)
    Image.fromarray(np.array([[[9, 255], [200, 0]]], dtype=np.uint8), "LA").save(tmp_path / "grey.png")
    Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8)).save(
        tmp_path / "key.png", transparency=(1, 2, 3)
    )
    expected = {"palette": [[7, 7, 7], [0, 255, 0]], "grey": [[9, 9, 9], [7, 7, 7]], "key": [[7, 7, 7], [4, 5, 6]]}
    for name, pixels in expected.items():
        with pytest.raises(FileFormatError, match="1 transparent pixels"):
            read_picture(tmp_path / f"{name}.png", Conversion(3))
        assert read_picture(tmp_path / f"{name}.png", Conversion(3, background=(7, 7, 7))).tolist() == [pixels]


def test_an_opaque_alpha_channel_is_dropped_without_a_background(tmp_path):
    picture = HIDDEN.copy()
    picture[..., 3] = 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png", Conversion(3)).tolist() == picture[..., :3].tolist()


def test_channels_are_kept_or_converted(tmp_path):
    colour = np.array([[[255, 0, 0], [0, 0, 255]]], dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").tolist() == colour.tolist()
    assert read_picture(tmp_path / "a.png", Conversion(1)).tolist() == [[[76], [29]]]
    assert read_picture(tmp_path / "a.png", Conversion(4))[0, 0].tolist() == [255, 0, 0, 255]
    Image.fromarray(np.array([[0, 65535]], dtype=np.uint16)).save(tmp_path / "b.png")
    assert read_picture(tmp_path / "b.png", Conversion(3)).tolist() == [[[0] * 3, [255] * 3]]
    assert read_picture(tmp_path / "b.png", Conversion(4))[0, 0].tolist() == [0, 0, 0, 255]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "c.png")
    assert read_picture(tmp_path / "c.png")[..., 0].tolist() == [[255, 0]]
    with pytest.raises(FileFormatError, match="eight bits per channel"):
        read_picture(tmp_path / "a.png", Conversion(value_range=(0, 1)))


def test_pages_are_all_read_or_counted(tmp_path):
    pages = [Image.fromarray(np.full((2, 3), value, dtype=np.uint8)) for value in (10, 20, 30)]
    for name in ("a.tif", "a.gif", "a.png", "a.webp"):
        lossless = {"lossless": True} if name == "a.webp" else {}
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:], **lossless)
        with pytest.raises(FileFormatError, match=r"holds 3 pages, but one picture is read"):
            read_picture(tmp_path / name)
        read = read_pages(tmp_path / name, Conversion(1))
        assert [int(page[0, 0, 0]) for page in read] == [10, 20, 30]
        assert all(page.shape == (2, 3, 1) for page in read)


def test_the_files_of_a_folder_are_counted_said_or_refused(tmp_path, recwarn):
    for name in ("b.PNG", "a.jpg"):
        Image.new("L", (2, 2)).save(tmp_path / name)
    (tmp_path / ".hidden.txt").write_text("x")
    (tmp_path / "inside").mkdir()
    assert [path.name for path in picture_files(tmp_path)] == ["a.jpg", "b.PNG"]
    assert not recwarn.list
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "labels.csv").write_text("x")
    with pytest.warns(
        UserWarning, match=r"holds 2 files that are no pictures \('labels\.csv' is the first\).*2 pictures"
    ):
        assert len(picture_files(tmp_path)) == 2
    (tmp_path / "IMG_1.HEIC").write_bytes(b"x")
    with pytest.raises(
        AnydiffError, match=r"holds 1 pictures of a kind that is not read \('IMG_1\.HEIC'.*convert them to PNG"
    ):
        picture_files(tmp_path)
    with pytest.raises(AnydiffError, match="holds no pictures"):
        picture_files(tmp_path / "inside")
    with pytest.raises(AnydiffError, match="cannot read"):
        picture_files(tmp_path / "no")


def test_damaged_and_foreign_files_are_named(tmp_path):
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(FileFormatError, match=r"a\.png' cannot be read as a picture"):
        read_picture(tmp_path / "a.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / "b.png")
    content = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(content[:2000])
    with pytest.raises(FileFormatError, match=r"b\.png' cannot be read as a picture .*truncated"):
        read_picture(tmp_path / "b.png")
    with pytest.raises(AnydiffError, match="check the path"):
        read_picture(tmp_path / "no.png")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_that_asks_for_all_memory_is_refused_before_it_is_decoded(tmp_path):
    header = struct.pack(">IIBBBBB", 12_000, 12_000, 8, 6, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(FileFormatError, match="12000x12000 pixels asks for 576,000,000 bytes"):
        read_picture(tmp_path / "a.png")


def test_pictures_in_memory_go_through_the_same_rules():
    assert picture_bytes(Image.fromarray(np.array([[257]], dtype=np.uint16)), "picture 0").tolist() == [[[1]]]
    with pytest.raises(FileFormatError, match=r"^picture 0 holds float32"):
        picture_bytes(Image.fromarray(np.array([[1.5]], dtype=np.float32)), "picture 0")


@pytest.mark.parametrize(
    "options",
    [
        {"channels": 2},
        {"value_range": (1, 0)},
        {"value_range": (0, np.inf)},
        {"background": (0, 0)},
        {"background": (0, 0, 256)},
    ],
)
def test_wrong_options_are_named(options):
    with pytest.raises(AnydiffError, match=f"{next(iter(options))} is "):
        Conversion(**options)


def test_without_pillow_the_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(AnydiffError, match="pip install 'pillow'"):
        read_picture(tmp_path / "a.png")
