"""Comparing and auditing results."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from test_benchmark_engine import run

from anydiff.cli.main import run as command
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.metrics import MetricCard
from anydiff.plugins.source import Source
from anydiff_benchmarks.engine.audit import audit
from anydiff_benchmarks.engine.compare import compare_methods, compare_runs, read_rows, worse
from anydiff_benchmarks.engine.report import write_report
from anydiff_benchmarks.engine.row import Row
from anydiff_benchmarks.engine.store import FILE, Store


@pytest.fixture
def folder(toy, tmp_path):
    out = tmp_path / "report"
    run(toy, out, methods=("ddim", "edm"), nfe=(3,), seeds=(0, 1, 2, 3, 4), gallery=0)
    write_report(out)
    return out


def test_two_methods(folder):
    found = {each.card.name: each.pair for each in compare_methods(read_rows(folder), "ddim", "edm")}
    assert {name: pair.verdict for name, pair in found.items()} == {"toy/frechet": "win", "toy/near": "win"}
    assert all(pair.interval is not None and pair.units == 5 * 16 for pair in found.values())
    assert len(worse(compare_methods(read_rows(folder), "edm", "ddim"))) == 2
    with pytest.raises(AnydiffError, match="no row is of 'eddm'"):
        compare_methods(read_rows(folder), "ddim", "eddm")


def test_a_run_ties_with_itself_and_a_regression_is_found(folder, tmp_path):
    rows = read_rows(folder / "rows.jsonl")
    assert {each.pair.verdict for each in compare_runs(rows, read_rows(folder))} == {"tie"}
    bad = [row.model_copy(deep=True) for row in rows]
    for row in bad:
        row.metrics["toy/frechet"] *= 1.5 + 0.01 * row.seed
    lost = worse(compare_runs(bad, rows))
    assert {each.card.name for each in lost} == {"toy/frechet"}
    assert {each.card.name for each in worse(compare_runs([row for row in bad if row.seed < 3], rows))} == {
        "toy/frechet"
    }
    for row in (*bad, *rows):
        row.units = {}
    few = compare_runs([row for row in bad if row.seed < 1], rows)
    assert {each.pair.verdict for each in few} == {"not judged"}, "one seed without units allows no statement"
    assert {each.pair.why for each in few} == {
        "1 run, 3 are needed; the numbers changed",
        "1 run, 3 are needed; the numbers are the same",
    }


def test_what_cannot_be_compared_is_refused(folder, tmp_path):
    rows = read_rows(folder)
    with pytest.raises(AnydiffError, match="no row in common"):
        compare_runs(rows, [row.model_copy(update={"task": "toy/points@3"}) for row in rows])
    other = [row.model_copy(deep=True) for row in rows]
    for row in other:
        row.cards["toy/frechet"] = replace(row.cards["toy/frechet"], version="2")
    with pytest.raises(AnydiffError, match="cannot share a column"):
        compare_runs(rows, other)
    (tmp_path / "x.jsonl").write_text("{}\n")
    with pytest.raises(FileFormatError, match=r"no rows of this version of the benchmark: task is missing in line 1"):
        read_rows(tmp_path / "x.jsonl")
    (tmp_path / "x.jsonl").write_text("not json\n")
    with pytest.raises(FileFormatError, match=r"line 1 of .*x\.jsonl' cannot be read as rows of a benchmark"):
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
    other = Source(dict.fromkeys(("anydiff", "anydiff-benchmarks", "anydiff-toy"), "0" * 64), {"torch": "0.0"})
    monkeypatch.setattr("anydiff_benchmarks.engine.worker._source_of", lambda *arguments: other)
    from anydiff_benchmarks.engine.worker import forget_models

    forget_models()
    with Store(folder) as store:
        (finding,) = audit(store, 1)
    assert finding.verdict == "cannot be computed"
    assert finding.sentence == ("code of anydiff, code of anydiff-benchmarks, code of anydiff-toy changed since"), (
        "torch is tried all the same"
    )


def test_an_audit_needs_rows(tmp_path):
    with Store(tmp_path) as store, pytest.raises(AnydiffError, match="holds no finished rows"):
        list(audit(store, 1))


# Rows of three seeds, as the quick suite stores them -----------------------------------------------------------------


def rows_of(values, method="ddim", card=None, status="done"):
    """Rows of a line, one per seed; a value None is a metric that could not be computed."""
    metric = MetricCard("pose/pck", "higher", "1", (0.0, 1.0), 1.0, 2)
    about = {metric.name: card or metric}
    return [
        Row(
            task="pose/x@1", method=method, nfe=5, training=0, seed=seed, samples=10, status=status,
            metrics={} if value is None else {metric.name: value}, cards={} if value is None else about,
        )
        for seed, value in enumerate(values)
    ]  # fmt: skip


def compared(tmp_path, capsys, first, second):
    """(exit code, what was printed) of ``anydiff bench compare``."""
    for name, rows in (("a", first), ("b", second)):
        text = "".join(row.text() + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)
    code = command(["bench", "compare", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.mark.parametrize(
    ("first", "second", "code", "counts"),
    [
        ([0.0, 0.0, 0.0], [0.2, 0.9, 0.5], 1, "0 wins, 0 ties, 1 losses, 0 not judged"),
        ([0.2, 0.9, 0.5], [0.0, 0.0, 0.0], 0, "1 wins, 0 ties, 0 losses, 0 not judged"),
        ([0.2, 0.9, 0.5], [0.2, 0.9, 0.5], 0, "0 wins, 1 ties, 0 losses, 0 not judged"),
        ([0.02, 0.09, 0.05], [0.2, 0.9, 0.5], 1, "0 wins, 0 ties, 1 losses, 0 not judged"),
        ([0.2], [0.2], 1, "0 wins, 0 ties, 0 losses, 1 not judged"),
    ],
)
def test_the_exit_code_follows_the_verdicts(tmp_path, capsys, first, second, code, counts):
    found, text = compared(tmp_path, capsys, rows_of(first), rows_of(second))
    assert (found, counts in text) == (code, True), text
    assert ("nothing was judged" in text) == (len(first) == 1)


def test_what_one_side_lacks_is_not_judged(tmp_path, capsys):
    good = rows_of([0.2, 0.9, 0.5])
    lost = [*rows_of([None] * 3, status="failed"), *rows_of([0.1] * 3, "edm")]
    (one, other) = compare_runs(lost, [*good, *rows_of([0.1] * 3, "heun")][:3] + rows_of([0.1] * 3, "edm"))
    assert (one.pair.verdict, one.pair.why) == ("not judged", "missing in A")
    assert other.pair.verdict == "tie"
    code, text = compared(tmp_path, capsys, lost, [*good, *rows_of([0.1] * 3, "heun"), *rows_of([0.1] * 3, "edm")])
    assert code == 0
    assert "missing in A" in text
    assert "only in B, so not judged: pose/x@1 · heun at 5 NFE." in text
    assert "0 wins, 1 ties, 0 losses, 2 not judged" in text


def test_results_with_keys_of_before_stay_readable():
    rows = read_rows(Path(__file__).parent / "stored" / "rows-1.jsonl")
    assert {"core code", "plugin code"} <= rows[0].inputs.keys()
    itself = compare_runs(rows, rows)
    assert {each.pair.verdict for each in itself} == {"tie", "not judged"}
    assert all("the numbers are the same" in each.pair.why for each in itself if each.pair.verdict == "not judged")
    factors = {"pose": 0.0, "timeseries": 10.0}
    spoilt = [
        row.model_copy(update={"metrics": {n: factors.get(row.domain, 1.0) * v for n, v in row.metrics.items()}})
        for row in rows
    ]
    touched = [each for each in compare_runs(spoilt, rows) if each.task.startswith(("pose/", "timeseries/"))]
    verdicts = [each.pair.verdict for each in touched]
    assert verdicts.count("loss") > 200
    # A metric that was 0 on all seeds but one shows no more.
    assert verdicts.count("tie") + verdicts.count("not judged") < 5


def test_two_rows_of_one_cell_with_other_values_are_refused(tmp_path, capsys):
    rows = rows_of([0.2, 0.9, 0.5])
    code, text = compared(tmp_path, capsys, rows, [*rows, *rows])
    assert code == 0, "the same row twice says the same"
    code, text = compared(tmp_path, capsys, rows, [*rows, *rows_of([0.3, 0.9, 0.5])])
    assert code == 2
    assert "with seed 0, and their values differ; keep one of them" in text
