"""Plans as samplers, and :func:`sample`: from whatever names a sampler and a budget to a sample set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.wrappers.base import bent
from anydiff.errors import AnydiffError
from anydiff.paths.path import Path
from anydiff.registry import registry
from anydiff.samplers.sampler import Chunk, Sampler, SampleRequest, given_layers
from anydiff.solvers.base import Solver, compile_plan
from anydiff.solvers.executor import execute
from anydiff.solvers.plan import Apply, Plan
from anydiff.solvers.start import MadeForPlan, Start
from anydiff.states.conditions import Conditioning
from anydiff.states.spec import StateSpec

DEFAULT_SOLVER = "by-budget"
"""What samples where neither a caller nor a recipe says: chosen by the number of calls, and another under guidance."""
DEFAULT_NFE = 20
"""Network calls where nothing is said."""

REQUEST = tuple(each.name for each in fields(SampleRequest) if each.name != "count")


@dataclass(frozen=True)
class PlanSampler(Sampler):
    """Runs a compiled plan on each chunk.

    Attributes:
        plan: the program; its first node is where it begins.
    """

    operates = True
    plan: Plan

    @property
    def nfe(self) -> int:  # type: ignore[override]
        """Network calls of the plan."""
        return self.plan.nfe

    def check(self, request: SampleRequest, denoiser: Denoiser) -> None:
        """Refuse a plan that was compiled for another path, or that begins below the prior without ``start``."""
        path = denoiser.path
        named = {each.function for each in self.plan.instructions if isinstance(each, Apply)}
        idle = next((name for name in request.operations if name not in named), None)
        if idle is not None:
            has = f"names {', '.join(sorted(map(repr, named)))}" if named else "names no operation"
            raise AnydiffError(
                f"operations gives {idle!r}, but the plan of {self.plan.solver} {has}; leave it out, or compile a plan "
                "that does."
            )
        # A path made of a function has no text that outlives the process, so such plans cannot be compared.
        if self.plan.path != repr(path) and "<" not in self.plan.path:
            raise AnydiffError(
                f"the plan was compiled for {self.plan.path}, but the denoiser's path is {path!r}; compile anew."
            )
        if isinstance(request.noise, MadeForPlan):
            request.noise.check_plan(self.plan)
        begins = request.begins
        time = begins.time if isinstance(begins, Start) else None
        if isinstance(begins, Start) and self.plan.nodes[0] != (path.t_start if time is None else time):
            raise AnydiffError(
                f"the plan starts at t={self.plan.nodes[0]:g}, but {begins!r} gives states at "
                f"t={path.t_start if time is None else time:g}; compile it on a grid that begins there."
            )
        if begins is None and self.plan.nodes[0] != path.t_start:
            raise AnydiffError(
                f"the plan starts at t={self.plan.nodes[0]:g}, below the prior's t={path.t_start:g}; pass start= with "
                "states at that time."
            )

    def draw(self, chunk: Chunk) -> Tensor:
        """The plan's result ``[B, *shape]``."""
        return execute(
            self.plan, chunk.denoiser, chunk.first, noise=chunk.noise, condition=chunk.condition,
            operations=chunk.operations, callbacks=chunk.callbacks,
        )  # fmt: skip


def as_sampler(
    solver: str | Solver | Plan | Sampler | None,
    path: Path,
    nfe: int | None = None,
    grid: str | Sequence[float] | None = None,
    end: str | None = None,
    options: Mapping[str, Any] | None = None,
    guided: bool = False,
) -> Sampler:
    """The sampler that is meant: a sampler itself, a plan, or what a solver compiles to on ``path``.

    Args:
        solver: a registered solver's or sampler's name, a :class:`Solver`, a compiled :class:`Plan` or a
            :class:`Sampler`; None for :data:`DEFAULT_SOLVER`.
        path: of the denoiser.
        nfe: budget of network calls per sample; :data:`DEFAULT_NFE` where a solver is to be compiled.
        grid: see :func:`~anydiff.paths.time_grid`; a custom list may begin below t_start.
        end: how the plan ends; see :func:`~anydiff.solvers.compile_plan`.
        options: of the solver or sampler, when it is given by name.
        guided: a guidance bends the flow (:func:`anydiff.denoisers.wrappers.bent`): a solver is replaced by what its
            :meth:`~anydiff.solvers.Solver.under_guidance` gives.

    Raises:
        UnknownNameError: no such solver or option.
        AnydiffError: an option beside what is already made, or a budget for a sampler that chooses its own steps.
    """
    options = dict(options or {})
    solver = (path.default_solver or DEFAULT_SOLVER) if solver is None else solver
    if not isinstance(solver, str):
        beside = {} if isinstance(solver, Solver) else {"nfe": nfe, "grid": grid, "end": end}
        for name, value in {**options, **{key: value for key, value in beside.items() if value is not None}}.items():
            raise AnydiffError(
                f"{name} is {value!r}, but solver is a {type(solver).__name__}, which has its own; leave {name} "
                "out, or give a solver by its name."
            )
    if isinstance(solver, Sampler):
        return solver
    if isinstance(solver, Plan):
        return PlanSampler(solver)
    if isinstance(solver, str) and solver in registry().names("samplers"):
        for name, value in (("nfe", nfe), ("grid", grid)):
            if value is not None:
                raise AnydiffError(
                    f"{name} is {value!r}, but the sampler {solver!r} chooses its own steps; leave it out, or choose a "
                    "solver (see `anydiff solvers`)."
                )
        made: Sampler = registry().build("samplers", solver, **({} if end is None else {"end": end}), **options)
        return made
    chosen: Solver = registry().build("solvers", solver, **options) if isinstance(solver, str) else solver
    if guided and isinstance(chosen, Solver):
        chosen = chosen.under_guidance()
    return PlanSampler(
        compile_plan(chosen, path, DEFAULT_NFE if nfe is None else nfe, grid, "clean" if end is None else end)
    )


def sample(
    denoiser: Denoiser,
    spec: StateSpec | Sequence[int],
    count: int | Sequence[int],
    *,
    solver: str | Solver | Plan | Sampler | None = None,
    nfe: int | None = None,
    grid: str | Sequence[float] | None = None,
    end: str | None = None,
    **options: Any,
) -> Tensor:
    """Draw samples ``[count, *spec.shape]``.

    Args:
        denoiser: E[x_0 | x_t], trained or exact.
        spec: what one sample is, or simply its shape.
        count: how many samples (indices 0 .. count-1), or the indices themselves.
        solver: see :func:`as_sampler`, as are ``nfe``, ``grid`` and ``end``.
        nfe: budget of network calls per sample.
        grid: times at which the solver stops.
        end: how the plan ends.
        options: everything that a :class:`SampleRequest` says (``seed``, ``condition``, ``guidance``, ``cases``,
            ``start``, ``noise``, ``operations``, ``batch_size``, ...), and options of the solver, when it is given by
            name.

    Raises:
        AnydiffError: a count, seed, shape or budget is wrong.
    """
    wanted = {name: options.pop(name) for name in REQUEST if name in options}
    wanted["condition"] = Conditioning.of(wanted.get("condition"))
    layers = given_layers(wanted.get("guidance"))
    sampler = as_sampler(solver, denoiser.path, nfe, grid, end, options, bent(denoiser, layers))
    return sampler.sample(SampleRequest(count, **wanted), denoiser, spec)
