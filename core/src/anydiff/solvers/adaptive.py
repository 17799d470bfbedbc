"""The probability-flow ODE by an adaptive Runge-Kutta method: samples, latents and exact likelihoods.

Song et al., "Score-based generative modeling through stochastic differential equations", ICLR 2021 (arXiv 2011.13456),
section 4.3 and appendix D. It is no plan, since its steps depend on what it sees (DESIGN 4).

The variable is an angle. With s the denoiser's ``sigma_data`` and r² = α² s² + σ² let

    u = x_t / r,    tan θ = σ / (α s),    du/dθ = -F(x_t, t),

where F is the ``edm`` prediction (D = c_skip x/α + c_out F): every path becomes the same ODE. It is well conditioned
where time, λ and κ are not: u keeps unit scale, F does too, θ stays in [0, π/2] though λ is infinite at a path's ends,
and for N(0, s²) data nothing moves at all.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from anydiff.denoisers.base import Denoiser, convert
from anydiff.errors import AnydiffError, NonFiniteError, UnknownNameError, natural_number
from anydiff.guidance.base import Guidance, GuidedDenoiser, apply_guidance
from anydiff.paths.base import GaussianPath
from anydiff.paths.product import ProductPath
from anydiff.solvers.exponential import checked_choice
from anydiff.solvers.sample import (
    checked_rows,
    encoded_rows,
    guidance_layers,
    noise_source,
    prior_states,
    sample_indices,
)
from anydiff.states.noise import GaussianNoise
from anydiff.states.spec import NODE_MASK, StateSpec
from anydiff.states.streams import standard_normal

METHODS = ("dopri5", "dopri8", "bosh3", "adaptive_heun")
TRACES = ("exact", "hutchinson")
Layers = Guidance | Sequence[Guidance] | None


@dataclass
class AdaptiveODE:
    """The probability-flow ODE with an adaptive step; see the module.

    One step size serves a whole batch. It is that of the most demanding row, so each row meets the tolerance by itself,
    and a sample depends on its batch within the tolerance only; with ``batch_size=1`` it does not at all.

    Data stand at the time ``t_end``: a clean x_0 is taken as x = α x_0 there, with no noise added. Latents are then
    exactly invertible, and likelihoods are those of p at ``t_end``, the law of x_0 + κ ε with κ = σ/α at ``t_end``.

    Args:
        rtol: relative tolerance of a step.
        atol: absolute tolerance of a step, on a state of unit scale.
        method: ``"dopri5"``, ``"dopri8"``, ``"bosh3"`` or ``"adaptive_heun"``.
        t_end: where data stand; None for the path's ``t_end``. Exact denoisers may go lower.
        max_nfe: network calls at which a solve is given up.

    Attributes:
        nfe: network calls of the last solve (of its longest batch): what each of its samples cost. A likelihood costs
            further backward passes: per call D with the exact trace, one per probe with Hutchinson's.
    """

    rtol: float = 1e-6
    atol: float = 1e-6
    method: str = "dopri5"
    t_end: float | None = None
    max_nfe: int = 20_000
    nfe: int = field(default=0, init=False, compare=False)

    def __post_init__(self) -> None:
        checked_choice("method", self.method, METHODS)
        natural_number("max_nfe", self.max_nfe)
        if not (self.rtol >= 0 and self.atol > 0):
            raise AnydiffError(f"rtol is {self.rtol} and atol is {self.atol}, but rtol >= 0 and atol > 0 are needed.")

    def sample(
        self,
        denoiser: Denoiser,
        spec: StateSpec | Sequence[int],
        count: int | Sequence[int],
        *,
        seed: int = 0,
        end: str = "clean",
        guidance: Layers = None,
        condition: Mapping[str, Tensor] | None = None,
        start: Tensor | None = None,
        temperature: float = 1.0,
        batch_size: int = 256,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Draw samples ``[count, *spec.shape]``; arguments as for :func:`~anydiff.solvers.sample`.

        Sample k of seed s starts from the same noise as with any plan. ``end="clean"`` adds the half jump
        κ²/2 ∇log p from ``t_end`` to the clean sample, at one more call; ``"stop"`` is :meth:`decode`.

        Raises:
            AnydiffError: bad arguments, torchdiffeq is not installed, or the solve did not converge.
        """
        spec = spec if isinstance(spec, StateSpec) else StateSpec.single(tuple(spec))
        if end not in ("clean", "stop"):
            raise UnknownNameError("end rule", end, ("clean", "stop"))
        indices = sample_indices(count)
        source = noise_source(spec, seed, denoiser.path, temperature, (condition or {}).get(NODE_MASK))
        if start is None:
            start = prior_states(denoiser.path, source, indices, dtype, device, condition or {})
        else:
            start = start.to(device, dtype)
        spec.check(start)
        guidance = guidance_layers(guidance, spec)
        return self._travel(denoiser, start, "to-data", guidance, condition, batch_size, dtype, clean=end == "clean")

    def encode(
        self,
        denoiser: Denoiser,
        clean: Tensor,
        *,
        guidance: Layers = None,
        condition: Mapping[str, Tensor] | None = None,
        batch_size: int = 256,
        dtype: torch.dtype = torch.float64,
    ) -> Tensor:
        """The latents x_T ``[B, *shape]`` at ``t_start`` (of scale ``path.prior_std``) that flow to ``clean``."""
        return self._travel(denoiser, clean, "to-noise", guidance, condition, batch_size, dtype)

    def decode(
        self,
        denoiser: Denoiser,
        latents: Tensor,
        *,
        guidance: Layers = None,
        condition: Mapping[str, Tensor] | None = None,
        batch_size: int = 256,
        dtype: torch.dtype = torch.float64,
    ) -> Tensor:
        """The data ``[B, *shape]`` that latents x_T flow to: the inverse of :meth:`encode`, within the tolerance."""
        return self._travel(denoiser, latents, "to-data", guidance, condition, batch_size, dtype)

    def interpolate(
        self, denoiser: Denoiser, first: Tensor, second: Tensor, weights: Sequence[float], **options: Any
    ) -> Tensor:
        """Data between ``first`` and ``second`` ``[B, *shape]``: ``[len(weights), B, *shape]``, 0 is first, 1 second.

        Both are encoded, their latents joined by :func:`spherical` arcs, and the points decoded. ``options`` as for
        :meth:`encode`; a condition holds for both.
        """
        ends = [self.encode(denoiser, data, **options) for data in (first, second)]
        calls = self.nfe
        points = [self.decode(denoiser, spherical(ends[0], ends[1], float(w)), **options) for w in weights]
        self.nfe = max(calls, self.nfe)
        return torch.stack(points)

    def log_likelihood(
        self,
        denoiser: Denoiser,
        clean: Tensor,
        *,
        trace: str = "exact",
        probes: int = 1,
        seed: int = 0,
        samples: Sequence[int] | None = None,
        guidance: Layers = None,
        condition: Mapping[str, Tensor] | None = None,
        batch_size: int = 256,
        dtype: torch.dtype = torch.float64,
    ) -> Tensor:
        """log p(clean) ``[B]`` in nats: the density of the data, all D entries counted, that the flow draws.

        log p = log N(x_T; 0, prior_std²) + log |det dx_T/d clean|, the determinant by ∫ tr(∂(du/dθ)/∂u) dθ.

        Args:
            denoiser: the model; rows must not influence each other.
            clean: data ``[B, *shape]``.
            trace: ``"exact"`` (D backward passes per call) or ``"hutchinson"``: v·(J v) with random signs v, unbiased,
                one backward pass per probe.
            probes: sign vectors per sample, fixed over the whole solve.
            seed: of the signs; those of a sample depend on (seed, sample, probe) alone.
            samples: index of each row in its sample set; ``range(B)`` by default.
            guidance: applied first; what comes out is the density of the guided flow.
            condition: tensors with one row per sample.
            batch_size: rows per network call.
            dtype: floating-point type of the state.

        Raises:
            AnydiffError: the path's noise is not Gaussian, or as for :meth:`sample`.
        """
        checked_choice("trace", trace, TRACES)
        probes = natural_number("probes", probes)
        if type(denoiser.path.noise_law) is not GaussianNoise:
            raise AnydiffError(
                f"{denoiser.path!r} has no Gaussian prior, so its likelihood is not known in closed form."
            )
        indices = sample_indices(range(len(clean)) if samples is None else samples)
        if len(indices) != len(clean):
            raise AnydiffError(f"samples has {len(indices)} indices, but {len(clean)} rows are given.")
        out = []
        for rows, flow in self._chunks(denoiser, clean, guidance, condition, batch_size, dtype):
            u = flow.enter(clean[rows].to(dtype), flow.data)
            signs = None
            if trace == "hutchinson":
                draws = [standard_normal(seed, indices[rows], m, "hutchinson", u.shape[1:]) for m in range(probes)]
                signs = torch.stack([torch.from_numpy(draw) for draw in draws]).sign().to(u)
            volume = u.new_zeros(len(u), 1)
            last = self._solve(flow.with_volume(signs), torch.cat([u, volume], 1), flow.data, flow.noise, True)
            size = u.shape[1]
            spread = math.log(flow.noise.r / flow.noise.path.sigma(flow.noise.t))  # u_T has the std σ_T/r_T
            whitened = last[:, :size] * math.exp(spread)
            log_prior = -whitened.square().sum(1) / 2 + size * (spread - math.log(2 * math.pi) / 2)
            out.append(log_prior + last[:, size] - size * math.log(flow.data.r / flow.data.alpha))
            self.nfe = max(self.nfe, flow.calls)
        return torch.cat(out)

    def bits_per_dimension(
        self, denoiser: Denoiser, clean: Tensor, *, bin_width: float = 1.0, dequantize: bool = False, **options: Any
    ) -> Tensor:
        """-log2 of the probability per entry ``[B]``: -(log p / D + log bin_width) / log 2.

        ``bin_width`` is the distance of neighbouring values of quantised data in the state's own units, whose offset
        -log2(bin_width) makes a density a probability: 2/256 for 8-bit data scaled to [-1, 1] (offset 7), 1/256 for
        [0, 1] (offset 8). The default 1 gives the bits of the density itself.

        With ``dequantize`` each entry is first moved within its bin, uniformly, by the sample's own stream; without it
        the likelihood of quantised data is unbounded. ``options`` as for :meth:`log_likelihood`.
        """
        if not bin_width > 0:
            raise AnydiffError(f"bin_width is {bin_width}, but must be above 0; 8-bit data in [-1, 1] have 2/256.")
        if dequantize:
            samples = options.get("samples")
            samples = range(len(clean)) if samples is None else samples
            draw = standard_normal(options.get("seed", 0), samples, 0, "dequantize", tuple(clean.shape[1:]))
            uniform = torch.special.ndtr(torch.from_numpy(draw))
            clean = clean.double() + bin_width * (uniform.to(clean.device) - 0.5)
        nats = self.log_likelihood(denoiser, clean, **options)
        return -(nats / clean[0].numel() + math.log(bin_width)) / math.log(2)

    def _travel(
        self,
        denoiser: Denoiser,
        x: Tensor,
        direction: str,
        guidance: Layers,
        condition: Mapping[str, Tensor] | None,
        batch_size: int,
        dtype: torch.dtype,
        clean: bool = False,
    ) -> Tensor:
        out = []
        for rows, flow in self._chunks(denoiser, x, guidance, condition, batch_size, dtype):
            first, last = (flow.noise, flow.data) if direction == "to-data" else (flow.data, flow.noise)
            u = self._solve(flow, flow.enter(x[rows].to(dtype), first), first, last)
            out.append(flow.leave(u, last, clean))
            self.nfe = max(self.nfe, flow.calls)
        return torch.cat(out)

    def _chunks(
        self,
        denoiser: Denoiser,
        x: Tensor,
        guidance: Layers,
        condition: Mapping[str, Tensor] | None,
        batch_size: int,
        dtype: torch.dtype,
    ) -> Iterator[tuple[slice, _Flow]]:
        """The rows of each batch, and the ODE they obey."""
        if not dtype.is_floating_point or x.ndim < 2 or not len(x):
            raise AnydiffError(
                f"a batch [B, *shape] of states in a float type is needed, not {tuple(x.shape)}, {dtype}."
            )
        if isinstance(denoiser.path, ProductPath):
            raise AnydiffError(
                f"the adaptive solver needs one noise level per time, which {denoiser.path!r} lacks; sample by a plan."
            )
        self.nfe = 0
        given = checked_rows(condition or {}, len(x))
        t_end = denoiser.path.t_end if self.t_end is None else self.t_end
        guided = apply_guidance(_AtNetworkPrecision(denoiser), guidance)
        batch_size = natural_number("batch_size", batch_size)
        for begin in range(0, len(x), batch_size):
            rows = slice(begin, begin + batch_size)
            part = encoded_rows(guided, given, torch.arange(len(x))[rows], x.device)
            yield rows, _Flow(guided, t_end, tuple(x.shape[1:]), part, self.max_nfe)

    def _solve(self, flow: Any, state: Tensor, first: _Place, last: _Place, volume: bool = False) -> Tensor:
        """The state at the angle of ``last``."""
        times = torch.tensor([first.angle, last.angle], dtype=torch.float64, device=state.device)
        # A step must end at the last angle: torchdiffeq would step past it, where there is no path, and interpolate.
        options = {"norm": _worst_row_with_volume if volume else _worst_row, "step_t": times[1:]}
        try:
            with torch.inference_mode(False), torch.no_grad():
                # A tensor of inference mode could not take part in the trace's backward pass.
                path: Tensor = _torchdiffeq().odeint(
                    flow, state.clone(), times, rtol=self.rtol, atol=self.atol, method=self.method,
                    options=options,
                )  # fmt: skip
        except AssertionError as error:  # torchdiffeq's way to say that no step is small enough, or a value not finite
            raise AnydiffError(
                f"the adaptive solve stopped ({error}); raise rtol and atol, which are {self.rtol:g} and {self.atol:g}."
            ) from error
        if not bool(torch.isfinite(path[-1]).all()):
            raise NonFiniteError("the adaptive solve ended in a NaN or an infinity; check the denoiser.")
        return path[-1]


def spherical(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """sin((1-w) Ω)/sin Ω · first + sin(w Ω)/sin Ω · second, Ω the angle between the rows; straight where it is 0 or π.

    Both ``[B, *shape]``. Gaussian latents keep their typical length on such arcs.
    """
    a, b = first.flatten(1), second.flatten(1)
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1).clamp(-1.0, 1.0)
    angle = torch.acos(cosine)[:, None]
    straight = torch.sin(angle) < 1e-6
    sine = torch.where(straight, 1.0, torch.sin(angle))
    left = torch.where(straight, 1 - weight, torch.sin((1 - weight) * angle) / sine)
    right = torch.where(straight, weight, torch.sin(weight * angle) / sine)
    return (left * a + right * b).reshape(first.shape)


class _Place:
    """A time with its angle θ and scale r."""

    def __init__(self, path: GaussianPath, t: float, scale: float) -> None:
        self.path, self.t = path, t
        self.alpha, sigma = path.alpha(t), path.sigma(t)
        self.angle = math.atan2(sigma, self.alpha * scale)
        self.r = math.hypot(self.alpha * scale, sigma)


class _Flow:
    """du/dθ = -F for the rows of one batch, as flat vectors ``[B, D]``."""

    def __init__(
        self, denoiser: Denoiser, t_end: float, shape: tuple[int, ...], condition: dict[str, Tensor], max_nfe: int
    ) -> None:
        self.denoiser, self.path, self.shape, self.condition = denoiser, denoiser.path, shape, condition
        self.max_nfe, self.calls = max_nfe, 0
        scale = denoiser.sigma_data
        self.noise, self.data = (_Place(self.path, t, scale) for t in (self.path.t_start, t_end))
        if not 0 < self.data.angle < self.noise.angle:
            raise AnydiffError(
                f"t_end is {t_end}, but must lie below {self.path.t_start} and leave some noise; pass t_end=1e-5, say."
            )
        self.mean: Tensor | float = 0.0
        if "mu" in self.path.sources:
            if "mu" not in condition:
                raise AnydiffError(f"{self.path!r} needs the condition 'mu'; pass condition={{'mu': tensor}}.")
            self.mean = condition["mu"]

    def enter(self, x: Tensor, place: _Place) -> Tensor:
        """u from x_T, or from clean data."""
        factor = place.alpha if place is self.data else 1.0
        return ((x - self._mean(x)) * (factor / place.r)).flatten(1)

    def leave(self, u: Tensor, place: _Place, clean: bool = False) -> Tensor:
        """x_T or data from u; ``clean`` adds κ²/2 ∇log p."""
        state = (u * place.r).reshape(-1, *self.shape)
        if place is self.noise:
            return state + self._mean(state)
        data = state / place.alpha
        if clean:
            with torch.no_grad():
                # κ² ∇_y log p = D - y in y = x/α, and F is (D - c_skip y)/c_out
                data = data + (self._data(state, place.t) - data) / 2
        return data + self._mean(state)

    def __call__(self, angle: Tensor, u: Tensor) -> Tensor:
        """du/dθ."""
        t, r = self._time(float(angle))
        state = (u * r).reshape(-1, *self.shape)
        if isinstance(self.mean, Tensor):
            return -convert(self.denoiser, state, t, self._data(state, t), "data", "edm").flatten(1)
        self._count()
        return -self.denoiser.predict(state, t, "edm", **self.condition).flatten(1)

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
        """D less the known source, if there is one."""
        self._count()
        mean = self._mean(state)
        return self.denoiser(state + mean, t, **self.condition) - mean

    def _mean(self, like: Tensor) -> Tensor | float:
        return self.mean.to(like) if isinstance(self.mean, Tensor) else self.mean

    def _count(self) -> None:
        self.calls += 1
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


class _AtNetworkPrecision(GuidedDenoiser):
    """The state in float64, the network in the precision of its own weights."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner)
        self.native_kind = inner.native_kind
        first = next(inner.parameters(), None) if isinstance(inner, nn.Module) else None
        self.dtype = first.dtype if first is not None else None

    def native(self, x: Tensor, t: float | Tensor, **condition: Tensor) -> Tensor:
        return self.inner.native(x if self.dtype is None else x.to(self.dtype), t, **condition).to(x.dtype)


def _worst_row(value: Tensor) -> Tensor:
    """The largest root mean square of a row: every row counts as if it were alone."""
    return value.square().mean(1).sqrt().max()


def _worst_row_with_volume(value: Tensor) -> Tensor:
    """As :func:`_worst_row`, the last column by itself."""
    return torch.maximum(_worst_row(value[:, :-1]), value[:, -1].abs().max())


def _torchdiffeq() -> Any:
    try:
        return importlib.import_module("torchdiffeq")
    except ImportError:
        raise AnydiffError("adaptive ODEs need torchdiffeq; install it with `pip install 'anydiff[ode]'`.") from None
