"""The lock of tasks: what a published task depends on, written down once beside the plugin's code.

``tasks.lock.json`` in the plugin's package holds for each ``domain/name@N`` its definition, the hashes and counts of
both splits as the recipe's data set gives them (so a changed line of preprocessing shows), and the metric cards. A task
that no longer agrees with its entry is refused: values of before and after must not meet in one table.

States are compared by hash first. Another processor may round the last bit of a normalisation differently, so where
hashes differ, three numbers per tensor (sum, sum of squares, and a sum with signs drawn from a fixed stream) decide,
to 1e-6 of the tensor's size; one changed example among ten thousand is far beyond that.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anydiff.data.dataset import Dataset
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import write_atomic
from anydiff.metrics import Metric, MetricCard
from anydiff.recipes import Recipe, load_recipe, sample_set
from anydiff.recipes.build import build_dataset
from anydiff.registry import registry
from anydiff.states import standard_normal
from anydiff.states.conditions import hashed_names
from anydiff.tasks.canonical import canonical, plain
from anydiff.tasks.measurement import measured_problem
from anydiff.tasks.task import Task, load_task

FILE = "tasks.lock.json"
TOLERANCE = 1e-6
_CHUNK = 1024
_DATA = ("training data", "held-out data", "measurement")
_UNLOCKED = ("library", "reference", "uncertainty")
"""Fields of a card that a lock leaves to the rows: an installed version, what it holds in another place, and what no
value depends on."""
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(MetricCard)}


def freeze(task: Task, sketch: bool = True) -> dict[str, Any]:
    """What the task depends on, as plain data.

    Args:
        task: the task.
        sketch: whether the numbers of every tensor are taken beside the hashes; on large data they cost most of the
            time, and are needed only where a hash differs.

    Raises:
        AnydiffError: recipe, data or a metric cannot be built.
    """
    recipe = load_recipe(task.recipe)
    held_out = build_dataset(recipe, task.split)
    frozen: dict[str, Any] = plain(
        {
            "task": task.definition(),
            "domain": recipe.domain.model_dump(mode="json"),
            "data set": recipe.dataset.model_dump(mode="json"),
            "training data": _facts(build_dataset(recipe, "train"), sketch),
            "held-out data": _facts(held_out, sketch),
            "cards": [locked_card(metric) for metric in task_metrics(task, recipe)],
            **({"measurement": _measured(task, held_out, sketch)} if task.measured else {}),
        }
    )
    return frozen


def task_metrics(task: Task, recipe: Recipe) -> list[Metric]:
    """The metrics of a task: its own, or its recipe's; none where an evaluator gives the scores.

    Raises:
        AnydiffError: the cards of two of them have one name, so that only one of two values would be kept.
    """
    parts = task.metrics or (() if task.evaluator else recipe.metrics)
    metrics = [registry().build("metrics", part.name, **part.options) for part in parts]
    seen: dict[str, str] = {}
    for part, metric in zip(parts, metrics, strict=True):
        name = metric.card.name
        if name in seen:
            raise AnydiffError(
                f"task {task.id!r} is judged by {seen[name]!r} and {part.name!r}, whose cards are both called {name!r}"
                "; name one of the two, or give each card a name of its own."
            )
        seen[name] = part.name
    return metrics


def is_paired(task: Task, recipe: Recipe) -> bool:
    """Whether a sample is judged by the held-out row whose condition it was made for: a forecast, a pose, an ensemble.

    So it is with members, and wherever a metric is registered as knowing the case (``paired=True``, ``oracle=True``).
    Then other held-out data is no ceiling, and a baseline's sample stands for the case that was asked for.
    """
    parts = task.metrics or (() if task.evaluator else recipe.metrics)
    known = (registry().get("metrics", part.name).metadata for part in parts)
    return task.members is not None or any(each.get("paired") or each.get("oracle") for each in known)


def locked_card(metric: Metric) -> dict[str, Any]:
    """The fields of a metric's card that a lock holds."""
    return _without_defaults(metric.card.as_dict())


def _without_defaults(card: Mapping[str, Any]) -> dict[str, Any]:
    # So that a field which cards will have one day does not break the locks of today.
    return {name: value for name, value in card.items() if name not in _UNLOCKED and value != _DEFAULTS.get(name)}


def check_lock(task: Task, frozen: Mapping[str, Any] | None = None) -> None:
    """Refuse a task that is not what was published under its name.

    Args:
        task: the task.
        frozen: what :func:`freeze` gives for it, with or without the numbers; computed if absent.

    Raises:
        AnydiffError: it has no entry in the lock of its plugin, or differs from it.
    """
    path = lock_path(task.id)
    published = read_lock(path).get(task.id)
    if published is None:
        raise AnydiffError(
            f"task {task.id!r} has no entry in {str(path)!r}; freeze it with `anydiff bench lock {task.id}`."
        )
    changed = differences(published, plain(freeze(task, sketch=False) if frozen is None else frozen))
    if changed and all(name in _DATA for name in changed):
        changed = differences(published, freeze(task))
    if changed:
        following = f"{task.name}@{task.version + 1}"
        raise AnydiffError(
            f"task {task.id!r} is not what was published: {', '.join(changed)} changed; undo it, or raise its version, "
            f"register it as {following!r} and run `anydiff bench lock {following}`."
        )


def write_lock(name: str) -> Path:
    """Freeze the task ``domain/name@version`` and return the file it is written to; a published entry stays.

    Raises:
        AnydiffError: the lock holds another task of this name already.
    """
    task = load_task(name)
    path = lock_path(task.id)
    entries = read_lock(path)
    frozen = freeze(task)
    if task.id in entries:
        check_lock(task, frozen)
        return path
    entries[task.id] = frozen
    write_atomic(path, json.dumps(entries, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return path


def lock_path(task_id: str) -> Path:
    """The lock file of the package in which the task is defined; for a single file beside it."""
    module = registry().get("tasks", task_id).reference.partition(":")[0]
    spec = importlib.util.find_spec(module.partition(".")[0])
    if spec is None or not spec.origin:
        raise AnydiffError(f"the package of task {task_id!r} cannot be found; reinstall it.")
    return Path(spec.origin).with_name(FILE)


def read_lock(path: Path) -> dict[str, Any]:
    """The entries of a lock; none without a file.

    Raises:
        FileFormatError: the file is no JSON object.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise FileFormatError(
            f"{str(path)!r} is no lock of tasks ({error}); restore it from its repository."
        ) from error
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise FileFormatError(f"{str(path)!r} is no lock of tasks (not an object); restore it from its repository.")
    return {
        name: {**entry, "cards": [_without_defaults(card) for card in entry["cards"]]}
        for name, entry in entries.items()
    }


def differences(published: Any, now: Any, where: str = "") -> list[str]:
    """The places in which two frozen tasks differ, as dotted names."""
    if isinstance(published, dict) and isinstance(now, dict):
        if {"hash", "examples", "tensors"} <= published.keys():
            return [] if _same_data(published, now) else [where]
        names = sorted({*published, *now})
        return [
            place
            for name in names
            for place in differences(published.get(name), now.get(name), f"{where}.{name}".lstrip("."))
        ]
    if isinstance(published, list) and isinstance(now, list) and len(published) == len(now):
        pairs = enumerate(zip(published, now, strict=True))
        return [place for index, (a, b) in pairs for place in differences(a, b, f"{where}[{index}]")]
    return [] if published == now else [where]


def _facts(dataset: Dataset, sketch: bool) -> dict[str, Any]:
    """Hash, count and numbers of everything a data set gives, after its preprocessing."""
    return _told(_chunks(dataset), len(dataset), sketch)


def _measured(task: Task, dataset: Dataset, sketch: bool) -> dict[str, Any]:
    """The same of what is measured of all held-out examples."""
    rows = range(len(dataset))
    problem = measured_problem(task, sample_set(dataset, rows), rows)
    return _told([(0, problem.condition())], len(dataset), sketch)


def _told(chunks: Iterable[tuple[int, dict[str, Tensor]]], count: int, sketch: bool) -> dict[str, Any]:
    """Hash and numbers of named tensors."""
    found = hashlib.sha256()
    tensors: dict[str, Any] = {}
    for begin, rows in chunks:
        for name, value in rows.items():
            found.update(f"{name}:{value.dtype}:{tuple(value.shape)};".encode())
            found.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
            if not sketch:
                continue
            numbers = value.double().flatten().numpy()
            signs = np.sign(standard_normal(0, [begin], 0, f"lock/{name}", (numbers.size,)).reshape(-1))
            sums = [float(numbers.sum()), float(numbers @ numbers), float(numbers @ signs)]
            before = tensors.get(name, [0.0, 0.0, 0.0])
            tensors[name] = [a + b for a, b in zip(before, sums, strict=True)]
    return {"hash": found.hexdigest(), "examples": count, "tensors": tensors}


def _chunks(dataset: Dataset) -> Iterator[tuple[int, dict[str, Tensor]]]:
    for begin in range(0, len(dataset), _CHUNK):
        states, condition = dataset.batch(range(begin, min(begin + _CHUNK, len(dataset))))
        yield begin, {"states": states, **hashed_names(condition)}


def _same_data(published: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    if published["hash"] == now.get("hash"):
        return True
    if published["examples"] != now.get("examples") or published["tensors"].keys() != now.get("tensors", {}).keys():
        return False
    for name, old in published["tensors"].items():
        new = now["tensors"][name]
        size = math.sqrt(old[1]) or 1.0
        allowed = [max(abs(old[0]), size), old[1] or 1.0, size]
        # Signs of their own make a sum in which a common factor or shift of rounding cancels, and a swap does not.
        if any(abs(a - b) > TOLERANCE * scale for a, b, scale in zip(old, new, allowed, strict=True)):
            return False
    return True


def lock_hash(frozen: Mapping[str, Any]) -> str:
    """sha256 (hex) of a frozen task; the numbers beside its hashes do not count."""
    kept = {name: {**part, "tensors": {}} if name in _DATA else part for name, part in frozen.items()}
    return hashlib.sha256(canonical(kept).encode()).hexdigest()
