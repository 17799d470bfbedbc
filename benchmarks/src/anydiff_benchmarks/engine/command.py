"""``anydiff bench``: run a suite, report, compare and audit results, list and freeze tasks."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anydiff.cli import print_table, tell
from anydiff.errors import AnydiffError

if TYPE_CHECKING:
    from anydiff_benchmarks.engine.compare import Comparison
    from anydiff_benchmarks.engine.row import Row
    from anydiff_benchmarks.engine.runner import Outcome

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
Against = Annotated[
    Path | None,
    typer.Option("--against", metavar="RESULTS", help="Earlier results (a folder or rows.jsonl); exit 1 if worse."),
]
Isolate = Annotated[
    bool,
    typer.Option("--isolate/--no-isolate", help="Judge in a process of its own, which alone holds the truth."),
]
Calibrations = Annotated[
    list[str] | None,
    typer.Option("--calibration", metavar="FILE", help="A calibration beside the suite's methods; repeatable."),
]
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
    isolate: Isolate = True,
    against: Against = None,
    calibration: Calibrations = None,
    explain_cache: Explain = False,
) -> None:
    """Compare solvers over domains, budgets and seeds; without a command, run a suite.

    Finished rows are kept in DIR, so the same command goes on where it was stopped, and computes only what changed.

    Examples:
      anydiff bench --suite quick
      anydiff bench --suite quick --tasks 'images/*' --seeds 5 --out report
      anydiff bench --suite mine.yaml --explain-cache
      anydiff bench report --out report
      anydiff bench compare before after
      anydiff bench audit 5 --out report
      anydiff bench list
    """
    if context.invoked_subcommand is None:
        run(suite, out, seeds, tasks, budget, device, workers, scheduler, isolate, against, calibration, explain_cache)
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
    isolate: Isolate = True,
    against: Against = None,
    calibration: Calibrations = None,
    explain_cache: Explain = False,
) -> None:
    """Run a suite and write the report.

    Exit code 1 if a cell failed, or if a metric is worse than in --against beyond its interval.

    Examples:
      anydiff bench run --suite quick
      anydiff bench run --suite quick --against before
      anydiff bench run --suite mine.yaml --scheduler tcp://10.0.0.1:8786
      anydiff bench run --suite mine.yaml --budget 0 --device cuda
      anydiff bench run --tasks images/fashion --calibration fashion.safetensors
    """
    from anydiff_benchmarks.engine.suite import load_suite, parse_seeds

    changes: dict[str, object] = {}
    if seeds is not None:
        changes["seeds"] = parse_seeds(seeds)
    if budget is not None:
        changes["budget_seconds"] = budget or None
    chosen = load_suite(suite)
    if calibration:
        changes["methods"] = [*chosen.model_dump()["methods"], *({"calibration": file} for file in calibration)]
    chosen = type(chosen).parse({**chosen.model_dump(), **changes}, f"suite {suite!r}")
    chosen.check_names()
    _refuse_foreign(out)
    earlier = None if against is None else _rows(against)
    from anydiff_benchmarks.engine.progress import Progress
    from anydiff_benchmarks.engine.report import write_report
    from anydiff_benchmarks.engine.runner import Options, run_suite

    command = shlex.join(["anydiff", *sys.argv[1:]])
    with Progress() as progress:
        try:
            outcome = run_suite(
                chosen, out, progress, Options(tasks or (), device, workers, scheduler, isolate, command)
            )
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(
                f"stopped; {progress.kept} rows are kept in {out}: run the same command again to go on, or "
                f"`anydiff bench report --out {out}` to see what there is."
            )
            raise
    page = write_report(out)
    if explain_cache:
        print_table(["cell", "why"], outcome.explanations)
    regressed = False if earlier is None else _print_comparison(_compared(outcome, earlier))
    _tell_end(outcome, page)
    if regressed:
        raise typer.Exit(1)


@app.command()
def report(out: Out = Path("report")) -> None:
    """Write the report of DIR again from its stored rows, also of a run that was stopped.

    Examples:
      anydiff bench report --out report
    """
    from anydiff_benchmarks.engine.report import write_report

    typer.echo(write_report(out))


@app.command()
def advise(
    out: Out = Path("report"),
    tasks: Tasks = None,
    count: Annotated[int, typer.Option("--count", help="How many samples are judged.")] = 200,
) -> None:
    """Say of each model in DIR whether solver, network or sample size holds it back, and put it into the report.

    As `anydiff advise`, which takes about a minute for each model.

    Examples:
      anydiff bench advise --out report
      anydiff bench advise --out report --tasks 'weather/*'
    """
    from anydiff_benchmarks.engine.advice import advise_run
    from anydiff_benchmarks.engine.report import write_report
    from anydiff_benchmarks.engine.store import Store

    _needs_store(out)
    with Store(out) as store:
        told = advise_run(store, tasks or (), count, tell)
    tell(f"{told} models were asked about; open {write_report(out)}.")


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A report folder, a rows.jsonl, or a method of --out.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The same, to compare with.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Compare two methods of this folder.")
    ] = None,
) -> None:
    """Print where A wins, ties and loses against B, with intervals of the paired differences A - B.

    Exit code 1 if A is worse than B anywhere beyond its interval, or if nothing could be judged. A metric with fewer
    than three common seeds, or one that a side lacks, is not judged; two seeds tell a change that is the same on both.

    Examples:
      anydiff bench compare after before
      anydiff bench compare ddim heun --out report
    """
    from anydiff_benchmarks.engine.compare import compare_methods, compare_runs

    if out is not None:
        found = compare_methods(_rows(out), first, second)
    else:
        found = compare_runs(_rows(first), _rows(second))
    if _print_comparison(found):
        raise typer.Exit(1)


@app.command()
def audit(
    count: Annotated[int, typer.Argument(metavar="K", min=1, help="How many rows.")] = 3,
    out: Out = Path("report"),
    seed: Annotated[int, typer.Option(help="Chooses the rows.")] = 0,
) -> None:
    """Compute K random rows again from their provenance, and see whether the stored numbers come out.

    Exit code 1 if one differs, or if what it was made with is no longer here.

    Examples:
      anydiff bench audit 5 --out report
    """
    from anydiff_benchmarks.engine.audit import audit as audit_rows
    from anydiff_benchmarks.engine.store import Store

    _needs_store(out)
    with Store(out) as store:
        findings = list(audit_rows(store, count, seed))
    print_table(["cell", "verdict", "numbers"], [[each.label, each.verdict, each.sentence] for each in findings])
    if not all(each.good for each in findings):
        raise typer.Exit(1)


@app.command(name="list")
def list_() -> None:
    """List the suites, and the tasks that they would run.

    Examples:
      anydiff bench list
    """
    from anydiff.tasks import task_entries
    from anydiff_benchmarks.engine.suite import suite_names

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
    from anydiff.tasks import write_lock

    typer.echo(write_lock(name))


def _compared(outcome: Outcome, earlier: list[Row]) -> list[Comparison]:
    """This run against an earlier one."""
    from anydiff_benchmarks.engine.compare import compare_runs

    return compare_runs(outcome.rows, earlier)


def _rows(source: str | Path) -> list[Row]:
    from anydiff_benchmarks.engine.compare import read_rows

    return read_rows(source)


def _print_comparison(found: list[Comparison]) -> bool:
    """Print the table, and return whether anything is worse, or nothing could be judged at all."""
    from anydiff_benchmarks.engine.report.text import arrow, number
    from anydiff_benchmarks.engine.statistics import FEWEST

    rows = []
    for each in (each for each in found if not each.alone):
        pair = each.pair
        interval = f"[{number(pair.interval[0])}, {number(pair.interval[1])}]" if pair.interval else pair.why
        metric = f"{each.card.name} {arrow(each.card.direction)}"
        rows.append([each.task, each.line, metric, pair.verdict, number(pair.difference), interval, pair.units])
    print_table(["task", "method", "metric", "A is", "A - B", "95 % interval", "runs"], rows)
    for side in ("A", "B"):
        alone = list(dict.fromkeys(f"{each.task} · {each.line}" for each in found if each.alone == side))
        if alone:
            more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
            tell(f"only in {side}, so not judged: {', '.join(alone[:3])}{more}.")
    verdicts = [each.pair.verdict for each in found]
    wins, ties, losses, open_ = (verdicts.count(word) for word in ("win", "tie", "loss", "not judged"))
    tell(f"{wins} wins, {ties} ties, {losses} losses, {open_} not judged.")
    if open_ == len(verdicts):
        tell(f"nothing was judged, so nothing is said to be as good; run both with at least {FEWEST} seeds in common.")
    return losses > 0 or open_ == len(verdicts)


def _needs_store(out: Path) -> None:
    from anydiff_benchmarks.engine.store import FILE

    if not (out / FILE).is_file():
        raise AnydiffError(f"{str(out)!r} holds no {FILE}; run `anydiff bench run --out {out}` first.")


def _refuse_foreign(out: Path) -> None:
    """A page that this command did not write is not overwritten."""
    from anydiff_benchmarks.engine.report import PAGE
    from anydiff_benchmarks.engine.store import FILE

    if (out / PAGE).exists() and not (out / FILE).exists():
        raise AnydiffError(f"{str(out)!r} holds an {PAGE} without {FILE}, so it is not a report; choose another --out.")


def _tell_end(outcome: Outcome, page: Path) -> None:
    reused = len(outcome.rows) - outcome.computed
    tell(f"{outcome.computed} rows computed, {reused} reused; open {page}.")
    for task, reason in outcome.problems.items():
        tell(f"task {task} could not be run: {reason}")
    if outcome.failed:
        bad = [row for row in outcome.rows if row.failed]
        for row in bad[:5]:
            tell(f"failed: {row.task} · {row.method} · {row.nfe} NFE · seed {row.seed}: {row.reason}")
        tell(f"{outcome.failed} failed in all; the report says why.")
        raise typer.Exit(1)
