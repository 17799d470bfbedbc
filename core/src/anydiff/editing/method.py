"""The one face of methods that edit: samples, two sides and a budget give other samples.

A *side* is a denoiser with what it is told: the source says what the samples are, the target what they are to become.
Two conditions of one model are two sides, and so are two models. Row b of the answer depends on row b alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.wrappers.base import Wrapper
from anydiff.editing.inversion import Trajectory
from anydiff.editing.invert import invert
from anydiff.editing.record import NoiseRecord
from anydiff.errors import AnydiffError
from anydiff.paths.path import Path
from anydiff.registry import registry
from anydiff.samplers import PlanSampler, SampleRequest
from anydiff.samplers.plan import DEFAULT_NFE
from anydiff.solvers.base import Solver, compile_plan
from anydiff.solvers.executor import Callback, DrawsNoise
from anydiff.solvers.plan import Plan
from anydiff.solvers.start import Start
from anydiff.states import UNCONDITIONAL, Conditioning
from anydiff.states.spec import StateSpec


@dataclass(frozen=True)
class Side:
    """What a denoiser is told on one side of an edit.

    Attributes:
        denoiser: E[x_0 | x_t].
        condition: one row per sample.
        guidance: what goes around the denoiser, the first innermost.
        facts: what it belongs to, as texts (model, condition, guidance), for records.
    """

    denoiser: Denoiser
    condition: Conditioning = UNCONDITIONAL
    guidance: Sequence[Wrapper] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Travel:
    """By which plan an edit travels; a method may begin on the tail of its grid.

    Attributes:
        solver: by name or made; None for the method's own.
        options: of a solver given by name.
        nfe: network calls of the whole plan.
        grid: times of the whole plan.
        end: how the plan ends.
    """

    solver: str | Solver | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    nfe: int = DEFAULT_NFE
    grid: str | Sequence[float] | None = None
    end: str = "clean"

    def plan(self, path: Path, default: str, skip: float = 0.0) -> Plan:
        """The plan without the first ``skip`` of its steps, on the same nodes from there on.

        Args:
            path: that is travelled.
            default: the solver where neither a caller nor the path names one.
            skip: share of the steps, in [0, 1).

        Raises:
            AnydiffError: a share outside, or one that leaves no step.
        """
        if not 0 <= skip < 1:
            raise AnydiffError(f"skip is {skip}, but must lie in [0, 1): the share of the noisiest steps left out.")
        named = (path.default_solver or default) if self.solver is None else self.solver
        solver: Solver = registry().build("solvers", named, **self.options) if isinstance(named, str) else named
        whole = compile_plan(solver, path, self.nfe, self.grid, self.end)
        left = round(skip * (len(whole.nodes) - 1))
        if not left:
            return whole
        nodes = whole.nodes[left:]
        if len(nodes) < 2:
            raise AnydiffError(
                f"skip is {skip}, which leaves no step of the {len(whole.nodes) - 1} that {whole.solver} takes; lower "
                "it, or raise nfe."
            )
        budgets = range(self.nfe, 0, -1)
        calls = next(nfe for nfe in budgets if solver.steps(nfe - (self.end == "denoise")) == len(nodes) - 1)
        return compile_plan(solver, path, calls, nodes, self.end)


@dataclass(frozen=True)
class Edit:
    """What is to be edited, and between which sides.

    Attributes:
        clean: the samples ``[n, *shape]``, as states.
        spec: what one sample is.
        source: what they are.
        target: what they are to become.
        travel: by which plan.
        samples: the index of each row, the key of its noise; in order where nothing is said.
        seed: of the noise.
        batch_size: rows per network call.
        callbacks: called after each network call with a :class:`~anydiff.solvers.Step`.
    """

    clean: Tensor
    spec: StateSpec
    source: Side
    target: Side
    travel: Travel = field(default_factory=Travel)
    samples: Sequence[int] | None = None
    seed: int = 0
    batch_size: int = 256
    callbacks: Sequence[Callback] = ()

    @property
    def indices(self) -> list[int]:
        """The index of each row."""
        return list(range(len(self.clean)) if self.samples is None else self.samples)

    def request(self, side: Side, **changes: Any) -> SampleRequest:
        """What a sampler is asked for on one side."""
        asked = SampleRequest(
            self.indices, seed=self.seed, guidance=list(side.guidance), condition=side.condition,
            batch_size=self.batch_size, dtype=self.clean.dtype, device=self.clean.device, callbacks=self.callbacks,
        )  # fmt: skip
        return replace(asked, **changes)

    def run(self, side: Side, plan: Plan, noise: DrawsNoise | None = None, start: Start | None = None) -> Tensor:
        """The samples of ``plan`` on one side."""
        request = self.request(side, noise=noise, start=start)
        return PlanSampler(plan).sample(request, side.denoiser, self.spec)

    def inverted(self, plan: Plan, trajectory: Trajectory) -> NoiseRecord:
        """The noises with which ``plan`` gives the samples on the source's side."""
        request = self.request(self.source)
        own = ("count", "seed", "guidance", "condition", "batch_size", "dtype", "device", "callbacks")
        asked = {name: getattr(request, name) for name in own}
        return invert(plan, self.source.denoiser, self.clean, self.spec, trajectory, self.source.facts, **asked)


class EditMethod(ABC):
    """Samples as another side would have them. A frozen dataclass whose fields are its options.

    Attributes:
        exact: where both sides are the same, the samples come out as they were.
        solver: by which it travels where none is named.
    """

    exact: ClassVar[bool] = False
    solver: ClassVar[str] = "ddpm"

    @abstractmethod
    def edited(self, edit: Edit) -> Tensor:
        """The edited samples ``[n, *shape]``, in the order of ``edit.clean``."""

    def edit(
        self, clean: Tensor, spec: StateSpec | Sequence[int], source: Side, target: Side, **options: Any
    ) -> Tensor:
        """The samples ``clean [n, *shape]`` as ``target`` would have them; ``options`` are fields of :class:`Edit`.

        Raises:
            AnydiffError: samples of another shape, or not finite.
        """
        spec = spec if isinstance(spec, StateSpec) else StateSpec.single(tuple(spec))
        spec.check(clean)
        if clean.is_floating_point() and not bool(torch.isfinite(clean).all()):
            raise AnydiffError("the samples to edit are not finite in all entries; check them where they were made.")
        return self.edited(Edit(clean, spec, source, target, **options))
