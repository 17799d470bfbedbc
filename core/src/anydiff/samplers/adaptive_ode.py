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

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError, NonFiniteError, natural_number
from anydiff.optional import require
from anydiff.samplers.adaptive_dpm_solver import ENDS, one_level
from anydiff.samplers.flow import AtNetworkPrecision, Flow, Place
from anydiff.samplers.sampler import Chunk, Sampler, SampleRequest, sample_indices
from anydiff.solvers.exponential import checked_choice
from anydiff.states.spec import StateSpec
from anydiff.states.streams import standard_normal

METHODS = ("dopri5", "dopri8", "bosh3", "adaptive_heun")
TRACES = ("exact", "hutchinson")


@dataclass
class AdaptiveODE(Sampler):
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
        end: how samples end: ``"clean"`` adds the half jump κ²/2 ∇log p from ``t_end`` to the clean sample, at one more
            call; ``"stop"`` is :meth:`decode`.

    Attributes:
        nfe: network calls of the last solve (of its longest batch): what each of its samples cost. A likelihood costs
            further backward passes: per call D with the exact trace, one per probe with Hutchinson's.
    """

    dtype: ClassVar[torch.dtype] = torch.float64

    rtol: float = 1e-6
    atol: float = 1e-6
    method: str = "dopri5"
    t_end: float | None = None
    max_nfe: int = 20_000
    end: str = "clean"
    nfe: int = field(default=0, init=False, compare=False)

    def __post_init__(self) -> None:
        checked_choice("method", self.method, METHODS)
        natural_number("max_nfe", self.max_nfe)
        checked_choice("end rule", self.end, ENDS)
        if not (self.rtol >= 0 and self.atol > 0):
            raise AnydiffError(f"rtol is {self.rtol} and atol is {self.atol}, but rtol >= 0 and atol > 0 are needed.")

    def check(self, request: SampleRequest, denoiser: Denoiser) -> None:
        """Refuse product paths and states that are no floating-point batch, and set the count to zero."""
        one_level(denoiser)
        dtype = self.dtype if request.dtype is None else request.dtype
        start = request.start if isinstance(request.start, Tensor) else None  # a Start makes as many as are asked for
        if not dtype.is_floating_point or (start is not None and (start.ndim < 2 or not len(start))):
            given = "draws" if start is None else tuple(start.shape)
            raise AnydiffError(f"a batch [B, *shape] of states in a float type is needed, not {given}, {dtype}.")
        self.nfe = 0

    def inner(self, denoiser: Denoiser) -> Denoiser:
        """The state in float64, the network in the precision of its own weights."""
        return AtNetworkPrecision()(denoiser)

    def draw(self, chunk: Chunk) -> Tensor:
        """From x_T to the samples of one chunk; sample k of seed s starts from the same noise as with any plan.

        Raises:
            AnydiffError: torchdiffeq is not installed, or the solve did not converge.
        """
        return self._travel(chunk, "to-data", clean=self.end == "clean")

    def encode(self, denoiser: Denoiser, clean: Tensor, **options: Any) -> Tensor:
        """The latents x_T ``[B, *shape]`` at ``t_start`` (of scale ``path.prior_std``) that flow to ``clean``.

        Args:
            denoiser: the model.
            clean: data ``[B, *shape]``.
            options: ``guidance``, ``condition``, ``batch_size`` and ``dtype`` of a :class:`SampleRequest`.
        """
        return self._all(denoiser, clean, "to-noise", options)

    def decode(self, denoiser: Denoiser, latents: Tensor, **options: Any) -> Tensor:
        """The data ``[B, *shape]`` that latents x_T flow to: the inverse of :meth:`encode`, within the tolerance."""
        return self._all(denoiser, latents, "to-data", options)

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
        **options: Any,
    ) -> Tensor:
        """log p(clean) ``[B]`` in nats: the density of the data, all D entries counted, that the flow draws.

        log p = log p_ε(x_T/σ_T) - D log σ_T + log |det dx_T/d clean|, p_ε the density of the path's noise law and the
        determinant by ∫ tr(∂(du/dθ)/∂u) dθ. The flow of a conditional mean carries the law of x_t for any noise.

        Args:
            denoiser: the model; rows must not influence each other.
            clean: data ``[B, *shape]``.
            trace: ``"exact"`` (D backward passes per call) or ``"hutchinson"``: v·(J v) with random signs v, unbiased,
                one backward pass per probe.
            probes: sign vectors per sample, fixed over the whole solve.
            seed: of the signs; those of a sample depend on (seed, sample, probe) alone.
            samples: index of each row in its sample set; ``range(B)`` by default.
            options: as for :meth:`encode`; with ``guidance`` what comes out is the density of the guided flow.

        Raises:
            AnydiffError: the density of the path's noise is not known, or as for :meth:`sample`.
        """
        checked_choice("trace", trace, TRACES)
        probes = natural_number("probes", probes)
        indices = sample_indices(range(len(clean)) if samples is None else samples)
        if len(indices) != len(clean):
            raise AnydiffError(f"samples has {len(indices)} indices, but {len(clean)} rows are given.")
        return torch.cat(
            [
                self._log_density(chunk, trace, probes, seed)
                for chunk in self._chunks_of(denoiser, clean, options, indices)
            ]
        )

    def _log_density(self, chunk: Chunk, trace: str, probes: int, seed: int) -> Tensor:
        flow = self._flow(chunk)
        u = flow.enter(chunk.first, flow.data)
        signs = None
        if trace == "hutchinson":
            draws = [standard_normal(seed, chunk.samples, m, "hutchinson", u.shape[1:]) for m in range(probes)]
            signs = torch.stack([torch.from_numpy(draw) for draw in draws]).sign().to(u)
        volume = u.new_zeros(len(u), 1)
        last = self._solve(flow.with_volume(signs), torch.cat([u, volume], 1), flow.data, flow.noise, True)
        size = u.shape[1]
        spread = math.log(flow.noise.r / flow.noise.path.sigma(flow.noise.t))  # u_T has the std σ_T/r_T
        log_prior = flow.noise.path.noise_law.log_density(last[:, :size] * math.exp(spread)) + size * spread
        self.nfe = max(self.nfe, flow.calls)
        return log_prior + last[:, size] - size * math.log(flow.data.r / flow.data.alpha)

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

    def _all(self, denoiser: Denoiser, x: Tensor, direction: str, options: dict[str, Any]) -> Tensor:
        return torch.cat([self._travel(chunk, direction) for chunk in self._chunks_of(denoiser, x, options)])

    def _chunks_of(
        self, denoiser: Denoiser, x: Tensor, options: Mapping[str, Any], indices: Sequence[int] | None = None
    ) -> Iterator[Chunk]:
        """The rows of ``x`` in chunks, whatever their entries mean."""
        given = {name: value for name, value in options.items() if value is not None}
        request = SampleRequest(range(len(x)) if indices is None else indices, start=x, device=x.device, **given)
        self.check(request, denoiser)  # before the shape is read
        return self.chunks(request, denoiser, StateSpec.single(tuple(x.shape[1:])))

    def _flow(self, chunk: Chunk) -> Flow:
        return Flow(chunk, chunk.path.t_end if self.t_end is None else self.t_end, self.max_nfe)

    def _travel(self, chunk: Chunk, direction: str, clean: bool = False) -> Tensor:
        flow = self._flow(chunk)
        first, last = (flow.noise, flow.data) if direction == "to-data" else (flow.data, flow.noise)
        u = self._solve(flow, flow.enter(chunk.first, first), first, last)
        out = flow.leave(u, last, clean)
        self.nfe = max(self.nfe, flow.calls)
        return out

    def _solve(self, flow: Any, state: Tensor, first: Place, last: Place, volume: bool = False) -> Tensor:
        """The state at the angle of ``last``."""
        times = torch.tensor([first.angle, last.angle], dtype=torch.float64, device=state.device)
        # A step must end at the last angle: torchdiffeq would step past it, where there is no path, and interpolate.
        options = {"norm": _worst_row_with_volume if volume else _worst_row, "step_t": times[1:]}
        try:
            with torch.inference_mode(False), torch.no_grad():
                # A tensor of inference mode could not take part in the trace's backward pass.
                path: Tensor = require("torchdiffeq", "an adaptive solver of ODEs", "anydiff[ode]").odeint(
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


def _worst_row(value: Tensor) -> Tensor:
    """The largest root mean square of a row: every row counts as if it were alone."""
    return value.square().mean(1).sqrt().max()


def _worst_row_with_volume(value: Tensor) -> Tensor:
    """As :func:`_worst_row`, the last column by itself."""
    return torch.maximum(_worst_row(value[:, :-1]), value[:, -1].abs().max())
