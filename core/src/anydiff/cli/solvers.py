"""``anydiff solvers``: list the solvers from their registered facts, and print the plan that one compiles."""

from __future__ import annotations

from typing import Annotated

import typer

from anydiff.cli import common
from anydiff.cli.output import print_json, print_table
from anydiff.errors import natural_number

app = typer.Typer(add_completion=False)
FACTS = ("order", "kind", "calls_per_step", "stochastic", "source")


@app.callback(invoke_without_command=True)
def solvers(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the solvers: order, kind, network calls per step, whether they draw noise, and the source.

    Examples:
      anydiff solvers
      anydiff solvers --json
      anydiff solvers show ddim --nfe 10
      anydiff solvers show dpm-solver++-2m --nfe 10 --path flow
    """
    if context.invoked_subcommand is not None:
        return
    from anydiff.registry import registry

    entries = registry().entries("solvers")
    if json:
        facts = [{fact: entry.metadata.get(fact) for fact in FACTS} for entry in entries]
        print_json(
            [
                {"name": entry.name, "help": entry.help, "plugin": entry.plugin, **known}
                for entry, known in zip(entries, facts, strict=True)
            ]
        )
        return
    rows = [[entry.name, *(_cell(entry.metadata.get(fact)) for fact in FACTS), entry.help] for entry in entries]
    print_table(["solver", "order", "kind", "NFE/step", "noise", "source", "what it is"], rows)


@app.command()
def show(
    solver: Annotated[str, typer.Argument(help="Name of the solver.")],
    nfe: Annotated[int, typer.Option(help="Network calls to spend.")] = 10,
    path: Annotated[str, typer.Option(help="Name of the path.")] = "vp-cosine",
    grid: Annotated[str | None, typer.Option(help="Name of the time grid; the path's own by default.")] = None,
    end: Annotated[str, typer.Option(help="Rule for the last step.")] = "clean",
    option: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the solver.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Print the plan of a solver: the straight-line program that the executor runs.

    Examples:
      anydiff solvers show ddim --nfe 10
      anydiff solvers show ddim --nfe 10 --option eta=1.0 --json
    """
    natural_number("--nfe", nfe)
    options = common.solver_options(option)
    from anydiff.registry import registry

    known = registry()
    known.get("solvers", solver)  # a wrong name is told before torch is imported
    known.get("paths", path)
    from anydiff.solvers import compile_plan

    plan = compile_plan(solver, known.build("paths", path), nfe, grid=grid, end=end, **options)
    typer.echo(plan.to_json() if json else str(plan))


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
