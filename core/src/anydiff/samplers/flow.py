"""The probability-flow ODE of any path in one angle, and the change of volume along it; see :mod:`.adaptive_ode`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from anydiff.denoisers.base import Denoiser, convert
from anydiff.denoisers.kinds import PredictionKind, conversion
from anydiff.denoisers.wrappers.base import Wrapper
from anydiff.errors import AnydiffError
from anydiff.paths.base import GaussianPath
from anydiff.samplers.sampler import Chunk
from anydiff.states import Conditioning


class Place:
    """A time with its angle θ and scale r."""

    def __init__(self, path: GaussianPath, t: float, scale: float) -> None:
        self.path, self.t = path, t
        self.alpha, sigma = path.alpha(t), path.sigma(t)
        self.angle = math.atan2(sigma, self.alpha * scale)
        self.r = math.hypot(self.alpha * scale, sigma)


class Flow:
    """du/dθ = -F for the rows of one batch, as flat vectors ``[B, D]``."""

    def __init__(self, chunk: Chunk, t_end: float, max_nfe: int) -> None:
        self.chunk, self.shape = chunk, tuple(chunk.first.shape[1:])
        self.denoiser, self.path, self.condition = chunk.denoiser, chunk.path, chunk.condition
        self.max_nfe, self.calls = max_nfe, 0
        scale = self.denoiser.sigma_data
        self.noise, self.data = (Place(self.path, t, scale) for t in (self.path.t_start, t_end))
        if not 0 < self.data.angle < self.noise.angle:
            raise AnydiffError(
                f"t_end is {t_end}, but must lie below {self.path.t_start} and leave some noise; pass t_end=1e-5, say."
            )
        self.shifted = chunk.shifted()

    def enter(self, x: Tensor, place: Place) -> Tensor:
        """u from x_T, or from clean data."""
        factor = place.alpha if place is self.data else 1.0
        between = self._data_shift(x) if place is self.data else self._state_shift(x, place.t)
        return ((x - between) * (factor / place.r)).flatten(1)

    def leave(self, u: Tensor, place: Place, clean: bool = False) -> Tensor:
        """x_T or data from u; ``clean`` adds the part of the jump to D that a plan's end takes."""
        state = (u * place.r).reshape(-1, *self.shape)
        if place is self.noise:
            return state + self._state_shift(state, place.t)
        data = state / place.alpha
        if clean:
            with torch.no_grad():
                # κ² ∇_y log p = D - y in y = x/α, and F is (D - c_skip y)/c_out
                data = data + (self._data(state, place.t) - data) / self.path.noise_law.end_exponent
        return data + self._data_shift(state)

    def __call__(self, angle: Tensor, u: Tensor) -> Tensor:
        """du/dθ."""
        t, r = self._time(float(angle))
        state = (u * r).reshape(-1, *self.shape)
        if self.shifted is not None:
            p, q = conversion(self.path, t, "data", "edm", self.denoiser.sigma_data)
            return -(self._data(state, t) * q + state * p).flatten(1)
        slope = self.denoiser.predict(state, t, "edm", self.condition)
        self._count(state, t, slope, "edm")
        return -slope.flatten(1)

    def with_volume(self, signs: Tensor | None) -> Any:
        """The right-hand side of (u, log |det|) ``[B, D + 1]``; ``signs [probes, B, D]`` or the exact trace."""

        def slope(angle: Tensor, state: Tensor) -> Tensor:
            with torch.enable_grad():
                u = state[:, :-1].detach().requires_grad_()
                velocity = self(angle, u)
                vectors = torch.eye(u.shape[1], dtype=u.dtype, device=u.device)[:, None] if signs is None else signs
                trace = torch.zeros_like(u[:, 0])
                for vector in vectors:
                    vector = vector.expand_as(u)
                    (product,) = torch.autograd.grad(velocity, u, vector, retain_graph=True)
                    trace = trace + (product * vector).sum(1)
            return torch.cat([velocity.detach(), (trace / (1 if signs is None else len(vectors)))[:, None]], 1)

        return slope

    def _data(self, state: Tensor, t: float) -> Tensor:
        """D less its known part, if there is one."""
        x = state + self._state_shift(state, t)
        data = self.denoiser(x, t, self.condition)
        self._count(x, t, data, "data")
        return data - self._data_shift(data)

    def _state_shift(self, like: Tensor, t: float) -> Tensor | float:
        return 0.0 if self.shifted is None else self.shifted.state(t, like)

    def _data_shift(self, like: Tensor) -> Tensor | float:
        return 0.0 if self.shifted is None else self.shifted.data(like)

    def _count(self, state: Tensor, t: float, prediction: Tensor, kind: str) -> None:
        self.calls += 1
        self.chunk.tell(self.calls, t, state, prediction, kind)
        if self.calls > self.max_nfe:
            raise AnydiffError(
                f"the adaptive solve passed max_nfe={self.max_nfe} network calls; raise it or rtol, atol."
            )

    def _time(self, angle: float) -> tuple[float, float]:
        """t and r at an angle; exact at both ends, where an inverse would lose digits.

        Beyond them, where torchdiffeq looks once to choose its first step, it is the end's.
        """
        if angle >= self.noise.angle - 1e-14:
            return self.noise.t, self.noise.r
        if angle <= self.data.angle + 1e-14:
            return self.data.t, self.data.r
        t = self.path.time(-math.log(self.denoiser.sigma_data * math.tan(angle)))
        return t, math.hypot(self.path.alpha(t) * self.denoiser.sigma_data, self.path.sigma(t))


class AtNetworkPrecision(Wrapper):
    """The state in float64, the network in the precision of its own weights."""

    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The inner prediction, in the precision of the state."""
        first = next(denoiser.parameters(), None) if isinstance(denoiser, nn.Module) else None
        value = denoiser.native(x if first is None else x.to(first.dtype), t, condition).to(x.dtype)
        return convert(denoiser, x, t, value, denoiser.native_kind, kind, condition)
