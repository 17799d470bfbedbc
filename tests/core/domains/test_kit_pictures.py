"""Tiles in a grid and panels of plots: where each stands, what is cut, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from anydiff.domains.kit.pictures import (
    TITLE,
    columns_for,
    enlarged,
    panels,
    picture_grid,
    write_animation,
    write_figure,
    write_picture,
)
from anydiff.errors import AnydiffError


def grey(value, height=4, width=6):
    return np.full((height, width), value, dtype=np.uint8)


def test_each_tile_stands_in_its_cell_row_by_row():
    sheet = picture_grid([grey(10 * number) for number in range(1, 6)], columns=3, gap=2)
    assert sheet.size == (3 * 8 + 2, 2 * 6 + 2)
    for number in range(5):
        left, top = 2 + number % 3 * 8, 2 + number // 3 * 6
        assert sheet.getpixel((left, top)) == sheet.getpixel((left + 5, top + 3)) == (10 * (number + 1),) * 3
        assert sheet.getpixel((left - 1, top)) == (255, 255, 255)
    assert sheet.getpixel((2 + 2 * 8, 8)) == (255, 255, 255), "the cell that is left over"


def test_tiles_of_other_sizes_and_without_a_margin_are_on_black_where_asked():
    sheet = picture_grid([grey(9), grey(9, 8, 2)], columns=2, gap=1, margin=0, dark=True)
    assert sheet.size == (6 + 1 + 6, 8)
    assert sheet.getpixel((0, 7)) == sheet.getpixel((10, 0)) == (0, 0, 0)
    assert sheet.getpixel((7, 7)) == (9, 9, 9)


def test_titles_have_room_and_are_cut_to_their_cell():
    tiles = [grey(0, 40, 60)] * 2
    plain, titled = picture_grid(tiles, columns=2, gap=4), picture_grid(tiles, ["a very long title " * 4], 2, gap=4)
    assert titled.height == plain.height + TITLE
    beneath = np.asarray(titled.convert("L"))[44:, :]
    assert (beneath[:, 4:64] < 128).any()
    assert (beneath[:, 64:] == 255).all(), "nothing beneath the second tile"


def test_transparent_pixels_show_the_ground():
    tile = np.zeros((2, 2, 4), dtype=np.uint8)
    tile[0, 0] = (200, 0, 0, 255)
    sheet = picture_grid([tile], gap=0)
    assert sheet.getpixel((0, 0)) == (200, 0, 0)
    assert sheet.getpixel((1, 1)) == (255, 255, 255)


def test_columns_and_enlarged_pixels():
    assert [columns_for(count) for count in (1, 3, 10, 12, 20, 100)] == [1, 2, 4, 4, 10, 10]
    big = np.asarray(enlarged(np.array([[0, 255]], dtype=np.uint8), 3))
    assert big.tolist() == [[0] * 3 + [255] * 3] * 3


def test_nothing_to_draw_is_refused_and_files_are_png(tmp_path):
    with pytest.raises(AnydiffError, match="no picture to draw"):
        picture_grid([])
    write_picture(grey(7), tmp_path / "a.anything")
    with Image.open(tmp_path / "a.anything") as picture:
        assert picture.format == "PNG"


def test_panels_are_as_many_as_asked_for(tmp_path):
    figure, axes = panels(5, 1.0, 0.5, columns=3)
    assert len(axes) == 5
    assert figure.get_size_inches().tolist() == [3.0, 1.0]
    assert not figure.axes[5].axison
    write_figure(figure, tmp_path / "plots.png")
    with Image.open(tmp_path / "plots.png") as picture:
        assert picture.size == (330, 110)


def test_an_animation_holds_its_frames_at_their_rate_and_repeats(tmp_path):
    frames = [np.full((5, 7, 3), value, dtype=np.uint8) for value in (0, 90, 255)]
    write_animation(frames, tmp_path / "a.gif", 10.0)
    with Image.open(tmp_path / "a.gif") as picture:
        assert (picture.n_frames, picture.size, picture.info["loop"], picture.info["duration"]) == (3, (7, 5), 0, 100)
        picture.seek(1)
        assert picture.convert("RGB").getpixel((0, 0)) == (90, 90, 90)


@pytest.mark.parametrize(
    ("frames", "name", "rate", "told"),
    [
        ([], "a.gif", 20.0, "no frames"),
        ([grey(1), grey(1, 5)], "a.gif", 20.0, r"different sizes, \(6, 4\) and \(6, 5\)"),
        ([grey(1)], "a.mp4", 20.0, "gif"),
        ([grey(1)], "a.gif", 0.0, "frames_per_second is 0.0"),
    ],
)
def test_an_animation_that_cannot_be_is_refused(tmp_path, frames, name, rate, told):
    with pytest.raises(AnydiffError, match=told):
        write_animation(frames, tmp_path / name, rate)
    assert list(tmp_path.iterdir()) == []
