"""The engine: runs the cells of a suite one after the other, each row stored before the next begins.

A cell that fails becomes a row with its reason, and the run goes on. Ctrl-C and kill lose the cell at work and nothing
else: the same command goes on behind what is stored.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from anydiff.benchmark import identity
from anydiff.benchmark.measure import measured
from anydiff.benchmark.planning import Cell, Share, Speed, allocate, plan_cells
from anydiff.benchmark.store import Row, Store
from anydiff.benchmark.suite import Suite
from anydiff.benchmark.tasks import LiveTask, find_tasks, reason
from anydiff.errors import AnydiffError
from anydiff.pipeline import SampleSet

PRECISION = "float32"


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
        bad = [row for row in self.rows if row["status"] != "done"]
        return len(self.problems) + len(bad)


def run_suite(
    suite: Suite, folder: Path, listener: Listener, *, tasks: Sequence[str] = (), device: str = "", command: str = ""
) -> Outcome:
    """Run what ``folder`` does not hold yet, and remember the plan there for the report.

    Args:
        suite: what to run.
        folder: store, pictures and report go there.
        listener: is told of the progress.
        tasks: names or patterns; all by default.
        device: where to sample; an accelerator where there is one, by default.
        command: the command line, for the provenance.
    """
    device = chosen_device(device)
    entries = find_tasks(tasks)
    outcome = Outcome()
    with Store(folder) as store:
        live: list[tuple[LiveTask, Speed]] = []
        for entry in entries:
            listener.say(f"{entry.name}: loading and measuring the speed")
            try:
                task = LiveTask(entry, device, suite.batch_size)
                live.append((task, speed_of(task, store)))
            except Exception as error:  # one broken plugin must not keep the others from the benchmark
                outcome.problems[entry.name] = reason(error)
        shares = allocate(suite, [(speed, task.minimum_samples) for task, speed in live])
        plans = {
            task.name: plan_cells(suite, share, speed, *_identities(task))
            for (task, speed), share in zip(live, shares, strict=True)
        }
        facts = {
            task.name: {**_facts(task, share), "picture": _reference_picture(task, folder, suite.gallery)}
            for (task, _), share in zip(live, shares, strict=True)
        }
        _remember(store, suite, plans, facts, outcome, command)
        todo = {cell.key for cells in plans.values() for cell in cells if not _is_done(store, cell)}
        every = [cell for cells in plans.values() for cell in cells]
        outcome.explanations = [(cell.label, store.explain(cell.key, cell.label, cell.parts)) for cell in every]
        listener.planned(sum(cell.cost for cell in every if cell.key in todo), len(every), len(every) - len(todo))
        for task, _ in live:
            runner = _Runner(task, store, folder, suite, command)
            for cell in plans[task.name]:
                row = runner.run(cell) if cell.key in todo else store.get(cell.key)
                assert row is not None
                outcome.rows.append(row)
                outcome.computed += cell.key in todo
                listener.finished(cell, row, cell.key in todo)
    return outcome


def chosen_device(device: str) -> str:
    """``device``, or the accelerator if there is one, or the processor.

    Raises:
        AnydiffError: there is no such device.
    """
    if not device:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise AnydiffError(f"--device is {device!r}, which this machine does not have; use cpu.") from error
    return device


def speed_of(task: LiveTask, store: Store) -> Speed:
    """Seconds per network row and per judged sample, measured once per folder (this is also the warm-up)."""
    about = [*_identities(task), identity.machine(task.device), task.batch_size]
    name = f"speed {task.name} {identity.digest(about)}"
    known = store.note(name)
    if known is None:
        count = min(task.batch_size, max(task.minimum_samples, 32))
        _sample(task, count, solver="ddim", nfe=1, seed=0)
        with measured(task.device) as sampling:
            _sample(task, count, solver="ddim", nfe=2, seed=0)
        least = task.minimum_samples
        task.judge(*task.baseline("resample", least, 0))  # the features of the reference are computed here and kept
        with measured(task.device) as judging:
            task.judge(*task.baseline("resample", least, 1))
        known = [sampling.seconds / (2 * count), judging.seconds / least]
        store.remember(name, known)
    return Speed(*known)


def _sample(task: LiveTask, count: int, **options: Any) -> SampleSet:
    options = {"condition": task.condition(count), "batch_size": task.batch_size, "device": task.device, **options}
    return task.pipeline.sample_set(count, **options)


def _identities(task: LiveTask) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What every row depends on; what the rows of methods do; what the rows of baselines do."""
    common = {**task.identity, "core code": identity.core_hash()}
    model = {
        "weights": task.weights_hash,
        "precision": PRECISION,
        "torch": torch.__version__,
        "device": torch.device(task.device).type,
    }
    return common, model, {"training data": task.training_data.hash}


def _is_done(store: Store, cell: Cell) -> bool:
    row = store.get(cell.key)
    return row is not None and row["status"] == "done"


def _facts(task: LiveTask, share: Share) -> dict[str, Any]:
    """What the report says of a task beside its rows."""
    return {
        "help": task.recipe.help,
        "domain": task.recipe.domain.name,
        "plugin": task.entry.plugin,
        "parameters": task.parameters,
        "weights": task.weights_hash,
        "weights metadata": dict(task.pipeline.metadata),
        "recipe": task.recipe.hash,
        "reference": {"data set": task.recipe.dataset.name, "hash": task.test_hash, "samples": len(task.reference)},
        "training data": {"hash": task.training_data.hash, "samples": len(task.training_data)},
        "cards": [metric.card.as_dict() for metric in task.metrics],
        "guidance": [part.model_dump(mode="json") for part in task.recipe.sampling.guidance],
        "samples": share.samples,
        "seeds": list(share.seeds),
        "expected seconds": share.seconds,
        "share of the budget": share.budget,
        "over budget": share.over,
        "machine": identity.machine(task.device),
    }


def _reference_picture(task: LiveTask, folder: Path, count: int) -> str:
    """A picture of held-out data with the conditions of the first samples; its name below ``folder``, or empty."""
    name = f"pictures/reference-{task.test_hash[:24]}.png"
    if count and not (folder / name).is_file():
        try:
            task.draw(task.reference, count, folder / name)
        except Exception as error:  # a domain may lack its drawing library; the benchmark does not need pictures
            print(f"anydiff: no picture of the data of {task.name}: {reason(error)}", file=sys.stderr)
            return ""
    return name if count else ""


def _remember(
    store: Store,
    suite: Suite,
    plans: dict[str, list[Cell]],
    facts: dict[str, dict[str, Any]],
    outcome: Outcome,
    command: str,
) -> None:
    store.remember(
        "run",
        {
            "suite": suite.model_dump(mode="json"),
            "titles": [method.title for method in suite.methods],
            "keys": {name: [cell.key for cell in cells] for name, cells in plans.items()},
            "tasks": facts,
            "problems": outcome.problems,
            "command": command,
            "date": _now(),
            "versions": identity.versions(),
            "commit": identity.commit(),
            "core code": identity.core_hash(),
        },
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class _Runner:
    """Computes the rows of one task."""

    def __init__(self, task: LiveTask, store: Store, folder: Path, suite: Suite, command: str) -> None:
        self.task = task
        self.store = store
        self.folder = folder
        self.suite = suite
        self.command = command
        self.warm = False

    def run(self, cell: Cell) -> Row:
        """Compute, store and return the row of ``cell``."""
        row = self._start(cell)
        try:
            samples, reference = self._baseline(cell) if cell.method is None else self._samples(cell, row)
            with measured(self.task.device) as cost:
                judged = self.task.judge(samples, reference)
            row.update(
                samples=len(samples),
                reference_samples=len(reference),
                metric_seconds=cost.seconds,
                metrics=judged.values,
                problems=judged.problems,
            )
            if judged.problems:
                row["status"] = "failed"
                row["reason"] = "; ".join(f"{name}: {text}" for name, text in judged.problems.items())
            self._picture(cell, samples, row)
        except Exception as error:  # a failing cell is a result: its row says why, and the run goes on
            row.update(status="failed", reason=reason(error))
        self.store.add(cell.key, cell.label, cell.parts, row)
        return row

    def _start(self, cell: Cell) -> Row:
        return {
            "key": cell.key,
            "status": "done",
            "reason": "",
            "task": cell.task,
            "domain": self.task.recipe.domain.name,
            "kind": "baseline" if cell.method is None else "method",
            "method": cell.title,
            "solver": None if cell.method is None else cell.method.identity(),
            "nfe": cell.nfe,
            "seed": cell.seed,
            "samples": cell.samples,
            "reference_samples": None,
            "metrics": {},
            "cards": {metric.card.name: metric.card.as_dict() for metric in self.task.metrics},
            "counted_nfe": None,
            "rows_per_call": None,
            "seconds": None,
            "metric_seconds": None,
            "peak_memory_mib": None,
            "memory_kind": "",
            "parameters": None if cell.method is None else self.task.parameters,
            "machine": identity.machine(self.task.device),
            "precision": PRECISION,
            "inputs": cell.parts,
            "versions": identity.versions(),
            "commit": identity.commit(),
            "command": self.command,
            "started": _now(),
            "picture": "",
        }

    def _baseline(self, cell: Cell) -> tuple[SampleSet, SampleSet]:
        return self.task.baseline(cell.baseline, cell.samples, cell.seed)

    def _samples(self, cell: Cell, row: Row) -> tuple[SampleSet, SampleSet]:
        """Draw the samples; count the calls and compare them with the plan."""
        method = cell.method
        assert method is not None
        ends: dict[str, Any] = {"grid": method.grid, "end": method.end}
        chosen = {name: value for name, value in ends.items() if value is not None}
        plan = self.task.pipeline.plan(cell.nfe, method.solver, **chosen, **method.options)
        guidance = {"guidance": method.guidance} if method.guidance is not None else {}
        if not self.warm:  # the first call of a process pays for memory and kernels that the others find ready
            _sample(self.task, min(cell.samples, self.task.batch_size), solver=plan, seed=cell.seed, **guidance)
            self.warm = True
        self.task.denoiser.reset()
        with measured(self.task.device) as cost:
            samples = _sample(self.task, cell.samples, solver=plan, seed=cell.seed, **guidance)
        chunks = -(-cell.samples // self.task.batch_size)
        counted, rows = self.task.denoiser.calls / chunks, self.task.denoiser.rows
        row.update(
            counted_nfe=counted,
            rows_per_call=rows / (cell.samples * counted) if counted else 0.0,
            seconds=cost.seconds,
            peak_memory_mib=cost.peak_memory,
            memory_kind=cost.memory_kind,
        )
        if counted != plan.nfe or counted > cell.nfe:
            raise AnydiffError(
                f"{method.title} made {counted:g} network calls per sample, but its plan says {plan.nfe} and the "
                f"budget is {cell.nfe}; its cost cannot be compared."
            )
        return samples, self.task.reference

    def _picture(self, cell: Cell, samples: SampleSet, row: Row) -> None:
        """A picture of the first samples of the first seed; no picture is no failure."""
        if not self.suite.gallery or cell.seed != self.suite.seeds[0]:
            return
        name = f"pictures/{cell.key[:24]}.png"
        try:
            self.task.draw(samples, self.suite.gallery, self.folder / name)
            row["picture"] = name
        except Exception as error:  # a domain may lack its drawing library
            print(f"anydiff: no picture of {cell.label}: {reason(error)}", file=sys.stderr)
