"""A plan that stops at any instruction, and goes on: plans that begin alike share the calls of their beginning.

A search over the plans of one sampler runs their common beginning once, and each plan from there on::

    begun = advance(plan, denoiser, start, shared(plan, other))
    samples = [resume(each, denoiser, begun) for each in (plan, other)]

What comes out is what :func:`~anydiff.solvers.executor.execute` gives, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError
from anydiff.solvers.executor import Callback, DrawsNoise, Operation, _Job, _Machine
from anydiff.solvers.plan import Instruction, Plan
from anydiff.states import UNCONDITIONAL, Conditioning


@dataclass(frozen=True)
class Snapshot:
    """A run of a plan that stands before one of its instructions.

    Attributes:
        done: the instructions that were run.
        registers: all that they wrote, the start and the constants; not to be changed.
        calls: network calls so far.
    """

    done: tuple[Instruction, ...]
    registers: Mapping[str, Tensor]
    calls: int


def shared(first: Plan, second: Plan) -> int:
    """With how many instructions both plans begin."""
    pairs = zip(first.instructions, second.instructions, strict=False)
    return next(
        (k for k, (a, b) in enumerate(pairs) if a != b),
        min(map(len, (first.instructions, second.instructions))),
    )


@torch.no_grad()
def advance(
    plan: Plan, denoiser: Denoiser, start: Tensor | Snapshot, until: int, *, noise: DrawsNoise | None = None,
    condition: Conditioning = UNCONDITIONAL, operations: Mapping[str, Operation] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Snapshot:  # fmt: skip
    """Run ``plan`` up to (not with) instruction number ``until`` from a state, or from where a snapshot stands.

    Every register is kept, so that any plan with the same beginning can go on from here: one state of memory each.

    Raises:
        AnydiffError: ``until`` is no instruction of the plan, or the snapshot is of a plan that begins otherwise.
    """
    job = _Job(denoiser, noise, condition, dict(operations or {}), callbacks, False, False)
    machine, begin = _machine(plan, start, job)
    if not begin <= until <= len(plan.instructions):
        raise AnydiffError(f"until is {until}, but must be from {begin} to {len(plan.instructions)}.")
    machine.advance(begin, until, keeps=True)
    return Snapshot(plan.instructions[:until], dict(machine.registers), machine.calls)


@torch.no_grad()
def resume(
    plan: Plan, denoiser: Denoiser, begun: Snapshot, *, noise: DrawsNoise | None = None,
    condition: Conditioning = UNCONDITIONAL, operations: Mapping[str, Operation] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Tensor:  # fmt: skip
    """The sample ``[B, *shape]`` of ``plan``, from where a snapshot stands; arguments as for :func:`advance`."""
    job = _Job(denoiser, noise, condition, dict(operations or {}), callbacks, False, False)
    machine, begin = _machine(plan, begun, job)
    return machine.run(begin)


def _machine(plan: Plan, start: Tensor | Snapshot, job: Any) -> tuple[_Machine, int]:
    if isinstance(start, Tensor):
        return _Machine(plan, start, job), 0
    begin = len(start.done)
    begins = zip(start.done, plan.instructions[:begin], strict=False)
    if len(plan.instructions) < begin or not all(a == b for a, b in begins):
        raise AnydiffError("the snapshot is of a plan that begins otherwise; run this plan from its start.")
    machine = _Machine(plan, start.registers[Plan.START], job)
    machine.registers.update(start.registers)
    machine.calls = start.calls
    return machine, begin
