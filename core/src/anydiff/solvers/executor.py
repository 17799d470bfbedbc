"""The one executor: runs any plan, in place, with registers that live exactly as long as they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError, NonFiniteError, UnknownNameError
from anydiff.solvers.operations import OPERATIONS
from anydiff.solvers.plan import Apply, Coefficient, Combine, Evaluate, Instruction, Noise, Plan

#: Entries updated at a time. A Combine of k terms makes k passes over its registers; blocks keep huge states near the
#: cache between the passes (measured: 1.2 to 1.7 times faster at 1.6e7 floats). Smaller blocks cost more in calls than
#: they save: 1.5 times the time at 1e6 floats with 2^16.
BLOCK = 1 << 20


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
        total: number of network calls of the whole plan.
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
    samples: Sequence[int] | None = None,
    condition: Mapping[str, Tensor] | None = None,
    constants: Mapping[str, Tensor] | None = None,
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
        samples: index of each row in its sample set (keys of the random streams); ``range(B)`` by default.
        condition: handed through to the denoiser.
        constants: the tensors that the plan names in ``plan.constants``; what is not here is taken from ``condition``.
        operations: functions ``f(*registers, t=..., **options) -> Tensor`` for Apply instructions, beside (or in place
            of) those of :mod:`anydiff.solvers.operations`.
        callbacks: called after each network call with a :class:`Step`.
        differentiable: keep the graph (network calls are checkpointed) instead of updating in place.

    Raises:
        AnydiffError: the plan needs noise, a constant or an operation that was not given.
        NonFiniteError: the result holds a NaN or an infinity; the message names the first bad tensor.
    """

    def machine(callbacks: Sequence[Callback], watch: bool = False) -> _Machine:
        out = _Machine(
            plan, denoiser, start, noise, samples, dict(condition or {}), {**OPERATIONS, **(operations or {})},
            callbacks, differentiable, watch,
        )  # fmt: skip
        # A constant may come with the condition: the network is usually conditioned on it too.
        out.load_constants({**(condition or {}), **(constants or {})})
        return out

    with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
        result = machine(callbacks).run()
        if not bool(torch.isfinite(result).all()):
            # A second run looks at every value; the first is spared the test, which would wait for the device.
            machine((), watch=True).run()
            raise NonFiniteError(f"the sample of {plan.solver} is not finite, though it was when run again.")
    return result


class _Machine:
    def __init__(
        self,
        plan: Plan,
        denoiser: Denoiser,
        start: Tensor,
        noise: DrawsNoise | None,
        samples: Sequence[int] | None,
        condition: dict[str, Tensor],
        operations: dict[str, Operation],
        callbacks: Sequence[Callback],
        differentiable: bool,
        watch: bool,
    ) -> None:
        self.plan = plan
        self.denoiser = denoiser
        self.noise = noise
        self.samples = range(start.shape[0]) if samples is None else samples
        self.condition = condition
        self.operations = operations
        self.callbacks = callbacks
        self.differentiable = differentiable
        self.watch = watch
        self.total = plan.nfe
        self.calls = 0
        self.registers: dict[str, Tensor] = {Plan.START: start}
        # Buffers the executor itself allocated: only these are ever written to.
        self.owned: set[str] = set()
        self.free: list[Tensor] = []
        self.like = start
        self.arrays: dict[int, Tensor] = {}

    def load_constants(self, constants: Mapping[str, Tensor]) -> None:
        for name in self.plan.constants:
            if name not in constants:
                raise AnydiffError(f"the plan needs the constant {name!r}; pass constants={{{name!r}: tensor}}.")
            self.registers[name] = constants[name]

    def run(self) -> Tensor:
        last = self.plan.last_uses()
        if self.watch:
            self._check("the start", self.registers[Plan.START], self.plan.nodes[0])
        for index, instruction in enumerate(self.plan.instructions):
            dying = [r for r in dict.fromkeys((*instruction.inputs, instruction.out)) if last[r] == index]
            value = self._step(instruction, dying)
            if self.watch:
                self._locate(index, instruction, value)
            for register in dying:
                self._release(register)
            if instruction.out not in dying:
                self.registers[instruction.out] = value
        result = self.registers[self.plan.result]
        # What the executor did not allocate belongs to somebody else: the caller, or the denoiser.
        return result if self.plan.result in self.owned or self.differentiable else result.clone()

    def _locate(self, index: int, instruction: Instruction, value: Tensor) -> None:
        if isinstance(instruction, Evaluate):
            what = f"the {instruction.kind} prediction of network call {self.calls} of {self.total}"
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

    def _step(self, instruction: Instruction, dying: list[str]) -> Tensor:
        if isinstance(instruction, Combine):
            return self._differentiable_sum(instruction) if self.differentiable else self._combine(instruction, dying)
        if isinstance(instruction, Evaluate):
            return self._evaluate(instruction)
        if isinstance(instruction, Noise):
            if self.noise is None:
                raise AnydiffError(f"{self.plan.solver} draws noise, but noise is None; pass a NoiseSource.")
            return self.noise.draw(self.samples, instruction.draw, self.like.dtype, self.like.device)
        return self._apply(instruction)

    def _evaluate(self, instruction: Evaluate) -> Tensor:
        state = self.registers[instruction.state]
        if self.differentiable:
            prediction: Tensor = checkpoint(self._predict, state, instruction, use_reentrant=False)
        else:
            prediction = _own(self._predict(state, instruction), (state,))
        if prediction.shape != state.shape:
            raise AnydiffError(
                f"the denoiser returned the shape {tuple(prediction.shape)} for a state of shape {tuple(state.shape)}; "
                "it must return one prediction per entry."
            )
        self.calls += 1
        if self.callbacks:
            step = Step(self.calls, self.total, instruction.t, state, prediction, instruction.kind)
            for callback in self.callbacks:
                callback(step)
        return prediction

    def _predict(self, state: Tensor, instruction: Evaluate) -> Tensor:
        return self.denoiser.predict(state, instruction.t, instruction.kind, **self.condition)  # type: ignore[arg-type]

    def _apply(self, instruction: Apply) -> Tensor:
        if instruction.function not in self.operations:
            raise UnknownNameError("operation", instruction.function, self.operations)
        operation = self.operations[instruction.function]
        inputs = [self.registers[r] for r in instruction.inputs]
        value = operation(*inputs, t=instruction.t, **instruction.options)
        return value if self.differentiable else _own(value, inputs)

    def _release(self, register: str) -> None:
        buffer = self.registers.pop(register, None)
        if register in self.owned and buffer is not None:
            self.owned.remove(register)
            self.free.append(buffer)

    def _differentiable_sum(self, instruction: Combine) -> Tensor:
        terms: list[Tensor] = [self._factor(c) * self.registers[r] for r, c in instruction.terms]
        return sum(terms[1:], terms[0])

    def _combine(self, instruction: Combine, dying: list[str]) -> Tensor:
        terms = list(instruction.terms)
        reuse = next((i for i, (r, _) in enumerate(terms) if r in dying and r in self.owned), None)
        if reuse is not None:
            terms.insert(0, terms.pop(reuse))
            target = self.registers.pop(terms[0][0])
            self.owned.remove(terms[0][0])
            sources = [target, *(self.registers[r] for r, _ in terms[1:])]
        else:
            target = (
                self.free.pop() if self.free else torch.empty_like(self.like, memory_format=torch.contiguous_format)
            )
            sources = [self.registers[r] for r, _ in terms]
        weighted_sum(target, sources, [self._factor(c) for _, c in terms])
        self.owned.add(instruction.out)
        return target

    def _factor(self, coefficient: Coefficient) -> Any:
        if not isinstance(coefficient, np.ndarray):
            return coefficient
        key = id(coefficient)
        if key not in self.arrays:
            self.arrays[key] = torch.from_numpy(coefficient).to(dtype=self.like.dtype, device=self.like.device)
        return self.arrays[key]


def _own(value: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """``value``, copied if it shares memory with an input: functions may return an argument, whose buffer is reused."""
    storage = value.untyped_storage().data_ptr()
    return value.clone() if any(storage == x.untyped_storage().data_ptr() for x in inputs) else value


def weighted_sum(target: Tensor, sources: Sequence[Tensor], factors: Sequence[float | Tensor]) -> None:
    """``target <- Σ factors[i] sources[i]`` in place, in cache-sized blocks; ``sources[0]`` may be ``target``."""
    scalar = all(not isinstance(factor, Tensor) for factor in factors)
    # A source may be broadcast (a constant of one row), which blocks cannot follow.
    aligned = all(source.is_contiguous() and source.shape == target.shape for source in sources)
    if scalar and aligned and target.numel() > BLOCK and target.is_cpu:
        flat, flats = target.view(-1), [source.view(-1) for source in sources]
        for begin in range(0, flat.numel(), BLOCK):
            block = slice(begin, begin + BLOCK)
            _accumulate(flat[block], [source[block] for source in flats], factors)
    else:
        _accumulate(target, sources, factors)


def _accumulate(target: Tensor, sources: Sequence[Tensor], factors: Sequence[Any]) -> None:
    if isinstance(factors[0], Tensor) or factors[0] != 1.0:
        torch.mul(sources[0], factors[0], out=target)
    elif target.data_ptr() != sources[0].data_ptr():
        target.copy_(sources[0])
    for source, factor in zip(sources[1:], factors[1:], strict=True):
        if isinstance(factor, Tensor):
            target.addcmul_(source, factor.expand_as(source))
        else:
            target.add_(source, alpha=factor)
