"""Plain regression: each prediction of the network against its own target, unweighted."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from anydiff.denoisers.kinds import weights
from anydiff.errors import UnknownNameError
from anydiff.objectives.base import Objective, element_mean
from anydiff.objectives.call import Call
from anydiff.objectives.times import TimeLaw
from anydiff.paths.base import LinearPath, per_row
from anydiff.paths.path import Path

NORMS = ("l2", "l1")


class Prediction(Objective):
    """E[ Σ_i mean over elements of |F_i(x_t, t) - F_i*|^p ] over the predictions F_i of the network, p = 2 or 1.

    The target of a kind is its row of weights over the sources, F* = Σ_k r_k u_k (:mod:`anydiff.denoisers.kinds`), so
    the objective stands on every linear path, with one prediction or several of one network call.

    Args:
        norm: ``l2``, the squared error, or ``l1``, the absolute one, whose minimiser is the median.
        times: law of the training times, see :class:`~anydiff.objectives.times.TimeLaw`.
        times_mean: mean of the time law, None for its own.
        times_std: standard deviation of the time law, None for its own.

    Raises:
        UnknownNameError: no such norm or time law.
    """

    def __init__(
        self,
        norm: str = "l2",
        times: str = "uniform",
        times_mean: float | None = None,
        times_std: float | None = None,
    ) -> None:
        if norm not in NORMS:
            raise UnknownNameError("norm", norm, NORMS)
        self.norm = norm
        self.law = TimeLaw(times, times_mean, times_std)

    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """Times [B] from uniform numbers [B] in (0, 1)."""
        return self.law(path, uniform)

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B]; the sum over the predictions."""
        path, sigma_data = call.linear_path, call.denoiser.sigma_data
        losses = [
            element_mean(self.error(value - target(path, call.t, kind, call.sources, sigma_data)), call.entry_weights)
            for kind, value in call.natives.items()
        ]
        return sum(losses[1:], losses[0])

    def error(self, difference: Tensor) -> Tensor:
        """|difference|^p, element by element."""
        return difference.square() if self.norm == "l2" else difference.abs()


def target(path: LinearPath, t: Tensor, kind: str, sources: Mapping[str, Tensor], sigma_data: float = 1.0) -> Tensor:
    """F* = Σ_k r_k(t) u_k ``[B, *shape]``: what a prediction of ``kind`` is compared with."""
    row = weights(path, t, kind, sigma_data)
    parts = [per_row(weight, sources[name]) * sources[name] for name, weight in row.items()]
    return sum(parts[1:], parts[0])
