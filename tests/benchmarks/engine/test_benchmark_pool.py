"""Dask workers: every job has one result whoever dies, and numbers do not depend on who computed them."""

from __future__ import annotations

import os
import time

import pytest
from pool_jobs import die, die_once, fail, late, square
from test_benchmark_engine import run, table

from anydiff.errors import AnydiffError
from anydiff_benchmarks.engine.pool import DaskPool, Job, SerialPool, make_pool

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def pool():
    made = DaskPool(2, "")
    yield made
    made.close()


def test_every_job_has_its_result(pool, tmp_path):
    jobs = [Job(square, (n, str(tmp_path)), n % 3, 1.0) for n in range(60)]
    jobs.insert(30, Job(fail, (99, str(tmp_path)), 0))
    results = {job.arguments[0]: result for job, result in pool.run(jobs)}
    assert str(results.pop(99)) == "99 is not liked."
    assert results == {n: n**2 for n in range(60)}
    names = [path.name.split("-") for path in tmp_path.iterdir()]
    assert len(names) == 60, "none ran twice"
    assert len({process for _, process, _ in names}) == 2, "both workers worked"


def test_groups_stay_with_their_worker(pool, tmp_path):
    jobs = [Job(square, (n, str(tmp_path)), f"group {n // 40}", 1.0) for n in range(80)]
    list(pool.run(jobs))
    owners = {}
    for path in tmp_path.iterdir():
        number, process, _ = path.name.split("-")
        owners.setdefault(int(number) // 40, []).append(process)
    for who in owners.values():
        assert max(who.count(process) for process in set(who)) >= 35, "most of a group was computed by one worker"


def test_a_dead_worker_loses_one_job_which_is_run_again(pool, tmp_path):
    jobs = [Job(square, (n, str(tmp_path)), n % 2, 1.0) for n in range(20)]
    jobs.insert(5, Job(die_once, (100, str(tmp_path)), 0))
    results = {job.arguments[0]: result for job, result in pool.run(jobs)}
    assert results == {**{n: n**2 for n in range(20)}, 100: 10000}
    ran = [path.name.split("-")[0] for path in tmp_path.iterdir()]
    assert all(ran.count(str(n)) == 1 for n in range(20)), "no other job was lost, and none ran twice"


def test_a_job_that_kills_its_workers_is_given_up(pool, tmp_path):
    jobs = [Job(square, (n, str(tmp_path)), n % 2, 1.0) for n in range(10)]
    jobs.insert(3, Job(die, (100, str(tmp_path)), 0))
    results = {job.arguments[0]: result for job, result in pool.run(jobs)}
    assert "workers died of it" in str(results.pop(100))
    assert results == {n: n**2 for n in range(10)}
    assert len(list(tmp_path.glob("dead-*"))) == 3


def test_a_result_that_died_with_its_worker_is_computed_again(pool, tmp_path, monkeypatch):
    """What a worker finished and still holds is lost with it: the run goes on, and does not wait for that result."""
    monkeypatch.setattr("anydiff_benchmarks.engine.pool._IDLE", 3.0)
    fetch, killed = pool._result, []

    def after_a_death(future, done):
        if not killed:
            killed.append(done.worker)
            pool._client.submit(os._exit, 1, workers=[done.worker], pure=False)
            time.sleep(1.0)
        return fetch(future, done)

    monkeypatch.setattr(pool, "_result", after_a_death)
    jobs = [Job(square, (n, str(tmp_path)), 0) for n in range(4)]
    assert {job.arguments[0]: result for job, result in pool.run(jobs)} == {n: n**2 for n in range(4)}
    assert killed


def test_an_error_of_a_job_is_its_result_even_if_it_says_that_time_is_up(pool, tmp_path):
    jobs = [Job(late, (1, str(tmp_path)), 0), Job(square, (2, str(tmp_path)), 0)]
    results = {job.arguments[0]: result for job, result in pool.run(jobs)}
    assert isinstance(results[1], TimeoutError)
    assert results[2] == 4
    assert len(list(tmp_path.glob("late-*"))) == 1, "it is not run again"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pool_that_is_stopped_ends_what_is_at_work_and_begins_nothing(workers, tmp_path, request):
    stopped = request.getfixturevalue("pool") if workers else SerialPool()
    jobs = [Job(square, (n, str(tmp_path)), n % 2, 1.0) for n in range(20)]
    results = []
    for _, result in stopped.run(jobs):
        results.append(result)
        if len(results) == 3:
            stopped.stop()
    ran = len(list(tmp_path.iterdir()))
    assert 3 <= ran == len(results) <= 3 + max(0, workers - 1), "what was begun has its result"
    assert len(list(stopped.run(jobs[:4]))) == 4, "the next run is another one"


def test_this_process_is_a_pool(tmp_path):
    jobs = [Job(square, (2, str(tmp_path)), 0), Job(fail, (3, str(tmp_path)), 0)]
    (_, four), (_, error) = SerialPool().run(jobs)
    assert four == 4
    assert isinstance(error, AnydiffError)


def test_bad_choices_are_one_sentence():
    with pytest.raises(AnydiffError, match="give one of the two"):
        make_pool(2, "tcp://127.0.0.1:1")
    with pytest.raises(AnydiffError, match="--workers is -1"):
        make_pool(-1, "")
    with pytest.raises(AnydiffError, match="no Dask scheduler answers there"):
        make_pool(None, "nonsense://there")


def test_workers_and_this_process_give_the_same_rows_and_share_a_cache(toy, tmp_path):
    here = run(toy, tmp_path / "here", nfe=(3,), seeds=(0, 1), gallery=2)
    there = run(toy, tmp_path / "there", nfe=(3,), seeds=(0, 1), gallery=2, workers=2)
    assert table(there) == table(here)
    assert [row.key for row in there.rows] == [row.key for row in here.rows]
    pictures = [
        (tmp_path / which / row.picture).read_bytes() for which in ("here", "there") for row in here.rows if row.picture
    ]
    assert pictures[: len(pictures) // 2] == pictures[len(pictures) // 2 :]
    again = run(toy, tmp_path / "there", nfe=(3,), seeds=(0, 1), gallery=2)
    assert again.computed == 0, "another number of workers is no reason to compute again"
