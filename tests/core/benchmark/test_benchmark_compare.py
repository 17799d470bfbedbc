"""Comparing and auditing results."""

from __future__ import annotations

import json
import sqlite3

import pytest
from test_benchmark_engine import run

from anydiff.benchmark.audit import audit
from anydiff.benchmark.compare import compare_methods, compare_runs, read_rows, worse
from anydiff.benchmark.report import write_report
from anydiff.benchmark.store import FILE, Store
from anydiff.errors import AnydiffError, FileFormatError


@pytest.fixture
def folder(toy, tmp_path):
    out = tmp_path / "report"
    run(toy, out, methods=("ddim", "edm"), nfe=(3,), seeds=(0, 1, 2, 3, 4), gallery=0)
    write_report(out)
    return out


def test_two_methods(folder):
    found = {each.card.name: each.pair for each in compare_methods(read_rows(folder), "ddim", "edm")}
    assert {name: pair.verdict for name, pair in found.items()} == {"toy/frechet": "win", "toy/near": "win"}
    assert all(pair.interval is not None and pair.units == 5 for pair in found.values())
    assert len(worse(compare_methods(read_rows(folder), "edm", "ddim"))) == 2
    with pytest.raises(AnydiffError, match="no row is of 'eddm'"):
        compare_methods(read_rows(folder), "ddim", "eddm")


def test_a_run_ties_with_itself_and_a_regression_is_found(folder, tmp_path):
    rows = read_rows(folder / "rows.jsonl")
    assert {each.pair.verdict for each in compare_runs(rows, read_rows(folder))} == {"tie"}
    bad = json.loads(json.dumps(rows))
    for row in bad:
        row["metrics"]["toy/frechet"] *= 1.5 + 0.01 * row["seed"]
    lost = worse(compare_runs(bad, rows))
    assert {each.card.name for each in lost} == {"toy/frechet"}
    assert not worse(compare_runs([row for row in bad if row["seed"] < 3], rows)), "three seeds allow no statement"


def test_what_cannot_be_compared_is_refused(folder, tmp_path):
    rows = read_rows(folder)
    with pytest.raises(AnydiffError, match="no row in common"):
        compare_runs(rows, [{**row, "task": "toy/points@3"} for row in rows])
    other = json.loads(json.dumps(rows))
    for row in other:
        row["cards"]["toy/frechet"]["version"] = "2"
    with pytest.raises(AnydiffError, match="cannot share a column"):
        compare_runs(rows, other)
    (tmp_path / "x.jsonl").write_text("{}\n")
    with pytest.raises(FileFormatError, match="no rows of this version"):
        read_rows(tmp_path / "x.jsonl")
    (tmp_path / "x.jsonl").write_text("not json\n")
    with pytest.raises(FileFormatError, match="holds no rows"):
        read_rows(tmp_path / "x.jsonl")
    with pytest.raises(AnydiffError, match="no report folder"):
        read_rows(tmp_path / "absent")


def test_an_audit_agrees_and_finds_a_false_number(toy, folder):
    with Store(folder) as store:
        findings = list(audit(store, 6))
    assert len(findings) == 6
    assert {each.verdict for each in findings} == {"same"}
    connection = sqlite3.connect(folder / FILE)
    for key, text in connection.execute("select key, row from rows").fetchall():
        row = json.loads(text)
        row["metrics"]["toy/frechet"] = float(row["metrics"]["toy/frechet"]) * 3 + 1
        connection.execute("update rows set row = ? where key = ?", (json.dumps(row), key))
    connection.commit()
    connection.close()
    with Store(folder) as store:
        (finding,) = audit(store, 1)
    assert finding.verdict == "differs"
    assert "toy/frechet was" in finding.sentence


def test_an_audit_says_what_changed_since(toy, folder, monkeypatch):
    monkeypatch.setattr("anydiff.benchmark.work.code_hash", lambda modules: "0" * 64)
    from anydiff.benchmark.work import forget_models

    forget_models()
    with Store(folder) as store:
        (finding,) = audit(store, 1)
    assert finding.verdict == "cannot be computed"
    assert "core code" in finding.sentence


def test_an_audit_needs_rows(tmp_path):
    with Store(tmp_path) as store, pytest.raises(AnydiffError, match="holds no finished rows"):
        list(audit(store, 1))
