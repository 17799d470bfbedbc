"""``anydiff new-plugin``: the skeleton of a plugin, which passes ``anydiff check`` as written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anydiff.cli.output import tell


def command(
    name: Annotated[str, typer.Argument(help="Name of the plugin: small letters, digits and '-', as in my-weather.")],
    kind: Annotated[str, typer.Option(help="What it will provide: domain, solver, metric or guidance.")] = "domain",
    out: Annotated[Path, typer.Option(help="Folder in which the package's own folder is made.")] = Path("."),
) -> None:
    """Write the skeleton of a plugin: a package with tests, CI file and README that passes `anydiff check`.

    Examples:
      anydiff new-plugin weather
      anydiff new-plugin leapfrog --kind solver --out ~/projects
    """
    from anydiff.templates import write_plugin

    folder = write_plugin(name, kind, out)
    tell(f"wrote the plugin {name!r} into {str(folder)!r}.")
    tell(f"next: pip install -e {folder} && anydiff check {name}")
