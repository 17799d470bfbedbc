"""The command line: lazy commands, suggestions, exit codes, one sentence per error."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from anydiff.cli.lazy import build_command, core_entries, find_command
from anydiff.cli.main import run
from anydiff.errors import AnydiffError
from anydiff.plugins import forget, report_to

PLUGIN = '''
import typer
from anydiff.errors import AnydiffError
from anydiff.hookspecs import hookimpl

@hookimpl
def register_commands(register):
    register("zoo_cli", "Fail in the way that is asked for.", "zoo_cli:command")
    register("zoo_cli/group", "A typer app.", "zoo_cli:app")
    register("zoo_cli/broken", "Refers to nothing.", "zoo_cli:absent")
    register("zoo_cli/number", "Refers to a number.", "zoo_cli:number")

number = 3
app = typer.Typer()

@app.command()
def one(): print("one was run")

@app.command()
def two(): pass

def command(way: str, times: int = 1):
    """Fail.

    Examples:
      anydiff zoo_cli bad-input
      anydiff zoo_cli interrupt
    """
    if way == "bad-input":
        raise AnydiffError("way is 'bad-input'; choose another.")
    if way == "interrupt":
        raise KeyboardInterrupt
    if way == "abort":
        raise typer.Abort
    if way == "exit":
        raise typer.Exit(7)
    if way == "unexpected":
        raise RuntimeError("first line\\nsecond line")
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "zoo_cli.py").write_text(PLUGIN)
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ANYDIFF_PLUGINS", "zoo_cli")
    monkeypatch.setenv("ANYDIFF_PLUGINS_DIR", str(folder))
    monkeypatch.delenv("ANYDIFF_DEBUG", raising=False)
    forget()
    yield folder
    forget()
    report_to(None)
    sys.modules.pop("zoo_cli", None)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["zoo_cli", "bad-input"], 2, "anydiff: way is 'bad-input'; choose another.\n"),
        (["zoo_cli", "interrupt"], 130, "anydiff: interrupted.\n"),
        (["zoo_cli", "abort"], 1, "anydiff: aborted.\n"),
        (["zoo_cli", "exit"], 7, ""),
        (
            ["zoo_cli", "unexpected"],
            1,
            "anydiff: unexpected error (RuntimeError: first line second line) while plugin 'zoo_cli'",
        ),
        (["zoo_cli", "fine"], 0, ""),
        (["zoo_cli"], 2, "Missing argument"),
        (["zoo_cli", "x", "--times", "many"], 2, "See `anydiff zoo_cli --help`.\n"),
        (["zoo_cli", "x", "--tims", "2"], 2, "--times"),
        (["zoo_cli/group", "one"], 0, ""),
        (["zoo_cli/broken"], 2, "command 'zoo_cli/broken' of plugin 'zoo_cli' cannot be loaded"),
        (["zoo_cli/number"], 2, "make it a function or a typer app"),
        (["trian"], 2, "anydiff: unknown command 'trian'; did you mean 'train'?\n"),
        (["zoo_cly"], 2, "did you mean 'zoo_cli'?"),
        (["--plugin-dir", "x", "recipes"], 2, "--plugins-dir"),
        (["--plugins-dir", "/nowhere", "recipes"], 2, "the plugin folder '/nowhere' is not a folder"),
    ],
)
def test_exit_code_and_sentence(plugin, capfd, arguments, code, says):
    assert run(arguments) == code
    error = capfd.readouterr().err
    assert says in error
    assert error.count("\n") == (1 if says else 0)
    assert "Traceback" not in error


def test_debug_shows_the_traceback(plugin, capfd, monkeypatch):
    monkeypatch.setenv("ANYDIFF_DEBUG", "1")
    assert run(["zoo_cli", "unexpected"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_plugins_dir_option(plugin, capfd, monkeypatch):
    monkeypatch.delenv("ANYDIFF_PLUGINS_DIR")
    assert run(["zoo_cli", "fine"]) == 2
    assert run(["--plugins-dir", str(plugin), "zoo_cli/group", "one"]) == 0
    assert "one was run" in capfd.readouterr().out


def test_help_lists_commands_of_plugins_once_they_were_loaded(plugin, capfd):
    assert run(["--help"]) == 0
    assert "zoo_cli" not in capfd.readouterr().out
    assert "zoo_cli" not in sys.modules
    assert run(["zoo_cli", "fine"]) == 0
    del sys.modules["zoo_cli"]
    forget()
    capfd.readouterr()
    assert run(["--help"]) == 0
    text = capfd.readouterr().out
    assert "Fail in the way that is asked for." in text
    assert "zoo_cli" not in sys.modules
    for name in core_entries().names("commands"):
        assert re.search(rf"\b{name}\b", text)
    os.utime(plugin / "zoo_cli.py", (0, 0))  # another version, about which nothing is known yet
    assert run(["--help"]) == 0
    assert "Fail in the way" not in capfd.readouterr().out


def test_examples_keep_their_lines(plugin, capfd):
    assert run(["zoo_cli", "--help"]) == 0
    lines = [line.strip() for line in capfd.readouterr().out.splitlines()]
    assert "anydiff zoo_cli bad-input" in lines
    assert "anydiff zoo_cli interrupt" in lines


@pytest.mark.parametrize("name", core_entries().names("commands"))
def test_every_core_command_has_examples(name):
    try:
        command = build_command(find_command(name))
    except AnydiffError as error:
        pytest.fail(f"{name}: {error}")
    pages = list(getattr(command, "commands", {}).values()) or [command]
    for page in pages:
        assert page.help, (name, page.name)
        assert re.search(rf"Examples:\n\s+(\S+=\S+ )*anydiff {name}\b", page.help), (name, page.name)


def test_a_command_whose_module_is_missing_breaks_only_itself(plugin, capfd, monkeypatch):
    monkeypatch.setattr("anydiff.cli.lazy._exists", lambda module: module != "anydiff.cli.recipes")
    assert run(["--help"]) == 0
    assert "recipes" in capfd.readouterr().out
    assert run(["recipes"]) == 2
    assert "the command 'recipes' is not part of this installation" in capfd.readouterr().err


def test_recipes_and_solvers_list(plugin, capfd):
    assert run(["recipes"]) == 0
    assert "pip install anydiff-images" in capfd.readouterr().err
    assert run(["recipes", "--json"]) == 0
    assert capfd.readouterr().out == "[]\n"
    assert run(["solvers"]) == 0
    assert "NFE/step" in capfd.readouterr().out
    assert run(["solvers", "show", "dimm"]) == 2
    assert "unknown solver 'dimm'" in capfd.readouterr().err
    assert run(["solvers", "show", "ddim", "--nfe", "0"]) == 2
    assert "--nfe is 0" in capfd.readouterr().err


def test_a_reader_that_leaves_early_is_no_error(plugin):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "anydiff", "plugins", "--json"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    result = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, env=buffered)
    os.close(writing)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_warning_is_a_sentence_like_all_else(capsys):
    from anydiff.errors import show_warning

    show_warning(UserWarning("2 of 9 entries could not be parsed."), UserWarning, "registry.py", 159)
    assert capsys.readouterr().err == "anydiff: 2 of 9 entries could not be parsed.\n"
    show_warning(DeprecationWarning("old"), DeprecationWarning, "registry.py", 159)
    assert "registry.py:159: DeprecationWarning: old" in capsys.readouterr().err
