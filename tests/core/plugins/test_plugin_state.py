"""Quarantine and memory between runs; a broken state folder breaks nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from anydiff.errors import AnydiffError
from anydiff.plugins import discover, forget, state
from anydiff.registry import registry


def _dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return process.pid


def _leave_marker(name="one", version="1.0", pid=None, host=None, age=0.0):
    folder = state.home() / "plugins" / "loading"
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / f"{name}.somewhere.1.json"
    host = host or socket.gethostname()
    pid = pid or _dead_process()
    marker.write_text(json.dumps({"version": version, "pid": pid, "host": host, "time": 0}))
    if age:
        os.utime(marker, (marker.stat().st_mtime - age,) * 2)
    return marker


@pytest.mark.parametrize(
    ("marker", "status"),
    [
        ({}, "quarantined"),
        ({"pid": os.getppid()}, "enabled"),  # that process lives: it is importing at this moment
        ({"pid": os.getpid()}, "quarantined"),  # a former process had our number
        ({"version": "0.9"}, "enabled"),  # upgraded since
        ({"name": "other"}, "enabled"),
        ({"host": "another-machine"}, "enabled"),
        ({"host": "another-machine", "age": 1000.0}, "quarantined"),
    ],
)
def test_a_marker_left_behind_is_a_crash(site, marker, status):
    site.install("one")
    _leave_marker(**marker)
    (plugin,) = discover().plugins
    assert plugin.status == status
    if status == "quarantined":
        assert "ended the interpreter" in plugin.problem
        assert "`anydiff plugins enable one`" in plugin.problem
        assert not registry().of_plugin("one")
        state.enable("one")
        forget()
    assert registry().of_plugin("one")


def test_the_marker_exists_during_the_import_only(site):
    site.install(
        "one",
        "from anydiff.plugins import state\n"
        "seen = [path.name for path in (state.home() / 'plugins' / 'loading').iterdir()]\n"
        "from anydiff.hookspecs import hookimpl\n@hookimpl\ndef training_step(): pass\n",
    )
    registry()
    assert len(sys.modules["zoo_one"].seen) == 1
    assert sys.modules["zoo_one"].seen[0].startswith("one.")
    assert not list((state.home() / "plugins" / "loading").iterdir())


def test_an_unusable_state_folder_breaks_nothing(site, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path / "file"))
    site.install("one")
    site.install("two", "raise RuntimeError")
    assert registry().of_plugin("one")
    for change in (state.disable, state.enable):
        if change is state.disable:
            with pytest.raises(AnydiffError, match="cannot write"):
                change("one")
        else:
            change("one")


def test_damaged_state_files_read_as_nothing(site):
    site.install("one")
    folder = state.home() / "plugins"
    (folder / "last").mkdir(parents=True)
    (folder / "loading").mkdir()
    (folder / "disabled.json").write_text("{not json")
    (folder / "last" / "one.json").write_bytes(b"\xff\xfe")
    (folder / "loading" / "one.x.1.json").write_text("")
    assert registry().of_plugin("one")
    state.disable("one")
    assert state.disabled() == {"one"}


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path))
    assert state.home() == tmp_path
    monkeypatch.delenv("ANYDIFF_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert state.home() == tmp_path / "state" / "anydiff"
