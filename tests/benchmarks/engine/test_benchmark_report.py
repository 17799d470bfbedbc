from __future__ import annotations

import csv
import json
import math
import re
from html.parser import HTMLParser
from xml.etree.ElementTree import fromstring

import pytest
from test_benchmark_engine import MIXED, run

from anydiff.errors import AnydiffError
from anydiff.metrics import MetricCard
from anydiff_benchmarks.engine.leaderboard import make_leaderboard
from anydiff_benchmarks.engine.report import write_report
from anydiff_benchmarks.engine.report.plots import pareto_front, pareto_plot, quality_plot
from anydiff_benchmarks.engine.report.text import number
from anydiff_benchmarks.engine.row import Row

SVG = "{http://www.w3.org/2000/svg}"

VOID = {"wbr", "meta", "img"}
PICTURE = re.compile(r"data:image/(webp|svg\+xml);base64,([A-Za-z0-9+/=]+)")


class Page(HTMLParser):
    """Checks that elements close in order, and collects elements, their attributes and the text."""

    def __init__(self):
        super().__init__()
        self.open, self.elements, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def folder(toy, tmp_path):
    out = tmp_path / "report"
    suite = {"methods": ("ddim", {"solver": "edm", "label": "<script>alert('label')</script>"}, "toy/broken")}
    run(toy, out, MIXED, **suite)
    write_report(out)
    return out


def test_the_page_is_self_contained_and_escaped(folder):
    content = (folder / "index.html").read_text()
    page = Page()
    page.feed(content)
    assert page.open == []
    assert [tag for tag, _ in page.elements].count("script") == 1, "only the page's own"
    assert not {"link", "iframe", "object", "base"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        assert "style" not in attributes, "the page's own policy forbids it"
        assert "src" not in attributes or PICTURE.fullmatch(attributes["src"])
        assert attributes.get("href", "#").startswith("#")
    text = "".join(page.text)
    for shown in (
        "<script>alert('label')</script>",
        "<script>alert('help')</script>",
        "<script>alert(1)</script> it hurts",
    ):
        assert shown in text
    assert "<img src=x onerror=alert(1)>" in text
    assert "toy/cut" in text, "a task that could not be run is named"
    assert any("default-src 'none'" in attributes.get("content", "") for _, attributes in page.elements)


def test_every_task_has_table_plot_pictures_and_baselines(folder):
    content = (folder / "index.html").read_text()
    for task in ("toy/points@2", "toy/touchy@1"):
        section = content.split(f">{task}</h2>")[1].split("<h2")[0]
        assert "<table>" in section
        kinds = [kind for kind, _ in PICTURE.findall(section)]
        assert kinds.count("webp") == 1 + 2 * 2 + 3, "held-out data, two methods at two budgets, three baselines"
        assert kinds.count("svg+xml") >= 2, "against network calls and against time"
        for name in (
            "held-out against held-out (ceiling)",
            "training data",
            "Gaussian of all",
            "(strongest free base",
        ):
            assert name in section
        assert "Over 3 sampling seeds of 1 training" in content
        assert "values are means with their 95 % t intervals, which count" in content
        assert "failed: " in section


def test_rows_and_derived_files_agree(folder):
    lines = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    table = list(csv.DictReader((folder / "rows.csv").open()))
    assert len(lines) == len(table) == 2 * 3 * (4 + 3 * 2)
    for row, cells in zip(lines, table, strict=True):
        assert cells["key"] == row["key"]
        for name, value in row["metrics"].items():
            assert float(cells[name]) == value
    assert {"weights", "recipe", "frozen task", "code", "libraries", "method", "seed"} <= set(lines[-1]["inputs"])
    markdown = (folder / "report.md").read_text()
    assert "<script>" not in markdown
    assert re.search(r"^\| ddim \| 3 \| ", markdown, re.MULTILINE)


def test_a_report_needs_a_store(tmp_path):
    with pytest.raises(AnydiffError, match=r"holds no results.sqlite"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1.0, "1.000"), (12345.678, "12346"), (0.012345, "0.01235"),
        (1e-7, "1.000e-07"), (-3.14159, "-3.142"),
        (float("inf"), "inf"), (None, "–"), (1234567.0, "1.235e+06"), (99.999, "100.00"),
    ],
)  # fmt: skip
def test_numbers(value, text):
    assert number(value) == text


def plots(task, titles):
    """The texts of every plot of a task; the SVG must be well formed."""
    made = [quality_plot(task, card, titles) for card in task.quality] + [pareto_plot(task, task.quality[0], titles)]
    return [[each.text for each in fromstring(plot.svg).iter(f"{SVG}text")] for plot in made]


def board_of(values, titles, card=None):
    """A task with one metric: method -> values per budget, three seeds each."""
    card = card or MetricCard("toy/error", "lower", "1", (-math.inf, math.inf), 0.0, 1)
    rows = [
        Row(
            task="toy/x@1", method=title, nfe=nfe, training=0, seed=seed, samples=10, seconds=0.1 * nfe,
            metrics={card.name: value}, cards={card.name: card},
        )
        for title in titles for nfe, value in values.items() for seed in (0, 1, 2)
    ]  # fmt: skip
    return make_leaderboard("toy/x@1", {}, rows, titles, len(rows))


@pytest.mark.parametrize("values", [{3: 0.0, 6: 1.0}, {3: 3.0}, {1: 0.001, 100: 5000.0}, {5: -2.0, 10: 7.0, 20: 1.0}])
def test_plots_show_budgets_and_methods_as_they_are_called(values):
    titles = ["ddim", "<b>&$x_1$</b>", *(f"method {number}" for number in range(9))]
    first, last = plots(board_of(values, titles), titles)
    assert {str(nfe) for nfe in values} <= set(first)
    assert {str(nfe) for nfe in values} <= set(last), "the budgets stand at the points"
    for shown in (first, last):
        assert set(titles) <= set(shown)
        assert len([text for text in shown if re.fullmatch(r"[-−]?[\d.e+-]+", text)]) >= 3


def test_a_metric_without_a_finite_value_has_no_plot():
    task = board_of({3: math.inf}, ["ddim"])
    assert quality_plot(task, task.quality[0], ["ddim"]) is None
    assert pareto_plot(task, task.quality[0], ["ddim"]) is None


def test_the_same_plot_has_the_same_bytes():
    task = board_of({3: 1.0, 6: 2.0}, ["ddim", "edm"])
    one, other = (quality_plot(task, task.quality[0], ["ddim", "edm"]) for _ in range(2))
    assert one.svg == other.svg


def test_the_pareto_front_holds_what_none_beats_in_both():
    points = [(1.0, 5.0), (2.0, 3.0), (2.0, 4.0), (3.0, 3.5), (4.0, 1.0)]
    assert pareto_front(points, "lower") == [(1.0, 5.0), (2.0, 3.0), (4.0, 1.0)]
    assert pareto_front(points, "higher") == [(1.0, 5.0)]
    assert pareto_front([], "lower") == []
