"""Free baselines: what a metric says when no model is involved. They cost no training and no network evaluation.

``resample`` is the floor (other real data: no model can be told apart from it and win), the two ``gaussian`` ones are
the ceiling (what the first two moments alone give). Where states are classes, ``independent`` (the frequencies of the
classes, entry by entry) stands for the Gaussians, which mean nothing there.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from anydiff.data import Dataset
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.metrics import SampleSet
from anydiff.states import UNCONDITIONAL, Conditioning, StateSpec, permutation, standard_normal, uniform

BASELINES = ("resample", "gaussian", "gaussian-diagonal", "independent")
FULL_COVARIANCE_LIMIT = 4096
_CHUNK = 1024


def baseline(
    name: str, dataset: Dataset, count: int, seed: int = 0, condition: Conditioning = UNCONDITIONAL
) -> SampleSet:
    """The baseline called ``name``, one of :data:`BASELINES`; ``condition`` as for :func:`resample`."""
    if name == "resample":
        return resample(dataset, count, seed, condition)
    if name in ("gaussian", "gaussian-diagonal"):
        return gaussian(dataset, count, seed, name == "gaussian-diagonal", condition)
    if name == "independent":
        return independent(dataset, count, seed, condition)
    raise UnknownNameError("baseline", name, BASELINES)


def without_meaning(spec: StateSpec) -> tuple[str, ...]:
    """The baselines that say nothing of states of ``spec``: Gaussians of classes, frequencies of real numbers."""
    classes = [leaf.kind == "categorical" for leaf in spec.leaves]
    gaussians = ("gaussian", "gaussian-diagonal") if any(classes) else ()
    return (*gaussians, *(() if all(classes) else ("independent",)))


def resample(dataset: Dataset, count: int, seed: int = 0, condition: Conditioning = UNCONDITIONAL) -> SampleSet:
    """``count`` different examples of ``dataset``, drawn without replacement; which ones depends on ``seed`` alone.

    Give the training split, and judge against the test split as for any model.

    Args:
        dataset: where to draw from.
        count: how many.
        seed: of the draw.
        condition: what a model was asked for, a row per example. Where conditions are classes (whole numbers), row i is
            an example of the same classes as long as there is an unused one: a model that is asked for balanced classes
            is then compared with balanced data.

    Raises:
        AnydiffError: more examples asked for than there are.
    """
    natural_number("count", count)
    if count > len(dataset):
        raise AnydiffError(
            f"count is {count}, but {dataset.name!r} has {len(dataset)} examples; ask for at most that many."
        )
    order = permutation(seed, 0, "baseline/resample", len(dataset)).tolist()
    classes = [name for name, value in condition.given.items() if not value.is_floating_point()]
    indices = _of_same_class(dataset, order, condition, classes, count) if classes else order[:count]
    states, found = dataset.batch(indices)
    return SampleSet(states, found, dataset.domain)


def _of_same_class(
    dataset: Dataset, order: list[int], condition: Conditioning, classes: list[str], count: int
) -> list[int]:
    """For each row of ``condition`` the first unused index in ``order`` with the same classes, or the first unused."""

    def keys(condition: Conditioning) -> list[str]:
        columns = [condition.given[name] for name in classes]
        rows = zip(*(column.reshape(len(column), -1).tolist() for column in columns), strict=True)
        return [str(row) for row in rows]

    known: list[str] = []
    for start in range(0, len(order), _CHUNK):
        known += keys(dataset.batch(order[start : start + _CHUNK])[1])
    places: dict[str, list[int]] = {}
    for index, key in reversed(list(zip(order, known, strict=True))):
        places.setdefault(key, []).append(index)
    unused = dict.fromkeys(order)
    chosen = []
    for key in keys(condition)[:count]:
        left = places.get(key, [])
        while left and left[-1] not in unused:
            left.pop()
        index = left.pop() if left else next(iter(unused))
        del unused[index]
        chosen.append(index)
    return chosen


def gaussian(
    dataset: Dataset,
    count: int,
    seed: int = 0,
    diagonal: bool = False,
    condition: Conditioning = UNCONDITIONAL,
) -> SampleSet:
    """``count`` draws of the Gaussian that has the mean and covariance of the states of ``dataset``.

    Args:
        dataset: the training split.
        count: number of draws.
        seed: of the draws and of the conditions beside them, which are those of a :func:`resample` (the Gaussian does
            not know them: a metric of consistency shows chance).
        diagonal: every entry on its own, as in the classic ceiling for images; else the full covariance, for states of
            at most 4096 entries.
        condition: as for :func:`resample`.

    Raises:
        AnydiffError: the full covariance of a larger state, or fewer than two examples.
    """
    spec = dataset.spec
    if len(dataset) < 2:
        raise AnydiffError(f"{dataset.name!r} has {len(dataset)} example, but a Gaussian needs at least two.")
    if not diagonal and spec.size > FULL_COVARIANCE_LIMIT:
        raise AnydiffError(
            f"the state of {dataset.name!r} has {spec.size} entries, but a full covariance is fitted for at most "
            f"{FULL_COVARIANCE_LIMIT}; use the baseline 'gaussian-diagonal'."
        )
    chosen = resample(dataset, min(count, len(dataset)), seed, condition)
    rows = torch.arange(natural_number("count", count)) % len(chosen)
    noise = torch.from_numpy(standard_normal(seed, range(count), 0, "baseline/gaussian", (spec.size,)))
    mean, factor = _moments(dataset, diagonal)
    flat = mean + (noise * factor if diagonal else noise @ factor.T)
    states = flat.to(chosen.states.dtype).reshape(count, *spec.shape)
    return SampleSet(states, chosen.condition.rows(rows), dataset.domain)


def independent(dataset: Dataset, count: int, seed: int = 0, condition: Conditioning = UNCONDITIONAL) -> SampleSet:
    """``count`` states of classes, every entry drawn by itself with the frequencies that it has in ``dataset``.

    Args:
        dataset: the training split, of states whose leaves are all categorical.
        count: number of draws.
        seed: of the draws, and of the conditions beside them, as for :func:`gaussian`.
        condition: as for :func:`resample`.

    Raises:
        AnydiffError: a leaf that is not categorical.
    """
    spec = dataset.spec
    real = [leaf.name for leaf in spec.leaves if leaf.kind != "categorical"]
    if real:
        raise AnydiffError(
            f"the baseline 'independent' draws classes, but leaf {real[0]!r} of {dataset.name!r} holds real numbers; "
            "take 'gaussian-diagonal'."
        )
    chosen = resample(dataset, min(count, len(dataset)), seed, condition)
    rows = torch.arange(natural_number("count", count)) % len(chosen)
    kinds = max(leaf.classes or 0 for leaf in spec.leaves)
    counts = torch.zeros(spec.size, kinds, dtype=torch.float64)
    for start in range(0, len(dataset), _CHUNK):
        found = dataset.batch(range(start, min(start + _CHUNK, len(dataset))))[0].flatten(1).long()
        counts.scatter_add_(1, found.T, torch.ones(found.T.shape, dtype=torch.float64))
    numbers = uniform(seed, range(count), 0, "baseline/independent", (spec.size,))
    reached = counts.cumsum(1) / len(dataset)
    states = torch.searchsorted(reached, numbers.T.contiguous(), right=True).clamp(max=kinds - 1).T
    states = spec.project(states.reshape(count, *spec.shape).to(chosen.states.dtype), chosen.condition.mask)
    return SampleSet(states, chosen.condition.rows(rows), dataset.domain)


def _moments(dataset: Dataset, diagonal: bool) -> tuple[Tensor, Tensor]:
    """Mean ``[D]`` and either the deviations ``[D]`` or a factor A ``[D, D]`` of the covariance A Aᵀ, float64."""
    count = len(dataset)
    mean = sum((chunk.sum(dim=0) for chunk in _chunks(dataset)), torch.zeros(())) / count
    if diagonal:
        squares = sum(((chunk - mean).square().sum(dim=0) for chunk in _chunks(dataset)), torch.zeros(()))
        return mean, (squares / (count - 1)).sqrt()
    products = sum(((chunk - mean).T @ (chunk - mean) for chunk in _chunks(dataset)), torch.zeros(()))
    # Eigenvalues instead of Cholesky: entries that never vary (the border of an image) make the covariance singular.
    values, vectors = torch.linalg.eigh(products / (count - 1))
    return mean, vectors * values.clamp(min=0).sqrt()


def _chunks(dataset: Dataset) -> Iterator[Tensor]:
    for start in range(0, len(dataset), _CHUNK):
        yield dataset.batch(range(start, min(start + _CHUNK, len(dataset))))[0].flatten(1).double()
