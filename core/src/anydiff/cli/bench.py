"""``anydiff bench``: run a suite, list the suites, derive the report again."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anydiff.cli.output import print_table, tell
from anydiff.errors import AnydiffError

if TYPE_CHECKING:
    from anydiff.benchmark.engine import Outcome

app = typer.Typer(add_completion=False)

SuiteName = Annotated[str, typer.Option("--suite", help="A suite's name, or its YAML file.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where store, pictures and report go.")]
Seeds = Annotated[str | None, typer.Option("--seeds", help="How many (3) or which (0,1,2); the suite's by default.")]
Tasks = Annotated[list[str] | None, typer.Option("--tasks", help="Only these tasks, by name or pattern (images/*).")]
Budget = Annotated[
    float | None, typer.Option("--budget", metavar="SECONDS", help="Time for all cells; 0 for no limit.")
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, ...; an accelerator where there is one.")]
Workers = Annotated[
    int | None, typer.Option("--workers", help="Processes on this machine (default: one per core); 0 for this one.")
]
Scheduler = Annotated[str, typer.Option("--scheduler", metavar="ADDRESS", help="A Dask cluster to run on, instead.")]
Explain = Annotated[bool, typer.Option("--explain-cache", help="Say of every cell why it was reused or computed.")]


@app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    suite: SuiteName = "quick",
    out: Out = Path("report"),
    seeds: Seeds = None,
    tasks: Tasks = None,
    budget: Budget = None,
    device: Device = "",
    workers: Workers = None,
    scheduler: Scheduler = "",
    explain_cache: Explain = False,
) -> None:
    """Compare solvers over domains, budgets and seeds; without a command, run a suite.

    Finished rows are kept in DIR, so the same command goes on where it was stopped, and computes only what changed.

    Examples:
      anydiff bench --suite quick
      anydiff bench --suite quick --tasks 'images/*' --seeds 5 --out report
      anydiff bench --suite mine.yaml --explain-cache
      anydiff bench report --out report
      anydiff bench list
    """
    if context.invoked_subcommand is None:
        run(suite, out, seeds, tasks, budget, device, workers, scheduler, explain_cache)
        return
    given = [name for name in context.params if "COMMANDLINE" in str(context.get_parameter_source(name))]
    if given:
        option = "--" + given[0].replace("_", "-")
        raise AnydiffError(f"{option} stands before {context.invoked_subcommand!r}; write it behind.")


@app.command()
def run(
    suite: SuiteName = "quick",
    out: Out = Path("report"),
    seeds: Seeds = None,
    tasks: Tasks = None,
    budget: Budget = None,
    device: Device = "",
    workers: Workers = None,
    scheduler: Scheduler = "",
    explain_cache: Explain = False,
) -> None:
    """Run a suite and write the report.

    Examples:
      anydiff bench run --suite quick
      anydiff bench run --suite mine.yaml --budget 0 --device cuda
    """
    from anydiff.benchmark.suite import load_suite, parse_seeds

    changes: dict[str, object] = {}
    if seeds is not None:
        changes["seeds"] = parse_seeds(seeds)
    if budget is not None:
        changes["budget_seconds"] = budget or None
    chosen = load_suite(suite)
    chosen = type(chosen).parse({**chosen.model_dump(), **changes}, f"suite {suite!r}")
    _refuse_foreign(out)
    from anydiff.benchmark.engine import run_suite
    from anydiff.benchmark.progress import Progress
    from anydiff.benchmark.report import write_report

    command = shlex.join(["anydiff", *sys.argv[1:]])
    with Progress() as progress:
        try:
            outcome = run_suite(
                chosen, out, progress, tasks=tasks or (), device=device, workers=workers, scheduler=scheduler,
                command=command,
            )  # fmt: skip
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(
                f"stopped; {progress.kept} rows are kept in {out}: run the same command again to go on, or "
                f"`anydiff bench report --out {out}` to see what there is."
            )
            raise
    page = write_report(out)
    if explain_cache:
        print_table(["cell", "why"], outcome.explanations)
    _tell_end(outcome, page)


@app.command()
def report(out: Out = Path("report")) -> None:
    """Write the report of DIR again from its stored rows, also of a run that was stopped.

    Examples:
      anydiff bench report --out report
    """
    from anydiff.benchmark.report import write_report

    typer.echo(write_report(out))


@app.command(name="list")
def list_() -> None:
    """List the suites, and the tasks that they would run.

    Examples:
      anydiff bench list
    """
    from anydiff.benchmark.suite import suite_names
    from anydiff.benchmark.task import task_entries

    print_table(["suite", "what it is"], list(suite_names().items()))
    print_table(["task", "what it is"], [[entry.name, entry.help] for entry in task_entries()])


@app.command()
def lock(
    name: Annotated[str, typer.Argument(metavar="TASK", help="A task with its version: weather/gee@1.")],
) -> None:
    """Freeze a new version of a task: write down beside its plugin's code what it depends on.

    What is published under a name stays; a task that changes gets a new version.

    Examples:
      anydiff bench lock weather/gee@1
    """
    from anydiff.benchmark.lock import write_lock

    typer.echo(write_lock(name))


def _refuse_foreign(out: Path) -> None:
    """A page that this command did not write is not overwritten."""
    from anydiff.benchmark.report import PAGE
    from anydiff.benchmark.store import FILE

    if (out / PAGE).exists() and not (out / FILE).exists():
        raise AnydiffError(f"{str(out)!r} holds an {PAGE} without {FILE}, so it is not a report; choose another --out.")


def _tell_end(outcome: Outcome, page: Path) -> None:
    reused = len(outcome.rows) - outcome.computed
    tell(f"{outcome.computed} rows computed, {reused} reused; open {page}.")
    for task, reason in outcome.problems.items():
        tell(f"task {task} could not be run: {reason}")
    if outcome.failed:
        bad = [row for row in outcome.rows if row["status"] != "done"]
        for row in bad[:5]:
            tell(f"failed: {row['task']} · {row['method']} · {row['nfe']} NFE · seed {row['seed']}: {row['reason']}")
        tell(f"{outcome.failed} failed in all; the report says why.")
        raise typer.Exit(1)
