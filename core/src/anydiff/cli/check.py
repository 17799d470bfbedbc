"""``anydiff check``: the conformance kit on one plugin."""

from __future__ import annotations

from typing import Annotated

import typer

from anydiff.cli.output import print_json, print_table, tell


def command(
    name: Annotated[str, typer.Argument(help="Name of the plugin (see `anydiff plugins`); 'anydiff' is the core.")],
    kind: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Check loading and this kind alone, domains say; repeatable."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Show the checks that passed, too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check that a plugin does what its kinds require: loading, data, codec, solvers, metrics, recipes and more.

    Exit code 1 when a check fails, or a required one cannot run.

    Examples:
      anydiff check images
      anydiff check images --kind domains --kind metrics --json
      anydiff --plugins-dir examples check two_moons --all
    """
    import sys

    from anydiff.testing import check_plugin
    from anydiff.testing.report import PASSED, Outcome

    def progress(outcome: Outcome) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{outcome.id} {outcome.status}", end="", file=sys.stderr)

    report = check_plugin(name, progress, kind)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    if json:
        print_json(report.as_dict())
    else:
        shown = [outcome for outcome in report.outcomes if every or outcome.status != PASSED]
        if shown:
            rows = [[each.check, each.entry, each.status, each.reason] for each in shown]
            print_table(["check", "of", "result", "reason"], rows)
        tell(report.summary)
    if not report.ok:
        raise typer.Exit(1)
