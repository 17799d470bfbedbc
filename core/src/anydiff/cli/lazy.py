"""A typer group whose sub-commands are imported only when they are run; the help lists them from the registry alone."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from anydiff.errors import PluginError, UnknownNameError
from anydiff.registry import CORE, Entry, Registry


def core_entries() -> Registry:
    """Return the core's own entries, which need no plugin."""
    from anydiff.plugins import load_core

    return load_core().registry


def remembered_commands() -> dict[str, str]:
    """Return the commands (name: help) that the plugins announced when they were last loaded; imports none of them."""
    from anydiff.plugins import discover, state

    found: dict[str, str] = {}
    for plugin in discover().plugins:
        last = state.recall(plugin.name)
        if plugin.status != "enabled" or last.get("version") != plugin.version:
            continue
        try:
            found.update({name: help for name, help in last["provides"]["commands"]})
        except (KeyError, TypeError, ValueError):  # none, or a file that somebody else wrote
            continue
    return found


class LazyGroup(TyperGroup):
    """The commands of the registry's kind ``commands``."""

    @functools.cached_property
    def _helps(self) -> dict[str, str]:
        core = {entry.name: entry.help for entry in core_entries().entries("commands")}
        plugins = remembered_commands()
        return {**core, **{short_name(name, [*core, *plugins]): help for name, help in plugins.items()}}

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names for the help: the core's, then those the plugins were last known to have."""
        return list(self._helps)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command with its help only; :meth:`resolve_command` makes the real one."""
        help = self._helps.get(cmd_name)
        return TyperCommand(cmd_name, help=help, callback=lambda: None) if help else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import and return the command that ``args`` begin with.

        Raises:
            UnknownNameError: there is none; suggests the nearest.
            PluginError: its module is missing or broken.
        """
        entry = find_command(args[0])
        return args[0], build_command(entry), args[1:]


def short_name(name: str, names: Sequence[str]) -> str:
    """Return ``claims`` for ``benchmarks/claims`` where no other of the ``names`` ends like that."""
    last = name.rpartition("/")[2]
    return last if sum(other.rpartition("/")[2] == last for other in names) == 1 else name


IN_OTHER_DISTRIBUTIONS = {name: "anydiff-benchmarks" for name in ("bench", "claims", "peers", "speed")}
"""Short name of a command -> the distribution of ours that brings it."""


def find_command(name: str) -> Entry:
    """Return the entry of a command, by its name or its short one.

    The core's own load no plugin, so they work whatever is broken.

    Raises:
        UnknownNameError: there is none; suggests the nearest.
        PluginError: the distribution that brings it is not installed, or switched off.
    """
    core = core_entries()
    if name in core.names("commands"):
        return core.get("commands", name)
    if name.startswith("-"):
        raise UnknownNameError("option", name, ["--help", "--version", "--plugins-dir"])
    from anydiff.registry import registry

    names = registry().names("commands")
    full = next((each for each in names if short_name(each, names) == name), name)
    if full not in names and name in IN_OTHER_DISTRIBUTIONS:
        raise PluginError(
            f"the command {name!r} comes with {IN_OTHER_DISTRIBUTIONS[name]}, which is not installed or switched off; "
            f"`pip install {IN_OTHER_DISTRIBUTIONS[name]}`, or see `anydiff plugins`."
        )
    return registry().get("commands", full)


def build_command(entry: Entry) -> Any:
    """Import the module of a command and make typer's command or group of it."""
    module_name, _, attribute = entry.reference.partition(":")
    if entry.plugin == CORE and not _exists(module_name):
        raise PluginError(f"the command {entry.name!r} is not part of this installation; upgrade or reinstall anydiff.")
    if entry.plugin == CORE and attribute == "command" and not hasattr(importlib.import_module(module_name), "command"):
        entry = Entry(entry.kind, entry.name, entry.help, f"{module_name}:app", entry.plugin)
    target = entry.load()
    if isinstance(target, typer.Typer):
        command: Any = typer.main.get_command(target)
        command.help = command.help or entry.help
    elif callable(target):
        command = _from_function(entry.name, target, entry.help)
    else:
        raise PluginError(f"the command {entry.name!r} refers to {target!r}; make it a function or a typer app.")
    keep_examples(command)
    command.name = entry.name
    return command


def _exists(module_name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module_name) is not None


def _from_function(name: str, function: Callable[..., Any], help: str) -> Any:
    from anydiff.cli.options import spread

    app = typer.Typer(add_completion=False)
    app.command(name, help=inspect.getdoc(function) or help)(spread(function))
    return typer.main.get_command(app)


def keep_examples(command: Any) -> None:
    """Mark ``Examples:`` blocks in the help of a command and its sub-commands: no typer may re-flow them."""
    if command.help and "\b" not in command.help:
        command.help = re.sub(r"(?m)^(Examples?::?)$", "\b\n\\1", command.help)
    for child in getattr(command, "commands", {}).values():
        keep_examples(child)
