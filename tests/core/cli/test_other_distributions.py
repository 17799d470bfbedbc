"""Commands that another distribution of ours brings, and what the core can do without it."""

from __future__ import annotations

import sys

import pytest

from anydiff.cli.main import run
from anydiff.plugins import forget
from anydiff.testing.kit import cases
from anydiff.testing.subject import subject


@pytest.fixture
def without_benchmarks(tmp_path, monkeypatch):
    """The images alone: nothing can import the benchmarks, and their plugin is not there."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "anydiff_benchmarks"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "anydiff_benchmarks", None)
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANYDIFF_PLUGINS", "images")
    monkeypatch.setenv("ANYDIFF_PLUGINS_DIR", "")
    forget()
    yield
    forget()


@pytest.mark.parametrize("line", ["bench", "bench --suite quick", "bench --help", "claims run", "speed", "peers"])
def test_a_command_says_which_distribution_brings_it(without_benchmarks, line, capsys):
    assert run(line.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"anydiff: the command {line.split()[0]!r} comes with anydiff-benchmarks, which is not installed or switched "
        "off; `pip install anydiff-benchmarks`, or see `anydiff plugins`.\n"
    )


def test_another_unknown_command_is_not_ascribed_to_it(without_benchmarks, capsys):
    assert run(["benk"]) == 2
    assert "anydiff-benchmarks" not in capsys.readouterr().err


def test_tasks_are_checked_without_it(without_benchmarks):
    """Definition, references and lock of a plugin's tasks are the core's matter."""
    pytest.importorskip("anydiff_images")
    asked = [case for case in cases(subject("images")) if case.check.id in ("task.names", "task.locked")]
    assert len(asked) >= 2
    assert {(case.id, case.run().status) for case in asked} == {(case.id, "passed") for case in asked}
