"""The record of a row: stores and files that were written once load for ever, and are written back as they came."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from pathlib import Path

import pytest

from anydiff.errors import AnydiffError, FileFormatError
from anydiff_benchmarks.engine.compare import read_rows
from anydiff_benchmarks.engine.report import write_report
from anydiff_benchmarks.engine.row import Row
from anydiff_benchmarks.engine.store import FILE, Store

QUICK = Path(__file__).parents[3] / "benchmarks" / "results" / "quick.jsonl"
ROWS = Path(__file__).parent / "stored" / "rows-1.jsonl"
"""Rows as they were published while keys covered the code of the core and of the plugins by imports."""
STORED = Path(__file__).parent / "stored" / "store-2.sql"
"""A store of format 2 as SQL: baselines, methods, a failed row and one of a closed loop, with the note of the run."""


@pytest.fixture
def folder(tmp_path):
    connection = sqlite3.connect(tmp_path / FILE)
    connection.executescript(STORED.read_text(encoding="utf-8"))
    connection.close()
    return tmp_path


def texts(folder):
    connection = sqlite3.connect(folder / FILE)
    found = dict(connection.execute("select key, row from rows").fetchall())
    connection.close()
    return found


def test_a_stored_store_loads_and_its_rows_are_written_as_they_came(folder):
    with Store(folder) as store:
        rows = store.rows(key for keys in store.note("run")["keys"].values() for key in keys)
    stored = texts(folder)
    assert {row.key: row.text() for row in rows} == stored
    assert len(rows) == 14
    for row in rows:
        with Store(folder / "copy") as copy:
            copy.add(row, "label")
    assert texts(folder / "copy") == stored


def test_a_stored_store_gives_a_report(folder):
    write_report(folder)
    written = {row.key: row.text() for row in read_rows(folder / "rows.jsonl")}
    assert written == texts(folder)
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert "| edm | 3 |" in markdown
    assert "it hurts" in markdown


def test_every_row_of_an_earlier_version_is_written_as_it_came():
    for line in [*QUICK.read_text(encoding="utf-8").splitlines(), *ROWS.read_text(encoding="utf-8").splitlines()][::20]:
        assert Row.parse(json.loads(line), "a line").text() == line


def test_every_stored_column_is_a_column_of_the_record(folder):
    """A column that is renamed would be kept as an unknown one, and its new name be empty."""
    for text in texts(folder).values():
        costs = {"multiply_adds", "weights_bytes", "calibration_calls", "calibration_seconds"}
        later = {"units", "cases", "blocks", *costs}
        assert json.loads(text).keys() == Row.model_fields.keys() - later
    assert set(Row.CSV) <= Row.model_fields.keys()


def test_columns_of_later_versions_are_kept():
    data = {**json.loads(next(iter(QUICK.open(encoding="utf-8")))), "energy_joules": 3.5}
    assert json.loads(Row.parse(data, "a line").text())["energy_joules"] == 3.5


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"seed": "first"}, r"seed in line 1 of '.*rows\.jsonl' is 'first'"),
        ({"metrics": {"a/b": "good"}}, r"metrics\.a/b in line 1 .* is 'good'"),
        ({"status": "fine"}, r"status in line 1 .* is 'fine', but should be 'done', 'failed' or 'not applicable'"),
        ({"cards": {"a/b": {"name": "a/b"}}}, r"cards\.a/b\.direction is missing in line 1"),
    ],
)
def test_a_wrong_column_is_named(tmp_path, changes, match):
    data = {**json.loads(next(iter(QUICK.open(encoding="utf-8")))), **changes}
    (tmp_path / "rows.jsonl").write_text(json.dumps(data) + "\n")
    with pytest.raises(FileFormatError, match=match):
        read_rows(tmp_path)


def test_units_are_written_where_there_are_any_and_say_which_case_they_are_of():
    row = Row.parse(json.loads(next(iter(QUICK.open(encoding="utf-8")))), "a line")
    name = next(iter(row.metrics))
    row.units, row.cases = {name: (1.0, 2.0, 3.0)}, (7, 5, 9)
    assert row.unit_numbers(name) == [(row.training, row.seed, number) for number in range(3)]
    row.cards = {name: dataclasses.replace(row.cards[name], uncertainty="cases")}
    again = Row.parse(json.loads(row.text()), "a line")
    assert again.unit_numbers(name) == [(row.training, -1, 7), (row.training, -1, 5), (row.training, -1, 9)]
    assert again.units == {name: (1.0, 2.0, 3.0)}


def test_a_column_takes_values_of_its_type_alone():
    row = Row.parse(json.loads(next(iter(QUICK.open(encoding="utf-8")))), "a line")
    with pytest.raises(ValueError, match="status"):
        row.status = "fine"
    with pytest.raises(AnydiffError, match="samples is missing in a line"):
        Row.parse(
            {"task": "a/b@1", "method": "m", "nfe": 1, "training": 0, "seed": 0, "metrics": {}, "cards": {}}, "a line"
        )
