"""Models that are denoisers on their own plan alone: students of a distillation, samplers that were tuned as a whole.

Their recipe says ``sampling.fixed: true``. At any other time, after other steps or under another guidance their network
says nothing that it was trained for, and nothing would show it; so whatever asks for that is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anydiff.errors import AnydiffError
from anydiff.recipes import SamplingSettings

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline

SWITCH = "sampling.fixed"


def own_plan(settings: SamplingSettings) -> str:
    """The plan that a recipe carries, as a sentence says it."""
    grid = settings.grid
    at = f"{[round(t, 6) for t in grid]}" if isinstance(grid, tuple) else f"the grid {grid!r}"
    return f"{settings.solver.name}, {settings.nfe} calls, {at}, end={settings.end!r}"


def require_free(pipeline: Pipeline, what: str, value: object = None) -> None:
    """Refuse what another plan than its own is needed for, where a model has no other.

    Args:
        pipeline: the model.
        what: is asked for.
        value: what it is asked to be, where that says more.

    Raises:
        AnydiffError: its recipe says that its plan is fixed.
    """
    recipe = pipeline.recipe
    if recipe.sampling.fixed:
        asked = what if value is None else f"{what} is {value!r}, but"
        verb = "asks for another plan than its own, but" if value is None else ""
        base = f" ({recipe.start.source!r})" if recipe.start is not None else ""
        raise AnydiffError(
            f"{' '.join(filter(None, (asked, verb)))} {recipe.name!r} is a denoiser on its own plan alone "
            f"({own_plan(recipe.sampling)}); leave {what} out, or take the model that it was made of{base}."
        )


def require_whole(pipeline: Pipeline, what: str) -> None:
    """Refuse what asks for one prediction of whole states, where a model predicts positions given those before.

    Raises:
        AnydiffError: its network has an order.
    """
    if pipeline.denoiser.order is not None:
        raise AnydiffError(
            f"{what} needs a model that is drawn at once, but the network {pipeline.recipe.network.name!r} of "
            f"{pipeline.recipe.name!r} draws positions one group after the other; take a model without an order."
        )


def require_own_plan(pipeline: Pipeline, nfe: int | None, solver: object, options: Mapping[str, Any]) -> None:
    """Refuse a solver, budget, grid or option that is not the recipe's, where its plan is fixed; a plan is judged by
    whoever compiled it.

    Raises:
        AnydiffError: another one is asked for.
    """
    settings = pipeline.recipe.sampling
    if not settings.fixed:
        return
    grid = options.get("grid")
    given = {"grid": tuple(grid) if isinstance(grid, list) else grid, "nfe": nfe, "end": options.get("end")}
    own = {"grid": settings.grid, "nfe": settings.nfe, "end": settings.end, "solver": settings.solver.name}
    asked = {**options, **given, "solver": solver}
    for name, value in asked.items():
        if value is not None and value != own.get(name, settings.solver.options.get(name)):
            require_free(pipeline, name, value)
