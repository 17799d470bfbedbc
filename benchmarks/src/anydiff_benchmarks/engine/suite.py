"""Suites: which methods, budgets and seeds a benchmark runs on which tasks. Plain YAML, so that a suite is data.

A suite is named by a file, or registered by a plugin among its tasks with the file as metadata::

    register("benchmarks/quick", "every domain in minutes", "anydiff_benchmarks.engine.suite:load_suite",
             suite="anydiff_benchmarks:suites/quick.yaml")
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from anydiff.calibration import Artefact
from anydiff.data.reading import read_yaml
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.recipes import Part
from anydiff.registry import registry
from anydiff.settings import Settings
from anydiff.tasks import Task, Tier
from anydiff_benchmarks.engine.identity import texts

BASELINES = ("real", "resample", "gaussian", "gaussian-diagonal", "independent")
"""The free baselines of every task: held-out data against held-out data, and those of
:mod:`anydiff_benchmarks.engine.baselines`; a task adds its own."""


FIXED_PLAN = "fixed plan"
"""Of what is known of a model: the calls of its own plan, where it has no other."""
RECIPE = "recipe"
"""The solver of a :class:`Method` that samples as the model's own recipe says, whatever that is."""
CALIBRATED = "calibrated"
"""The solver of a :class:`Method` that samples as a calibration says."""
RESTORED = "restored"
"""The solver of a :class:`Method` that restores by an inverse method, by whatever plan that chooses."""


class Method(Settings):
    """A solver with its options, and how it is run. In a file ``- ddim`` is short for ``- {solver: ddim}``.

    Or a calibration, ``- {calibration: FILE}``, which brings its own solver, grid and end; or an inverse method,
    ``- {inverse: mmps}``, for tasks with a measurement.

    Attributes:
        solver: its registered name; or ``recipe`` for the solver, grid and options of each model's recipe; of a
            calibration always ``calibrated``.
        options: its options.
        grid: time grid; None for the recipe's.
        end: how the plan ends; None for the recipe's.
        guidance: classifier-free scale, or registered guidances with their options as in a recipe (``clamp``, or
            ``[{name: dynamic-threshold, options: {quantile: 0.99}}]``, the first innermost); None for the recipe's.
        inverse: a registered inverse method with its options; one that guides takes a solver beside it, and without one
            its own, for which ``restored`` stands.
        calibration: what ``anydiff calibrate`` wrote, for the one model that it belongs to.
        label: its name in tables; made from the rest by default.
    """

    solver: str
    options: dict[str, Any] = Field(default_factory=dict)
    grid: str | None = None
    end: str | None = None
    guidance: float | tuple[Part, ...] | None = None
    inverse: Part | None = None
    calibration: str | None = None
    label: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("calibration") is not None:
            return {"solver": CALIBRATED, **value}
        if isinstance(value, dict) and value.get("inverse") is not None:
            return {"solver": RESTORED, **value}
        return {"solver": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _calibrations_own(self) -> Method:
        if (self.calibration is not None) != (self.solver == CALIBRATED):
            raise ValueError(f"solver is {self.solver!r}; name either a solver or a calibration with its file")
        if self.calibration is not None and (self.options or self.grid is not None or self.end is not None):
            raise ValueError("a calibration has its own solver, options, grid and end; leave these out")
        if self.inverse is None and self.solver == RESTORED:
            raise ValueError(f"solver is {RESTORED!r}; name the inverse method, {{inverse: mmps}} say")
        if self.inverse is not None and self.solver in (RECIPE, CALIBRATED):
            raise ValueError(f"solver is {self.solver!r}, which does not go with an inverse method; leave it out")
        return self

    @model_validator(mode="after")
    def _recipes_own(self) -> Method:
        if self.solver == RECIPE and (self.options or self.grid is not None or self.end is not None):
            raise ValueError("the recipe's own solver comes with its options, grid and end; leave these out")
        return self

    @field_validator("guidance", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, (str, dict, Part)) else value

    @property
    def title(self) -> str:
        """The label, or the solver with whatever differs from the defaults."""
        if self.label:
            return self.label
        solver = self.solver if self.inverse is None else part_title(self.inverse)
        beside = self.solver if self.inverse is not None and self.solver != RESTORED else None
        extra = {"solver": beside, **self.options, "grid": self.grid, "end": self.end,
                 "guidance": self._guidance_title(),
                 "calibration": None if self.calibration is None else Path(self.calibration).stem}  # fmt: skip
        shown = ", ".join(f"{name}={value}" for name, value in extra.items() if value is not None)
        return f"{solver} ({shown})" if shown else solver

    def _guidance_title(self) -> str | float | None:
        if not isinstance(self.guidance, tuple):
            return self.guidance
        return "+".join(map(part_title, self.guidance)) or "none"

    def identity(self) -> dict[str, Any]:
        """What makes this method again: everything but the label."""
        absent = [name for name in ("calibration", "inverse") if getattr(self, name) is None]
        return self.model_dump(mode="json", exclude={"label", *absent})

    def inputs(self) -> dict[str, Any]:
        """What can change a number: of a calibration what it holds, wherever it lies."""
        found = self.identity()
        return found if self.calibration is None else {**found, "calibration": self.artefact().digest}

    def artefact(self) -> Artefact:
        """The calibration.

        Raises:
            FileFormatError: the file is missing, truncated or foreign.
        """
        assert self.calibration is not None
        return Artefact.load(self.calibration)

    @property
    def names(self) -> tuple[str, ...]:
        """Whatever it names: its solver, and what its options, guidance and calibration may name."""
        found = self.identity()
        if self.calibration is not None:
            artefact = self.artefact()
            found["calibration"] = [artefact.method, artefact.options]
        return tuple(dict.fromkeys(texts(found)))


def part_title(part: Part) -> str:
    """A registered thing with its options, for tables."""
    options = ", ".join(f"{name}={value}" for name, value in part.options.items())
    return f"{part.name}({options})" if options else part.name


class Suite(Settings):
    """A benchmark as data.

    Attributes:
        name: for the report.
        version: raised with every change that makes rows incomparable.
        help: one line.
        methods: the solvers.
        nfe: budgets of network calls per sample.
        seeds: sampling seeds, the same for every method (paired).
        samples: most samples per cell, if fewer than the task's; the time budget may make it fewer
            (:func:`anydiff_benchmarks.engine.planning.allocate`).
        tier: which tasks run when none is named.
        models: other models than the bundled one: name -> task or pattern -> run folders or weights files, one per
            training (with another seed each).
        bundled: whether the bundled model runs too.
        batch_size: rows per network call.
        gallery: samples per picture.
        budget_seconds: for the whole suite, shared by all tasks, in seconds of one worker; None for no limit.
        baselines: of :data:`BASELINES`.
    """

    name: str
    version: int = Field(default=1, ge=1)
    help: str = ""
    methods: tuple[Method, ...] = Field(min_length=1)
    nfe: tuple[int, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    samples: int | None = Field(default=None, ge=2)
    tier: Tier = "smoke"
    models: dict[str, dict[str, tuple[str, ...]]] = Field(default_factory=dict)
    bundled: bool = True
    batch_size: int = Field(default=250, ge=1)
    gallery: int = Field(default=10, ge=0)
    budget_seconds: float | None = Field(default=None, gt=0)
    baselines: tuple[str, ...] = BASELINES

    @field_validator("nfe", "seeds")
    @classmethod
    def _different(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(values)) != len(values) or min(values) < 0:
            raise ValueError("values must be different natural numbers")
        return values

    def on_fixed_plan(self, nfe: int | None) -> Suite:
        """This suite for a model that samples by its own plan of ``nfe`` calls alone; itself where that is None."""
        if nfe is None:
            return self
        return self.model_copy(update={"methods": (Method(solver=RECIPE),), "nfe": (nfe,)})

    @model_validator(mode="after")
    def _names(self) -> Suite:
        titles = [method.title for method in self.methods]
        for title in titles:
            if titles.count(title) > 1:
                raise ValueError(f"two methods are called {title!r}; give one of them a label")
        if 0 in self.nfe:
            raise ValueError("nfe must be at least 1")
        if not self.bundled and not self.models:
            raise ValueError("bundled is false and there are no models, so nothing would run")
        return self

    def sources(self, task: str) -> list[tuple[str, str, int]]:
        """The models that run on a task: (name, source, number of the training); the bundled one has empty texts."""
        found = [("", "", 0)] if self.bundled else []
        for name, tasks in self.models.items():
            for pattern, sources in tasks.items():
                if fnmatch.fnmatchcase(task, pattern) or fnmatch.fnmatchcase(task.rpartition("@")[0], pattern):
                    found += [(name, source, number) for number, source in enumerate(sources)]
        return found

    def fitting(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks with a measurement where an inverse method is named, else those without.

        Raises:
            AnydiffError: none of them fits.
        """
        restores = any(method.inverse is not None for method in self.methods)
        found = [task for task in tasks if bool(task.measured) == restores]
        if tasks and not found:
            has, does, other = ("no", "restores", "quick") if restores else ("a", "restores nothing", "inverse")
            raise AnydiffError(
                f"task {tasks[0].id!r} has {has} measurement, but suite {self.name!r} {does}; run another "
                f"(--suite {other})."
            )
        return found

    def check_names(self) -> None:
        """Refuse solvers, guidances and baselines that nothing provides, and calibrations that cannot be read.

        Raises:
            UnknownNameError: suggests the nearest.
            FileFormatError: of a calibration the file is missing, truncated or foreign.
        """
        for method in self.methods:
            if method.calibration is not None:
                method.artefact()
            elif method.solver not in (RECIPE, RESTORED):
                registry().get("solvers", method.solver)
            if method.inverse is not None:
                registry().get("inverse_methods", method.inverse.name)
            for part in method.guidance if isinstance(method.guidance, tuple) else ():
                registry().get("guidance", part.name)
        for name in self.baselines:
            if name not in BASELINES:
                raise UnknownNameError("baseline", name, BASELINES)


def suite_names() -> dict[str, str]:
    """The registered suites with their help."""
    return {entry.name: entry.help for entry in registry().entries("tasks") if "suite" in entry.metadata}


def load_suite(name: str) -> Suite:
    """The suite in the YAML file ``name``, or the registered one of this name (``quick`` for ``benchmarks/quick``).

    Raises:
        UnknownNameError: no such suite.
        FileFormatError: the file is not YAML.
        AnydiffError: a key or value is wrong.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    else:
        known = suite_names()
        found = [entry for entry in known if entry == name or entry.rsplit("/", 1)[-1] == name]
        if not found:
            raise UnknownNameError("suite", name, known, "Suites come with `pip install anydiff-benchmarks`.")
        package, _, relative = str(registry().get("tasks", found[0]).metadata["suite"]).partition(":")
        path = Path(str(resources.files(package).joinpath(relative)))
    suite = Suite.parse(read_yaml(path, "a YAML file of a suite", "see `anydiff bench list`"), f"suite {name!r}")
    suite.check_names()
    return suite


def parse_seeds(text: str) -> tuple[int, ...]:
    """``"5"`` -> seeds 0 to 4; ``"3,7,9"`` -> these.

    Raises:
        AnydiffError: not natural numbers, or one of them twice.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or len(set(numbers)) != len(numbers):
        raise AnydiffError(f"--seeds is {text!r}; write how many (3) or which (0,1,2), each once.")
    return tuple(numbers) if "," in text else tuple(range(natural_number("--seeds", numbers[0])))
