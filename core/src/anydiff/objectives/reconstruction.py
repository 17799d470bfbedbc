"""What an autoencoder minimises (see :mod:`anydiff.networks.autoencoder`): named terms on one encoding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.objectives.base import Objective, element_mean
from anydiff.objectives.call import Call, network_heads
from anydiff.objectives.terms import Sum, Term, Weighted
from anydiff.paths.path import Path

ERRORS = ("squared", "absolute", "spectral")
WINDOWS = (64, 256, 1024)
"""Lengths of the windows of the spectral error; those longer than the signal are left out."""
FLOOR = 1e-3
"""Added to magnitudes before the logarithm: below it nothing is heard, nor compared."""

_ASKED_BY, _FIX = (
    "the objective 'reconstruction', which needs a network with encode and decode,",
    "choose 'autoencoder'",
)


def _features(call: Call) -> Tensor:
    """E(x) ``[B, *latent_shape]``, computed once for all terms."""
    means: Tensor = call.once("means", lambda: call.head("encode", _ASKED_BY, _FIX)(call.clean))
    return means


def _quantised(call: Call) -> Any:
    """What the codebook makes of E(x), once for all terms."""
    return call.once("quantised", lambda: network_heads(call.denoiser)["quantise"](_features(call)))


def _has_codebook(denoiser: Denoiser) -> bool:
    return "quantise" in network_heads(denoiser)


class ReconstructionError(Objective):
    """The error of D(E(x) + s ε), ε the first entries of the example's own noise; with a codebook of D(e_k), no noise.

    Args:
        noise: s.
        error: ``squared``, ``absolute`` or ``spectral`` (:func:`spectral_error`, of signals ``[C, N]``).
    """

    def __init__(self, noise: float, error: str = "squared") -> None:
        self.noise, self.error = noise, error

    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """The path's end for every example: clean data are what is reconstructed."""
        return torch.full_like(uniform, path.t_end)

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B]; the condition's ``loss_weight`` weighs the entries.

        Raises:
            AnydiffError: latents with more entries than the state, or a spectral error of what is no signal.
        """
        decode, means = call.head("decode", _ASKED_BY, _FIX), _features(call)
        latent = _quantised(call).straight if _has_codebook(call.denoiser) else means + self._drawn(call, means)
        made = decode(latent)
        if self.error == "spectral":
            return _checked_spectral(made, call)
        error = made - call.clean
        return element_mean(error.abs() if self.error == "absolute" else error.square(), call.condition.loss_weight)

    def _drawn(self, call: Call, means: Tensor) -> Tensor:
        size, entries = means[0].numel(), call.noise[0].numel()
        if size > entries:
            raise AnydiffError(
                f"the latent has {size} entries, but the state only {entries}; take fewer latent channels or "
                "a larger factor."
            )
        return self.noise * call.noise.flatten(1)[:, :size].reshape(means.shape)


class LatentSize(Term):
    """mean |E(x)|² over the entries of the latent."""

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B]."""
        return _features(call).square().flatten(1).mean(1)


class CodebookError(Term):
    """mean |sg E(x) - e_k|²: the codes follow the features."""

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B]."""
        loss: Tensor = _quantised(call).codebook
        return loss


class Commitment(Term):
    """mean |E(x) - sg e_k|²: the features stay near their codes."""

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B]."""
        loss: Tensor = _quantised(call).commitment
        return loss


class Reconstruction(Sum):
    r"""The error of a reconstruction and what keeps its latents in order, each a term of its own in the log.

    Of latents that are numbers mean (D(E(x) + s ε) - x)² + β/2 · mean |E(x)|², the terms ``error`` and ``penalty``. The
    second is the divergence of N(E(x), s² I) from N(0, I) per entry of the latent, without its constant
    (s² - 1 - log s²)/2. Minimising the sum is maximising the evidence of a Gaussian decoder of variance β dim(x) /
    (2 dim(z)). ε is the first entries of the example's own noise, so training is as reproducible as any.

    Of codes mean (D(e_k) - x)² + mean |sg E(x) - e_k|² + c · mean |E(x) - sg e_k|², the terms ``error``, ``codebook``
    and ``commitment`` (van den Oord et al. 2017, arXiv:1711.00937), with the gradient of D handed to E.

    A network offers ``encode`` and ``decode`` as its heads, one with a codebook ``quantise`` too.

    Args:
        noise: s, standard deviation of the noise on the latents, which should have unit scale; not for codes.
        penalty: β; not for codes.
        commitment: c; for codes alone.
        error: ``squared``, ``absolute``, or ``spectral`` for signals ``[C, N]`` (:func:`spectral_error`).

    Raises:
        UnknownNameError: no such error.
        AnydiffError: a number that is negative; or, when called, a network without ``encode`` and ``decode``, or
            latents with more entries than the state.
    """

    def __init__(
        self, noise: float = 0.1, penalty: float = 1e-3, commitment: float = 0.25, error: str = "squared"
    ) -> None:
        for name, value in (("noise", noise), ("penalty", penalty), ("commitment", commitment)):
            if not 0 <= value < float("inf"):
                raise AnydiffError(f"{name} is {value}, but must be a finite number of at least 0.")
        if error not in ERRORS:
            raise UnknownNameError("error", str(error), ERRORS)
        self.noise = noise
        parts = {"error": Weighted(ReconstructionError(noise, error), 1.0)}
        self._of_numbers, self._of_codes = {**parts}, {**parts, "codebook": Weighted(CodebookError(), 1.0)}
        if penalty > 0:
            self._of_numbers["penalty"] = Weighted(LatentSize(), penalty / 2)
        if commitment > 0:
            self._of_codes["commitment"] = Weighted(Commitment(), commitment)
        super().__init__({**self._of_numbers, **self._of_codes})

    def active(self, denoiser: Denoiser) -> Mapping[str, Weighted]:
        """The terms of codes where the network has a codebook, else those of numbers."""
        return self._of_codes if _has_codebook(denoiser) else self._of_numbers


def spectral_error(made: Tensor, clean: Tensor) -> Tensor:
    """mean |log(|S made| + f) - log(|S clean| + f)| over Hann windows of 64, 256 and 1024 samples, [B]; f = 1e-3.

    S is the short-time Fourier transform with hops of a quarter of the window, divided by the window's sum, so a full
    sine has magnitude 1/2 at any length. ``made`` and ``clean`` are signals ``[B, C, N]`` of at least 64 samples.
    """
    lengths = [length for length in WINDOWS if length <= clean.shape[-1]]
    found = []
    for length in lengths:
        window = torch.hann_window(length, device=clean.device)
        one, two = (
            torch.stft(each.flatten(0, 1).float(), length, length // 4, window=window, return_complex=True).abs()
            for each in (made, clean)
        )
        gap = ((one / window.sum() + FLOOR).log() - (two / window.sum() + FLOOR).log()).abs()
        found.append(gap.reshape(len(clean), -1).mean(1))
    return torch.stack(found).mean(0)


def _checked_spectral(made: Tensor, call: Call) -> Tensor:
    clean = call.clean
    if clean.ndim != 3 or clean.shape[-1] < WINDOWS[0]:
        raise AnydiffError(
            f"error is 'spectral', which compares signals [C, N] of at least {WINDOWS[0]} samples, but a state has "
            f"shape {tuple(clean.shape[1:])}; take error: squared."
        )
    if call.condition.loss_weight is not None:
        raise AnydiffError("error is 'spectral', which has no entries to weigh, but the data give a loss_weight.")
    return spectral_error(made, clean)
