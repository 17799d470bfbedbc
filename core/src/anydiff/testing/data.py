"""Data sets: random access that is reproducible, splits that share nothing, states that are what the spec says."""

from __future__ import annotations

import string

import torch
from torch import Tensor

from anydiff.data.dataset import Dataset
from anydiff.recipes.build import codec_differences
from anydiff.registry import Entry
from anydiff.states import ArrayCondition, ClassCondition, Conditioning, VectorCondition
from anydiff.states.conditions import hashed_names
from anydiff.testing.kit import check
from anydiff.testing.offline import closed_network
from anydiff.testing.subject import Subject, require

ROWS = 2000
"""How many examples of a split are looked at, spread over it."""

FEW = 8
"""States of fewer numbers than this may coincide."""


def _spread(dataset: Dataset, rows: int) -> list[int]:
    count = len(dataset)
    return sorted({round(i * (count - 1) / max(rows - 1, 1)) for i in range(min(rows, count))})


def _same(one: tuple[Tensor, Conditioning], two: tuple[Tensor, Conditioning]) -> bool:
    before, after = ({"": states, **dict(condition.tensors())} for states, condition in (one, two))
    return before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def _bytes(values: Tensor) -> bytes:
    return values.contiguous().flatten().view(torch.uint8).numpy().tobytes()


@check("data.repeatable", "datasets")
def repeatable(plugin: Subject, entry: Entry) -> None:
    """Item i is the same every time, alone and among others."""
    dataset = plugin.dataset(entry, "train")
    require(len(dataset) >= 1, "the training split is empty.")
    indices = _spread(dataset, 7)
    first = dataset.batch(indices)
    require(_same(first, dataset.batch(indices)), f"the items {indices} differ when they are asked for again.")
    for row, index in enumerate(indices[:3]):
        alone = dataset.batch([index])
        expected = first[0][row : row + 1], first[1].rows(slice(row, row + 1))
        require(_same(alone, expected), f"item {index} alone is not what it is in the batch {indices}.")


@check("data.dependence", "datasets")
def dependence(plugin: Subject, entry: Entry) -> None:
    """How many of the following examples depend on one is a whole number, and fewer than there are."""
    dataset = plugin.dataset(entry, "test")
    found: object = dataset.dependence
    good = isinstance(found, int) and not isinstance(found, bool) and 0 <= found < len(dataset)
    require(good, f"dependence is {found!r} of {len(dataset)} examples; give how many following ones depend on one.")


@check("data.disjoint", "datasets")
def disjoint(plugin: Subject, entry: Entry) -> None:
    """The training and test splits have no state in common; of states of a few numbers, no state with its condition."""
    seen: dict[bytes, int] = {}
    for split in ("train", "test"):
        dataset = plugin.dataset(entry, split)
        require(len(dataset) >= 1, f"the {split} split is empty.")
        indices = _spread(dataset, ROWS if split == "test" else 20 * ROWS)
        for begin in range(0, len(indices), 512):
            part = indices[begin : begin + 512]
            states, condition = dataset.batch(part)
            # A few numbers coincide by chance (a dry day is like another); then the condition has to differ.
            told = list(hashed_names(condition).values()) if states[0].numel() < FEW else []
            for row, index in enumerate(part):
                key = b"".join(_bytes(values[row]) for values in (states, *told))
                if split == "train":
                    seen[key] = index
                else:
                    require(key not in seen, f"item {index} of the test split is item {seen.get(key)} of train.")


@check("data.declared", "datasets")
def declared(plugin: Subject, entry: Entry) -> None:
    """Shapes, dtypes, value ranges, classes, symmetries, masks and conditions are what the spec says."""
    for split in ("train", "test"):
        dataset = plugin.dataset(entry, split)
        indices = _spread(dataset, 256)
        states, condition = dataset.batch(indices)
        wanted = (len(indices), *dataset.spec.shape)
        require(tuple(states.shape) == wanted, f"states of {split} have shape {tuple(states.shape)}, not {wanted}.")
        dtype = dataset.spec.dtype()
        require(states.dtype == dtype, f"states of {split} are {states.dtype}, not {dtype}.")
        require(states.isfinite().all(), f"a state of {split} is not finite.")
        _check_leaves(dataset, states, condition)
        _check_conditions(dataset, condition, len(indices))


def _check_leaves(dataset: Dataset, states: Tensor, condition: Conditioning) -> None:
    spec = dataset.spec
    spec.check_classes(states, "it")
    for name, view in spec.unpack(states.contiguous()).items():
        bounds = spec.leaf(name).range
        if bounds is not None:
            low, high = float(view.min()), float(view.max())
            require(
                bounds[0] - 1e-5 <= low and high <= bounds[1] + 1e-5,
                f"leaf {name!r} holds values from {low:.4g} to {high:.4g}, but its range is {bounds}.",
            )
    mask = condition.mask
    if mask is None and any(leaf.mask_axes for leaf in spec.leaves):
        require(False, "a leaf has mask_axes, but the batch's Conditioning holds no mask [B, N].")
    projected = spec.project(states, mask)
    require(torch.allclose(projected, states, atol=1e-6), "the states break their leaves' symmetry or mask.")


def _check_conditions(dataset: Dataset, condition: Conditioning, rows: int) -> None:
    given = set(condition.given)
    require(given == set(dataset.conditions), f"it gives {sorted(given)}, but declares {sorted(dataset.conditions)}.")
    for name, kind in dataset.conditions.items():
        value = condition.given[name]
        if isinstance(kind, ClassCondition) and not value.is_floating_point():
            right = value.shape == (rows,) and bool(((value >= 0) & (value < kind.classes)).all())
            require(right, f"condition {name!r} must hold one class in 0 to {kind.classes - 1} per row.")
        elif isinstance(kind, (ClassCondition, VectorCondition)):
            size = kind.classes if isinstance(kind, ClassCondition) else kind.size
            right = tuple(value.shape) == (rows, size) and bool(value.isfinite().all())
            require(right, f"condition {name!r} must be finite numbers of shape ({rows}, {size}).")
        elif isinstance(kind, ArrayCondition):
            right = tuple(value.shape) == (rows, *kind.shape) and bool(value.isfinite().all())
            require(right, f"condition {name!r} must be finite numbers of shape {(rows, *kind.shape)}.")


@check("data.splits", "datasets")
def splits(plugin: Subject, entry: Entry) -> None:
    """Both splits mean the same by their numbers: equal spec, conditions and codec, a list of classes say."""
    train, test = (plugin.dataset(entry, split) for split in ("train", "test"))
    require(train.spec == test.spec, "the states of train and test have different specs.")
    same = train.conditions == test.conditions
    require(same, f"train is conditioned on {train.conditions}, but test on {test.conditions}.")
    for name, (one, two) in codec_differences(train.domain, test.domain).items():
        require(False, f"{name} is {one} for train, but {two} for test; make it once, from train.")


@check("data.hash", "datasets")
def hashed(plugin: Subject, entry: Entry) -> None:
    """The hash is a sha256, the same for the data built again, and different for other data."""
    first = plugin.dataset(entry, "train")
    right = len(first.hash) == 64 and set(first.hash) <= set(string.hexdigits)
    require(right, f"the hash is {first.hash!r}, not 64 hexadecimal digits.")
    require(plugin.build(entry, split="train").hash == first.hash, "the hash changes when the data are built again.")
    require(plugin.dataset(entry, "test").hash != first.hash, "train and test have the same hash.")


@check("data.offline", "datasets")
def offline(plugin: Subject, entry: Entry) -> None:
    """Building it and reading from it needs no download."""
    with closed_network() as attempts:
        dataset = plugin.build(entry, split="train")
        dataset.batch([0])
    require(not attempts, f"it reaches for the network ({attempts[:1]}); data are fetched by `anydiff data get` alone.")
