"""The face of guidance: one method, which the base class wraps into a denoiser."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, convert
from anydiff.denoisers.kinds import PredictionKind, conversion
from anydiff.denoisers.wrappers.base import Wrapper
from anydiff.errors import AnydiffError
from anydiff.paths.base import GaussianPath
from anydiff.states import Conditioning

Scale = float | Tensor | Callable[[float], float]
"""A guidance's strength: a number, a tensor ``[B]`` (one per sample), or a function of the time t."""


class Guidance(Wrapper):
    """A function from denoiser to denoiser, given by its data prediction: a subclass writes :meth:`data` alone.

    Path, spec, encoded conditions and all other kinds of prediction follow from it.
    """

    @abstractmethod
    def data(self, denoiser: Denoiser, x: Tensor, t: float | Tensor, condition: Conditioning) -> Tensor:
        """The guided E[x_0 | x_t] ``[B, *shape]``.

        Args:
            denoiser: the one to guide, called as ``denoiser(x, t, condition)``.
            x: the state ``[B, *shape]``.
            t: its time, a number or ``[B]``.
            condition: as the denoiser encoded it.
        """

    @property
    def bends(self) -> bool:
        """Yes."""
        return True

    def native_kind(self, denoiser: Denoiser) -> PredictionKind:
        """The data."""
        return "data"

    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The guided data prediction as ``kind``."""
        return convert(denoiser, x, t, self.data(denoiser, x, t, condition), "data", kind, condition)


class LinearGuidance(Guidance):
    """A guidance that is the same in every kind of prediction: linear in the predictions, or a shift of the score.

    A subclass gives :meth:`predict` in place of :meth:`data` and works in the denoiser's own kind or in the one that is
    asked for, so that nothing is converted there and back.
    """

    def data(self, denoiser: Denoiser, x: Tensor, t: float | Tensor, condition: Conditioning) -> Tensor:
        """The prediction of the data."""
        return self.predict(denoiser, x, t, "data", condition)

    def native_kind(self, denoiser: Denoiser) -> PredictionKind:
        """That of the inner denoiser."""
        return denoiser.native_kind

    @abstractmethod
    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The guided prediction of ``kind`` ``[B, *shape]``; arguments as for :meth:`Wrapper.predict`."""


def score_path(denoiser: Denoiser) -> GaussianPath:
    """The path of ``denoiser``, if a shift of the score has a meaning on it.

    Raises:
        AnydiffError: its noise is not Gaussian, or it has no log-SNR.
    """
    path = denoiser.gaussian_path
    if not path.noise_law.gaussian:
        raise AnydiffError(
            f"guidance that shifts the score has no meaning on {path!r}, whose noise is {path.noise_law.name}; use "
            "classifier-free guidance, which works on the data prediction."
        )
    return path


def score_unit(denoiser: Denoiser, t: float | Tensor, kind: PredictionKind) -> Tensor:
    """What 1 more in the score is in a prediction of ``kind`` at ``t``, float64: σ²/α for the data, -σ for the noise.

    Where α = 0 the state says nothing of the data and the shift is 0/0; there it is 0, as it is at σ = 0.
    """
    times = torch.as_tensor(t, dtype=torch.float64)
    path = score_path(denoiser)
    alpha, sigma = path.alpha(times), path.sigma(times)
    _, factor = conversion(path, times, "data", kind, denoiser.sigma_data)
    return torch.where((alpha > 0) & (sigma > 0), factor * sigma**2 / alpha, 0.0)


def data_unit(denoiser: Denoiser, t: float | Tensor, kind: PredictionKind) -> Tensor:
    """What 1 more in the data is in a prediction of ``kind`` at ``t``, float64: 1 for the data, -α/σ for the noise."""
    times = torch.as_tensor(t, dtype=torch.float64)
    _, factor = conversion(denoiser.gaussian_path, times, "data", kind, denoiser.sigma_data)
    return torch.as_tensor(factor)


def differentiable_leaf(x: Tensor, keep: bool) -> Tensor:
    """``x`` as something to differentiate by; the caller's own tensor is left as it is.

    Args:
        x: a state or a prediction.
        keep: whether the caller differentiates through what is made of it.
    """
    if keep and x.requires_grad:
        return x
    # A tensor of inference mode can be differentiated by only as a copy.
    return (x.clone() if x.is_inference() else x).detach().requires_grad_()


def scale_at(scale: Scale, t: float | Tensor, rows: int) -> float | Tensor:
    """``scale`` at time ``t`` for a batch of ``rows``: a float, or a tensor without axes or ``[rows]``.

    Raises:
        AnydiffError: a function of time asked for several times at once, or a tensor of another length.
    """
    if callable(scale):
        if isinstance(t, Tensor) and t.ndim:
            raise AnydiffError(
                "scale is a function of time, which needs one time for the whole batch, not one per sample."
            )
        return float(scale(float(t)))
    if not isinstance(scale, Tensor):
        return float(scale)
    if scale.ndim and scale.shape != (rows,):
        raise AnydiffError(
            f"scale has shape {tuple(scale.shape)}, but this batch has {rows} samples; give one scale per sample "
            "and a batch_size that holds them all."
        )
    return scale
