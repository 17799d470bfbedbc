"""Linear paths x_t = Σ_k c_k(t) u_k over named sources u_k, with exact derivatives, in float64.

A concrete path states its coefficients as functions of a float64 tensor; everything else follows from them. The
derivatives are automatic derivatives, so they are exact for a third party's path as well as for ours.
Every method takes a number and returns a float, or a tensor of times and returns a float64 tensor. What is made of a
tensor that requires a gradient can be differentiated by it, derivatives, drift and diffusion included.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, NotApplicableError
from anydiff.paths.path import ClockedPath, Path, Role, Time
from anydiff.states.conditions import UNCONDITIONAL, Conditioning
from anydiff.states.spec import StateSpec


class LinearPath(Path):
    """x_t = Σ_k c_k(t) u_k with named sources u_k, of real numbers; see :class:`~anydiff.paths.path.Path`."""

    @abstractmethod
    def coefficients(self, t: Tensor) -> dict[str, Tensor]:
        """c_k(t) for every source, float64, of the shape of ``t``."""

    def derivatives(self, t: Tensor) -> dict[str, Tensor]:
        """dc_k/dt for every source, exact (automatic differentiation)."""
        t = t.to(torch.float64)

        def coefficient(name: str) -> Callable[[Tensor], Tensor]:
            return lambda s: self.coefficients(s)[name]

        return {name: _derivative(coefficient(name), t) for name in self.sources}

    def told(self, t: Tensor) -> Tensor:
        """What a network is told of the times ``t [B]``, float64: ``[B]``, or ``[B, told_size]``; t itself here."""
        return t.to(torch.float64)

    def input_scale(self, t: Tensor, sigma_data: float) -> Tensor:
        """c_in(t), float64: what the state is multiplied by before a network sees it.

        Here 1/sqrt(Σ_k c_k² v_k) with v = 1 for noise and σ_data² for every other source: unit scale of the input where
        the sources are independent.
        """
        c = self.coefficients(t.to(torch.float64))
        scale = {name: 1.0 if role == "noise" else sigma_data for name, role in self.sources.items()}
        return torch.rsqrt(torch.stack([(c[name] * scale[name]) ** 2 for name in self.sources]).sum(dim=0))

    def seen(self, x: Tensor, t: Tensor, sigma_data: float) -> Tensor:
        """c_in x_t."""
        return per_row(self.input_scale(t, sigma_data), x) * x

    def bind(self, spec: StateSpec) -> LinearPath:
        """This path for states of ``spec``; only a path whose coefficients differ between leaves needs to know.

        Raises:
            AnydiffError: a leaf is categorical.
        """
        spec.require_continuous(repr(self))
        return self

    def first(self, noise: Tensor, condition: Conditioning) -> Tensor:
        """x_T ``[B, *shape]`` from which sampling begins, of noise of unit scale and of what is known: the start.

        Raises:
            AnydiffError: the start is not given.
        """
        (name,) = self.named("start")
        if name in condition.sources:
            return condition.sources[name].to(noise)
        raise AnydiffError(
            f"{self!r} has no prior: sampling begins at {' and '.join(self.named('start'))}; give the states to begin "
            "with as start (--start FILES on the command line)."
        )

    def noised(self, t: Tensor, clean: Tensor, noise: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """x_t ``[B, *shape]`` for training: the clean data, noise, and of ``condition`` all that the path leads to.

        Raises:
            AnydiffError: a known or start source is missing, or does not have the shape of ``clean``.
        """
        return self.mix(t, **self.drawn(clean, noise, condition))

    def drawn(self, clean: Tensor, noise: Tensor, condition: Conditioning = UNCONDITIONAL) -> dict[str, Tensor]:
        """Every source of a batch of training by its name; arguments and errors as for :meth:`noised`."""
        given = self.given(condition, "known", "start", like=clean)
        own = {"clean": clean, "noise": noise}
        return {name: own[role] if role in own else given[name].to(clean) for name, role in self.sources.items()}

    def mix(self, t: Tensor, **sources: Tensor) -> Tensor:
        """x_t = Σ_k c_k(t) u_k for a batch of sources ``[B, *shape]``.

        ``t`` is ``[B]``, a time without axes, or ``[B, n]`` with n the first axis of the state: a time per position.

        The dtype is the sources', or PyTorch's default where these are no floating-point numbers.

        Raises:
            AnydiffError: a source is missing, or the axes of ``t`` are not the leading axes of the sources.
        """
        missing = [name for name in self.sources if name not in sources]
        if missing:
            raise AnydiffError(
                f"x_t of {self!r} is made of {', '.join(self.sources)}, but {missing[0]} is missing; give all of them."
            )
        check_times(t, sources[next(iter(self.sources))])
        c = self.coefficients(t.to(torch.float64))
        terms = [per_row(c[name], sources[name]) * sources[name] for name in self.sources]
        return torch.stack(terms).sum(dim=0) if len(terms) > 2 else sum(terms[1:], terms[0])


class GaussianPath(LinearPath, ClockedPath):
    """x_t = α_t x_0 + σ_t ε with ε of unit scale.

    A subclass gives :meth:`_alpha` and :meth:`_sigma` on float64 tensors, and :meth:`_log_snr` or :meth:`_time` where a
    closed form is more accurate than the general one.

    With known sources x_t = α_t x_0 + Σ_k c_k(t) u_k + σ_t ε, and y_t = x_t - Σ_k s_k(t) u_k is an ordinary path of the
    clean part x_0 - Σ_k d_k u_k, where s_k = c_k + α d_k (:meth:`shift`) with the numbers d_k of :attr:`centre`.
    Solvers travel y: the ODE and the SDE of x follow from those of y.

    Attributes:
        centre: d_k of each known source; 0 where it is not named. It is 1 where c_k = 1 - α_t: then s_k = 1 always.
    """

    sources: ClassVar[Mapping[str, Role]] = {"x0": "clean", "noise": "noise"}
    centre: ClassVar[Mapping[str, float]] = {}

    @abstractmethod
    def _alpha(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def _sigma(self, t: Tensor) -> Tensor: ...

    def _log_snr(self, t: Tensor) -> Tensor:
        return torch.log(self._alpha(t)) - torch.log(self._sigma(t))

    def coefficients(self, t: Tensor) -> dict[str, Tensor]:
        """α_t (source ``x0``) and σ_t (source ``noise``)."""
        return {"x0": self._alpha(t), "noise": self._sigma(t)}

    def alpha(self, t: Time) -> Time:
        """Signal coefficient α_t."""
        return self._evaluate("_alpha", t)

    def sigma(self, t: Time) -> Time:
        """Noise coefficient σ_t (a standard deviation)."""
        return self._evaluate("_sigma", t)

    def time(self, log_snr: Time) -> Time:
        """The time at which the log-SNR is ``log_snr``: the inverse of :meth:`log_snr`."""
        return self._evaluate("_inverse", log_snr)

    def _inverse(self, log_snr: Tensor) -> Tensor:
        t = self._time(log_snr)
        if not (torch.is_grad_enabled() and log_snr.requires_grad):
            return t
        # dt/dλ = 1/λ'(t), also where the inverse is found by bisection or its closed form has no gradient at an end.
        t = t.detach()
        return t + (log_snr - log_snr.detach()) / _derivative(self._log_snr, t)

    def d_alpha(self, t: Time) -> Time:
        """dα/dt, exact."""
        return self._evaluate("_d_alpha", t)

    def d_sigma(self, t: Time) -> Time:
        """dσ/dt, exact."""
        return self._evaluate("_d_sigma", t)

    def drift(self, t: Time) -> Time:
        """f(t) of the forward SDE dx = f x dt + g dw: f = d log α / dt."""
        return cast(Time, cast(Any, self.d_alpha(t)) / self.alpha(t))

    def squared_diffusion(self, t: Time) -> Time:
        """g(t)² of the forward SDE dx = f x dt + g dw: g² = dσ²/dt - 2 f σ²."""
        sigma: Any = self.sigma(t)
        drift: Any = self.drift(t)
        return cast(Time, 2 * sigma * self.d_sigma(t) - 2 * drift * sigma * sigma)

    @property
    def prior_std(self) -> float:
        """Standard deviation of the prior p(x_T) = N(0, prior_std² I) from which sampling starts: σ_T."""
        return self.sigma(self.t_start)

    def bind(self, spec: StateSpec) -> GaussianPath:
        """See :meth:`LinearPath.bind`."""
        spec.require_continuous(repr(self))
        return self

    @property
    def kinds(self) -> tuple[str, ...]:  # type: ignore[override]  # a field there
        """All but the score where the noise is not Gaussian, and the residual where several sources are known."""
        score = ("score",) if self.noise_law.gaussian else ()
        residual = ("residual",) if len(self.known) <= 1 else ()
        return ("data", "noise", "velocity", *score, "flow", "edm", *residual)

    def told(self, t: Tensor) -> Tensor:
        """The log-SNR λ_t, so that a network outlives path and grid."""
        return self.log_snr(t)

    def input_scale(self, t: Tensor, sigma_data: float) -> Tensor:
        """1/sqrt(α² σ_data² + σ²): unit scale of the input; one value per entry on a product path.

        With known sources, which are a part of the state too, as on any path of several sources.
        """
        if self.known:
            return super().input_scale(t, sigma_data)
        alpha, sigma = self.alpha(t), self.sigma(t)
        return torch.rsqrt((alpha * sigma_data) ** 2 + sigma**2)

    def shift(self, t: float) -> dict[str, float]:
        """s_k(t) of every known source: the states less Σ_k s_k u_k travel an ordinary path."""
        if not self.known:
            return {}
        c = self.coefficients(torch.tensor(t, dtype=torch.float64))
        alpha = self.alpha(t)
        centred = {name: self.centre.get(name, 0.0) for name in self.known}
        return {name: 1.0 if d == 1.0 else float(c[name]) + alpha * d for name, d in centred.items()}

    def first(self, noise: Tensor, condition: Conditioning) -> Tensor:
        """The prior, around what is known: σ_T ε + Σ_k s_k(T) u_k."""
        x = self.prior(noise)
        for name, known in self.given(condition, like=noise).items():
            x = x + known.to(x) * self.shift(self.t_start)[name]
        return x

    def prior(self, noise: Tensor) -> Tensor:
        """x_T from noise of unit scale; warns where the path does not reach its prior (α_T/σ_T above 0.05)."""
        remaining = self.alpha(self.t_start) / self.sigma(self.t_start)  # also where there is no log-SNR
        if remaining > 0.05:
            warnings.warn(
                f"{self!r} keeps a signal-to-noise ratio α/σ of {remaining:.2g} at t={self.t_start:g}, so its prior "
                "N(0, σ²) is not the law of x_T; start from noised data or choose a path that reaches its prior.",
                stacklevel=2,
            )
        return noise * self.prior_std

    def _d_alpha(self, t: Tensor) -> Tensor:
        return _derivative(self._alpha, t)

    def _d_sigma(self, t: Tensor) -> Tensor:
        return _derivative(self._sigma, t)


def per_row(coefficient: Tensor, like: Tensor) -> Tensor:
    """``coefficient`` on the device of ``like [B, *shape]``, ready to be multiplied by it.

    Its axes are the leading axes of ``like``: none, ``[B]`` (one per row), ``[B, n]`` (one per entry of the first axis
    of the state, a position), and so on up to one per entry of a product path. An axis may have size 1.
    The dtype is that of ``like``, or PyTorch's default where that holds whole numbers, which would cut the coefficient.

    Raises:
        AnydiffError: a coefficient of another shape.
    """
    dtype = like.dtype if like.dtype.is_floating_point else torch.get_default_dtype()
    return leading(coefficient, like).to(dtype=dtype, device=like.device)


def leading(coefficient: Tensor, like: Tensor) -> Tensor:
    """As :func:`per_row`, in the coefficient's own dtype and on its own device.

    Raises:
        AnydiffError: a coefficient of another shape.
    """
    shape = tuple(coefficient.shape)
    if len(shape) > like.ndim or any(c not in (1, s) for c, s in zip(shape, like.shape, strict=False)):
        whole = [f"[{', '.join(map(str, like.shape[: axes + 1]))}]" for axes in range(min(like.ndim, 2))]
        raise AnydiffError(
            f"a coefficient has shape {shape}, but the states have {tuple(like.shape)}, whose leading axes it must "
            f"have; give one number, one per row {whole[0]}, one per position {whole[-1]} or one per entry."
        )
    if coefficient.ndim in (0, like.ndim):
        return coefficient
    return coefficient.reshape(*shape, *([1] * (like.ndim - len(shape))))


def check_times(t: Tensor, x: Tensor) -> None:
    """Refuse times that are not one number, one per row or one per position of the states ``x [B, *shape]``.

    Raises:
        AnydiffError: ``t`` is none of ``[]``, ``[B]`` (or ``[1]``) and ``[B, n]`` with n the first axis of the state.
    """
    shape, wanted = tuple(t.shape), tuple(x.shape[:2])
    if len(shape) > 2 or shape[:1] not in ((), (1,), wanted[:1]) or shape[1:] not in ((), wanted[1:]):
        raise AnydiffError(
            f"t has shape {shape}, but must be [B], one time for each row of the states {tuple(x.shape)}, or [B, n], "
            "one for each position: entry of the states' first axis."
        )


def _derivative(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """df/dt of a function that acts entry by entry, itself differentiable by ``t`` where that requires a gradient.

    Reverse mode, because the first forward-mode derivative of a process loads a second of PyTorch's internals.
    """
    if torch.is_grad_enabled() and t.requires_grad:
        value = function(t)
        slope = None
        if value.requires_grad:
            (slope,) = torch.autograd.grad(value.sum(), t, create_graph=True, allow_unused=True)
        return (torch.zeros_like(t) if slope is None else slope) + 0.0 * t  # a constant slope still belongs to t
    with torch.inference_mode(False), torch.enable_grad():
        times = t.detach().clone().requires_grad_()
        value = function(times)
        if not value.requires_grad:
            return torch.zeros_like(times)
        (slope,) = torch.autograd.grad(value.sum(), times, allow_unused=True)
    return torch.zeros_like(t) if slope is None else slope


def linear(path: Path, what: str) -> LinearPath:
    """``path`` itself, if it is one of real numbers.

    Raises:
        AnydiffError: it is another, on which ``what`` has no meaning.
    """
    if not isinstance(path, LinearPath):
        raise NotApplicableError(
            f"{what} needs a path of real numbers, which {path!r} is not; choose another path, or what is made for "
            "classes (objectives masked-cross-entropy and discrete-bound, of both kinds mixed; solver ancestral)."
        )
    return path


def gaussian(path: Path, what: str) -> GaussianPath:
    """``path`` itself, if it is one of data, noise and known sources, so that its log-SNR is a clock.

    Raises:
        AnydiffError: it is another, on which ``what`` has no meaning.
    """
    if not isinstance(linear(path, what), GaussianPath):
        raise NotApplicableError(
            f"{what} needs a path of data and noise with a log-SNR, which {path!r} is not; use the solver "
            "'interpolant' there, or train on another path."
        )
    assert isinstance(path, GaussianPath)
    return path
