"""``anydiff recipes``: list the recipes of all plugins; imports no torch."""

from __future__ import annotations

from typing import Annotated

import typer

from anydiff.cli.output import print_json, print_table, tell


def command(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the recipes: named, complete experiments (data, network, path, objective, budget, metrics).

    Examples:
      anydiff recipes
      anydiff recipes --json
    """
    from anydiff.registry import registry

    entries = registry().entries("recipes")
    if json:
        print_json(
            [
                {"name": entry.name, "help": entry.help, "plugin": entry.plugin, "metadata": dict(entry.metadata)}
                for entry in entries
            ]
        )
        return
    if not entries:
        tell("no recipes are installed; recipes come with domain plugins, for example `pip install anydiff-images`.")
        return
    print_table(["recipe", "what it is"], [[entry.name, entry.help] for entry in entries])
