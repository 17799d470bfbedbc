"""An unexpected error names the plugin that was at work, also where the core stumbled over what the plugin gave."""

from __future__ import annotations

import sys

import pytest

from anydiff.cli.main import run
from anydiff.plugins import forget

PLUGIN = """
import typer

from anydiff.hookspecs import hookimpl

app = typer.Typer()

@app.command()
def own():
    raise RuntimeError("of its own")

@app.command()
def given():
    from anydiff.errors import UnknownNameError

    UnknownNameError("name", 2, ["text"])

@hookimpl
def register_commands(register):
    register("blamed", "fails", "blamed:app")
"""


@pytest.mark.parametrize(("command", "line"), [("own", 10), ("given", 16)])
def test_the_plugin_and_its_line_are_named(tmp_path, monkeypatch, capsys, command, line):
    (tmp_path / "blamed.py").write_text(PLUGIN)
    monkeypatch.setenv("ANYDIFF_PLUGINS_DIR", str(tmp_path))
    monkeypatch.delitem(sys.modules, "blamed", raising=False)
    forget()
    try:
        assert run(["blamed", command]) == 1
    finally:
        forget()
    told = capsys.readouterr().err
    assert f"while plugin 'blamed' ({tmp_path / 'blamed.py'}) was at work, line {line} of blamed.py; set" in told
