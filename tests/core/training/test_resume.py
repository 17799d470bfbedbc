"""What may be resumed, and by whom: nothing trained is overwritten, and two processes never train into one folder."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from toy import Rings, train

from anydiff.errors import AnydiffError, FileFormatError
from anydiff.locks import Lock
from anydiff.processes import Process
from anydiff.training import Hardware, RunFolder, TrainingEvents, weights_hash
from anydiff.training import run as runs


@pytest.fixture
def finished(tmp_path):
    """A run of two checkpoints, at steps 2 and 4."""
    return train(tmp_path / "run", steps=4, checkpoint_every=2, log_every=1)


def digest(run: RunFolder) -> str:
    return weights_hash(run.load_weights()[0])


def test_trained_weights_without_a_state_are_not_trained_over(finished):
    before = digest(finished)
    (finished.path / "state.pt").unlink()
    with pytest.raises(AnydiffError, match=r"holds trained weights .*no state\.pt.*restore state\.pt, or train into"):
        train(finished.path, steps=6, resume=True)
    assert digest(finished) == before
    assert RunFolder.open(finished.path).config["steps"] == 4
    assert not (finished.path / runs.LOCK).exists()


@pytest.mark.parametrize("content", [b"", b"\n", b"{", b"just text", b"- 1", b"\xff\xfe", b"a: &a [*a]"])
def test_a_run_whose_configuration_is_empty_or_garbage_is_refused(finished, content):
    before = digest(finished)
    (finished.path / "config.yaml").write_bytes(content)
    with pytest.raises(FileFormatError, match=r"config\.yaml' .*restore it or train again"):
        train(finished.path, steps=6, resume=True)
    assert (finished.path / "config.yaml").read_bytes() == content
    assert digest(finished) == before


@pytest.mark.parametrize("torn", [b'{"step": 5, "lo', b'{"step": 5, "lo\n', b"\0\0\0\n", b"7\n", b"\xff\n"])
def test_a_torn_last_line_of_the_log_does_not_block(finished, torn):
    with open(finished.path / "log.jsonl", "ab") as file:
        file.write(torn)
    train(finished.path, steps=6, checkpoint_every=2, log_every=1, resume=True)
    assert [record["step"] for record in finished.records()] == [1, 2, 3, 4, 5, 6]


def test_a_broken_line_in_the_middle_of_the_log_is_named(finished):
    log = finished.path / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join([lines[0], "{\n", *lines[1:]]))
    with pytest.raises(FileFormatError, match=r"line 2 of '.*log\.jsonl'.*remove the broken line"):
        finished.records()


@pytest.mark.parametrize("state", [{}, {"step": 1}, {"settings": 3}, {"settings": {}, "dataset": 1}])
def test_a_state_that_lacks_something_is_one_sentence(finished, state):
    torch.save({"format": runs.STATE_FORMAT, **state}, finished.path / "state.pt")
    with pytest.raises(AnydiffError, match=r"state\.pt|is "):
        train(finished.path, steps=6, resume=True)


# Locks --------------------------------------------------------------------------------------------------------------


def test_a_folder_in_which_another_process_trains_is_refused_and_names_it(finished):
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    lock = finished.path / runs.LOCK
    about = {"pid": process.pid, "host": Process.this().host, "started": "", "machine": "mill", "since": "noon"}
    lock.write_text(json.dumps(about))
    before = digest(finished)
    try:
        for resume in (True, False):
            with pytest.raises(AnydiffError, match=rf"in use by process {process.pid} on 'mill' since noon.*kill"):
                train(finished.path, steps=6, resume=resume)
    finally:
        process.kill()
        process.wait()
    assert digest(finished) == before
    train(finished.path, steps=6, resume=True)  # its owner is dead now
    assert not lock.exists()


class Look(TrainingEvents):
    """Remembers whether the folder is owned at each step."""

    def __init__(self) -> None:
        self.owned: list[bool] = []

    def training_step(self, folder, step, values):
        self.owned.append((folder / runs.LOCK).exists())


def test_a_training_owns_its_folder_from_begin_to_end(tmp_path):
    look = Look()
    train(tmp_path / "run", steps=4, log_every=1, options={"callbacks": [look]})
    assert look.owned == [True] * 4
    assert not (tmp_path / "run" / runs.LOCK).exists()
    with pytest.raises(AnydiffError, match="is not empty"):
        train(tmp_path / "run")
    assert not (tmp_path / "run" / runs.LOCK).exists()


def test_a_training_that_fails_gives_the_folder_back(tmp_path):
    class Broken(Rings):
        def batch(self, indices):
            raise AnydiffError("broken")

    with pytest.raises(AnydiffError, match="broken"):
        train(tmp_path / "run", dataset=Broken())
    assert not (tmp_path / "run" / runs.LOCK).exists()
    with pytest.raises(AnydiffError, match="strategy"):
        train(tmp_path / "run", resume=True, hardware=Hardware(strategy="none"))
    assert not (tmp_path / "run" / runs.LOCK).exists()


def test_the_second_of_two_that_begin_together_is_refused(tmp_path, monkeypatch):
    """Both see an empty folder; the lock lets one begin, and the other finds what that one has begun."""
    real = Lock.acquire

    def late(lock):
        monkeypatch.setattr(Lock, "acquire", real)
        RunFolder.create(tmp_path / "run", {"steps": 1}).release()
        lock.acquire()

    monkeypatch.setattr(Lock, "acquire", late)
    with pytest.raises(AnydiffError, match="is not empty"):
        RunFolder.create(tmp_path / "run", {"steps": 2})
    assert RunFolder.open(tmp_path / "run").config == {"steps": 1}


# Kills between the two files of a checkpoint ------------------------------------------------------------------------


class Killed(Exception):
    """Stands for a SIGKILL."""


@pytest.mark.parametrize(("steps", "checkpoint"), [(4, 1), (8, 1), (8, 2)])
def test_a_kill_between_the_files_of_a_checkpoint_leaves_a_run_that_resumes_exactly(
    tmp_path, monkeypatch, checkpoint, steps
):
    options = {"steps": steps, "checkpoint_every": 4, "log_every": 1}
    saves = []

    def second_file(real):
        def save(*args, **facts):
            saves.append(real)
            if len(saves) == 2 * checkpoint:
                raise Killed
            return real(*args, **facts)

        return save

    with monkeypatch.context() as patch:
        for name in ("save_weights", "save_state"):
            patch.setattr(RunFolder, name, second_file(getattr(RunFolder, name)))
        with pytest.raises(Killed):
            train(tmp_path / "parts", **options)
    parts = train(tmp_path / "parts", **options, resume=True)
    assert digest(parts) == digest(train(tmp_path / "whole", **options))
