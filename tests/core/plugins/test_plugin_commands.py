"""The commands on a whole zoo, in real processes: aborts and hangs too. Few processes, many checks."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from bad_plugins import ABORTS, BAD, HANGS, REGISTER

from anydiff.cli.main import run


def anydiff(site, *arguments, **variables):
    environment = {**os.environ, "PYTHONPATH": str(site.folder), **variables}
    command = [sys.executable, "-m", "anydiff", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_doctor_survives_the_whole_zoo(site, capsys, monkeypatch):
    """In this process, where what is really installed is hidden; the doctor loads each plugin in one of its own."""
    names = ["import-error", "syntax", "exits", "misspelt", "wrong-argument", "half", "clash", "too-new", "nested"]
    for name in names:
        site.install(name, BAD[name].code, requires=BAD[name].requires)
    site.install("aborts", ABORTS)
    site.install("hangs", HANGS)
    site.install("good")
    site.install("dangling", REGISTER + "register('dangling', 'refers to nothing', 'zoo_dangling:absent')")
    site.install("off", "raise RuntimeError")
    everything = ",".join([*names, "aborts", "hangs", "good", "dangling", "off"])
    assert run(["plugins", "disable", "off"]) == 0
    monkeypatch.setenv("ANYDIFF_PLUGINS", everything)
    capsys.readouterr()
    assert run(["plugins", "doctor", "--timeout", "8", "--references", "--json"]) == 1
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)["plugins"]}
    assert found["good"]["works"]
    assert found["good"]["provides"] == {"solvers": ["good/euler"], "recipes": ["good/recipe"]}
    assert not found["good"]["imports_torch"]
    assert not found["dangling"]["works"]
    assert "'zoo_dangling:absent'" in found["dangling"]["problem"]
    for name in names:
        assert not found[name]["works"]
        for fragment in BAD[name].says:
            assert fragment in found[name]["problem"]
    assert "ended the interpreter" in found["aborts"]["problem"]
    assert "SIGABRT" in found["aborts"]["problem"]
    assert "did not finish loading within 8 s" in found["hangs"]["problem"]
    for name in ("aborts", "hangs"):
        assert f"`anydiff plugins disable {name}`" in found[name]["problem"]
    # what the doctor learnt is in the list, which imports nothing
    assert run(["plugins", "--json"]) == 0
    listed = {each["name"]: each for each in json.loads(capsys.readouterr().out)["plugins"]}
    for name in (*names, "aborts", "hangs"):
        assert listed[name]["problem"] == found[name]["problem"]
    assert listed["good"]["status"] == "enabled"
    assert listed["off"]["status"] == "disabled"


def test_a_plugin_that_crashes_the_interpreter_is_quarantined_before_it_can(site):
    site.install("aborts", ABORTS)
    site.install("good")
    only = {"ANYDIFF_PLUGINS": "aborts,good"}
    for again in range(2):
        result = anydiff(site, "recipes", **only)
        assert result.returncode == 0
        assert "good/recipe" in result.stdout
        assert result.stderr.count("\n") == 1
        assert "plugin 'aborts' (anydiff-aborts 1.0) ended the interpreter when it was loaded" in result.stderr
        assert "`anydiff plugins enable aborts`" in result.stderr
        if not again:
            assert anydiff(site, "plugins", "enable", "aborts", **only).returncode == 0


@pytest.fixture
def good(site, capsys):
    site.install("good")
    site.install("bad", "raise RuntimeError('imported')")
    return site


def test_list_imports_nothing_and_says_what_the_last_load_told(good, capsys):
    assert run(["plugins", "list", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)["plugins"]
    assert [(each["name"], each["status"], each["tried"]) for each in records] == [
        ("bad", "enabled", False),
        ("good", "enabled", False),
    ]
    assert run(["recipes"]) == 0
    captured = capsys.readouterr()
    assert "good/recipe" in captured.out
    assert "RuntimeError: imported" in captured.err
    assert run(["plugins"]) == 0
    captured = capsys.readouterr()
    assert "1 solvers, 1 recipes" in captured.out
    assert "anydiff>=0.1,<0.2" in captured.out.replace("<0.2,>=0.1", ">=0.1,<0.2")
    assert "RuntimeError: imported" in captured.err


def test_disable_and_enable(good, capsys):
    assert run(["plugins", "disable", "bda"]) == 2
    assert "unknown plugin 'bda'; did you mean 'bad'?" in capsys.readouterr().err
    assert run(["plugins", "disable", "bad"]) == 0
    assert run(["recipes"]) == 0
    assert "RuntimeError" not in capsys.readouterr().err
    assert run(["plugins", "enable", "bad"]) == 0
    assert "is enabled" in capsys.readouterr().err


def test_enable_and_disable_say_so_when_they_cannot_write(good, capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path / "file"))
    assert run(["plugins"]) == 0
    assert run(["plugins", "disable", "bad"]) == 2
    assert "cannot write" in capsys.readouterr().err
