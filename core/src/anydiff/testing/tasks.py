"""Tasks: what they name exists, and what was published under their name is what they are."""

from __future__ import annotations

from anydiff.recipes import load_recipe
from anydiff.registry import Entry
from anydiff.tasks.lock import check_lock
from anydiff.tasks.task import Task, load_reference, load_task
from anydiff.testing.kit import check
from anydiff.testing.subject import Subject, require, skip


def _task(entry: Entry) -> Task:
    if "suite" in entry.metadata:
        skip("it is a suite of tasks.")
    return load_task(entry.name)


@check("task.names", "tasks")
def names(plugin: Subject, entry: Entry) -> None:
    """Its recipe, its metrics, its baselines, evaluator and measurement exist; of a suite, methods and baselines."""
    if "suite" in entry.metadata:
        _read_suite(entry)
        return
    task = _task(entry)
    recipe = load_recipe(task.recipe)
    for part in (*task.metrics, *recipe.metrics):
        plugin.registry.get("metrics", part.name)
    references = [(f"baseline {name!r}", reference) for name, reference in task.baselines.items()]
    references += [("the evaluator", task.evaluator)] if task.evaluator else []
    references += [("the measurement", task.measured)] if task.measured else []
    for what, reference in references:
        found = load_reference(reference, f"{what} of task {task.id!r}")
        require(callable(found), f"{what} refers to {reference!r}, which is {type(found).__name__} and no function.")


def _read_suite(entry: Entry) -> None:
    # The core knows no suites: a suite's reference is the function that reads it.
    reader = entry.load()
    require(
        callable(reader),
        f"its reference {entry.reference!r} is no function; a suite's is 'anydiff_benchmarks.engine.suite:load_suite'.",
    )
    reader(entry.name)


@check("task.locked", "tasks", optional=True)
def locked(plugin: Subject, entry: Entry) -> None:
    """It is what was published under its name: data, metrics and definition agree with tasks.lock.json."""
    task = _task(entry)
    try:
        names(plugin, entry)
    except Exception:
        skip("it names what is not there, see task.names.")
    recipe = load_recipe(task.recipe)
    absent = plugin.absent_data(recipe)
    if absent:
        skip(absent)
    check_lock(task)
