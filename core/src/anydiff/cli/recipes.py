"""``anydiff recipes``: list the recipes of all plugins (imports no torch), and print one as a file to start from."""

from __future__ import annotations

from typing import Annotated

import typer

from anydiff.cli.output import print_json, print_table, tell

app = typer.Typer(add_completion=False)


@app.callback(invoke_without_command=True)
def recipes(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the recipes: named, complete experiments (data, network, path, objective, budget, metrics).

    Examples:
      anydiff recipes
      anydiff recipes --json
      anydiff recipes show images/fashion > mine.yaml
    """
    if context.invoked_subcommand is not None:
        return
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


@app.command()
def show(
    recipe: Annotated[str, typer.Argument(help="Name of the recipe, or a file.")],
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a field, training.steps=500 say.")
    ] = None,
) -> None:
    """Print a recipe with all its fields as YAML: change what you like, and give the file to `anydiff train`.

    Examples:
      anydiff recipes show images/fashion > mine.yaml
      anydiff recipes show images/fashion --set training.steps=500
    """
    from anydiff.recipes import load_recipe

    typer.echo(load_recipe(recipe, change or ()).to_yaml(), nl=False)
