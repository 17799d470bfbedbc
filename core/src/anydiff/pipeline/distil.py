"""Students of a trained model that sample in fewer calls: progressive distillation, one run folder for each halving."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anydiff.compression.floats import require_floats
from anydiff.errors import AnydiffError
from anydiff.networks import Autoencoder
from anydiff.paths.base import GaussianPath
from anydiff.paths.grids import time_grid
from anydiff.pipeline.pipeline import Pipeline, load
from anydiff.pipeline.train import train
from anydiff.recipes import Model, Part, Recipe, SamplingSettings, Start

SHARE = 10
"""A student is trained by this share of its base's steps, unless it is told otherwise."""
SLOWER = 3
"""And with this share of its base's learning rate."""


@dataclass(frozen=True)
class Students:
    """How students are made.

    Attributes:
        grid: the time grid of the model's plan; by default that of its recipe, or of its path.
        guided: whether the recipe's guidance becomes part of the student, which is then sampled without any; else the
            student is one of the model without guidance.
        changes: of the students' recipes, as :meth:`Recipe.with_changes` takes them: ``training.steps=500``.
        report: told which student is trained.
    """

    grid: str | None = None
    guided: bool = True
    changes: Sequence[str] = ()
    report: Callable[[str], None] | None = None


AS_THE_RECIPE = Students()


def distil(
    source: str | Path,
    calls: Sequence[int],
    folder: str | Path,
    students: Students = AS_THE_RECIPE,
    *,
    resume: bool = False,
    devices: int | str = 1,
    console: Any = None,
    command: str = "",
) -> Pipeline:
    """Distil a model into students of fewer calls, each the teacher of the next, and return the last one.

    The first number of ``calls`` is the plan of the model itself; every further one is a student, which begins with its
    teacher's weights and is left in ``folder`` as a run, ``4-calls`` say. A student samples on its own plan alone.

    Args:
        source: a recipe with bundled weights, a run folder or a weights file.
        calls: halving in turn: ``[8, 4, 2]``.
        folder: new, empty, or with ``resume`` that of an unfinished distillation.
        students: how they are made.
        resume: go on with the first student that is not finished.
        devices: number of devices, or "auto".
        console: for progress; None for no output.
        command: the command line that does this, for the cards.

    Raises:
        AnydiffError: calls that do not halve, an autoencoder, a path without a noise level, a student at other calls
            than its own; or whatever a training refuses.
    """
    counts = checked_calls(calls)
    teacher, out = load(source), Path(folder)
    times = teacher_grid(teacher, counts[0], students.grid)
    named = str(source)
    if out.exists() and any(out.iterdir()) and not resume:
        raise AnydiffError(f"{str(folder)!r} is not empty; choose another folder, or resume to continue in it.")
    for count in counts[1:]:
        recipe = student_recipe(teacher, named, times, students.guided).with_changes(students.changes)
        place = out / in_calls(count)
        going = resume and (place / "config.yaml").is_file()
        if students.report is not None:
            students.report(f"a student of {in_calls(count)} into {str(place)!r}, taught by {named!r}")
        teacher = train(recipe, place, resume=going, devices=devices, console=console, command=command)
        times, named = times[::2], str(place)
    return teacher


def in_calls(count: int) -> str:
    """The name of a number of calls: ``4-calls``."""
    return f"{count}-call{'s' * (count > 1)}"


def checked_calls(calls: Sequence[int]) -> list[int]:
    """``calls``, each half of the one before.

    Raises:
        AnydiffError: they are not.
    """
    counts = list(calls)
    fine = all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in counts)
    if not fine or len(counts) < 2 or any(a != 2 * b for a, b in itertools.pairwise(counts)):
        raise AnydiffError(
            f"calls is {', '.join(map(str, counts))}, but each number must be half of the one before, and there must "
            "be two at least: 8,4,2."
        )
    return counts


def teacher_grid(teacher: Pipeline, calls: int, grid: str | None) -> tuple[float, ...]:
    """The times of the model's plan of ``calls`` calls, its end included.

    Raises:
        AnydiffError: the model has another plan and no other, is quantised, is an autoencoder, or its path has no
            noise level.
    """
    recipe, path = teacher.recipe, teacher.denoiser.path
    sampling = recipe.sampling
    require_floats(teacher.denoiser.network, "a distillation", recipe.name)
    if isinstance(teacher.denoiser.network, Autoencoder):
        raise AnydiffError(
            f"{recipe.name!r} is an autoencoder, which draws nothing; distil a model in its latent space."
        )
    if not isinstance(path, GaussianPath):
        raise AnydiffError(f"{recipe.name!r} is on {path!r}, whose states have no noise level; distil another model.")
    if sampling.fixed:
        if sampling.nfe != calls or grid is not None or sampling.solver.name != "ddim":
            raise AnydiffError(
                f"{recipe.name!r} is a student of {sampling.nfe} calls on its own grid with {sampling.solver.name}, so "
                f"its distillation begins there: calls is {calls}; set calls to {sampling.nfe},... without a grid."
            )
        assert isinstance(sampling.grid, tuple)
        return sampling.grid
    named = sampling.grid if isinstance(sampling.grid, str) else None
    return tuple(time_grid(path, calls, grid or named))


def student_recipe(teacher: Pipeline, source: str, grid: Sequence[float], guided: bool) -> Recipe:
    """The recipe of a student that takes every second step of ``grid``, and begins with its teacher's weights."""
    base = teacher.recipe
    calls = (len(grid) - 1) // 2
    guidance = [part.model_dump(mode="json") for part in base.sampling.guidance] if guided else []
    training = base.training
    if not base.sampling.fixed:
        steps, rate = max(1, training.steps // SHARE), training.learning_rate / SLOWER
        warm = min(training.warmup_steps, steps // 10)
        training = training.model_copy(update={"steps": steps, "learning_rate": rate, "warmup_steps": warm})
    student = base.model_copy(
        update={
            "name": f"{base.name.removesuffix(f'-{in_calls(2 * calls)}')}-{in_calls(calls)}",
            "help": f"{in_calls(calls)}, distilled from {2 * calls} of {base.name}",
            "latent": teacher.companions["latent"].origin if base.latent else None,
            "objective": Part(
                name="progressive", options={"grid": list(grid), **({"guidance": guidance} if guidance else {})}
            ),
            "method": Part(name="objective"),
            "companions": {"teacher": Model(source=source)},
            "start": Start(source=source),
            "training": training,
            "sampling": SamplingSettings(
                solver=Part(name="ddim"), nfe=calls, grid=tuple(grid[::2]), fixed=True,
                temperature=base.sampling.temperature,
            ),
        }
    )  # fmt: skip
    return Recipe.parse(student.model_dump(mode="json"), f"the student of {base.name!r}")
