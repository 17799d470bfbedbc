"""``anydiff plugins``: what is installed, what is wrong with it, and how to switch it on and off. Imports no plugin."""

from __future__ import annotations

from typing import Annotated

import typer

from anydiff.cli.output import print_json, print_table, tell
from anydiff.cli.plugin_list import list_plugins
from anydiff.errors import UnknownNameError
from anydiff.plugins import state
from anydiff.plugins.discovery import Plugin, discover

app = typer.Typer(add_completion=False)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def plugins(context: typer.Context, json: Json = False) -> None:
    """List the installed plugins; `doctor` tries each one in a process of its own.

    No plugin is imported for this: names and versions come from package metadata, the rest from its last load.

    Examples:
      anydiff plugins
      anydiff plugins --json
      anydiff plugins doctor
      anydiff plugins disable images
      ANYDIFF_PLUGINS=images,weather anydiff recipes
    """
    if context.invoked_subcommand is None:
        list_plugins(json)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the installed plugins: version, status, what they provide, and what is wrong.

    Examples:
      anydiff plugins list
      anydiff plugins list --json
    """
    list_plugins(json)


@app.command()
def enable(name: Annotated[str, typer.Argument(help="Name of the plugin.")]) -> None:
    """Load a plugin again that was disabled or quarantined.

    Examples:
      anydiff plugins enable images
    """
    known = _known(name)
    state.enable(name)
    tell(f"{known.label if known else f'plugin {name!r}'} is enabled.")


@app.command()
def disable(name: Annotated[str, typer.Argument(help="Name of the plugin.")]) -> None:
    """Do not load a plugin from now on, without uninstalling it.

    Examples:
      anydiff plugins disable images
    """
    known = _known(name)
    state.disable(name)
    tell(f"{known.label if known else f'plugin {name!r}'} is disabled; `anydiff plugins enable {name}` undoes this.")


@app.command()
def doctor(
    names: Annotated[list[str] | None, typer.Argument(help="Plugins to try; all by default.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that each may take to load.")] = 30.0,
    references: Annotated[
        bool, typer.Option("--references", help="Also import everything that they register.")
    ] = False,
    json: Json = False,
) -> None:
    """Try each plugin in a process of its own, and say what is wrong and how to repair it.

    Exit code 1 when a plugin that you did not switch off has a problem.

    Examples:
      anydiff plugins doctor
      anydiff plugins doctor images --references
      anydiff plugins doctor --timeout 5 --json
    """
    from anydiff.plugins.probe import examine

    found = discover()
    for name in names or []:
        _known(name)
    diagnoses = examine([each for each in found.plugins if not names or each.name in names], timeout, references)
    if json:
        print_json({"plugins": [each.as_dict() for each in diagnoses], "notes": found.notes})
    else:
        rows = [
            [
                each.name,
                each.status,
                "yes" if each.works else "NO",
                f"{each.seconds:.2f}" if each.works else "",
                "yes" if each.imports_torch else "",
                ", ".join(f"{len(entries)} {kind}" for kind, entries in each.provides.items()),
            ]
            for each in diagnoses
        ]
        print_table(["plugin", "status", "works", "seconds", "imports torch", "provides"], rows)
        for sentence in [*found.notes, *(each.problem for each in diagnoses if each.problem)]:
            tell(sentence)
    if found.notes or not all(each.healthy for each in diagnoses):
        raise typer.Exit(1)


def _known(name: str) -> Plugin | None:
    found = discover().plugins
    for plugin in found:
        if plugin.name == name:
            return plugin
    if name in state.disabled():  # uninstalled since: may still be enabled
        return None
    raise UnknownNameError("plugin", name, [plugin.name for plugin in found])
