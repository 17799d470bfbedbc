"""DPM-Solver-12 and DPM-Solver-23: exponential Runge-Kutta pairs whose step in λ follows an error estimate.

Lu et al., "DPM-Solver", NeurIPS 2022 (arXiv 2206.00927), appendix C. From λ_s a step of length h makes two states that
share their network calls, x_low of order p - 1 and x_high of order p (p = 2: DDIM and the midpoint; p = 3: the midpoint
form at r = 1/3 and DPM-Solver-3). With δ = max(atol, rtol max(|x_low|, |x_low of the last accepted step|)) entry by
entry,

    E = max over the rows of rms((x_high - x_low) / δ),   accepted if E <= 1,   h <- min(0.9 h E^(-1/p), what is left).

It is no plan, since its steps depend on what it sees (DESIGN 4). A rejected step keeps its first prediction, so it
costs p - 1 calls and not p as published; the steps are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError, NonFiniteError, NotApplicableError, natural_number
from anydiff.paths.product import ProductPath
from anydiff.samplers.sampler import Chunk, Sampler, SampleRequest
from anydiff.solvers.exponential import Known, checked_choice, data_step, exponential_step, inside, noise_step
from anydiff.solvers.program import Node

ENDS = ("clean", "stop")
"""How a sampler ends that knows no budget; see :func:`~anydiff.solvers.compile_plan`."""
Noise = Callable[[Tensor, Node], Tensor]


@dataclass
class AdaptiveDPMSolver(Sampler):
    """DPM-Solver-12 (``order=2``) or DPM-Solver-23 (``order=3``); see the module.

    One step size serves a whole batch, that of its most demanding row; with ``batch_size=1`` a sample does not depend
    on the others.

    Args:
        order: order p of the state that is kept, 2 or 3.
        rtol: relative tolerance.
        atol: absolute tolerance, on the state x; the published value is 2/256 of data in [-1, 1].
        first_step: length of the first trial step in λ.
        max_nfe: network calls at which a solve is given up.
        end: ``"clean"`` makes the half jump to the clean sample with the last prediction, at no call; ``"stop"`` stays
            at the path's ``t_end``.

    Attributes:
        nfe: network calls of the last solve (of its longest batch).
        attempts: steps that were tried there.
        rejected: steps that were tried and not taken.
    """

    order: int = 3
    rtol: float = 0.05
    atol: float = 0.0078
    first_step: float = 0.05
    max_nfe: int = 20_000
    end: str = "clean"
    nfe: int = field(default=0, init=False, compare=False)
    attempts: int = field(default=0, init=False, compare=False)
    rejected: int = field(default=0, init=False, compare=False)

    def __post_init__(self) -> None:
        natural_number("max_nfe", self.max_nfe)
        checked_choice("end rule", self.end, ENDS)
        if self.order not in (2, 3):
            raise AnydiffError(f"order is {self.order}, but must be 2 (DPM-Solver-12) or 3 (DPM-Solver-23).")
        if not (self.rtol >= 0 and self.atol > 0 and self.first_step > 0):
            raise AnydiffError(
                f"rtol is {self.rtol}, atol is {self.atol} and first_step is {self.first_step}, but rtol >= 0 and the "
                "others > 0 are needed."
            )

    def check(self, request: SampleRequest, denoiser: Denoiser) -> None:
        """Refuse product paths, and set the counts to zero."""
        one_level(denoiser)
        self.nfe = self.attempts = self.rejected = 0

    def draw(self, chunk: Chunk) -> Tensor:
        """From x_T to the samples of one chunk.

        Raises:
            AnydiffError: ``max_nfe`` was reached.
            NonFiniteError: the denoiser returned a NaN or an infinity.
        """
        return _Solve(self, chunk).run(chunk.first, self.end == "clean")


def one_level(denoiser: Denoiser) -> None:
    """Refuse paths whose leaves have noise levels of their own."""
    if isinstance(denoiser.path, ProductPath):
        raise NotApplicableError(
            f"the adaptive solver needs one noise level per time, which {denoiser.path!r} lacks; sample by a plan."
        )


class _Solve:
    """The solve of one batch."""

    def __init__(self, solver: AdaptiveDPMSolver, chunk: Chunk) -> None:
        self.solver, self.chunk = solver, chunk
        self.denoiser, self.condition, self.path = chunk.denoiser, chunk.condition, chunk.path
        self.shifted = chunk.shifted()
        self.calls = self.attempts = self.rejected = 0

    @torch.no_grad()
    def run(self, x: Tensor, clean: bool) -> Tensor:
        """From x_T to the sample. Less the known sources of a path, if there are some, it is an ordinary one."""
        first, last = self.path.log_snr_range()
        s, end = Node(self.path, self.path.t_start), Node(self.path, self.path.t_end)
        y: Any = x - self._state_shift(x, s)
        if s.alpha == 0:  # from pure noise λ is infinite: one first-order step to where its range begins
            start, s = s, s.at(first)
            y = data_step(y, self._data(y, start), start, s)  # type: ignore[arg-type]
        end = end if end.log_snr <= last else s.at(last)
        state, node, noise = self._steps(y, s, end, self._noise)
        for name in ("nfe", "attempts", "rejected"):
            most = max(getattr(self.solver, name), self.calls if name == "nfe" else getattr(self, name))
            setattr(self.solver, name, most)
        if not clean:
            return state + self._state_shift(state, end)
        # The part 1/p of the jump D - y/α that a plan's end takes, by the last prediction: D - y/α = -κ^p ε/κ^(p-1).
        p = self.path.noise_law.end_exponent
        jump: float = end.noise_level**p / p / node.noise_level ** (p - 1)
        data = state / end.alpha - jump * noise
        return data if self.shifted is None else data + self.shifted.data(data)

    def _steps(self, x: Any, s: Node, end: Node, predict: Noise) -> tuple[Tensor, Node, Tensor]:
        """The state at ``end``, and the last noise prediction with its node."""
        order, h, previous = self.solver.order, self.solver.first_step, x
        first: Tensor | None = None
        while True:
            left = end.log_snr - s.log_snr
            t = end if h >= left else s.at(s.log_snr + h)
            h = min(h, left)
            first = predict(x, s) if first is None else first
            low, high, node, noise = _pair(x, first, s, t, order, predict)
            error = self._error(low, high, previous)
            self.attempts += 1
            if error <= 1:
                x, s, previous, first = high, t, low, None
                if t is end:
                    return x, node, noise
            else:
                self.rejected += 1
            h = 0.9 * h * error ** (-1 / order) if error > 0 else math.inf

    def _error(self, low: Tensor, high: Tensor, previous: Tensor) -> float:
        scale = torch.clamp(self.solver.rtol * torch.maximum(low.abs(), previous.abs()), min=self.solver.atol)
        error = float(((high - low) / scale).flatten(1).square().mean(1).sqrt().max())
        if not math.isfinite(error):
            raise NonFiniteError("the adaptive solve met a NaN or an infinity; check the denoiser.")
        return error

    def _noise(self, y: Tensor, node: Node) -> Tensor:
        if self.shifted is not None:
            return (y - node.alpha * self._data(y, node)) / node.sigma
        noise = self.denoiser.predict(y, node.t, "noise", self.condition)
        self._count(y, node, noise, "noise")
        return noise

    def _data(self, y: Tensor, node: Node) -> Tensor:
        x = y + self._state_shift(y, node)
        data = self.denoiser(x, node.t, self.condition)
        self._count(x, node, data, "data")
        return data if self.shifted is None else data - self.shifted.data(data)

    def _state_shift(self, like: Tensor, node: Node) -> Tensor | float:
        return 0.0 if self.shifted is None else self.shifted.state(node.t, like)

    def _count(self, state: Tensor, node: Node, prediction: Tensor, kind: str) -> None:
        self.calls += 1
        self.chunk.tell(self.calls, node.t, state, prediction, kind)
        if self.calls > self.solver.max_nfe:
            raise AnydiffError(
                f"the adaptive solve passed max_nfe={self.solver.max_nfe} network calls; raise it or rtol, atol."
            )


def _pair(x: Any, first: Any, s: Node, t: Node, order: int, predict: Noise) -> tuple[Tensor, Tensor, Node, Tensor]:
    """x_low and x_high at t, and the last prediction with its node. The toolbox's rows act on tensors as on forms."""
    low: Any
    high: Any
    near = inside(s, t, 1 / order)
    inner: Any = predict(noise_step(x, first, s, near), near)  # type: ignore[arg-type]
    if order == 2:
        return noise_step(x, first, s, t), noise_step(x, inner, s, t), near, inner  # type: ignore[return-value]
    low = noise_step(x, first + 1.5 * (inner - first), s, t)
    far = inside(s, t, 2 / 3)
    state: Any = exponential_step(x, s, far, [Known(s, first), Known(near, inner)], "noise")
    outer: Any = predict(state, far)
    high = exponential_step(x, s, t, [Known(s, first), Known(far, outer)], "noise")
    return low, high, far, outer
