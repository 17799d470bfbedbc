"""Tasks: what is measured. Every installed recipe with bundled weights that says ``quick`` is one.

A task is a trained model, the held-out data it is judged against, and the metrics of its recipe. Everything a value
depends on enters :attr:`LiveTask.identity` as a hash, so that rows of different tasks never meet in a column.
"""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from anydiff.benchmark import baselines
from anydiff.benchmark.identity import digest, package_hash
from anydiff.benchmark.measure import CountingDenoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.pipeline import Metric, Pipeline, SampleSet, load
from anydiff.pipeline.build import build_dataset, build_metrics, sample_set
from anydiff.pipeline.dataset import Dataset
from anydiff.registry import Entry, registry
from anydiff.states import permutation


def find_tasks(patterns: Sequence[str] = ()) -> list[Entry]:
    """The recipes with bundled weights that say ``quick``; with ``patterns`` (``images/*``) those that match one.

    Raises:
        UnknownNameError: a pattern that matches none; suggests the nearest.
        AnydiffError: nothing installed has weights.
    """
    entries = {
        entry.name: entry
        for entry in registry().entries("recipes")
        if entry.metadata.get("weights") and entry.metadata.get("quick")
    }
    if not entries:
        raise AnydiffError(
            "no installed recipe has bundled weights for a benchmark; install a domain, for example "
            "`pip install anydiff-images`."
        )
    for pattern in patterns:
        if not fnmatch.filter(entries, pattern):
            raise UnknownNameError("task", pattern, entries)
    wanted = [name for name in entries if not patterns or any(fnmatch.fnmatch(name, each) for each in patterns)]
    return [entries[name] for name in wanted]


@dataclass(frozen=True)
class Judged:
    """The values of a sample set: one per metric, or the reason why there is none."""

    values: dict[str, float]
    problems: dict[str, str]


class LiveTask:
    """A task with its model, data and metrics loaded.

    Args:
        entry: the recipe's entry.
        device: where to sample.
        batch_size: rows per network call.
    """

    def __init__(self, entry: Entry, device: str, batch_size: int) -> None:
        self.entry = entry
        self.name = entry.name
        self.device = device
        self.batch_size = batch_size
        pipeline: Pipeline = load(entry.name)
        self.weights_hash = pipeline.weights_hash
        self.parameters = pipeline.parameters
        self.recipe = pipeline.recipe
        self.denoiser = CountingDenoiser(pipeline.denoiser).eval()
        self.pipeline = Pipeline(pipeline.recipe, self.denoiser, pipeline.domain, pipeline.metadata)
        self.domain = pipeline.domain
        self.metrics: list[Metric] = build_metrics(self.recipe)
        if not self.metrics:
            raise AnydiffError(f"recipe {entry.name!r} names no metric, so it cannot be judged; add metrics to it.")
        test = build_dataset(self.recipe, "test")
        self.test_hash: str = test.hash
        self.reference = sample_set(test, range(len(test)))

    @functools.cached_property
    def training_data(self) -> Dataset:
        """The training split, for the baselines."""
        data: Dataset = build_dataset(self.recipe, "train")
        return data

    @property
    def minimum_samples(self) -> int:
        """Fewer samples are refused by one of the metrics."""
        return max(metric.card.minimum_samples for metric in self.metrics)

    @functools.cached_property
    def identity(self) -> dict[str, str | int]:
        """What every row of this task depends on."""
        domain = registry().get("domains", self.recipe.domain.name)
        return {
            "task": self.name,
            "recipe": self.recipe.hash,
            "reference": self.test_hash,
            "reference samples": len(self.reference),
            "metrics": digest([metric.card.as_dict() for metric in self.metrics]),
            "plugin code": package_hash(domain.reference),
        }

    def condition(self, count: int) -> dict[str, Tensor]:
        """The conditions of sample 0, 1, ...: those of the held-out data, in its order, the same for every method."""
        rows = torch.arange(count) % len(self.reference)
        return {name: value[rows] for name, value in self.reference.asked(len(self.reference)).items()}

    def baseline(self, name: str, count: int, seed: int) -> tuple[SampleSet, SampleSet]:
        """(samples, reference) of a free baseline.

        ``real`` is held-out data against the rest of it: at most half, so that both sides are left with enough.
        """
        if name != "real":
            return baselines.baseline(name, self.training_data, count, seed, self.condition(count)), self.reference
        size = len(self.reference)
        order = torch.as_tensor(permutation(seed, 0, "baseline/real", size))
        chosen = min(count, size // 2)
        return _rows(self.reference, order[:chosen]), _rows(self.reference, order[chosen:])

    def judge(self, samples: SampleSet, reference: SampleSet) -> Judged:
        """All metrics of the recipe; one that fails does not keep the others from their value."""
        values: dict[str, float] = {}
        problems: dict[str, str] = {}
        for metric in self.metrics:
            name = metric.card.name
            try:
                metric.check(samples, reference)
                value = float(metric.compute(samples, reference))
                if value != value:
                    raise AnydiffError(f"{name} is NaN for these samples; look at them.")
                values[name] = value
            except Exception as error:  # a plugin's metric may raise anything; the run goes on and the row says so
                problems[name] = reason(error)
        return Judged(values, problems)

    def draw(self, samples: SampleSet, count: int, path: Path) -> None:
        """Write a picture of the first ``count`` samples."""
        states = samples.states[:count]
        condition = {name: value[:count] for name, value in samples.condition.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        titles = self.domain.describe_condition(condition)
        self.domain.draw(self.domain.decode(states, condition), path, titles or None)


def reason(error: BaseException) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, AnydiffError) and text else f"{type(error).__name__}: {text}".rstrip(": ")


def _rows(samples: SampleSet, rows: Tensor) -> SampleSet:
    condition = {name: value[rows] for name, value in samples.condition.items()}
    return SampleSet(samples.states[rows], condition, samples.domain)
