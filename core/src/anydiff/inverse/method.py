"""The one face of methods for inverse problems: a problem, a denoiser and a budget give states.

A method is a guidance around any plan, a plan of its own, or an optimiser; a caller does not see which. Each of them
comes down to a sampler and to what goes around the denoiser, so chunks, streams, conditions and devices are those of
any other sampling, and row b depends on the measurement of row b alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.wrappers.base import Wrapper
from anydiff.errors import AnydiffError
from anydiff.inverse.noise import Gaussian
from anydiff.inverse.operators.base import LinearOperator
from anydiff.inverse.operators.mask import Mask
from anydiff.inverse.problem import Problem, with_problem, without_problem
from anydiff.paths.base import LinearPath, linear
from anydiff.samplers import PlanSampler, Sampler, SampleRequest, as_sampler
from anydiff.samplers.plan import DEFAULT_NFE, REQUEST
from anydiff.samplers.sampler import Chunk, sample_indices
from anydiff.solvers.executor import Operation, execute
from anydiff.solvers.plan import Plan
from anydiff.solvers.walk import Walk, compile_walk
from anydiff.states import Conditioning, StateSpec

Kind = Literal["guidance", "plan", "optimiser"]
Estimate = Literal["samples", "point"]


@dataclass(frozen=True)
class Solving:
    """How much a method may spend, and by which plan it travels.

    Attributes:
        nfe: network calls per sample; 20 where nothing is said.
        solver: a solver, by name or made, a compiled plan or a sampler; only a guidance takes one.
        grid: time grid.
        end: how the plan ends.
        options: of a solver given by name.
    """

    nfe: int | None = None
    solver: Any = None
    grid: str | Sequence[float] | None = None
    end: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class InverseMethod(ABC):
    """States of which a measurement was made. A subclass gives :meth:`sampler`, and :meth:`layers` if it guides.

    Attributes:
        kind: ``guidance`` (inside any plan), ``plan`` (one of its own) or ``optimiser``.
        estimate: ``samples`` of the posterior, or one ``point`` per case, whose spread says nothing.
        calls: network calls per unit of ``nfe``, in words, with backward passes.
    """

    kind: ClassVar[Kind]
    estimate: ClassVar[Estimate] = "samples"
    calls: ClassVar[str] = "1 call"

    @abstractmethod
    def sampler(self, problem: Problem, denoiser: Denoiser, solving: Solving) -> Sampler:
        """What draws."""

    def layers(self, problem: Problem, denoiser: Denoiser, sampler: Sampler) -> list[Wrapper]:
        """What goes around the denoiser, the first innermost; by default nothing."""
        return []

    def check(self, problem: Problem, denoiser: Denoiser) -> None:
        """Refuse, before anything is drawn, what this method cannot do; by default nothing.

        Raises:
            AnydiffError: the sentence names a method that can.
        """
        return

    def solve(
        self, problem: Problem, denoiser: Denoiser, spec: StateSpec | Sequence[int], count: int | Sequence[int] = 1,
        **options: Any,
    ) -> Tensor:  # fmt: skip
        """States ``[count, *spec.shape]`` of which the measurement was made, in the units of states.

        Args:
            problem: in the units of states (:meth:`Problem.in_states`), with one measurement or one per case.
            denoiser: E[x_0 | x_t], trained or exact.
            spec: what one sample is, or its shape.
            count: how many samples, or their indices; row i belongs to case i % cases.
            options: ``nfe``, ``solver``, ``grid``, ``end``; what a :class:`~anydiff.samplers.SampleRequest` says
                (``seed``, ``condition``, ``cases``, ``guidance``, ``batch_size``, ...); options of the solver.

        Raises:
            AnydiffError: the method does not take this problem or denoiser, a measurement has no noise and cannot be
                met, or a size or budget is wrong.
        """
        wanted = {name: options.pop(name) for name in REQUEST if name in options}
        own = {name: options.pop(name) for name in ("nfe", "solver", "grid", "end") if name in options}
        request = SampleRequest(count, **wanted)
        cases = len(sample_indices(count)) if request.cases is None else request.cases
        size = spec.shape if isinstance(spec, StateSpec) else tuple(spec)
        if problem.operator.shape != tuple(size):
            raise AnydiffError(
                f"the operator is for states of shape {problem.operator.shape}, but these have {tuple(size)}; make it "
                "for these."
            )
        if request.start is not None and self.kind == "optimiser":
            raise AnydiffError(
                f"start is given, but the method {type(self).__name__} begins at what was measured; leave it out, or "
                "use a method that samples ('mmps')."
            )
        self.check(problem, denoiser)
        problem.require_attainable()
        problem = problem.rows(cases)
        sampler = self.sampler(problem, denoiser, Solving(**own, options=options))
        given = [request.guidance] if isinstance(request.guidance, Wrapper) else list(request.guidance or ())
        layers = [*given, *self.layers(problem, denoiser, sampler)]
        told = with_problem(Conditioning.of(request.condition), problem)
        states = sampler.sample(replace(request, guidance=layers, condition=told), denoiser, spec)
        return _exact(problem, states)


def _exact(problem: Problem, states: Tensor) -> Tensor:
    """``states``, row i of case i % cases, with the entries as they were measured that a mask shows without noise."""
    operator = problem.operator
    if not isinstance(operator, Mask) or not isinstance(problem.noise, Gaussian) or not problem.noise.zero:
        return states
    rows = torch.arange(len(states)) % problem.cases
    y = problem.measurement.to(states)[rows]
    known = (operator.observed(problem.measurement) & (problem.noise.std == 0)).to(states.device)
    return torch.where(known[rows], y, states)


class GuidanceMethod(InverseMethod):
    """A method that is a guidance: it works inside every plan. A subclass gives :meth:`layers`.

    Attributes:
        solver: by which plan it travels where none is asked for. New noise at every step takes back what was decided
            at high noise levels, when the measurement was known little of: ``ddpm`` was the best for pictures.
    """

    kind = "guidance"
    solver: ClassVar[str] = "ddpm"

    @property
    def bends(self) -> bool:
        """Whether solvers are to take shorter views (:attr:`anydiff.denoisers.wrappers.Wrapper.bends`); by default no.

        A caller that makes the sampler itself asks for it.
        """
        return False

    def sampler(self, problem: Problem, denoiser: Denoiser, solving: Solving) -> Sampler:
        """That of the solver which was asked for."""
        chosen = self.solver if solving.solver is None else solving.solver
        return as_sampler(
            chosen, denoiser.path, solving.nfe, solving.grid, solving.end, dict(solving.options), self.bends
        )


class OwnPlan(InverseMethod):
    """A method that is a plan of its own. A subclass gives :meth:`plan` and :meth:`operations`."""

    kind = "plan"

    @abstractmethod
    def plan(self, problem: Problem, path: LinearPath, nfe: int, grid: str | Sequence[float] | None) -> Plan:
        """The plan; without operations where nothing was measured."""

    @abstractmethod
    def operations(self, problem: Problem) -> Mapping[str, Operation]:
        """The plan's operations for the rows of ``problem``, by name."""

    def sampler(self, problem: Problem, denoiser: Denoiser, solving: Solving) -> ProblemPlan:
        """The plan, with operations that know their rows.

        Raises:
            AnydiffError: a solver or an end was asked for, which such a method has of its own.
        """
        if solving.solver is not None or solving.end is not None or solving.options:
            name = (
                "end"
                if solving.end is not None
                else "solver"
                if solving.solver is not None
                else next(iter(solving.options))
            )
            raise AnydiffError(
                f"{name} does not go with the method {type(self).__name__}, which is a plan of its own; leave it out, "
                "or use a method that is a guidance ('pigdm')."
            )
        nfe = DEFAULT_NFE if solving.nfe is None else solving.nfe
        plan = self.plan(problem, linear(denoiser.path, f"the method {self!r}"), nfe, solving.grid)
        return ProblemPlan(plan, lambda condition: self.operations(problem.of(condition)))


class PlanMethod(OwnPlan):
    """A method that is a walk of its own. A subclass gives :meth:`walk` and :meth:`operations`."""

    @abstractmethod
    def walk(self, problem: Problem) -> Walk:
        """The walk; without operations where nothing was measured."""

    def plan(self, problem: Problem, path: LinearPath, nfe: int, grid: str | Sequence[float] | None) -> Plan:
        """The walk with as many nodes as the calls pay; without operations where nothing was measured."""
        return compile_walk(self.walk(problem), path, nfe, grid)


@dataclass(frozen=True)
class ProblemPlan(PlanSampler):
    """A plan whose operations are made for the rows of each chunk.

    Attributes:
        operations: what the plan's Apply instructions name, made of the rows' condition.
    """

    operations: Callable[[Conditioning], Mapping[str, Operation]]

    def draw(self, chunk: Chunk) -> Tensor:
        """The plan's result ``[B, *shape]``."""
        return execute(
            self.plan, chunk.denoiser, chunk.first, noise=chunk.noise, condition=without_problem(chunk.condition),
            operations={**self.operations(chunk.condition), **chunk.operations}, callbacks=chunk.callbacks,
        )  # fmt: skip


def require_linear(problem: Problem) -> LinearOperator:
    """The linear operator of a problem with Gaussian noise, for methods that take no other.

    Raises:
        AnydiffError: it is another one.
    """
    operator = problem.linear_operator
    assert problem.gaussian is not None
    return operator
