"""What a killed process leaves: the next write removes its parts and takes over its locks, and nobody else's."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from anydiff import files, locks
from anydiff.errors import AnydiffError
from anydiff.files import atomic_folder, atomic_path, temporary_name, write_atomic
from anydiff.locks import Lock
from anydiff.processes import Process


@pytest.fixture
def other():
    """A living process that is not this one."""
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    started = Process.this().started and Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    yield Process(process.pid, Process.this().host, started)
    process.kill()
    process.wait()


@pytest.fixture
def dead(other):
    """A process with the number of a living one, which began at another time."""
    return replace(other, started="1") if other.started else Process(2**22 + 1, other.host, "")


def part(target: Path, owner: Process) -> Path:
    return target.with_name(f".{target.name}.{owner.text}.abc.part")


def test_a_process_knows_whether_it_runs(other, dead):
    assert Process.this().runs is True
    assert other.runs is True
    assert dead.runs is False
    assert Process(2**22 + 1, other.host, "").runs is False
    assert replace(other, host="00000000").runs is None
    assert Process.parse(other.text) == other
    assert Process.parse("x") is None
    assert Process.parse("a-b-c") is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="zombies are told apart by /proc")
def test_a_process_that_ended_and_was_not_waited_for_is_dead():
    process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    owner = Process(process.pid, Process.this().host, started)
    assert owner.runs is True
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert owner.runs is False
    process.wait()
    process.stdin.close()


def test_the_next_write_removes_the_parts_of_dead_processes_alone(tmp_path, other, dead):
    target = tmp_path / "a[1].safetensors"
    foreign = replace(dead, host="00000000")
    for owner in (other, dead, foreign):
        part(target, owner).write_text("half")
    old = tmp_path / ".b.txt.abc.part"
    old.write_text("of another target")
    write_atomic(target, "whole")
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {target.name, old.name, part(target, other).name, part(target, foreign).name}
    assert target.read_text() == "whole"


def test_folders_are_whole_or_not_there(tmp_path, dead):
    target = tmp_path / "set"
    left = part(target, dead)
    left.mkdir()
    (left / "0000.png").write_text("half")
    with atomic_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["set"]
    assert (target / "a").read_text() == "1"
    with pytest.raises(AnydiffError, match="is not an empty folder"), atomic_folder(target):
        pass
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "no") as folder:
        (folder / "a").write_text(str(1 / 0))
    (tmp_path / "empty").mkdir()
    with atomic_folder(tmp_path / "empty") as folder:
        (folder / "a").write_text("1")
    assert {entry.name for entry in tmp_path.iterdir()} == {"set", "empty"}
    with pytest.raises(AnydiffError, match="cannot write"), atomic_folder(target / "a" / "below"):
        pass


def test_a_killed_write_is_cleared_by_the_next_one(tmp_path):
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom anydiff.files import atomic_folder, atomic_path\n"
        "with atomic_path(sys.argv[1] + '/a.bin') as a, atomic_folder(sys.argv[1] + '/b') as b:\n"
        "    a.write_text('half'); (b / 'x').write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert len(list(tmp_path.glob(".*.part"))) == 2
    with atomic_path(tmp_path / "a.bin") as file, atomic_folder(tmp_path / "b"):
        file.write_text("whole")
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.bin", "b"}


def test_very_long_names_are_written(tmp_path):
    write_atomic(tmp_path / ("n" * 250), "x")
    assert [len(entry.name) for entry in tmp_path.iterdir()] == [250]


# Locks --------------------------------------------------------------------------------------------------------------


def lock_of(owner: Process, path: Path) -> None:
    about = {"pid": owner.pid, "host": owner.host, "started": owner.started, "machine": "mill", "since": "yesterday"}
    path.write_text(json.dumps(about))


def test_a_living_owner_is_named_and_a_dead_one_does_not_block(tmp_path, other, dead):
    path = tmp_path / "run.lock"
    lock_of(other, path)
    before = path.read_text()
    with pytest.raises(AnydiffError, match=rf"the run 'r' is in use by process {other.pid} on 'mill' since yesterday"):
        Lock(path, "the run 'r'").acquire()
    assert path.read_text() == before
    lock_of(replace(other, host="00000000"), path)
    with pytest.raises(AnydiffError, match=r"is in use by .*remove '.*run\.lock' if it no longer runs"):
        Lock(path, "the run 'r'").acquire()
    lock_of(dead, path)
    with Lock(path, "the run 'r'"):
        about = json.loads(path.read_text())
        assert about["pid"] == os.getpid()
        with Lock(path, "the run 'r'"):  # of this very process: it may
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}'])
def test_a_lock_that_tells_nothing_is_refused(tmp_path, content):
    path = tmp_path / "run.lock"
    path.write_text(content)
    with pytest.raises(AnydiffError, match=r"does not tell for whom; remove the file"):
        Lock(path, "the run 'r'").acquire()
    assert path.read_text() == content


def test_a_lock_without_links_is_made_in_two_steps(tmp_path, monkeypatch, other):
    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(locks.os, "link", refused)
    path = tmp_path / "run.lock"
    with Lock(path, "x"):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    lock_of(other, path)
    with pytest.raises(AnydiffError, match="is in use"):
        Lock(path, "x").acquire()


def test_a_forked_child_does_not_release_the_lock_of_its_parent(tmp_path, monkeypatch):
    path = tmp_path / "run.lock"
    with Lock(path, "x") as lock:
        with monkeypatch.context() as patch:
            patch.setattr(locks.os, "getpid", lambda: 1)
            lock.release()
        assert path.exists()
    assert not path.exists()


def takers_of_a_dead_lock(folder, dead, monkeypatch):
    """Eight threads, each of which plays a process of its own, and to which the others' locks are those of living ones.

    A look at the file takes its time, so that many look before the first removes it.
    """
    path = folder / "run.lock"
    lock_of(dead, path)
    me = threading.local()
    read, alone = Lock._read, threading.get_ident()

    def slow(lock):
        content = read(lock)
        if threading.get_ident() != alone:
            time.sleep(0.005)
        return content

    monkeypatch.setattr(Lock, "_read", slow)
    monkeypatch.setattr(locks.Process, "this", classmethod(lambda cls: cls(me.pid, "cafecafe", "1")))
    monkeypatch.setattr(locks.Process, "runs", property(lambda process: process.host == "cafecafe"))
    won, barrier = [], threading.Barrier(8)

    def take(number: int) -> None:
        me.pid = 1000 + number
        lock = Lock(path, "x")
        barrier.wait()
        try:
            lock.acquire()
            won.append(number)
        except AnydiffError:
            pass

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


def test_only_one_of_many_takes_over_a_dead_lock(tmp_path, dead, monkeypatch):
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        with monkeypatch.context() as patch:
            assert len(takers_of_a_dead_lock(folder, dead, patch)) == 1
        assert [entry.name for entry in folder.iterdir()] == ["run.lock"]


def test_without_a_lock_of_the_folder_several_would(tmp_path, dead, monkeypatch):
    """Or the test above could not fail."""
    monkeypatch.setattr(locks, "_alone_in", lambda folder: contextlib.nullcontext())
    found = []
    for number in range(40):
        folder = tmp_path / str(number)
        folder.mkdir()
        with monkeypatch.context() as patch:
            found.append(len(takers_of_a_dead_lock(folder, dead, patch)))
        if found[-1] != 1:
            return
    pytest.fail(f"one alone took the lock in each of 40 rounds: {found}")


def test_a_lock_that_was_taken_over_in_between_is_given_back(tmp_path, dead, other, monkeypatch):
    path = tmp_path / "run.lock"
    lock_of(dead, path)
    real = os.rename

    def late(source, target):
        lock_of(other, path)  # a living process took it over just before
        monkeypatch.setattr(locks.os, "rename", real)
        real(source, target)

    monkeypatch.setattr(locks.os, "rename", late)
    with pytest.raises(AnydiffError, match=f"is in use by process {other.pid}"):
        Lock(path, "x").acquire()
    assert json.loads(path.read_text())["pid"] == other.pid
    assert temporary_name(path).parent == files.Path(tmp_path)
