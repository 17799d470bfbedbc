"""The page at any width: no table widens the page, and the first one is a list of sentences on a narrow screen."""

from __future__ import annotations

import io
import re
import sqlite3
from pathlib import Path

import pytest
from PIL import Image
from test_benchmark_report import Page
from test_benchmark_row import STORED

from anydiff_benchmarks.engine.report import page, write_report
from anydiff_benchmarks.engine.store import FILE

STYLE = (Path(page.__file__).parent / "page.css").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    connection = sqlite3.connect(folder / FILE)
    connection.executescript(STORED.read_text(encoding="utf-8"))
    connection.close()
    return write_report(folder).read_text(encoding="utf-8")


def test_every_table_scrolls_in_a_box_of_its_own_and_the_page_is_as_wide_as_the_screen(content):
    assert content.count("<table") == content.count('<div class="scroll"><table') > 3
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in content
    assert re.search(r"\.scroll \{[^}]*overflow-x: auto", STYLE)
    assert "style=" not in re.sub(r"<style>.*?</style>", "", content, flags=re.S).replace("style-src", "")


def test_nothing_has_a_width_that_a_narrow_screen_lacks():
    for name, size, unit in re.findall(r"(?<!max-)(\bmin-width|\bwidth): ([0-9.]+)(px|rem|ch)", STYLE):
        assert float(size) * {"px": 1, "rem": 16, "ch": 8}[unit] <= 390 / 2, name
    for size, unit in re.findall(r"minmax\(([0-9.]+)(px|rem)", STYLE):
        assert float(size) * {"px": 1, "rem": 16}[unit] <= 390 / 2, "two pictures side by side"


def test_the_first_table_is_a_list_on_a_narrow_screen(content):
    found = Page()
    found.feed(content)
    tables = [attributes.get("class") for tag, attributes in found.elements if tag == "table"]
    assert tables[0] == "stacked"
    titles = [
        attributes["data-title"] for tag, attributes in found.elements if tag == "td" and "data-title" in attributes
    ]
    assert titles[:5] == [
        "take", "calls", "no setting is better", "more calls bring", "against the strongest free baseline",
    ]  # fmt: skip
    narrow = STYLE.split("@media (max-width: 36rem) {", 1)[1]
    assert ".stacked td[data-title]::before" in narrow


def test_pictures_are_small():
    """Six megabytes for the quick suite's two hundred pictures."""
    picture = io.BytesIO()
    Image.effect_noise((1200, 900), 80).convert("RGB").save(picture, "PNG")
    with Image.open(io.BytesIO(page._small(picture.getvalue()))) as small:
        assert small.size == (page.WIDTH, page.WIDTH * 3 // 4)
        assert small.format == "WEBP"
    assert page.WIDTH <= 480
