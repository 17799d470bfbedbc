"""``anydiff claims``: list, run and report the claims of papers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anydiff.cli import print_table, tell
from anydiff.errors import AnydiffError

app = typer.Typer(add_completion=False, no_args_is_help=True)

Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="Where stored results are.")]
_RESULTS = Path("benchmarks/results/claims")


@app.command(name="list")
def list_(results: Results = _RESULTS) -> None:
    """List the claims with their stored verdicts.

    Examples:
      anydiff claims list
    """
    from anydiff_benchmarks.claims.base import load_claim, slugs
    from anydiff_benchmarks.claims.results import read_results, results_path

    rows = []
    for slug in slugs():
        path = results_path(results, slug)
        verdict = read_results(path)[2]["verdict"] if path.is_file() else "not run"
        try:
            claim = load_claim(slug).claim
            rows.append([slug, verdict, f"{claim.minutes:g} min", claim.paper])
        except (AnydiffError, ImportError) as error:
            rows.append([slug, verdict, "", f"cannot be loaded: {' '.join(str(error).split())}"])
    print_table(["claim", "verdict", "takes", "paper"], rows)


@app.command()
def run(
    names: Annotated[list[str] | None, typer.Argument(metavar="[CLAIM]...", help="Which (default: all).")] = None,
    results: Results = _RESULTS,
) -> None:
    """Measure claims and store their numbers and verdicts.

    Exit code 1 if one is not reproduced or could not be run.

    Examples:
      anydiff claims run overview_guided_theory
      anydiff claims run --results mine
    """
    from anydiff_benchmarks.claims.base import load_claim, slugs
    from anydiff_benchmarks.claims.results import run_claim

    failed = 0
    for slug in names or slugs():
        try:
            verdict = run_claim(load_claim(slug), results, tell)
            typer.echo(f"{slug}: {verdict.outcome}: {verdict.sentence}")
            failed += verdict.outcome == "not reproduced"
        except (AnydiffError, ImportError) as error:
            if names:
                raise
            tell(f"{slug} was not run: {error}")
            failed += 1
    if failed:
        raise typer.Exit(1)


@app.command()
def report(
    results: Results = _RESULTS,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the pages go.")] = Path("claims"),
) -> None:
    """Write a page per claim, and one with all, from stored results.

    Examples:
      anydiff claims report --out claims
    """
    from anydiff_benchmarks.claims.pages import write_pages

    typer.echo(write_pages(results, out))


@app.command()
def methods(
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where the page goes.")] = None,
) -> None:
    """Print (or write) the page of methods: paper, files, recipe, claim.

    Examples:
      anydiff claims methods --out docs/methods.md
    """
    from anydiff.files import write_atomic
    from anydiff_benchmarks.claims.methods import methods_page

    page = methods_page()
    if out is None:
        typer.echo(page, nl=False)
        return
    write_atomic(out, page)
    typer.echo(out)
