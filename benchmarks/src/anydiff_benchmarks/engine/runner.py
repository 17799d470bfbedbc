"""The engine: plans the cells of a suite, has workers compute them, and stores each row as soon as it is known.

Cells are computed seed by seed, so a run that is stopped has whole rounds; a suite with a time budget stops by itself
before a round that would not end within it. Only this process writes. A cell that fails becomes a row with its
reason, and the run goes on. Ctrl-C and kill lose the cells at work and nothing else: the same command goes on behind
what is stored.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from anydiff.files import write_atomic
from anydiff.tasks import Task, digest, find_tasks
from anydiff_benchmarks.engine import identity
from anydiff_benchmarks.engine.planning import (
    Cell,
    Demand,
    Share,
    Speed,
    affordable,
    allocate,
    plan_baselines,
    plan_methods,
    rounds,
    used_up,
)
from anydiff_benchmarks.engine.pool import Job, Pool, make_pool
from anydiff_benchmarks.engine.row import Row
from anydiff_benchmarks.engine.store import Store
from anydiff_benchmarks.engine.suite import FIXED_PLAN, Suite
from anydiff_benchmarks.engine.truth import reason
from anydiff_benchmarks.engine.worker import Description, Setting, chosen_device, compute, describe, failed_row, now


class Listener(Protocol):
    """Who is told how a run goes on."""

    def say(self, sentence: str) -> None:
        """A sentence for the user."""

    def planned(self, seconds: float, cells: int, stored: int) -> None:
        """All cells are known: expected seconds of those to compute, how many there are, how many are stored."""

    def finished(self, cell: Cell, row: Row, computed: bool) -> None:
        """A cell has its row."""


@dataclass
class Outcome:
    """What a run came to.

    Attributes:
        rows: of all cells, in the order of the plan.
        problems: tasks that could not be loaded, with the reason.
        computed: how many rows were computed now.
        explanations: label of each cell and why its row was reused or computed.
    """

    rows: list[Row] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    computed: int = 0
    explanations: list[tuple[str, str]] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many cells and tasks failed."""
        bad = [row for row in self.rows if row.failed]
        return len(self.problems) + len(bad)


@dataclass
class TaskPlan:
    """A task with its models, once they are known.

    Attributes:
        task: the task.
        models: (name, source, training) -> what a worker said of it.
        share: of the budget.
        cells: baselines first, then the methods.
    """

    task: Task
    models: dict[tuple[str, str, int], Description] = field(default_factory=dict)
    share: Share | None = None
    cells: list[Cell] = field(default_factory=list)

    @property
    def first(self) -> Description:
        """Of the model that the baselines stand beside."""
        return next(iter(self.models.values()))

    def baselines(self, suite: Suite) -> list[str]:
        """The names of the baselines of this task in this suite."""
        free = [] if self.task.evaluator and not self.first.facts["cards"] else list(suite.baselines)
        if self.first.facts["paired"]:
            free = [name for name in free if name != "real"]  # the truth of another case is no ceiling
        return [name for name in free if name not in self.first.senseless] + list(self.task.baselines)


@dataclass(frozen=True)
class Options:
    """How a suite is run.

    Attributes:
        tasks: names or patterns; all of the suite's tier by default.
        device: where to sample; an accelerator where there is one, by default.
        workers: how many processes; None for one per core, 0 for this process.
        scheduler: address of a Dask cluster, instead.
        isolated: whether samples are judged in a process of its own, so that what draws them never holds the truth.
        command: the command line, for the provenance.
    """

    tasks: Sequence[str] = ()
    device: str = ""
    workers: int | None = None
    scheduler: str = ""
    isolated: bool = True
    command: str = ""


def run_suite(suite: Suite, folder: Path, listener: Listener, options: Options) -> Outcome:
    """Run what ``folder`` does not hold yet, and remember the plan there for the report.

    Args:
        suite: what to run.
        folder: store, pictures and report go there.
        listener: is told of the progress.
        options: where and how.

    Raises:
        AnydiffError: no task, device, cluster or folder to run with.
    """
    if options.device and not options.scheduler:
        chosen_device(options.device)
    found, problems = find_tasks(options.tasks, suite.tier)
    found = suite.fitting(found)
    outcome = Outcome(problems=problems)
    with Store(folder) as store:
        pool = make_pool(options.workers, options.scheduler)
        try:
            run = _Run(suite, store, folder, listener, options, pool, outcome)
            plans = run.prepare(found)
            run.compute(plans)
        finally:
            pool.close()
    return outcome


@dataclass
class _Run:
    suite: Suite
    store: Store
    folder: Path
    listener: Listener
    options: Options
    pool: Pool
    outcome: Outcome

    def setting(self, task: str, source: str) -> Setting:
        suite = self.suite
        names = tuple(dict.fromkeys(name for method in suite.methods for name in method.names))
        options = self.options
        return Setting(task, source, options.device, suite.batch_size, suite.gallery, options.isolated, names)

    def prepare(self, tasks: Sequence[Task]) -> list[TaskPlan]:
        """Describe every task with every model, share the budget, plan the cells, and remember all of it."""
        jobs = [
            Job(describe, (self.setting(task.id, source[1]), self._known_speed(task, source[1])), (task.id, source[1]))
            for task in tasks
            for source in self.suite.sources(task.id)
        ]
        self.listener.say(f"loading {len(jobs)} models of {len(tasks)} tasks and measuring their speed")
        said: dict[Any, Any] = {}
        for job, result in self.pool.run(jobs):
            said[job.group] = result
            task_id, source = job.group
            if isinstance(result, Exception):
                where = f"{task_id} with {source}" if source else task_id
                self.outcome.problems[where] = reason(result)
                self.listener.say(f"{where} cannot be run: {reason(result)}")
            else:
                self.listener.say(f"{task_id} is ready")
                self.store.remember(self._speed_name(task_id, source), list(dataclasses.astuple(result.speed)))
        plans = []
        for task in tasks:
            good = {s: said[task.id, s[1]] for s in self.suite.sources(task.id)}
            models = {source: found for source, found in good.items() if isinstance(found, Description)}
            if models:
                plans.append(TaskPlan(task, models))
        self._plan(plans)
        self._remember(plans)
        return plans

    def compute(self, plans: Sequence[TaskPlan]) -> None:
        """Have the missing rows computed, and store each."""
        every = [cell for plan in plans for cell in plan.cells]
        done = self.store.done()
        todo = [cell for cell in every if cell.key not in done]
        self.outcome.explanations = [
            (cell.label, self.store.explain(cell.key, cell.label, cell.parts)) for cell in every
        ]
        self.listener.planned(sum(cell.cost for cell in todo), len(every), len(every) - len(todo))
        rows = {row.key: row for row in self.store.rows(cell.key for cell in every)}
        for cell in every:
            if cell.key in done:
                self.listener.finished(cell, rows[cell.key], False)
        spent, left = self._compute_rounds(todo, rows)
        if left:
            self._say_left_out(spent, left)
        self.outcome.rows = [rows[cell.key] for cell in every if cell.key in rows]

    def _compute_rounds(self, todo: Sequence[Cell], rows: dict[str, Row]) -> tuple[float, list[Cell]]:
        """Compute round after round while the budget allows it; (seconds that all cells took, cells left out)."""
        spent = expected = 0.0
        left = {cell.key: cell for cell in todo}
        for part in rounds(self.suite, todo):
            if used_up(self.suite, spent) or not affordable(self.suite, spent, expected, part):
                break
            for job, result in self.pool.run([self._job(cell) for cell in part]):
                cell = job.arguments[1]
                left.pop(cell.key, None)  # two models of equal weights have equal cells
                rows[cell.key] = row = self._keep(cell, result)
                spent += row.wall_seconds or 0.0
                expected += cell.cost
                self.outcome.computed += 1
                if used_up(self.suite, spent):
                    self.pool.stop()
        return spent, list(left.values())

    def _job(self, cell: Cell) -> Job:
        arguments = (self.setting(cell.task, cell.source), cell, self._with_picture(cell))
        return Job(compute, arguments, (cell.task, cell.source), cell.cost)

    def _say_left_out(self, spent: float, left: Sequence[Cell]) -> None:
        seeds = ", ".join(str(seed) for seed in dict.fromkeys(cell.seed for cell in left))
        self.listener.say(
            f"{spent:.0f} of the suite's {self.suite.budget_seconds:g} seconds of work are used, so the {len(left)} "
            f"cells of the seeds {seeds} are left out; the same command goes on with them."
        )

    def _keep(self, cell: Cell, result: tuple[Row, bytes] | Exception) -> Row:
        """Store what a worker found; a call that could not be made is a failed row."""
        if isinstance(result, Exception):
            result = failed_row(cell, reason(result)), b""
        row, picture = result
        row.command = self.options.command
        if picture:
            row.picture = f"pictures/{cell.key[:24]}.png"
            write_atomic(self.folder / row.picture, picture)
        if row.note:
            print(f"anydiff: no picture of {cell.label}: {row.note}", file=sys.stderr)
        self.store.add(row, cell.label)
        self.listener.finished(cell, row, True)
        return row

    def _with_picture(self, cell: Cell) -> bool:
        return bool(self.suite.gallery) and cell.seed == self.suite.seeds[0] and cell.training == 0

    def _plan(self, plans: Sequence[TaskPlan]) -> None:
        suite = self.suite
        demands = [
            Demand(
                plan.first.speed, plan.task.samples, plan.first.least, plan.task.members or 1,
                len(plan.baselines(suite)), len(plan.models),
            )
            for plan in plans
        ]  # fmt: skip
        for plan, share in zip(plans, allocate(suite, demands), strict=True):
            plan.share = share
            first = plan.first
            names = plan.baselines(suite)
            plan.cells = plan_baselines(plan.task.id, names, share, first.speed, first.identity, first.data)
            for origin, about in plan.models.items():
                carried = suite.on_fixed_plan(about.facts.get(FIXED_PLAN))
                plan.cells += plan_methods(
                    plan.task.id, carried, share, about.speed, about.identity, about.model, about.sources, origin
                )

    def _remember(self, plans: Sequence[TaskPlan]) -> None:
        suite = self.suite
        names = list(dict.fromkeys(name for plan in plans for name, _, _ in plan.models))
        titles = [f"{name} · {method.title}" if name else method.title for name in names for method in suite.methods]
        own = [cell.title for plan in plans for cell in plan.cells if cell.method is not None]  # of fixed plans
        titles = list(dict.fromkeys([*titles, *own]))
        note = {
            "suite": suite.model_dump(mode="json"),
            "titles": titles,
            "keys": {plan.task.id: [cell.key for cell in plan.cells] for plan in plans},
            "tasks": {plan.task.id: self._facts(plan) for plan in plans},
            "problems": self.outcome.problems,
            "command": self.options.command,
            "date": now(),
            "versions": identity.versions(),
            "commit": identity.commit(),
        }
        self.store.remember("run", note)

    def _facts(self, plan: TaskPlan) -> dict[str, Any]:
        share, first = plan.share, plan.first
        assert share is not None
        picture = ""
        if first.picture:
            picture = f"pictures/reference-{first.facts['reference']['hash'][:24]}.png"
            write_atomic(self.folder / picture, first.picture)
        trainings = [
            {
                "model": name,
                "source": source,
                "training seed": about.facts["training seed"],
                "weights": about.facts["weights"],
                "denoising": about.facts["denoising"],
            }
            for (name, source, _), about in plan.models.items()
        ]
        return {
            **first.facts,
            "full samples": plan.task.samples,
            "samples": share.samples,
            "seeds": list(share.seeds),
            "trainings": trainings,
            "expected seconds": share.seconds,
            "share of the budget": share.budget,
            "over budget": share.over,
            "picture": picture,
        }

    def _speed_name(self, task: str, source: str) -> str:
        return f"speed {digest([task, source, self.options.device, self.suite.batch_size])}"

    def _known_speed(self, task: Task, source: str) -> Speed | None:
        known = self.store.note(self._speed_name(task.id, source))
        return None if known is None else Speed(*known)
