"""The run folder that `anydiff train` takes where none is named: a new one for each run, whatever else begins then."""

from __future__ import annotations

import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from anydiff.cli.main import run
from anydiff.errors import AnydiffError


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """The folders that training was asked to fill, in a second that never ends; training itself is a stand-in."""
    folders: list[Path] = []

    def train(recipe, folder, **options):
        folders.append(folder)
        assert folder.is_dir()
        return SimpleNamespace(
            parameters=1, recipe=None, domain=None, denoiser=SimpleNamespace(network=SimpleNamespace())
        )

    class Frozen(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setattr("anydiff.pipeline.train", train)
    monkeypatch.setattr("anydiff.pipeline.conditions.never_hidden", lambda *given: [])
    monkeypatch.setattr("datetime.datetime", Frozen)
    return folders


def test_runs_that_begin_in_one_second_have_folders_of_their_own(asked, capsys):
    for _ in range(3):
        assert run(["train", "images/fashion"]) == 0
    names = ["images-fashion-20260102-030405" + end for end in ("", "-2", "-3")]
    assert [folder.name for folder in asked] == names
    assert f"into 'runs/{names[2]}'" in capsys.readouterr().err


def test_a_training_that_is_refused_leaves_no_folder(asked, monkeypatch):
    def refuse(*given, **options):
        raise AnydiffError("no such data.")

    monkeypatch.setattr("anydiff.pipeline.train", refuse)
    assert run(["train", "images/fashion"]) == 2
    assert not list(Path("runs").iterdir())


@pytest.mark.parametrize("stands", ["a file", "a link to nothing"])
def test_what_stands_in_the_place_of_the_runs_is_said(asked, capsys, stands):
    Path("runs").write_text("") if stands == "a file" else Path("runs").symlink_to("nowhere")
    assert run(["train", "images/fashion"]) == 2
    assert "'runs" in (error := capsys.readouterr().err)
    assert "name the run's folder with --out" in error
    assert asked == []


@pytest.mark.parametrize("launched", [False, True])
def test_several_processes_are_told_their_folder(asked, monkeypatch, capsys, launched):
    if launched:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert run(["train", "images/fashion", *([] if launched else ["--devices", "2"])]) == 2
    assert "must agree on its folder; name it with --out" in capsys.readouterr().err
    assert asked == []
