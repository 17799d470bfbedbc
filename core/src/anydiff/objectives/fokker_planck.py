r"""The Fokker-Planck equation of a path as a residual: where it is zero, the ODE and the SDE of a model agree.

A path is the SDE dx = f dt + g dw with f(x, t) = a (x - m) + m', where a = α'/α, g² = 2σσ' - 2aσ², and m what the known
sources add to x_t. A log-density u obeys its Fokker-Planck equation where

    R[u] = ∂_t u + div f + f·∇u - g²/2 (Δu + |∇u|²)

is zero, and a score s where S[s] = ∇R = ∂_t s + ∇(f·s - g²/2 (div s + |s|²)) is. The laws of the samples that the
probability-flow ODE and the reverse SDE make with the score ∇u differ only where R is not zero (arXiv 2311.15996). Zero
everywhere does not mean that samples are right: any solution of the equation has R = 0, one that begins with wrong data
too, so the residual stands beside a loss of the score and never alone.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers import Denoiser, batch_times, has_log_density, log_density, require_smooth
from anydiff.denoisers.potential import StraightPiecesError, third_derivatives
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.objectives.call import Call
from anydiff.objectives.terms import Term
from anydiff.objectives.times import TimeLaw
from anydiff.paths.base import GaussianPath, LinearPath, linear, per_row
from anydiff.paths.product import LeafwiseNoise
from anydiff.states import UNCONDITIONAL, Conditioning, GaussianNoise

POINTS = ("box", "path")
"""Where collocation points lie: in a box of states, or where the examples are."""


class FokkerPlanck(Term):
    """mean R[u]² at collocation points of its own, u the log-density of a network that is a potential.

    Every ``every``-th example brings one point, whose R² counts ``every`` times, so the loss is the mean over the
    points whatever the batch. R is that of the log-density of the whole state, in units of 1/t.

    Args:
        box: half the width b of the box: points are uniform in [-b, b]^d of the states.
        every: an example of so many brings a point; 2 makes half as many points as examples.
        probes: None for the exact Laplacian, one backward pass per entry of the state; else how many independent probes
            estimate it, at least two: R² is then the mean product of different ones, whose expectation is R².
        points: ``box``, or ``path`` for the examples' own noisy states and times.
        times: law of the points' times, see :class:`~anydiff.objectives.times.TimeLaw`.
        times_mean: mean of the time law, None for its own.
        times_std: standard deviation of the time law, None for its own.

    Raises:
        UnknownNameError: no such law of times or of points.
        AnydiffError: a number out of range; or, before training, a network that is no potential or has no second
            derivatives, a path without a score, or states with absent or symmetric entries.
    """

    def __init__(
        self,
        box: float = 3.5,
        every: int = 2,
        probes: int | None = None,
        points: str = "box",
        times: str = "uniform",
        times_mean: float | None = None,
        times_std: float | None = None,
    ) -> None:
        if isinstance(box, bool) or not isinstance(box, (int, float)) or not 0 < box < math.inf:
            raise AnydiffError(f"box is {box!r}, but must be a positive, finite number: half the width of the box.")
        if points not in POINTS:
            raise UnknownNameError("place of collocation points", points, POINTS)
        if probes is not None and natural_number("probes", probes, 1) < 2:
            raise AnydiffError(
                f"probes is {probes}, but one probe's square is not R² in expectation; give at least 2, or none for "
                "the exact Laplacian."
            )
        self.box, self.every, self.probes, self.points = float(box), natural_number("every", every, 1), probes, points
        self.law = TimeLaw(times, times_mean, times_std)
        self._smooth: Denoiser | None = None

    def prepare(self, denoiser: Denoiser) -> None:
        """Refuse what has no log-density with second derivatives."""
        require_equation(denoiser)
        if not has_log_density(denoiser):
            raise AnydiffError(
                "the term 'fokker-planck' needs a network that is a scalar; set network.name=potential, with the "
                "network's own name and options below it."
            )
        if denoiser.spec is None:
            return
        try:
            states = torch.randn(2, *denoiser.spec.shape, generator=torch.Generator().manual_seed(0))
            require_smooth(denoiser, states, denoiser.path.t_start / 2)
            self._smooth = denoiser
        except StraightPiecesError:
            raise
        except AnydiffError:  # a network that needs its condition: the first batch brings one
            return

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B]: ``every`` times R² where an example brings a point, else zero."""
        if self._smooth is not call.denoiser:
            require_smooth(call.denoiser, call.x[:2], call.t[:2], call.condition.rows(slice(2)))
            self._smooth = call.denoiser
        rows = call.draws.rows
        chosen = [row for row, position in enumerate(rows) if position % self.every == 0]
        loss = call.clean.new_zeros(len(rows))
        if not chosen:
            return loss
        draws = call.draws.where(lambda position: position % self.every == 0)
        shape = tuple(call.clean.shape[1:])
        if self.points == "path":
            x, t = call.x[chosen].detach(), call.t[chosen]
        else:
            drawn = draws.uniform("points", (1 + math.prod(shape),))
            t = self.law(call.path, drawn[:, 0]).to(call.clean.device)
            x = (self.box * (2 * drawn[:, 1:] - 1)).reshape(-1, *shape).to(call.clean)
        probes = None
        if self.probes is not None:
            probes = draws.signs("probes", (self.probes, *shape)).movedim(0, 1).to(call.clean)
        found = _of_log_density(call.denoiser, x, t, call.condition.rows(chosen), probes)
        squared = found.square() if self.probes is None else pair_mean(found)
        return loss.index_put((torch.tensor(chosen, device=loss.device),), self.every * squared.to(loss))


def pair_mean(values: Tensor) -> Tensor:
    """The mean product of two different ones of ``values [K, ...]``, K at least 2: unbiased for a squared mean."""
    count = len(values)
    return (values.sum(0).square() - values.square().sum(0)) / (count * (count - 1))


def fokker_planck_residual(
    denoiser: Denoiser,
    x: Tensor,
    t: float | Tensor,
    condition: Conditioning = UNCONDITIONAL,
    probes: Tensor | None = None,
) -> Tensor:
    """How far a denoiser violates the Fokker-Planck equation of its path at (x, t).

    Args:
        denoiser: any with a score: a potential or an exact one, of which R is taken, or any other, of which S is.
        x: states ``[B, *shape]``.
        t: a time, or one per row.
        condition: handed to the denoiser.
        probes: None for the exact Laplacian, which costs a backward pass per entry; else ``[K, B, *shape]`` of mean
            zero and unit variance (signs, say): one estimate of the residual for each, unbiased.

    Returns:
        R ``[B]`` of a denoiser that has a log-density, S ``[B, *shape]`` of one that has a score alone, in front of
        either K for the probes. Units: 1/t, and 1/t per unit of the state.

    Raises:
        AnydiffError: a path without a score, a network of straight pieces, whose second derivatives say nothing, states
            with absent or symmetric entries, or probes of another shape.
    """
    require_equation(denoiser)
    require_smooth(denoiser, x[:2], batch_times(t, x)[:2], condition.rows(slice(2)))
    if probes is not None and tuple(probes.shape[1:]) != tuple(x.shape):
        raise AnydiffError(f"probes have shape {tuple(probes.shape)}, but must be (K, {', '.join(map(str, x.shape))}).")
    of = _of_log_density if has_log_density(denoiser) else _of_score
    with torch.inference_mode(False):
        return of(denoiser, x, batch_times(t, x), condition, probes).detach()


def require_equation(denoiser: Denoiser) -> None:
    """Refuse a denoiser whose states follow no SDE of Gaussian noise in all of their entries.

    Raises:
        AnydiffError: it is one.
    """
    path, spec = denoiser.path, denoiser.spec
    laws = path.noise_law.laws.values() if isinstance(path.noise_law, LeafwiseNoise) else (path.noise_law,)
    if not isinstance(path, GaussianPath) or not all(type(law) is GaussianNoise for law in laws):
        raise AnydiffError(
            f"{path!r} is not the SDE of data in Gaussian noise, so its states obey no Fokker-Planck equation of this "
            "kind; choose a path of Gaussian noise."
        )
    if spec is not None and (spec.has_absent_entries or any(leaf.symmetric for leaf in spec.leaves)):
        raise AnydiffError(
            "states with absent or symmetric entries have fewer dimensions than entries, so no density of all entries "
            "exists; the Fokker-Planck residual is for states without such leaves."
        )


def equation(rate: Tensor, stretch: Tensor, transport: Tensor, squared_slope: Tensor, laplacian: Tensor) -> Tensor:
    """R = ∂_t u + div f + f·∇u - (g² |∇u|² + g² Δu)/2 from its five terms, ``[B]`` each."""
    return rate + stretch + transport - (squared_slope + laplacian) / 2


def _of_log_density(denoiser: Denoiser, x: Tensor, t: Tensor, condition: Conditioning, probes: Tensor | None) -> Tensor:
    """R ``[B]``, or ``[K, B]`` with probes; differentiable by the parameters where gradients are recorded."""
    recorded = torch.is_grad_enabled()
    with torch.enable_grad(), third_derivatives():
        x, t = x.detach().clone().requires_grad_(), t.detach().clone().requires_grad_()
        u = log_density(denoiser, x, t, condition)
        slope, rate = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
        drift, stretch, square = _forward(linear(denoiser.path, "the objective 'fokker-planck'"), x, t, condition)
        laplacian = _divergence(slope, x, square, probes, recorded)
        terms = (rate.to(x), _sum(stretch), _sum(drift * slope), _sum(square * slope.square()))
        return equation(*terms, laplacian)


def _of_score(denoiser: Denoiser, x: Tensor, t: Tensor, condition: Conditioning, probes: Tensor | None) -> Tensor:
    """S ``[B, *shape]``, or ``[K, B, *shape]`` with probes."""
    with torch.enable_grad(), third_derivatives():
        x, t = x.detach().clone().requires_grad_(), t.detach().clone().requires_grad_()
        score = denoiser.predict(x, t, "score", condition)
        # ∂_t s of each entry by one more pass: the derivative by v of ∂_t (s·v), which is linear in v.
        v = torch.zeros_like(score).requires_grad_()
        (rate,) = torch.autograd.grad((score * v).sum(), t, create_graph=True)
        (moving,) = torch.autograd.grad(rate.sum(), v, retain_graph=True)
        drift, _, square = _forward(linear(denoiser.path, "the objective 'fokker-planck'"), x, t, condition)
        zero = torch.zeros_like(t).to(x)  # ∂_t u is another's, and div f does not depend on x
        divergence = _divergence(score, x, square, probes, True)
        energy = equation(zero, zero, _sum(drift * score), _sum(square * score.square()), divergence)
        parts = energy.reshape(-1, len(x))
        found = [torch.autograd.grad(part.sum(), x, retain_graph=True)[0] + moving for part in parts]
    return found[0] if probes is None else torch.stack(found)


def _divergence(field: Tensor, x: Tensor, square: Tensor, probes: Tensor | None, recorded: bool) -> Tensor:
    """Σ_i g_i² ∂_i F_i ``[B]`` of a field ``[B, *shape]``; with probes v its estimates v' ∂F g² v, ``[K, B]``."""

    def derivative(direction: Tensor, again: bool) -> Tensor:
        (found,) = torch.autograd.grad(
            field, x, direction, create_graph=recorded, retain_graph=again or recorded, allow_unused=True
        )
        return torch.zeros_like(x) if found is None else found

    if probes is not None:
        # v' (∂F)' (g² v): the transposed Jacobian in the direction g² v, seen along v.
        return torch.stack([_sum(derivative(square * v, True) * v) for v in probes])
    total = x.new_zeros(len(x))
    flat = square.expand_as(x).reshape(len(x), -1)
    size = flat.shape[1]
    for entry in range(size):
        direction = torch.zeros_like(x)
        direction.reshape(len(x), -1)[:, entry] = 1.0
        total = total + flat[:, entry] * derivative(direction, True).reshape(len(x), -1)[:, entry]
    return total


def _forward(path: LinearPath, x: Tensor, t: Tensor, condition: Conditioning) -> tuple[Tensor, Tensor, Tensor]:
    """f(x, t), ∂f_i/∂x_i and g² of the forward SDE, each broadcast to ``x [B, *shape]``."""
    assert isinstance(path, GaussianPath)
    with torch.no_grad():
        times = t.detach()
        rate, square = per_row(path.drift(times), x), per_row(path.squared_diffusion(times), x)
        middle, moving = 0.0 * x.detach(), 0.0 * x.detach()
        if path.known:
            coefficients, slopes = path.coefficients(times), path.derivatives(times)
            for name, source in path.given(condition, like=x).items():
                middle = middle + per_row(coefficients[name], x) * source
                moving = moving + per_row(slopes[name], x) * source
    return rate * (x - middle) + moving, rate.expand_as(x), square


def _sum(values: Any) -> Tensor:
    """Over the entries of each row: ``[B]``."""
    total: Tensor = values.flatten(1).sum(1)
    return total
