"""``anydiff bench`` as a user runs it, on a toy domain: killed, resumed, interrupted, misused."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import sqlite3
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "engine"))

from toy_site import install

COSTS = ("seconds", "metric_seconds", "peak_memory_mib", "started", "key")


@pytest.fixture(scope="module")
def site(tmp_path_factory, warm):
    folder = tmp_path_factory.mktemp("toy")
    return folder, install(folder, tmp_path_factory.getbasetemp() / "first toy"), warm


def command(folder, out, *more):
    suite = str(folder / "tiny.yaml")
    return ["bench", "--suite", suite, "--out", str(out), "--device", "cpu", "--workers", "0", *more]


def bench(site, out, *more):
    folder, environment, warm = site
    return warm(*command(folder, out, *more), env=environment)


def begin(site, out, **variables):
    folder, environment, warm = site
    return warm.begin(*command(folder, out, "--tasks", "toy/points"), env={**environment, **variables})


def table(out):
    """The rows without what a wall clock says."""
    rows = list(csv.DictReader((out / "rows.csv").open()))
    return [{name: value for name, value in row.items() if name not in COSTS} for row in rows]


def stored(out):
    try:
        connection = sqlite3.connect(f"file:{out / 'results.sqlite'}?mode=ro", uri=True)
        return connection.execute("select count(*) from rows").fetchone()[0]
    except sqlite3.Error:
        return 0


def wait_for_rows(process, out, count):
    end = time.monotonic() + 120
    while stored(out) < count and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    assert process.poll() is None, "the run ended before it could be stopped"


@pytest.fixture(scope="module")
def whole(site, tmp_path_factory):
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "report"
    result = bench(site, out, "--tasks", "toy/points")
    assert result.returncode == 0, result.stderr
    return out


def test_one_command_writes_the_report(whole):
    names = {path.name for path in whole.iterdir()}
    assert names == {"index.html", "report.md", "rows.csv", "rows.jsonl", "results.sqlite", "pictures"}
    assert len(table(whole)) == 30


def test_killed_twice_and_resumed_gives_the_same_table(site, whole, tmp_path):
    out = tmp_path / "report"
    for rows in (2, 9):
        process = begin(site, out, TOY_SLEEP="0.02")
        wait_for_rows(process, out, rows)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    kept = stored(out)
    assert 9 <= kept < 30
    result = bench(site, out, "--tasks", "toy/points")
    assert result.returncode == 0, result.stderr
    assert f"{30 - kept} rows computed, {kept} reused" in result.stderr
    assert table(out) == table(whole)


def test_control_c_keeps_what_is_done_and_says_how_to_go_on(site, tmp_path):
    out = tmp_path / "report"
    process = begin(site, out, TOY_SLEEP="0.02")
    wait_for_rows(process, out, 5)
    os.kill(process.pid, signal.SIGINT)
    # Python ends by the signal itself where the interrupt met an exec() of a library; a shell calls both 130.
    assert process.wait(60) in (130, -signal.SIGINT)
    _, errors = process.said()
    assert "rows are kept in" in errors
    assert "run the same command again" in errors
    _, environment, warm = site
    assert warm("bench", "report", "--out", str(out), env=environment).returncode == 0
    assert "cells have no row yet" in (out / "index.html").read_text()


def test_explain_cache(site, whole, tmp_path):
    copy = shutil.copytree(whole, tmp_path / "report")
    result = bench(site, copy, "--tasks", "toy/points", "--seeds", "0,5", "--explain-cache")
    assert result.returncode == 0, result.stderr
    assert "10 rows computed, 10 reused" in result.stderr
    lines = [line for line in result.stdout.splitlines() if "toy/points" in line]
    assert sum("reused: computed" in line for line in lines) == 10
    assert sum("computed: never run before" in line for line in lines) == 10


def test_failures_are_shown_and_the_exit_code_says_so(site, tmp_path):
    tasks = [word for name in ("points", "touchy", "cut") for word in ("--tasks", f"toy/{name}")]
    result = bench(site, tmp_path / "report", "--seeds", "1", *tasks)
    assert result.returncode == 1
    assert "task toy/cut@1 could not be run" in result.stderr
    assert "failed: toy/touchy" in result.stderr
    assert len(table(tmp_path / "report")) == 20


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--tasks", "toy/pionts"], "did you mean 'toy/points@"),
        (["--seeds", "many"], "--seeds is 'many'"),
        (["--budget", "-1"], "budget_seconds"),
        (["--device", "warp"], "--device is 'warp'"),
        (["--suite", "absent.yaml"], "cannot read 'absent.yaml'"),
        (["--suite", "qiuck"], "unknown suite 'qiuck'"),
        (["report"], "--suite stands before 'report'"),
    ],
)
def test_bad_input_is_one_sentence(site, tmp_path, more, sentence):
    result = bench(site, tmp_path / "report", *more)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "report" / "index.html").exists()


def test_a_page_of_somebody_else_is_not_overwritten(site, tmp_path):
    (tmp_path / "index.html").write_text("mine")
    result = bench(site, tmp_path)
    assert result.returncode == 2
    assert "choose another --out" in result.stderr
    assert (tmp_path / "index.html").read_text() == "mine"
    assert not (tmp_path / "results.sqlite").exists()


def test_without_write_permission(site, tmp_path):
    (tmp_path / "file").write_text("")
    result = bench(site, tmp_path / "file" / "report")
    assert result.returncode == 2
    assert "cannot write" in result.stderr
