"""Blocks drawn by diffusion, one after the other: the plan of a whole sample, and the sampler that runs it.

Each group of positions of an order has a plan of its own, compiled as any other, and begins anew: nothing of a solver's
history is carried from block to block. The denoiser of a block is :meth:`anydiff.denoisers.Denoiser.with_past`, so
guidance, hooks and solvers are what they are elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from anydiff.autoregressive.loop import Drawn, Group, Inner, at, fill
from anydiff.data.reading import Place, parse_json
from anydiff.denoisers import Denoiser
from anydiff.denoisers.past import Past, Written
from anydiff.denoisers.wrappers.base import Wrapper
from anydiff.denoisers.wrappers.known import warn_approximate, with_known_entries
from anydiff.errors import AnydiffError, FileFormatError, NotApplicableError, natural_number
from anydiff.paths.path import Path
from anydiff.samplers import DEFAULT_NFE, PlanSampler, Sampler, SampleRequest, as_sampler
from anydiff.samplers.sampler import Chunk, noise_source
from anydiff.solvers import Plan, Solver
from anydiff.solvers.executor import Callback, Step, execute
from anydiff.states import Conditioning, Known, Order, StateSpec, derived_seed

FORMAT = 1
"""Of a block plan as JSON."""


@dataclass(frozen=True)
class BlockPlan:
    """The plan of each group of an order, and what they cost together.

    Attributes:
        plans: the different plans.
        groups: for each group the number of its plan.

    Raises:
        AnydiffError: a group without a plan, or none at all.
    """

    plans: tuple[Plan, ...]
    groups: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.groups or set(self.groups) != set(range(len(self.plans))):
            raise AnydiffError(
                f"the groups take the plans {list(self.groups)}, but there are {len(self.plans)}; give each group the "
                "number of a plan, and each plan a group."
            )

    @classmethod
    def of(cls, plans: Sequence[Plan]) -> BlockPlan:
        """One plan per group; equal ones are kept once."""
        different: list[Plan] = []
        numbers = []
        for plan in plans:
            if plan not in different:
                different.append(plan)
            numbers.append(different.index(plan))
        return cls(tuple(different), tuple(numbers))

    def __len__(self) -> int:
        """The number of groups."""
        return len(self.groups)

    def __getitem__(self, group: int) -> Plan:
        """The plan of a group."""
        return self.plans[self.groups[group]]

    @property
    def nfe(self) -> int:
        """Network calls of a whole sample, exactly; finished positions are remembered within them."""
        return sum(self.plans[number].nfe for number in self.groups)

    @property
    def draws(self) -> int:
        """Noise draws of a whole sample after the prior's; 0 where all plans are deterministic."""
        return sum(self.plans[number].draws for number in self.groups)

    @property
    def solver(self) -> str:
        """Name and options of the solver."""
        return self.plans[0].solver

    @property
    def path(self) -> str:
        """The path it was compiled for."""
        return self.plans[0].path

    def __str__(self) -> str:
        """One line for the whole, then the table of each plan with the groups that take it."""
        lines = [f"{self.solver} on {self.path}: {len(self)} groups, {self.nfe} NFE, {self.draws} noise draws"]
        for number, plan in enumerate(self.plans):
            taken = [str(group) for group, own in enumerate(self.groups) if own == number]
            lines += [f"groups {_short(taken)}:", str(plan)]
        return "\n".join(lines)

    def to_json(self) -> str:
        """As JSON text; floats keep every bit."""
        bodies = [plan.body(lambda array: array.tolist()) for plan in self.plans]
        return json.dumps({"format": FORMAT, "groups": list(self.groups), "plans": bodies}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> BlockPlan:
        """The plan that :meth:`to_json` wrote.

        Raises:
            FileFormatError: the text is not JSON, or no block plan of this format.
        """
        fix = "write one with BlockPlan.to_json()"
        try:
            body = parse_json(text, Place("the text"), "a block plan", fix)
            if body["format"] != FORMAT:
                raise FileFormatError(
                    f"the block plan has format {body['format']!r}, but this anydiff reads {FORMAT}; make it anew."
                )
            plans = tuple(Plan.from_json(json.dumps(each)) for each in body["plans"])
            return cls(plans, tuple(natural_number("group", each, minimum=0) for each in body["groups"]))
        except FileFormatError:
            raise
        except (AnydiffError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileFormatError(f"the text is not a block plan ({error!r}); {fix}.") from error


def _short(groups: Sequence[str]) -> str:
    return ", ".join(groups if len(groups) <= 6 else [*groups[:3], "...", groups[-1]])


@dataclass(frozen=True)
class Budget:
    """What a plan spends, and how: ``nfe``, ``grid`` and ``end`` of :func:`anydiff.samplers.as_sampler`; ``nfe`` is for
    the whole sample."""

    nfe: int | None = None
    grid: str | Sequence[float] | None = None
    end: str | None = None


def compile_blocks(
    solver: str | Solver | Plan | None,
    path: Path,
    order: Order,
    budget: Budget | int | None = None,
    options: Mapping[str, Any] | None = None,
    guided: bool = False,
) -> BlockPlan:
    """The plan of a whole sample that spends at most ``budget`` network calls, split evenly over the groups.

    The first groups get one call more where the budget does not divide. A :class:`~anydiff.solvers.Plan` is taken for
    every group; other arguments are those of :func:`anydiff.samplers.as_sampler`.

    Raises:
        AnydiffError: the budget is too small for the number of groups, or the sampler chooses its steps on the way.
    """
    asked = budget if isinstance(budget, Budget) else Budget(budget)
    nfe = DEFAULT_NFE * order.count if asked.nfe is None else natural_number("nfe", asked.nfe)
    share, more = divmod(nfe, order.count)

    def plan(calls: int) -> Plan:
        given = asked.nfe if isinstance(solver, Plan) else calls
        made = as_sampler(solver, path, given, asked.grid, asked.end, dict(options or {}), guided)
        if not isinstance(made, PlanSampler):
            raise NotApplicableError(
                f"{solver!r} chooses its own steps, but blocks are drawn by plans; name a solver that compiles to one "
                "(see `anydiff solvers`)."
            )
        return made.plan

    if isinstance(solver, Plan):
        return BlockPlan.of([plan(0)] * order.count)
    try:
        fewer = plan(share) if share else None
    except NotApplicableError:
        fewer = None
    if fewer is None:
        least = _least(plan, share)
        raise NotApplicableError(
            f"nfe is {nfe} for a whole sample of {order.count} groups, but the solver needs at least {least} calls "
            f"for each; raise nfe to {least * order.count} or more."
        )
    plans = [plan(share + 1)] * more if more else []
    return BlockPlan.of([*plans, *[fewer] * (order.count - more)])


def _least(plan: Any, above: int) -> int:
    """The least number of calls of one group that compiles."""
    for calls in range(above + 1, above + 64):
        try:
            plan(calls)
        except NotApplicableError:
            continue
        return calls
    raise AnydiffError("the solver compiles for no number of calls; choose another.")


@dataclass(frozen=True)
class BlockSampler(Sampler):
    """Runs a block plan: the outer loop over the order of the denoiser, a plan for each group.

    Attributes:
        plan: of a whole sample.
    """

    plan: BlockPlan

    @property
    def nfe(self) -> int:  # type: ignore[override]
        """Network calls of a whole sample."""
        return self.plan.nfe

    def check(self, request: SampleRequest, denoiser: Denoiser) -> None:
        """Refuse a denoiser without an order or with another number of groups, and states to start from."""
        order = order_of(denoiser)
        if len(self.plan) != order.count:
            raise AnydiffError(
                f"the plan has {len(self.plan)} groups, but the order of the denoiser has {order.count}; compile it "
                "for this model."
            )
        for name, value in (("start", request.start), ("noise", request.noise)):
            if value is not None:
                raise NotApplicableError(
                    f"{name} is given, but a model with an order begins each block at noise of its own; leave {name} "
                    "out, and give what is known as known=."
                )
        for plan in self.plan.plans:
            PlanSampler(plan).check(request, denoiser)

    def warn(self, denoiser: Denoiser, layers: Sequence[Wrapper], condition: Conditioning) -> None:
        """Warn where a block is known in part; whole blocks that are known are shown clean, which is exact."""
        if condition.known is None:
            return
        mask = condition.known.mask.bool()
        order = order_of(denoiser)
        for places in order.groups() if order.shared else []:
            here = mask[:, places].flatten(1)
            if bool((here.any(1) & ~here.all(1)).any()):
                warn_approximate(denoiser, layers, condition)
                return

    def draw(self, chunk: Chunk) -> Tensor:
        """The samples ``[B, L, *element]`` of one chunk."""
        order = order_of(chunk.denoiser)
        inner = PlanPerGroup(self.plan, chunk)
        values, known = torch.zeros_like(chunk.first), torch.zeros(chunk.first.shape[:2], dtype=torch.bool)
        if chunk.condition.known is not None:
            mask = chunk.condition.known.mask.bool()
            known = mask.flatten(2).all(2) if mask.ndim > 2 else mask
            values = torch.where(mask, chunk.condition.known.values.to(values), 0)
        groups = order.groups(chunk.request.seed, chunk.samples)
        return fill(inner, values, known.to(values.device), groups).values


def order_of(denoiser: Denoiser) -> Order:
    """The order of ``denoiser``.

    Raises:
        AnydiffError: it has none.
    """
    if denoiser.order is None:
        raise NotApplicableError(
            f"{type(denoiser).__name__} has no order of positions, so it is drawn at once; sample it with a plan."
        )
    return denoiser.order


class PlanPerGroup(Inner):
    """The inner sampler: each group is drawn by its plan, from the denoiser given what is finished.

    Args:
        plan: of the whole sample.
        chunk: its rows.
    """

    def __init__(self, plan: BlockPlan, chunk: Chunk) -> None:
        self.plan, self.chunk = plan, chunk
        self.past = Past(len(chunk.samples))
        self.calls = 0
        spec = chunk.denoiser.spec
        self.leaf = (StateSpec.single(tuple(chunk.first.shape[1:])) if spec is None else spec).leaves[0]

    def begin(self, values: Tensor, known: Tensor) -> None:
        """Forget everything."""
        self.past, self.calls = Past(len(values)), 0

    def draw(self, group: Group) -> Drawn:
        """Run the plan of the group on the rows that lack something."""
        chunk, everybody = self.chunk, len(group.rows) == len(group.values)
        past = self.past if everybody else self.past.of_rows(group.rows)
        places = group.positions if group.positions.ndim == 1 else group.positions[group.rows]
        condition = chunk.condition if everybody else chunk.condition.rows(group.rows)
        condition = at_positions(condition, places)
        spec = StateSpec([replace(self.leaf, shape=tuple(group.here(group.values).shape[1:]))])
        samples = [chunk.samples[row] for row in group.rows.tolist()]
        first = int(group.positions[0]) if group.positions.ndim == 1 else f"turn {group.turn}"
        seed = derived_seed(chunk.request.seed, f"autoregressive/{first}")
        denoiser, plan = chunk.denoiser.with_past(past, places, group.turn), self.plan[group.turn]
        noise = noise_source(spec, seed, denoiser.path, chunk.request.temperature, None)
        begin = noise.draw(samples, 0, chunk.first.dtype, chunk.first.device)
        begin = denoiser.path.first(begin, condition).to(chunk.first.dtype)
        made = execute(
            plan, denoiser, begin, noise=noise, condition=condition, callbacks=self._counted(plan),
            operations=chunk.operations,
        )  # fmt: skip
        self.calls += plan.nfe
        return Drawn(with_known_entries(made, condition))

    def commit(self, turn: int, positions: Tensor, values: Tensor) -> None:
        """Remember, when the next group is drawn."""
        self.past.commit(Written(values, positions, turn))

    def _counted(self, plan: Plan) -> list[Callback]:
        """The callbacks, told of the calls of the whole sample."""
        before, total = self.calls, self.plan.nfe

        def told(callback: Callback) -> Callback:
            def tell(step: Step) -> None:
                callback(replace(step, index=before + step.index, total=total))

            return tell

        return [told(each) for each in self.chunk.callbacks]


def at_positions(condition: Conditioning, positions: Tensor) -> Conditioning:
    """The condition of a group: of what has one entry per position (known entries, sources), these positions."""
    known = condition.known
    if known is not None:
        here = Known(at(known.values, positions), at(known.mask, positions))
        known = here if bool(here.mask.any()) else None  # nothing of the group: nothing to keep, and nothing to pay for
    sources = {name: at(value, positions) for name, value in condition.sources.items()}
    return replace(condition, known=known, sources=sources)
