"""From a pipeline and what is asked of it to the sampler that draws: the recipe's own where nothing is named."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from anydiff.autoregressive import BlockPlan, BlockSampler, Budget, compile_blocks
from anydiff.denoisers.wrappers import bent
from anydiff.errors import AnydiffError
from anydiff.paths.path import Path
from anydiff.pipeline.calibrated import Calibrated, calibrated_sampler
from anydiff.pipeline.fixed import require_own_plan, require_whole
from anydiff.recipes import Part
from anydiff.recipes.build import build_guidance, build_solver
from anydiff.registry import registry
from anydiff.samplers import PlanSampler, Sampler, as_sampler
from anydiff.solvers import Solver
from anydiff.solvers.base import preferred_grid
from anydiff.solvers.plan import Plan

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline


SolverLike = str | Solver | Plan | BlockPlan | Sampler | None
"""What a solver may be given as."""


def sampler_of(
    pipeline: Pipeline, nfe: int | None, solver: SolverLike, options: dict[str, Any],
    path: Path | None = None, bends: bool = False,
) -> Sampler:  # fmt: skip
    """The sampler of :meth:`Pipeline.sampler`: the recipe's, or what is named, completed by the recipe's settings.

    Among the options may be ``guidance``, which solvers may heed (the recipe's where it is not there), and
    ``calibration``, an artefact or its file.
    ``path`` is the one that is travelled, where it is not the denoiser's own (a bridge in reverse); ``bends`` says that
    something beside the guidance bends the flow (a measurement).
    """
    settings = pipeline.recipe.sampling
    guidance = options.pop("guidance", None)
    layers = build_guidance(settings.guidance if guidance is None else guidance)
    calibration = options.pop("calibration", None)
    if calibration is not None:
        require_whole(pipeline, "a calibration")
        return calibrated_sampler(pipeline, calibration, nfe, {"solver": solver, **options}, layers)
    guided = bends or bent(pipeline.denoiser, layers)
    if isinstance(solver, BlockPlan | BlockSampler):
        return _made_for_blocks(solver, nfe, options)
    solver = _own_plan_again(pipeline, nfe, solver, options)
    grid, end = options.pop("grid", None), options.pop("end", None)
    mine, options = (settings.solver, options) if solver is not None else _with_options(settings.solver, options)
    if solver is None or isinstance(solver, Solver) or _is_compiled(solver):
        nfe = settings.nfe if nfe is None else nfe
        end = settings.end if end is None else end
        # The recipe's grid was chosen for its own solver: another one that is made for a grid keeps that.
        if grid is None and (solver is None or preferred_grid(solver) is None):
            grid = settings.grid
    chosen = build_solver(mine) if solver is None else solver
    travelled = pipeline.denoiser.path if path is None else path
    order = pipeline.denoiser.order
    if order is None:
        return as_sampler(chosen, travelled, nfe, grid, end, options, guided)
    if isinstance(chosen, PlanSampler):
        chosen = chosen.plan
    if isinstance(chosen, Sampler) or (isinstance(chosen, str) and not _is_compiled(chosen)):
        require_whole(pipeline, f"the sampler {chosen!r}")
    assert not isinstance(chosen, Sampler)
    return BlockSampler(compile_blocks(chosen, travelled, order, Budget(nfe, grid, end), options, guided))


def _made_for_blocks(solver: BlockPlan | BlockSampler, nfe: int | None, options: Mapping[str, Any]) -> BlockSampler:
    """A block plan as its sampler.

    Raises:
        AnydiffError: an option beside it.
    """
    for name, value in {**options, "nfe": nfe}.items():
        if value is not None:
            raise AnydiffError(
                f"{name} is {value!r}, but solver is a {type(solver).__name__}, which has its own; leave {name} out."
            )
    return solver if isinstance(solver, BlockSampler) else BlockSampler(solver)


def _own_plan_again(
    pipeline: Pipeline, nfe: int | None, solver: str | Solver | Plan | Sampler | None, options: Mapping[str, Any]
) -> str | Solver | Plan | Sampler | None:
    """``solver`` itself, where the model takes any; None, for the recipe's own plan, where that is fixed and asked for.

    Raises:
        AnydiffError: the plan is fixed, and another one is asked for.
    """
    if not pipeline.recipe.sampling.fixed:
        return solver
    plan = solver.plan if isinstance(solver, PlanSampler) else solver
    if isinstance(plan, Plan) and plan.to_json() == pipeline.plan().to_json():
        return None
    require_own_plan(pipeline, nfe, plan, options)
    return None


def _with_options(solver: Part, options: dict[str, Any]) -> tuple[Part, dict[str, Any]]:
    """The recipe's solver with those of the options that are its own.

    Raises:
        AnydiffError: an option that it has not.
    """
    for name, value in options.items():
        if name not in inspect.signature(registry().load("solvers", solver.name)).parameters:
            raise AnydiffError(f"{name} is {value!r}, but belongs to a solver; name the solver too.")
    return (solver.model_copy(update={"options": {**solver.options, **options}}) if options else solver), {}


def plan_of(sampler: Sampler, asked: object) -> Plan | BlockPlan:
    """The plan that ``sampler`` runs, which was ``asked`` for.

    Raises:
        AnydiffError: it chooses its steps while it runs, or begins where a plan does not say.
    """
    if isinstance(sampler, Calibrated) and sampler.start is not None:
        raise AnydiffError(
            f"the calibration begins at states of its own ({type(sampler.start).__name__}), which a plan does not "
            "carry; sample with calibration= (`anydiff sample --calibration`)."
        )
    if not isinstance(sampler, PlanSampler | BlockSampler):
        raise AnydiffError(
            f"{asked!r} chooses its steps while it solves, so there is no plan of it; sample with it "
            "(pipeline.sample(..., solver=...), `anydiff sample --solver`), at a cost that follows from rtol and "
            "atol."
        )
    return sampler.plan


def _is_compiled(solver: object) -> TypeGuard[str]:
    """Whether ``solver`` is a name that compiles to a plan; an unknown one is refused where it is compiled."""
    return isinstance(solver, str) and solver not in registry().names("samplers")
