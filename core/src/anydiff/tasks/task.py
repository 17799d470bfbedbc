"""Tasks: what a benchmark measures, as frozen, versioned objects ``domain/name@N`` that plugins register.

A task says which data a model is judged on, with how many samples, by which metrics, and beside which baselines. It
knows no weights: those are what is compared on it. A plugin registers one as ::

    register("weather/gee@1", "ten members from three", "anydiff_weather.tasks:gee")

    def gee() -> Task:
        return Task(name="weather/gee", version=1, recipe="weather/gee", samples=320, members=10,
                    baselines={"climatology": "anydiff_weather.baselines:climatology"})

A published task never changes: what it depends on is written down once by ``anydiff bench lock``
(:mod:`anydiff.tasks.lock`), and an edit without a new version is refused.
"""

from __future__ import annotations

import fnmatch
import importlib
import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from anydiff.errors import AnydiffError, PluginError, UnknownNameError
from anydiff.recipes import Part
from anydiff.registry import Entry, registry
from anydiff.settings import Settings

Tier = Literal["smoke", "full"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)+")
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class Task(Settings):
    """What is measured; see the module.

    Attributes:
        name: ``domain/name``, without the version.
        version: raised with every change; names one frozen task together with ``name``.
        recipe: gives domain, data, metrics and (by its bundled weights) the model to start with.
        help: one line for reports; the recipe's by default.
        split: the data that is judged against, never trained on.
        samples: per method, budget and seed. A suite with a time budget may draw fewer, and its rows say so.
        members: for conditional tasks judged by ensembles: samples per case. Case i is entry i of the split, sample k
            is member k // n of case k % n with n = samples / members; with fewer samples there are fewer cases.
        minimum_cases: with fewer cases (samples, where no case has several) the numbers say nothing; a suite with a
            time budget drops seeds before it goes below. No part of what is frozen: rows say how many were drawn.
        metrics: of the task; the recipe's by default, and none where an evaluator gives the scores.
        baselines: name -> ``"module:function"``, beside the free ones of the core. The function is
            ``f(training_data, condition, count, seed) -> Tensor`` of states, one per row of ``condition``, or a
            ``dict[str, Score]`` where the task has an evaluator.
        ceiling: which of ``baselines`` can be reached, and passed by no model, because it knows what no model is told
            (a simulator's own ensemble, an expert). Reports measure methods between the strongest free baseline and
            this one.
        informed: which other baselines know what no model is told, or cost what a model saves (a simulator's whole
            ensemble). All that remain are free: a model is worth nothing unless it beats the strongest of them.
        evaluator: ``"module:function"`` for closed loops: ``f(pipeline, count, seed, **sampling) -> dict[str, Score]``.
        measured: ``"module:function"`` of a task of restoration: ``f(truth, rows) -> Problem``, in the field's own
            units, of which ``truth`` (a :class:`~anydiff.metrics.SampleSet`) holds the held-out examples ``rows``. It
            is called where the truth is held, and a method is told the measurement alone. Noise and masks follow from
            the numbers of the rows, so a case has one measurement whoever asks. Baselines of such a task take the
            problem, in units of states and with one row per case, as a further argument.
        told: which conditions of the held-out examples a model may be told; all by default.
        tier: ``smoke`` runs on a laptop's CPU in under a minute per method and needs nothing fetched; ``full`` may not.
        budget_seconds: what one method at 10 network calls may take on two cores, baselines included.
    """

    name: str
    version: int = Field(default=1, ge=1)
    recipe: str
    help: str = ""
    split: str = "test"
    samples: int = Field(ge=2)
    members: int | None = Field(default=None, ge=1)
    minimum_cases: int = Field(default=1, ge=1)
    metrics: tuple[Part, ...] = ()
    baselines: dict[str, str] = Field(default_factory=dict)
    ceiling: str = ""
    informed: tuple[str, ...] = ()
    evaluator: str | None = None
    measured: str | None = None
    told: tuple[str, ...] | None = None
    tier: Tier = "smoke"
    budget_seconds: float = Field(default=60.0, gt=0)

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("a task's name is 'plugin/name', without '@'; the version is the field version")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        if self.members is not None and self.samples % self.members:
            raise ValueError(f"samples is {self.samples}, which is no multiple of members ({self.members})")
        if self.ceiling and self.ceiling not in self.baselines:
            raise ValueError(f"ceiling is {self.ceiling!r}, which is none of the baselines {sorted(self.baselines)}")
        unknown = [name for name in self.informed if name not in self.baselines]
        if unknown:
            raise ValueError(f"informed names {unknown[0]!r}, which is none of the baselines {sorted(self.baselines)}")
        if self.measured and self.evaluator:
            raise ValueError("measured and evaluator do not go together: a closed loop is told no measurement")
        for field, reference in [
            ("evaluator", self.evaluator),
            ("measured", self.measured),
            *((f"baselines.{k}", v) for k, v in self.baselines.items()),
        ]:
            if reference is not None and not _REFERENCE.fullmatch(reference):
                raise ValueError(f"{field} is {reference!r}; write 'package.module:function'")
        return self

    @property
    def id(self) -> str:
        """``domain/name@version``."""
        return f"{self.name}@{self.version}"

    def definition(self) -> dict[str, Any]:
        """What is frozen of the definition itself: all but help, what a report makes of baselines, and the fewest cases
        that a suite may draw."""
        found = self.model_dump(mode="json", exclude={"help", "minimum_cases", "ceiling", "informed"})
        # Fields of restoration, so that tasks published before there were any keep their definition.
        return {k: v for k, v in found.items() if k not in ("measured", "told") or v is not None}


def restoration_metrics(units: Literal["state", "field"] = "state") -> tuple[Part, ...]:
    """What a task with a measurement is judged by, where nothing was measured: the squared error of single draws, that
    of the members' mean, and the CRPS of the members; in units of states, or in the field's own."""
    told = {} if units == "state" else {"units": units}
    draws, mean = ({"of": of, **told} if of else told for of in ("", "mean"))
    crps = Part(name="restoration/crps", options=told)
    return Part(name="restoration/mse", options=draws), Part(name="restoration/mse", options=mean), crps


def task_entries() -> list[Entry]:
    """The registered tasks (suites, which stand beside them, left out)."""
    return [entry for entry in registry().entries("tasks") if "suite" not in entry.metadata]


def load_task(name: str) -> Task:
    """The task ``domain/name@version``; without a version the newest.

    Raises:
        UnknownNameError: no such task; suggests the nearest.
        PluginError: what is registered is no task, or one of another name.
    """
    known = {entry.name: entry for entry in task_entries()}
    if name not in known:
        versions = [each for each in known if each.rpartition("@")[0] == name]
        if not versions:
            raise UnknownNameError("task", name, known)
        name = max(versions, key=_version)
    entry = known[name]
    made = entry.load()
    task = made() if callable(made) else made
    if not isinstance(task, Task):
        raise PluginError(f"task {name!r} refers to {entry.reference!r}, which gives {task!r}; return a Task.")
    if task.id != name:
        raise PluginError(f"task {name!r} refers to {entry.reference!r}, which is {task.id!r}; register that name.")
    return task


def find_tasks(patterns: Sequence[str] = (), tier: Tier | None = None) -> tuple[list[Task], dict[str, str]]:
    """The newest version of every registered task of this tier, and why others could not be loaded.

    Args:
        patterns: only tasks that match one of these (``images/*``); a pattern with ``@`` chooses among all versions,
            and a task named by a pattern runs whatever its tier.
        tier: only this tier.

    Raises:
        UnknownNameError: a pattern that matches none; suggests the nearest.
        AnydiffError: no task is installed.
    """
    names = [entry.name for entry in task_entries()]
    if not names:
        raise AnydiffError("no installed plugin has a benchmark task; install one, for example anydiff-images.")
    wanted: dict[str, bool] = {}  # name -> whether it was asked for by name
    for pattern in patterns or ["*"]:
        found = _matching(names, pattern)
        if not found:
            raise UnknownNameError("task", pattern, names)
        wanted.update(dict.fromkeys(found, bool(patterns)))
    tasks, problems = [], {}
    for name, asked in wanted.items():
        try:
            task = load_task(name)
        except AnydiffError as error:  # one broken plugin must not keep the others from the benchmark
            problems[name] = str(error)
            continue
        if asked or tier is None or task.tier == tier:
            tasks.append(task)
    return tasks, problems


def load_reference(reference: str, what: str) -> Any:
    """The function behind ``"module:function"`` of a task; ``what`` names it in errors.

    Raises:
        PluginError: it cannot be imported.
    """
    module, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{what} refers to {reference!r}, which cannot be loaded ({error}); correct it.") from error


def _matching(names: Sequence[str], pattern: str) -> list[str]:
    if "@" in pattern:
        return [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    newest: dict[str, str] = {}
    for name in names:
        plain = name.rpartition("@")[0]
        if fnmatch.fnmatchcase(plain, pattern):
            newest[plain] = max(newest.get(plain, name), name, key=_version)
    return list(newest.values())


def _version(name: str) -> int:
    return int(name.rpartition("@")[2])
