"""Killed at random moments, by SIGKILL, with one worker and with two: the same final table, no row lost, no row twice.

A run is a forked child, so that twenty of them cost no twenty starts of torch. With one worker it computes itself (and
judges itself: the process with the truth would outlive it); with two it has a Dask cluster compute, by its address.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from test_benchmark_engine import Quiet, run, table

from anydiff_benchmarks.engine.runner import Options, run_suite
from anydiff_benchmarks.engine.store import FILE
from anydiff_benchmarks.engine.suite import Suite, load_suite

KILLS = 20
CLUSTER = """
import sys, time
from distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=":0")
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cluster(site, tmp_path_factory):
    pytest.importorskip("distributed")
    _, environment = site
    script = tmp_path_factory.mktemp("cluster") / "cluster.py"
    script.write_text(CLUSTER)
    process = subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process.stdout.readline().strip()
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    process.kill()


def stored(out):
    """(rows, different cells) in the store; an ordinary connection, which recovers what a killed writer left."""
    if not (out / FILE).exists():
        return 0, 0
    connection = sqlite3.connect(out / FILE, timeout=60)
    try:
        return connection.execute("select count(*), count(distinct label) from rows").fetchone()
    except sqlite3.OperationalError:  # killed before there was a table
        return 0, 0
    finally:
        connection.close()


def forked(suite, out, **options):
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            run_suite(suite, out, Quiet(), Options(["toy/points"], "cpu", isolated=False, **options))
            code = 0
        os._exit(code)
    return child


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_twenty_random_moments(toy, tmp_path, request, workers):
    options = {"workers": 0} if workers == 1 else {"scheduler": request.getfixturevalue("cluster")}
    suite = Suite(**{**load_suite(str(toy / "tiny.yaml")).model_dump(), "seeds": tuple(range(10)), "gallery": 0})
    out = tmp_path / "report"
    draw = random.Random(workers)
    kills = 0
    while kills < KILLS:
        before, _ = stored(out)
        child = forked(suite, out, **options)
        wanted, end = before + draw.randint(0, 4), time.monotonic() + 120
        while stored(out)[0] < wanted and time.monotonic() < end:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the run ended before it could be killed"
        kills += 1
        rows, labels = stored(out)
        assert rows == labels >= before, "no row is lost, and none is there twice"
    assert 0 < stored(out)[0] < 100
    rest = run_suite(suite, out, Quiet(), Options(["toy/points"], "cpu", 0, isolated=False))
    whole = run(toy, tmp_path / "whole", seeds=tuple(range(10)), gallery=0, isolated=False)
    assert rest.problems == whole.problems == {}
    assert table(rest) == table(whole)
    assert stored(out) == (100, 100)
    assert [row.key for row in rest.rows] == [row.key for row in whole.rows]
