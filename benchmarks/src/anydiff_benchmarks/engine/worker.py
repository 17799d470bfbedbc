"""What workers do: describe a task with a model, and compute one row. Both are plain functions of plain data.

A worker process keeps the models it has loaded, and one process with the held-out data beside it
(:mod:`anydiff_benchmarks.engine.truth`). It writes nothing: rows and pictures go back to whoever asked.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from anydiff.errors import AnydiffError, NotApplicableError
from anydiff.metrics import SampleSet, Score
from anydiff.pipeline import Pipeline
from anydiff.plugins import Source, hooks, source_of
from anydiff.recipes import Part, Recipe
from anydiff.registry import KINDS, Entry, registry
from anydiff.states import StateSpec
from anydiff.tasks import load_task
from anydiff_benchmarks.engine import identity
from anydiff_benchmarks.engine.baselines import FULL_COVARIANCE_LIMIT, without_meaning
from anydiff_benchmarks.engine.generation import Generator, SamplingCost
from anydiff_benchmarks.engine.measure import measured
from anydiff_benchmarks.engine.planning import Cell, Speed
from anydiff_benchmarks.engine.row import Row
from anydiff_benchmarks.engine.suite import FIXED_PLAN, RECIPE, RESTORED, Method
from anydiff_benchmarks.engine.truth import Judged, Opening, TruthHere, TruthProcess, drawn, reason

PRECISION = "float32"
NOT_ISOLATED = "judged"
"""An input of rows whose samples were drawn where the truth could be seen; other rows lack it."""
_source_of = functools.partial(source_of, without={"anydiff_benchmarks": identity.WITHOUT_INFLUENCE})


@dataclass(frozen=True)
class Setting:
    """A task, a model and how it is run: what a worker loads once.

    Attributes:
        task: ``domain/name@version``.
        source: run folder or weights file; empty for bundled weights.
        device: where to sample; empty for an accelerator where there is one.
        batch_size: rows per network call.
        gallery: samples per picture.
        isolated: whether samples are judged in a process of its own.
        names: whatever the suite's methods name, for the code behind it.
    """

    task: str
    source: str
    device: str
    batch_size: int
    gallery: int
    isolated: bool = True
    names: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Description:
    """What is known of a setting before any row is computed.

    Attributes:
        identity: what every row of the task depends on.
        model: what the rows of methods depend on beside it.
        data: what the rows of baselines depend on beside it.
        sources: name in a method -> code and libraries behind it.
        facts: for the report.
        speed: measured here and now.
        least: fewer cases say nothing, or are refused by a metric.
        size: number of held-out cases.
        senseless: free baselines that mean nothing here, or cost too much: a Gaussian with the full covariance of a
            large state, Gaussians of classes, frequencies of real numbers.
        picture: of held-out data.
        note: why there is no picture.
    """

    identity: Mapping[str, Any]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    sources: Mapping[str, Source]
    facts: Mapping[str, Any]
    speed: Speed
    least: int
    size: int
    senseless: tuple[str, ...]
    picture: bytes
    note: str


@functools.cache
def _truth(isolated: bool) -> TruthProcess:
    return TruthProcess() if isolated else TruthHere()


@functools.cache
def _loaded(setting: Setting) -> tuple[Opening, Generator]:
    truth = _truth(setting.isolated)
    opening = truth.open(setting.task, setting.gallery)
    measure = functools.partial(truth.measured, setting.task)
    task = load_task(setting.task)
    device = setting.device or chosen_device("")
    generator = Generator(task, setting.source, opening.asked, opening.size, device, setting.batch_size, measure)
    return opening, generator


def forget_models() -> None:
    """Let go of every model: what lies behind a name may change until the next run."""
    _loaded.cache_clear()


def forget() -> None:
    """Let go of every model, and of the process with the held-out data."""
    forget_models()
    for isolated in (True, False):
        _truth(isolated).close()
    _truth.cache_clear()


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


def describe(setting: Setting, speed: Speed | None) -> Description:
    """Load a setting and say what its rows depend on.

    Args:
        setting: what to load.
        speed: what was measured before; None to measure.

    Raises:
        AnydiffError: task or model cannot be used; the sentence says why.
    """
    opening, generator = _loaded(setting)
    source = _source(generator)
    truth = _truth(setting.isolated)
    if truth.outdated(source.code):  # in one program that runs a suite twice
        truth.close()
        forget_models()
        opening, generator = _loaded(setting)
    pipeline, task = generator.pipeline, generator.task
    speed = speed or _speed(setting, opening, generator)
    common = {"task": task.id, "frozen task": opening.frozen, **source.as_dict()}
    if not setting.isolated:
        common[NOT_ISOLATED] = "in the process that samples"
    model = {
        "weights": generator.weights_hash,
        "recipe": pipeline.recipe.hash,
        "precision": PRECISION,
        "device": torch.device(generator.device).type,
    }
    facts = {
        **common,
        "help": task.help or generator.recipe.help,
        "domain": generator.recipe.domain.name,
        "plugin": registry().get("tasks", task.id).plugin,
        "tier": task.tier,
        "members": task.members,
        "ceiling": task.ceiling,
        "informed": list(task.informed),
        "paired": generator.paired,
        "closed loop": bool(task.evaluator),
        "parameters": pipeline.parameters,
        "weights": generator.weights_hash,
        "weights metadata": dict(pipeline.metadata),
        "recipe name": task.recipe,
        "denoising": truth.levels(task.id, setting.source),
        "needs": {role: [each.recipe.name, each.weights_hash] for role, each in pipeline.companions.items()},
        "training seed": pipeline.recipe.training.seed,
        "recipe": pipeline.recipe.hash,
        **({FIXED_PLAN: pipeline.recipe.sampling.nfe} if pipeline.recipe.sampling.fixed else {}),
        **opening.facts,
        "cards": [card.as_dict() for card in opening.cards],
        "guidance": [part.model_dump(mode="json") for part in pipeline.recipe.sampling.guidance],
        "machine": identity.machine(generator.device),
    }
    return Description(
        common, model, {"training data": opening.facts["training data"]["hash"]}, _sources(setting.names), facts, speed,
        opening.least, opening.size, _senseless(pipeline.domain.spec), opening.picture, opening.note,
    )  # fmt: skip


def _senseless(spec: StateSpec) -> tuple[str, ...]:
    wide = ("gaussian",) if spec.size > FULL_COVARIANCE_LIMIT else ()
    return (*without_meaning(spec), *wide)


def compute(setting: Setting, cell: Cell, with_picture: bool) -> tuple[Row, bytes]:
    """(row, picture) of a cell. A failing cell is a result: its row says why, and the run goes on."""
    row = _new_row(cell)
    picture = b""
    began = time.perf_counter()
    try:
        opening, generator = _loaded(setting)
        if cell.method is not None:
            row.parameters = generator.pipeline.parameters
            row.multiply_adds, row.weights_bytes = generator.multiply_adds, generator.weights_bytes
            learned = generator.calibrated(cell.method, cell.nfe)
            if learned is not None and learned.entry is not None:
                row.calibration_calls, row.calibration_seconds = learned.entry.calls, learned.entry.seconds
        row.training_seed = generator.pipeline.recipe.training.seed
        row.machine = identity.machine(generator.device)
        row.cards = {card.name: card for card in opening.cards}
        samples = _fill(row, cell, generator, _truth(setting.isolated))
        if samples is not None and with_picture:
            picture, row.note = drawn(samples, setting.gallery)
    except NotApplicableError as error:
        row.leave_out(reason(error))
    except Exception as error:
        row.fail(reason(error))
    row.ended, row.wall_seconds = now(), time.perf_counter() - began
    return row, picture


def failed_row(cell: Cell, sentence: str) -> Row:
    """The row of a cell that no worker could compute."""
    row = _new_row(cell)
    row.fail(sentence)
    row.ended = now()
    return row


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _new_row(cell: Cell) -> Row:
    """What is known of a row before anything is computed."""
    return Row(
        key=cell.key,
        task=cell.task,
        domain=cell.task.partition("/")[0],
        kind="baseline" if cell.method is None else "method",
        method=cell.title,
        solver=None if cell.method is None else cell.method.identity(),
        model=cell.model,
        source=cell.source,
        training=cell.training,
        nfe=cell.nfe,
        seed=cell.seed,
        samples=cell.samples,
        metrics={},
        cards={},
        precision=PRECISION,
        inputs=dict(cell.parts),
        versions=identity.versions(),
        commit=identity.commit(),
        host=platform.node(),
        started=now(),
    )


def _fill(row: Row, cell: Cell, generator: Generator, truth: TruthProcess) -> SampleSet | None:
    """Draw and judge; the samples, if there are any to look at."""
    if cell.baseline == "real":
        _enter(row, truth.real(cell.task, cell.samples, cell.seed))
        return None
    if cell.method is not None and generator.task.evaluator:
        scores, cost = generator.closed_loop(cell.method, cell.nfe, cell.samples, cell.seed)
        _enter_cost(row, cost)
        _enter_scores(row, scores)
        return None
    if cell.method is not None:
        samples, cost = generator.samples(cell.method, cell.nfe, cell.samples, cell.seed)
        _enter_cost(row, cost)
    else:
        made = generator.baseline(cell.baseline, cell.samples, cell.seed)
        if not isinstance(made, SampleSet):
            _enter_scores(row, made)
            return None
        samples = made
    _enter(row, truth.judge(cell.task, samples, generator.case_rows(cell.samples, cell.seed)))
    return samples


def _enter_cost(row: Row, cost: SamplingCost) -> None:
    row.rows_per_sample = cost.rows_per_sample
    row.seconds = cost.seconds
    row.peak_memory_mib = cost.peak_memory
    row.memory_kind = cost.memory_kind
    if cost.calls_per_sample is not None:
        row.counted_nfe = cost.calls_per_sample
        row.rows_per_call = cost.rows_per_sample / cost.calls_per_sample if cost.calls_per_sample else 0.0


def _enter(row: Row, judged: Judged) -> None:
    row.samples, row.reference_samples = judged.samples, judged.reference
    row.metric_seconds = judged.seconds
    row.metrics, row.problems = dict(judged.values), dict(judged.problems)
    row.units = {name: found.values for name, found in judged.units.items()}
    row.cases, row.blocks = judged.cases, judged.blocks
    if judged.problems:
        row.fail("; ".join(f"{name}: {text}" for name, text in judged.problems.items()))


def _enter_scores(row: Row, scores: Mapping[str, Score]) -> None:
    row.metrics = {name: float(score.value) for name, score in scores.items()}
    row.cards = {name: score.card for name, score in scores.items()}
    row.units = {name: score.units for name, score in scores.items() if score.units}
    row.samples = min(score.samples for score in scores.values())


def _speed(setting: Setting, opening: Opening, generator: Generator) -> Speed:
    """What cells of the task cost; this is also the warm-up."""
    task, truth = generator.task, _truth(setting.isolated)
    usual = generator.pipeline.recipe.sampling
    probe, budgets = Method(solver=usual.solver.name, options=usual.solver.options), (2, 8)
    if task.measured:
        probe = Method(solver=RESTORED, inverse=Part(name="mmps"))
    elif usual.fixed:  # no other budget can be asked for, so all the time counts as that of its calls
        probe, budgets = Method(solver=RECIPE), (usual.nfe, usual.nfe)
    baselines = [functools.partial(generator.baseline, name) for name in task.baselines]
    if task.evaluator:
        count = max(1, task.samples // 20)
        generator.closed_loop(probe, budgets[0], 1, 0)
        seconds = []
        for calls in budgets:
            with measured(generator.device) as cost:
                generator.closed_loop(probe, calls, count, 0)
            seconds.append(cost.seconds / count)
        # What the world takes for an episode is no matter of network calls: it counts as judging.
        few, many = budgets
        per_call = seconds[0] / few if usual.fixed else max(0.0, seconds[1] - seconds[0]) / (many - few)
        return Speed(per_call, max(0.0, seconds[0] - few * per_call), 0.0, _mean_seconds(baselines, count))
    group = task.members or 1
    count = min(task.samples, -(-max(opening.least, 32) // group) * group)
    samples, cost_of = generator.samples(probe, budgets[0], count, 0)
    cases = generator.case_rows(count, 0)
    truth.judge(task.id, samples, cases)  # features of the reference are computed here and kept
    whole = truth.judge(task.id, samples, cases).seconds
    few = max(opening.least * group, count // 4 // group * group)
    if few < count:
        cases = generator.case_rows(few, 0)
        part = truth.judge(task.id, generator.samples(probe, budgets[0], few, 0)[0], cases).seconds
        each = max(0.0, whole - part) / (count - few)
    else:
        each = whole / count
    fixed = max(0.0, whole - each * count)
    return Speed(cost_of.seconds / (budgets[0] * count), each, fixed, _mean_seconds(baselines, count))


def _mean_seconds(calls: Sequence[Callable[[int, int], object]], count: int) -> float:
    began = time.perf_counter()
    for call in calls:
        with contextlib.suppress(Exception):  # its cells will fail, each with its reason
            call(count, 0)
    return (time.perf_counter() - began) / max(1, len(calls))


def _source(generator: Generator) -> Source:
    """The code and libraries that every row of the task depends on, what its methods name left out.

    It is that of the core, of this engine, of whatever the task, its recipe and the recipes of the model and of those
    it needs name, and of every plugin that listens or transforms in this process.
    """
    task = generator.task
    references = [*task.baselines.values(), *(each for each in (task.evaluator, task.measured) if each)]
    entries = [registry().get("tasks", task.id)]
    names = [part.name for part in task.metrics]
    for recipe in (generator.recipe, *_recipes(generator.pipeline)):
        names += [recipe.name, *identity.texts(recipe.model_dump(mode="json"))]
    entries += _entries(names)
    return _source_of(entries, [*references, __name__], hooks().implementers())


def _recipes(pipeline: Pipeline) -> list[Recipe]:
    """The recipe of a model and those of all models that it needs."""
    return [pipeline.recipe, *(inner for each in pipeline.companions.values() for inner in _recipes(each))]


def _sources(names: tuple[str, ...]) -> dict[str, Source]:
    return {name: _source_of(found) for name in names if (found := _entries([name]))}


def _entries(names: Sequence[str]) -> list[Entry]:
    """Everything registered under one of ``names``, of whatever kind: a name says nothing of its kind."""
    asked = set(names)
    kinds = [kind for kind in KINDS if kind not in ("tasks", "commands")]
    return [entry for kind in kinds for entry in registry().entries(kind) if entry.name in asked]
