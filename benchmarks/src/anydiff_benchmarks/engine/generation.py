"""Samples of one task from one model, and of its baselines. Nothing here ever holds held-out states."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from anydiff.data import Dataset
from anydiff.denoisers.wrappers import CountingDenoiser
from anydiff.errors import AnydiffError, NotApplicableError
from anydiff.inverse import Problem
from anydiff.metrics import SampleSet, Score
from anydiff.pipeline import Calibrated, Pipeline, calibrated_for, file_bytes, load, network_multiply_adds
from anydiff.recipes import build_dataset, load_recipe
from anydiff.states import Conditioning, permutation
from anydiff.tasks import Task, is_paired, load_reference
from anydiff_benchmarks.engine import baselines
from anydiff_benchmarks.engine.measure import Cost, measured
from anydiff_benchmarks.engine.restoration import Told, restored_samples
from anydiff_benchmarks.engine.suite import CALIBRATED, RECIPE, RESTORED, Method

KNOWN = "known"
"""The guidance that replaces known entries of each prediction: in a task with a mask it is told what was measured."""


@dataclass(frozen=True)
class SamplingCost:
    """What samples cost.

    Attributes:
        rows_per_sample: network rows per sample, counted.
        seconds: wall clock, warm and synchronised.
        peak_memory: most memory at any moment, in MiB.
        memory_kind: what that memory is.
        calls_per_sample: network calls, counted; None where an evaluator samples as often as it likes.
    """

    rows_per_sample: float
    seconds: float
    peak_memory: float
    memory_kind: str
    calls_per_sample: float | None = None


class Generator:
    """A model on a task.

    Args:
        task: what is measured.
        source: a run folder or weights file; empty for the bundled weights of the task's recipe.
        asked: the conditions of the held-out cases, a row each.
        size: how many cases there are.
        device: where to sample.
        batch_size: rows per network call.
        measure: gives what was measured of the held-out rows, in a task with a measurement.

    Raises:
        AnydiffError: the model is of another domain than the task.
    """

    def __init__(
        self, task: Task, source: str, asked: Conditioning, size: int, device: str, batch_size: int,
        measure: Callable[[Tensor], Problem] | None = None,
    ) -> None:  # fmt: skip
        self.task = task
        self.measure = measure if task.measured else None
        self.asked = asked
        self.size = size
        self.device = device
        self.batch_size = batch_size
        loaded = load(source or task.recipe)
        self.denoiser = CountingDenoiser(loaded.denoiser).eval()
        self.weights_hash = loaded.weights_hash
        self.pipeline: Pipeline = replace(loaded, denoiser=self.denoiser)
        self.recipe = load_recipe(task.recipe)
        if loaded.recipe.domain != self.recipe.domain:
            raise AnydiffError(
                f"the model {source!r} speaks domain {loaded.recipe.domain.name!r} with other options than task "
                f"{task.id!r}; train it with domain and data of recipe {task.recipe!r}."
            )
        self.paired = is_paired(task, self.recipe)
        self._warm = False

    @functools.cached_property
    def training_data(self) -> Dataset:
        """The training split, for the baselines."""
        data: Dataset = build_dataset(self.recipe, "train")
        return data

    @functools.cached_property
    def multiply_adds(self) -> int:
        """Of a network call, per sample."""
        return network_multiply_adds(self.pipeline)[0].total

    @functools.cached_property
    def weights_bytes(self) -> int | None:
        """Of the weights on disk."""
        return file_bytes(self.pipeline)

    def cases(self, count: int) -> int:
        """How many cases ``count`` samples are of; sample k is of case k % cases."""
        if self.task.members:
            return min(self.size, max(1, count // self.task.members))
        return min(self.size, count)

    def case_rows(self, count: int, seed: int) -> Tensor:
        """The held-out rows that ``count`` samples of a seed are of; sample k is of row k % cases of them.

        Each seed takes the next cases of one fixed order, and begins again when all have had their turn: several
        seeds judge other cases, and the spread that they show is not that of the noise alone.
        """
        cases = self.cases(count)
        order = torch.as_tensor(permutation(0, 0, "benchmark/cases", self.size))
        return order[(torch.arange(cases) + seed * cases) % self.size]

    def told(self, count: int, seed: int) -> Told | None:
        """What was measured of the cases of ``count`` samples; None in a task without measurement."""
        if self.measure is None:
            return None
        rows = self.case_rows(count, seed)
        given = self.asked.rows(rows) if self.asked else Conditioning()
        return Told.of(self.pipeline, self.measure(rows), given)

    def options(self, method: Method, nfe: int) -> dict[str, Any]:
        """The sampling options of a method, as ``Pipeline.sample`` takes them."""
        given = {"grid": method.grid, "end": method.end, "guidance": method.guidance, "calibration": method.calibration}
        chosen = {name: value for name, value in given.items() if value is not None}
        solver = {} if method.solver in (RECIPE, CALIBRATED, RESTORED) else {"solver": method.solver}
        return {**solver, "nfe": nfe, **chosen, **method.options}

    def sample(self, count: int, seed: int, **options: Any) -> SampleSet:
        """Samples of the held-out cases' conditions."""
        cases = self.cases(count)
        if self.asked:
            options["condition"] = self.asked.rows(self.case_rows(count, seed))
            options["cases"] = cases
        options = {"batch_size": self.batch_size, "device": self.device, **options}
        told, inverse = self.told(count, seed), options.pop("inverse", None)
        if inverse is not None:
            if told is None:
                raise NotApplicableError(f"task {self.task.id!r} has no measurement to restore from.")
            return restored_samples(self.pipeline, told, inverse, count, {**options, "seed": seed})
        if told is not None and _replaces(options.get("guidance")):
            options.update(told.known(), cases=cases)
        samples = self.pipeline.sample_set(count, seed=seed, **options)
        return samples if told is None else told.beside(samples)

    def samples(self, method: Method, nfe: int, count: int, seed: int) -> tuple[SampleSet, SamplingCost]:
        """The samples of a method and what they cost, calls counted and compared with the plan.

        Raises:
            AnydiffError: the solver made other calls than its plan says, or a calibration belongs to other weights.
            NotApplicableError: a calibration is for another recipe, other calls or another guidance.
        """
        options, calls = self._drawn_by(method, nfe)
        if not self._warm:  # the first call of a process pays for memory and kernels that the others find ready
            self.sample(min(count, self.batch_size), seed, **options)
            self._warm = True
        self.denoiser.reset()
        with measured(self.device) as cost:
            samples = self.sample(count, seed, **options)
        counted = self.denoiser.calls / -(-count // self.batch_size)
        layers = self.pipeline.recipe.sampling.guidance or "guidance" in options
        if method.inverse is not None:
            wrong = counted > nfe  # a method may leave a call over, as plans of several stages do
        else:
            wrong = counted < calls or (counted != calls and not layers)
        if wrong:
            raise AnydiffError(
                f"{method.title} made {counted:g} network calls per sample, but its plan says {calls}; its cost "
                "cannot be compared."
            )
        return samples, self._cost(cost, count, counted)

    def calibrated(self, method: Method, nfe: int) -> Calibrated | None:
        """The sampler of the method's calibration for so many calls; None for a method without one.

        Raises:
            NotApplicableError: it belongs to another recipe's model, or has nothing for so many calls or this guidance.
            AnydiffError: it belongs to other weights of this recipe.
        """
        if method.calibration is None:
            return None
        asked = {"condition": self.asked.rows(self.case_rows(1, 0))} if self.asked else {}
        return calibrated_for(self.pipeline, method.calibration, nfe, guidance=method.guidance, **asked)

    def _drawn_by(self, method: Method, nfe: int) -> tuple[dict[str, Any], int]:
        """The options of :meth:`sample`, and the network calls that its plan makes."""
        options = self.options(method, nfe)
        if method.inverse is not None:
            return {**options, "inverse": method.inverse}, nfe
        guidance = {"guidance": options.pop("guidance")} if "guidance" in options else {}
        found = self.calibrated(method, nfe)
        if found is not None:
            return {"solver": found, **guidance}, found.nfe
        plan = self.pipeline.plan(options.pop("nfe"), options.pop("solver", None), **options, **guidance)
        return {"solver": plan, **guidance}, plan.nfe

    def closed_loop(self, method: Method, nfe: int, count: int, seed: int) -> tuple[dict[str, Score], SamplingCost]:
        """The scores of the task's evaluator, and what it cost. How often it samples is its own affair."""
        assert self.task.evaluator is not None
        evaluate = load_reference(self.task.evaluator, f"evaluator of task {self.task.id!r}")
        options = {**self.options(method, nfe), "batch_size": self.batch_size, "device": self.device}
        self.denoiser.reset()
        with measured(self.device) as cost:
            scores = evaluate(self.pipeline, count, seed, **options)
        return self._checked(scores, "evaluator"), self._cost(cost, count)

    def baseline(self, name: str, count: int, seed: int) -> SampleSet | dict[str, Score]:
        """Samples of a free baseline of the core or of the task; scores where the task has an evaluator."""
        condition = self._condition(count, seed)
        if name not in self.task.baselines:
            free, seen = self._free(name, count, seed, condition), self.told(count, seed)
            return free if seen is None else seen.beside(free)
        function = load_reference(self.task.baselines[name], f"baseline {name!r} of task {self.task.id!r}")
        told = self.told(count, seed)
        problem = () if told is None else (told.states,)
        made = function(self.training_data, condition, count, seed, *problem)
        if isinstance(made, Mapping):
            return self._checked(made, f"baseline {name!r}")
        if not isinstance(made, Tensor) or len(made) != count:
            shape = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise AnydiffError(
                f"baseline {name!r} of task {self.task.id!r} gave {shape}, but {count} states were asked for; return a "
                "Tensor with one row per row of condition."
            )
        samples = SampleSet(made.to(torch.float32), condition, self.pipeline.domain)
        return samples if told is None else told.beside(samples)

    def _free(self, name: str, count: int, seed: int, condition: Conditioning) -> SampleSet:
        """The core's baseline; with more samples than training data, the data comes around again."""
        data = self.training_data
        if name == "resample" and count > len(data):
            rows = torch.arange(count) % len(data)
            drawn = baselines.resample(data, len(data), seed).rows(rows.tolist())
        else:
            drawn = baselines.baseline(name, data, count, seed, condition)
        return SampleSet(drawn.states, condition, data.domain) if self.paired else drawn

    def _condition(self, count: int, seed: int) -> Conditioning:
        rows = self.case_rows(count, seed)
        return self.asked.rows(rows[torch.arange(count) % len(rows)])

    def _cost(self, cost: Cost, count: int, calls: float | None = None) -> SamplingCost:
        return SamplingCost(self.denoiser.rows / count, cost.seconds, cost.peak_memory, cost.memory_kind, calls)

    def _checked(self, scores: Any, what: str) -> dict[str, Score]:
        good = isinstance(scores, Mapping) and scores and all(isinstance(each, Score) for each in scores.values())
        if not good:
            raise AnydiffError(f"the {what} of task {self.task.id!r} gave {scores!r}; return a dict of name -> Score.")
        named = {score.card.name: score for score in scores.values()}
        if len(named) < len(scores):
            twice = next(name for name in named if sum(each.card.name == name for each in scores.values()) > 1)
            raise AnydiffError(
                f"the {what} of task {self.task.id!r} gave two scores whose cards are called {twice!r}; give each "
                "card a name of its own."
            )
        return named


def _replaces(guidance: Any) -> bool:
    """Whether a method's guidance is that which replaces known entries."""
    return isinstance(guidance, tuple) and any(part.name == KNOWN for part in guidance)
