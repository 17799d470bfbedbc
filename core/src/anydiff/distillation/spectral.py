"""Distillation in the spectrum: a small student is held to its teacher most where the teacher's pictures hold least.

After Yang et al. 2023, "Diffusion probabilistic model made slim" (arXiv:2211.17106), for which no code was released;
what the paper leaves open is said here. The loss is the squared difference of the Fourier transforms (orthonormal,
over all spatial axes, per channel) of the two predictions of clean data, weighted by w = |F teacher|^a with mean 1
over the frequencies of each example, a = -1. Differences of clean data are those of noise times σ/α, which has no
bound; so they are taken in units of noise, times (α/σ)².
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.distillation.companion import check_axes, check_same_states
from anydiff.errors import AnydiffError
from anydiff.objectives import Call
from anydiff.objectives.terms import Term
from anydiff.paths.base import per_row

TEACHER = "teacher"
LARGEST = 10.0
"""Weights are at most this many times their median: a frequency that the teacher leaves empty would outweigh all."""
FLOOR = 1e-3
"""Added to magnitudes, in units of their mean."""


def spectral_weights(teacher: Tensor, exponent: float) -> Tensor:
    """w ``[B, C, *n]`` of mean 1 per example: |F|^a of the spectra ``teacher``, cut at ten times their median."""
    size = teacher.abs()
    mean = size.flatten(1).mean(1)
    mean = torch.where(mean > 0, mean, 1.0)  # of a teacher that says nothing all weights are 1
    found = (size / per_row(mean, size) + FLOOR).pow(exponent)
    found = torch.minimum(found, LARGEST * per_row(found.flatten(1).median(1).values, found))
    return found / per_row(found.flatten(1).mean(1), found)


def spectrum(x: Tensor) -> Tensor:
    """The orthonormal Fourier transform over all axes of ``[B, C, *n]`` behind the channels."""
    transformed: Tensor = torch.fft.fftn(x, dim=tuple(range(2, x.ndim)), norm="ortho")
    return transformed


class Spectral(Term):
    """Σ_f w(f) |F x̂_0 of the student - F x̂_0 of the teacher|² (α/σ)², a mean over entries; a term beside ``denoising``.

    With ``exponent`` 0 it is the plain squared error of the two predictions: distillation in space.

    Args:
        exponent: a of w = |F teacher|^a; -1 as in the paper.

    Raises:
        AnydiffError: an exponent that is not finite.
    """

    needs = (TEACHER,)

    def __init__(self, exponent: float = -1.0) -> None:
        if isinstance(exponent, bool) or not isinstance(exponent, (int, float)) or not math.isfinite(exponent):
            raise AnydiffError(f"exponent is {exponent!r}, but must be a finite number (-1 in the paper).")
        self.exponent = float(exponent)

    def meet(self, denoiser: Denoiser, companions: Mapping[str, Denoiser]) -> None:
        """Refuse states without spatial axes, and a teacher of other states or another path."""
        check_same_states(denoiser, companions[TEACHER], TEACHER)
        check_axes(denoiser, "spectrum", "leave the spectral term out")

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B]."""
        path = call.gaussian_path
        with torch.no_grad():
            teacher = call.predicted_by(TEACHER, "data").float()
        student = call.predict("data").float()
        counted = student.new_full((len(student),), float(student[0].numel()))
        if call.entry_weights is not None:  # entries are weighed where they are, before frequencies mix them
            entries = call.entry_weights.expand(student.shape).to(student)
            student, teacher = student * entries.sqrt(), teacher * entries.sqrt()
            counted = entries.flatten(1).sum(1).clamp_min(1e-12)
        weight, found = spectral_weights(spectrum(teacher), self.exponent), spectrum(student - teacher)
        error = (weight * (found.real.square() + found.imag.square())).flatten(1).sum(1) / counted
        return error * (path.alpha(call.t) / path.sigma(call.t)).square().to(error)
