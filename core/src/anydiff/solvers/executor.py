"""The one executor: runs any plan, in place, with registers that live exactly as long as they are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError, NonFiniteError
from anydiff.solvers.operations import find_operation
from anydiff.solvers.plan import (
    Apply,
    Coefficient,
    Combine,
    Evaluate,
    Instruction,
    Noise,
    Plan,
    Transition,
    written,
)
from anydiff.solvers.transitions import transition
from anydiff.states import UNCONDITIONAL, Conditioning

#: Entries updated at a time. A Combine of k terms makes k passes over its registers; blocks keep huge states near the
#: cache between the passes (measured: 1.2 to 1.7 times faster at 1.6e7 floats). Smaller blocks cost more in calls than
#: they save: 1.5 times the time at 1e6 floats with 2^16.
BLOCK = 1 << 20

#: Entries from which on two terms are added in one pass over memory; below, the call itself is what costs.
FUSED = 1 << 14


class DrawsNoise(Protocol):
    """What the executor asks for noise: :class:`~anydiff.states.NoiseSource`, or a stored or edited replay."""

    def draw(self, samples: Sequence[int], draw: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Noise of unit scale ``[len(samples), *shape]``."""
        ...


@dataclass(frozen=True)
class Step:
    """What a callback sees after each network call. Clone a tensor to keep it: registers are reused.

    Attributes:
        index: number of network calls made, this one included.
        total: number of network calls of the whole plan; 0 where a sampler chooses its own steps.
        t: the time of this call.
        state: the state the network saw.
        prediction: what it returned, of kind ``kind``.
        kind: kind of prediction.
    """

    index: int
    total: int
    t: float
    state: Tensor
    prediction: Tensor
    kind: str


Callback = Callable[[Step], None]
Operation = Callable[..., Tensor]


def execute(
    plan: Plan,
    denoiser: Denoiser,
    start: Tensor,
    *,
    noise: DrawsNoise | None = None,
    condition: Conditioning = UNCONDITIONAL,
    operations: Mapping[str, Operation] | None = None,
    callbacks: Sequence[Callback] = (),
    differentiable: bool = False,
) -> Tensor:
    """Run ``plan`` and return the sample ``[B, *shape]``.

    Args:
        plan: the compiled sampler.
        denoiser: what every Evaluate calls.
        start: the state at the plan's first node ``[B, *shape]``; it is not changed.
        noise: source of the noise draws; needed by stochastic plans.
        condition: handed through to the denoiser. Its ``index`` is the index of each row in its sample set (keys of the
            random streams; ``range(B)`` by default), and its ``sources``, or else its conditions of that name, are the
            tensors that the plan names in ``plan.constants``.
        operations: functions ``f(*registers, t=..., **options) -> Tensor`` for Apply instructions, beside (or in place
            of) those of :mod:`anydiff.solvers.operations` and of plugins.
        callbacks: called after each network call with a :class:`Step`.
        differentiable: keep the graph (network calls are checkpointed) instead of updating in place.

    Raises:
        AnydiffError: the plan needs noise, a constant or an operation that was not given.
        NonFiniteError: the result holds a NaN or an infinity; the message names the first bad tensor.
    """

    def machine(callbacks: Sequence[Callback], watch: bool = False) -> _Machine:
        job = _Job(denoiser, noise, condition, dict(operations or {}), callbacks, differentiable, watch)
        return _Machine(plan, start, job)

    with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
        result = machine(callbacks).run()
        if not _finite(result):
            # A second run looks at every value; the first is spared the test, which would wait for the device.
            machine((), watch=True).run()
            raise NonFiniteError(f"the sample of {plan.solver} is not finite, though it was when run again.")
    return result


@dataclass(frozen=True)
class _Job:
    """What :func:`execute` was given beside the plan and its start; ``watch``: look at every value."""

    denoiser: Denoiser
    noise: DrawsNoise | None
    condition: Conditioning
    operations: dict[str, Operation]
    callbacks: Sequence[Callback]
    differentiable: bool
    watch: bool


class _Machine:
    def __init__(self, plan: Plan, start: Tensor, job: _Job) -> None:
        self.plan = plan
        self.job = job
        index = job.condition.index
        self.samples: Sequence[int] = range(start.shape[0]) if index is None else index.tolist()
        self.calls = 0
        self.like = start
        self.arrays: dict[int, Tensor] = {}
        self.registers: dict[str, Tensor] = {Plan.START: start}
        # A known source may be a condition: the network is usually conditioned on it too.
        self._load_constants({**job.condition.given, **job.condition.sources})
        # Only these, which the executor itself allocates, are ever written to.
        self.buffers: dict[int, Tensor] = {}

    def _load_constants(self, constants: Mapping[str, Tensor]) -> None:
        for name in self.plan.constants:
            if name not in constants:
                raise AnydiffError(
                    f"the plan needs the constant {name!r}; give it as a source of the condition: "
                    f"Conditioning(sources={{{name!r}: tensor}})."
                )
            self.registers[name] = constants[name]
        self.registers.update((name, self._factor(value)) for name, value in self.plan.values.items())

    def run(self, begin: int = 0) -> Tensor:
        """The result, of the instructions from number ``begin`` on."""
        if self.job.watch:
            self._check("the start", self.registers[Plan.START], self.plan.nodes[0])
        self.advance(begin, len(self.plan.instructions))
        result = self.registers[self.plan.result]
        # What the executor did not allocate belongs to somebody else: the caller, or the denoiser.
        own = any(result is buffer for buffer in self.buffers.values())
        return result if own or self.job.differentiable else result.clone()

    def advance(self, begin: int, end: int, keeps: bool = False) -> None:
        """Run instructions ``begin`` to ``end`` - 1; with ``keeps`` no register is forgotten or written over."""
        for index, row in enumerate(_rows(self.plan)[begin:end], begin):
            value = self._step(row)
            if self.job.watch:
                self._locate(index, row.instruction, value)
            self.registers[row.instruction.out] = value
            if keeps:
                self.buffers.pop(row.buffer, None)
            for register in () if keeps else row.dying:
                del self.registers[register]

    def _locate(self, index: int, instruction: Instruction, value: Tensor) -> None:
        if isinstance(instruction, Evaluate):
            what = f"the {instruction.kind} prediction of network call {self.calls} of {self.plan.nfe}"
        elif isinstance(instruction, Noise):
            what = f"noise draw {instruction.draw}"
        else:
            what = f"the state {instruction.out} of instruction {index}"
        earlier = [i.t for i in self.plan.instructions[: index + 1] if isinstance(i, Evaluate)]
        self._check(what, value, earlier[-1] if earlier else self.plan.nodes[0])

    def _check(self, what: str, value: Tensor, t: float) -> None:
        bad = (~torch.isfinite(value)).flatten(1).any(dim=1)
        if bool(bad.any()):
            rows = [sample for sample, is_bad in zip(self.samples, bad.tolist(), strict=True) if is_bad]
            raise NonFiniteError(
                f"{what}, at t={t:g}, is not finite in {len(rows)} of {len(bad)} samples (first: sample {rows[0]}); "
                f"check it there, or sample in float32 if the state is {value.dtype}."
            )

    def _step(self, row: _Row) -> Tensor:
        instruction = row.instruction
        if isinstance(instruction, Combine):
            return self._differentiable_sum(instruction) if self.job.differentiable else self._combine(row)
        if isinstance(instruction, Evaluate):
            return self._evaluate(instruction)
        if isinstance(instruction, Noise):
            drawn = self._draw(instruction.draw, self.like.dtype)
            return drawn.to(self.like.dtype) if self.like.is_floating_point() else drawn
        if isinstance(instruction, Transition):
            return transition(instruction, self.registers, self._draw(instruction.draw, torch.float64))
        return self._apply(instruction)

    def _draw(self, draw: int, dtype: torch.dtype) -> Tensor:
        if self.job.noise is None:
            raise AnydiffError(f"{self.plan.solver} draws noise, but noise is None; pass a NoiseSource.")
        return self.job.noise.draw(self.samples, draw, dtype, self.like.device)

    def _evaluate(self, instruction: Evaluate) -> Tensor:
        state = self.registers[instruction.state]
        if instruction.also:
            prediction = self._several(state, instruction)
        elif self.job.differentiable:
            prediction = checkpoint(self._predict, state, instruction, use_reentrant=False)
        else:
            prediction = _own(self._predict(state, instruction), (state,))
        if prediction.shape != self.job.denoiser.path.prediction_shape(state.shape):
            raise AnydiffError(
                f"the denoiser returned the shape {tuple(prediction.shape)} for a state of shape {tuple(state.shape)}; "
                "it must return one prediction per entry."
            )
        self.calls += 1
        if self.job.callbacks:
            step = Step(self.calls, self.plan.nfe, instruction.t, state, prediction, instruction.kind)
            for callback in self.job.callbacks:
                callback(step)
        return prediction

    def _several(self, state: Tensor, instruction: Evaluate) -> Tensor:
        """All predictions of one call; the first is returned, the others go to their registers."""

        def call(state: Tensor) -> tuple[Tensor, ...]:
            return self.job.denoiser.predictions(state, instruction.t, instruction.kinds, self.job.condition)  # type: ignore[arg-type]

        if self.job.differentiable:
            made = checkpoint(call, state, use_reentrant=False)
        else:
            taken: list[Tensor] = []
            for value in call(state):
                taken.append(_own(value, (state, *taken)))
            made = tuple(taken)
        self.registers.update(zip(instruction.outs[1:], made[1:], strict=True))
        first: Tensor = made[0]
        return first

    def _predict(self, state: Tensor, instruction: Evaluate) -> Tensor:
        return self.job.denoiser.predict(state, instruction.t, instruction.kind, self.job.condition)  # type: ignore[arg-type]

    def _apply(self, instruction: Apply) -> Tensor:
        operation = find_operation(instruction.function, self.job.operations)
        inputs = [self.registers[r] for r in instruction.inputs]
        value = operation(*inputs, t=instruction.t, **instruction.options)
        return value if self.job.differentiable else _own(value, inputs)

    def _differentiable_sum(self, instruction: Combine) -> Tensor:
        terms: list[Tensor] = [self._factor(c) * self.registers[r] for r, c in instruction.terms]
        return sum(terms[1:], terms[0]).expand_as(self.like)

    def _combine(self, row: _Row) -> Tensor:
        sources = [self.registers[register] for register in row.sources]
        target = self.buffers.get(row.buffer)
        if target is None:
            target = torch.empty_like(self.like, memory_format=torch.contiguous_format)
            self.buffers[row.buffer] = target
        if row.arrays:
            factors: Sequence[Any] = [self._factor(c) for c in row.factors]
        else:
            factors = row.small_factors(target.dtype) if target.numel() < FUSED and target.is_cpu else row.factors
        weighted_sum(target, sources, factors)
        return target

    def _factor(self, coefficient: Coefficient) -> Any:
        if not isinstance(coefficient, np.ndarray):
            return coefficient
        key = id(coefficient)
        if key not in self.arrays:
            self.arrays[key] = torch.from_numpy(coefficient).to(dtype=self.like.dtype, device=self.like.device)
        return self.arrays[key]


@dataclass(frozen=True, slots=True)
class _Row:
    """An instruction with everything about it that no run changes.

    ``dying`` are the registers that are forgotten after it. A Combine writes the buffer of number ``buffer``, which is
    that of ``sources[0]`` if this register dies here and has one; ``arrays`` says whether a factor is an array.
    """

    instruction: Instruction
    dying: tuple[str, ...]
    buffer: int = -1
    sources: tuple[str, ...] = ()
    factors: tuple[Any, ...] = ()
    arrays: bool = False
    made: dict[torch.dtype, tuple[Any, ...]] = field(default_factory=dict)

    def small_factors(self, dtype: torch.dtype) -> tuple[Any, ...]:
        """``factors`` with the first one as a tensor without axes, made once.

        On small states multiplying by a number costs more than twice as much, for wrapping it in a tensor each time.
        In half precision a number is not rounded to the state's type first, so there it stays a number.
        """
        found = self.made.get(dtype)
        if found is None:
            first = self.factors[0]
            if first != 1.0 and dtype in (torch.float32, torch.float64):
                first = torch.tensor(first, dtype=dtype)
            found = self.made[dtype] = (first, *self.factors[1:])
        return found


def _rows(plan: Plan) -> tuple[_Row, ...]:
    """The rows of the plan, worked out once and kept with it."""
    rows: tuple[_Row, ...] | None = vars(plan).get("_rows")
    if rows is None:
        rows = vars(plan)["_rows"] = tuple(_layout(plan))
    return rows


def _layout(plan: Plan) -> Iterator[_Row]:
    last = plan.last_uses()
    buffers: dict[str, int] = {}
    free: list[int] = []
    count = 0
    for index, instruction in enumerate(plan.instructions):
        dying = tuple(r for r in dict.fromkeys((*instruction.inputs, *written(instruction))) if last[r] == index)
        if isinstance(instruction, Combine):
            terms = sorted(instruction.terms, key=lambda term: not (term[0] in dying and term[0] in buffers))
            if terms[0][0] in dying and terms[0][0] in buffers:
                buffer = buffers.pop(terms[0][0])
            elif free:
                buffer = free.pop()
            else:
                buffer, count = count, count + 1
            buffers[instruction.out] = buffer
            sources, factors = zip(*terms, strict=True)
            yield _Row(instruction, dying, buffer, sources, factors, any(isinstance(f, np.ndarray) for f in factors))
        else:
            yield _Row(instruction, dying)
        free.extend(buffers.pop(register) for register in dying if register in buffers)


def _finite(value: Tensor) -> bool:
    """Whether every entry is finite: by its extremes, which NaN and infinity reach, in one pass and no memory."""
    if value.numel() == 0:
        return True
    low, high = torch.aminmax(value.detach())
    return math.isfinite(low) and math.isfinite(high)


def _own(value: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """``value``, copied if it shares memory with an input: functions may return an argument, whose buffer is reused."""
    storage = value.untyped_storage().data_ptr()
    for tensor in inputs:
        if tensor.untyped_storage().data_ptr() == storage:
            return value.clone()
    return value


def weighted_sum(target: Tensor, sources: Sequence[Tensor], factors: Sequence[float | Tensor]) -> None:
    """``target <- Σ factors[i] sources[i]`` in place, in cache-sized blocks; ``sources[0]`` may be ``target``."""
    plain = target.numel() >= FUSED and target.is_cpu and not any(isinstance(factor, Tensor) for factor in factors)
    # A source may be broadcast (a constant of one row), which blocks cannot follow.
    if not plain or not all(source.is_contiguous() and source.shape == target.shape for source in sources):
        return _accumulate(target, sources, factors)
    flats = [source.view(-1) for source in (target, *sources)]
    if target.numel() <= BLOCK:
        return _accumulate_fused(flats[0], flats[1:], factors)
    for block, *parts in zip(*(torch.split(flat, BLOCK) for flat in flats), strict=True):
        _accumulate_fused(block, parts, factors)


def _accumulate_fused(target: Tensor, sources: Sequence[Tensor], factors: Sequence[Any]) -> None:
    """As :func:`_accumulate` for vectors and numbers, the first two terms in one pass: a x + b (1 ⊗ y)."""
    if len(sources) == 1:
        return _accumulate(target, sources, factors)
    one = torch.ones(1, dtype=target.dtype)
    torch.addr(sources[0][None], one, sources[1], beta=factors[0], alpha=factors[1], out=target[None])
    for source, factor in zip(sources[2:], factors[2:], strict=True):
        target.add_(source, alpha=factor)


def _accumulate(target: Tensor, sources: Sequence[Tensor], factors: Sequence[Any]) -> None:
    first, factor = sources[0], factors[0]
    if first is not target:
        target.copy_(first)
    if isinstance(factor, Tensor) or factor != 1.0:
        target.mul_(factor)
    for source, factor in zip(sources[1:], factors[1:], strict=True):
        if isinstance(factor, Tensor):
            target.addcmul_(source, factor)
        else:
            target.add_(source, alpha=factor)
