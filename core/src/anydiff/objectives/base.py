"""The face of an objective, and the squared error of a denoiser in the space its network predicts in.

Any prediction F of a denoiser and its target F* (table below) obey D - x0 = q (F - F*), D = E[x0|x_t]. An error in the
noise prediction is α/σ times the error of D. So a loss that weighs the squared noise error by w is

    w (α/σ)² q² (F - F*)²,

and its factor g = (α/σ)² q² is written out per kind, so that nothing is divided by a tiny σ or α on its way:

========  =================================  ====================  with W = α σ' - σ α',  s² = σ² + α² σ_data²
kind      target F*                          g
========  =================================  ====================
data      x0                                 α²/σ²
noise     ε                                  1
velocity  α ε - σ x0                         α²/(α² + σ²)²
score     -ε/σ                               σ²
flow      α' x0 + σ' ε + Σ c_k' u_k          α²/W²
edm       (σ x0 - α σ_data² ε)/(σ_data s)    α² σ_data²/s²
residual  u - x0, u the known source or 0    α²/σ²
========  =================================  ====================

A denoiser of several predictions has one such error for each, and their sum is the loss.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.kinds import weights
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.objectives.call import ALONE, Beside, Call
from anydiff.paths.base import GaussianPath, per_row
from anydiff.paths.path import Path
from anydiff.solvers.plan import Plan
from anydiff.states import UNCONDITIONAL, Conditioning, Draws, StateSpec


def target_and_gain(path: GaussianPath, t: Tensor, kind: str, sigma_data: float) -> tuple[Tensor, Tensor, Tensor]:
    """(a, b, g), float64 [B]: the target of ``kind`` is a x0 + b ε, and g is its factor in the table above."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
    if kind == "data":
        return one, zero, (alpha / sigma) ** 2
    if kind == "residual":
        return -one, zero, (alpha / sigma) ** 2
    if kind == "noise":
        return zero, one, one
    if kind == "velocity":
        return -sigma, alpha, (alpha / (alpha**2 + sigma**2)) ** 2
    if kind == "score":
        return zero, -1 / sigma, sigma**2
    if kind == "flow":
        return path.d_alpha(t), path.d_sigma(t), (alpha / wronskian(path, t)) ** 2
    if kind == "edm":
        scale = torch.sqrt(sigma**2 + (alpha * sigma_data) ** 2)
        return sigma / (sigma_data * scale), -alpha * sigma_data / scale, (alpha * sigma_data / scale) ** 2
    raise UnknownNameError("kind of prediction", kind, path.kinds)


def wronskian(path: GaussianPath, t: Tensor) -> Tensor:
    """W = α σ' - σ α', positive on every path whose log-SNR decreases; 1 on the straight path of flow matching."""
    return path.alpha(t) * path.d_sigma(t) - path.sigma(t) * path.d_alpha(t)


class Objective(ABC):
    """A loss per example, and how the noise levels are distributed.

    A subclass gives :meth:`times`, float64 and per example, and :meth:`loss`, from what a
    :class:`~anydiff.objectives.call.Call` offers, so that it can stand beside others in the objective ``sum``.
    A weighted squared error is a :class:`DenoisingObjective`.
    """

    leads = True
    """Whether it says at which times examples are seen; a term for which any times will do takes those of others."""

    couples: bool = False
    """Whether it is a loss of the whole batch (:class:`anydiff.objectives.Coupled`), or holds one."""

    fewest_rows: int = 1
    """Examples that its loss is defined for at least: those of a batch, and those of the data."""

    needs: tuple[str, ...] = ()
    """Names of the companions that it asks for (:meth:`Call.companion`)."""

    @abstractmethod
    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """Times from uniform numbers in (0, 1): ``[B]`` from ``[B]`` or, where :meth:`uniform_shape` says more than
        one number, ``[B]`` or ``[B, n]`` from ``[B, *uniform_shape]``, n the first axis of the state."""

    def uniform_shape(self, spec: StateSpec) -> tuple[int, ...]:
        """The shape of the uniform numbers that one example needs: block times, orders and prefixes come of them.

        One number by default. Whatever it is, the numbers of an example are a function of (seed, position) alone.
        """
        return ()

    plan: Plan | None = None
    """The plan on which it trains a sampler as a whole, once it is prepared; None where it trains a denoiser."""

    def __call__(
        self, denoiser: Denoiser, clean: Tensor, noise: Tensor, uniform: Tensor, condition: Conditioning = UNCONDITIONAL
    ) -> Tensor:
        """Loss per example [B].

        Args:
            denoiser: what is trained; compared in its own kind of prediction.
            clean: x0 [B, *shape].
            noise: ε [B, *shape] of unit scale.
            uniform: numbers in (0, 1), [B, *uniform_shape], by default one per example; become its time or times.
            condition: handed to the denoiser. With its ``loss_weight`` the loss is the weighted mean over the elements;
                with its ``mask`` entries of absent nodes are zero in x_t and left out of the mean. What the path leads
                to (``mu`` of a mean-reverting one) is a part of x_t too.

        Raises:
            AnydiffError: a loss weight or ``uniform`` of a shape that does not fit, or what the path leads to is
                missing.
        """
        return self.loss(Call(denoiser, self.times, clean, noise, uniform, condition))

    @abstractmethod
    def loss(self, call: Call) -> Tensor:
        """Loss per example [B] of a call that other terms may share."""

    def losses(self, call: Call) -> dict[str, Tensor]:
        """The terms of the loss by name, each [B]; the loss is their sum. One called ``loss`` by default."""
        return {"loss": self.loss(call)}

    def terms(
        self,
        denoiser: Denoiser,
        clean: Tensor,
        noise: Tensor,
        uniform: Tensor,
        condition: Conditioning = UNCONDITIONAL,
        draws: Draws | None = None,
        beside: Beside = ALONE,
    ) -> dict[str, Tensor]:
        """The terms of the loss by name, as a training logs them.

        Arguments as for calling the objective; ``draws`` are the random numbers of the rows for whatever else it draws,
        without them those of the positions 0 to B - 1. ``beside`` holds companions and what couples micro batches.
        """
        if makes_its_own_call(self):
            return {"loss": self(denoiser, clean, noise, uniform, condition)}
        return self.losses(Call(denoiser, self.times, clean, noise, uniform, condition, draws, beside))

    def prepare(self, denoiser: Denoiser) -> None:  # noqa: B027 (most objectives have nothing to prepare)
        """Called once, before ``denoiser`` is trained: refuse what does not fit, and make what depends on it.

        Raises:
            AnydiffError: the objective cannot train this denoiser.
        """

    def meet(self, denoiser: Denoiser, companions: Mapping[str, Denoiser]) -> None:  # noqa: B027 (most need none)
        """Called once, before ``denoiser`` is trained, with the recipe's companions: refuse one that does not fit.

        Raises:
            AnydiffError: it is of other states, of another path, or whatever the objective cannot use.
        """

    def asked_times(self, name: str) -> Sequence[float] | None:
        """The times at which it asks the companion ``name``; None where they may be any."""
        return None

    def modules(self) -> Mapping[str, nn.Module]:
        """Modules of the objective's own, by name: trained with the network, in ``state.pt``, and never exported."""
        return {}


class DenoisingObjective(Objective):
    """The weighted squared error of a denoiser. A subclass gives :meth:`times` and :meth:`noise_weight`, float64."""

    @abstractmethod
    def noise_weight(self, path: GaussianPath, t: Tensor, sigma_data: float) -> Tensor:
        """The weight w [B] of the squared error of the noise prediction at times t [B]."""

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B] of a call that other terms may share: the weighted squared error of its prediction."""
        return self.squared_error(call, call.entry_weights)

    def squared_error(self, call: Call, entry_weights: Tensor | None) -> Tensor:
        """g w (F - F*)² [B], a mean over the entries with ``entry_weights``; see the module's text."""
        path, t, sigma_data = call.gaussian_path, call.t, call.denoiser.sigma_data
        losses = []
        for kind, prediction in call.natives.items():
            target_x0, target_noise, gain = target_and_gain(path, t, kind, sigma_data)
            missed = prediction - per_row(target_x0, call.clean) * call.clean
            missed = missed - per_row(target_noise, call.clean) * call.noise
            error = (missed if not path.known else missed - _known_target(call, kind)).square()
            weight = per_row(self.noise_weight(path, t, sigma_data), gain) * gain
            if weight.ndim > 1:  # one weight per position, or per entry of a product path
                losses.append(element_mean(per_row(weight, error) * error, entry_weights))
            else:
                losses.append(weight.to(error.dtype) * element_mean(error, entry_weights))
        return sum(losses[1:], losses[0])


def _known_target(call: Call, kind: str) -> Tensor | float:
    """What the known sources are of the target of ``kind``."""
    row = weights(call.linear_path, call.t, kind, call.denoiser.sigma_data)
    parts = [per_row(row[name], call.clean) * call.sources[name] for name in call.path.known if name in row]
    return sum(parts, start=0.0)


def makes_its_own_call(objective: Objective) -> bool:
    """Whether it computes its loss in ``__call__`` and not in ``loss(call)``, so that no other term can share it."""
    return type(objective).__call__ is not Objective.__call__


def element_mean(error: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of ``error`` [B, *shape] per example, weighted by ``mask`` (zero where the mask is all zero): [B]."""
    if mask is None:
        return error.flatten(1).mean(1)
    if mask.ndim != error.ndim or any(m not in (1, e) for m, e in zip(mask.shape, error.shape, strict=True)):
        raise AnydiffError(
            f"loss_weight has shape {tuple(mask.shape)}, "
            f"but must be {tuple(error.shape)} or broadcast to it axis by axis."
        )
    mask = mask.to(error.dtype).expand(error.shape).flatten(1)
    total = mask.sum(1)
    # `where`, so that an unknown (NaN) element under a zero weight has no influence.
    weighted = torch.where(mask > 0, mask * error.flatten(1), 0).sum(1)
    return weighted / torch.where(total > 0, total, 1)
