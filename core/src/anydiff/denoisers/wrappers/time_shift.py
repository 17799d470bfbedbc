"""Time-shift sampling (TS-DPM): the network is told the time that the state looks like.

Li et al., "Alleviating exposure bias in diffusion models through sampling with shifted time steps", ICLR 2024 (arXiv
2305.15583). The variance v of a sample's own entries estimates its noise level, and the time at which

    α_τ² v_0 + σ_τ² = v,    |τ - t| <= w/2,

replaces t in the network call, for each sample by itself. No call is added and no plan is changed: it is a function
from denoiser to denoiser, so it works with every solver.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser, convert
from anydiff.denoisers.kinds import PredictionKind
from anydiff.denoisers.wrappers.base import Wrapper
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths.base import GaussianPath
from anydiff.states import Conditioning

CARRIED = ("noise", "native", "data")
#: Candidate times in a window; their distance is far below what a variance can resolve.
POINTS = 257


@dataclass(frozen=True)
class TimeShift(Wrapper):
    """F(x, t) ← network at (x, τ) with τ from the variance of x; see the module.

    Which prediction is carried from τ to the plan's time t is a choice of its own, since x, ε and D do not fit together
    at both. With ``carry="noise"``, the paper's, the network's ε at τ is used as the ε at t: D = (x - σ_t ε)/α_t, and
    the plan's coefficients stay those of t. ``"native"`` does that with whatever the network outputs, ``"data"`` takes
    D at τ for the D at t. For a network that predicts ε, the first two are the same.

    The prior's own draws (t = t_start) are never shifted, and every other call is, an inner stage of a step too. Times
    are fractions of the path's t_start: on ``vp-linear`` the paper's steps of 1000, divided by 1000.

    Args:
        window: w, the whole width in which τ is sought; 0 changes nothing.
        cutoff: times up to it are not shifted.
        data_variance: v_0, the mean variance of a training sample's entries; 0 in the paper, which biases τ at small t
            (by 58 steps of 1000 at t = 0.2 where v_0 is 0.26).
        largest_std: no shift where the :meth:`resolution` is coarser than this; small states then keep their times.
        carry: ``"noise"``, ``"native"`` or ``"data"``.

    Raises:
        AnydiffError: the variance says nothing of the time (v_0 = 1 on a variance-preserving path), or a state has a
            single entry.
    """

    window: float = 0.02
    cutoff: float = 0.3
    data_variance: float = 0.0
    largest_std: float = math.inf
    carry: str = "noise"

    def __post_init__(self) -> None:
        if self.carry not in CARRIED:
            raise UnknownNameError("carried prediction", self.carry, CARRIED)
        for name in ("window", "cutoff", "data_variance", "largest_std"):
            if not getattr(self, name) >= 0:
                raise AnydiffError(f"{name} is {getattr(self, name)}, but must be at least 0.")

    def native_kind(self, denoiser: Denoiser) -> PredictionKind:
        """The kind that is carried."""
        kinds: dict[str, PredictionKind] = {"noise": "noise", "data": "data", "native": denoiser.native_kind}
        return kinds[self.carry]

    def predict(
        self, denoiser: Denoiser, x: Tensor, t: float | Tensor, kind: PredictionKind, condition: Conditioning
    ) -> Tensor:
        """The carried prediction of the shifted time, as ``kind`` at ``t``."""
        times = self.times(denoiser.gaussian_path, x, t)
        if times is None:
            return denoiser.predict(x, t, kind, condition)
        carries = self.native_kind(denoiser)
        return convert(denoiser, x, t, denoiser.predict(x, times, carries, condition), carries, kind, condition)

    def resolution(self, path: GaussianPath, t: float, size: int) -> float:
        """Standard deviation of τ for states of ``size`` independent entries, a fraction of t_start.

        sqrt(2/size) (α² v_0 + σ²) / |d(α² v_0 + σ²)/dt|: a variance of ``size`` entries is known to sqrt(2/size) of
        itself.
        """
        return float(self._resolution(path, torch.tensor(t, dtype=torch.float64), size))

    def _resolution(self, path: GaussianPath, t: Tensor, size: int) -> Tensor:
        alpha, sigma = path.alpha(t), path.sigma(t)
        slope = 2 * (alpha * path.d_alpha(t) * self.data_variance + sigma * path.d_sigma(t))
        return math.sqrt(2 / size) * (alpha**2 * self.data_variance + sigma**2) / slope.abs() / path.t_start

    def times(self, path: GaussianPath, x: Tensor, t: float | Tensor) -> Tensor | None:
        """τ ``[B]`` (float64) for states ``x [B, *shape]`` at ``t`` (a number or ``[B]``); None if nothing shifts."""
        nominal = torch.as_tensor(t, dtype=torch.float64, device=x.device).expand(x.shape[0])
        active = (nominal > self.cutoff * path.t_start) & (nominal < path.t_start)
        size = math.prod(x.shape[1:])
        if self.largest_std < math.inf:
            active = active & (self._resolution(path, nominal, size) <= self.largest_std)
        if self.window == 0 or not bool(active.any()):
            return None
        if size < 2:
            raise AnydiffError("a state of one entry has no variance of its own; leave the time shift out.")
        half = self.window / 2 * path.t_start
        offsets = torch.linspace(-half, half, POINTS, dtype=torch.float64, device=x.device)
        candidates = (nominal[:, None] + offsets).clamp(path.t_end, path.t_start)
        level = path.alpha(candidates) ** 2 * self.data_variance + path.sigma(candidates) ** 2
        self._check_variance_tells_time(level[active], path)
        variance = x.detach().flatten(1).to(torch.float64).var(dim=1)
        nearest = (level - variance[:, None]).abs().argmin(dim=1, keepdim=True)
        return torch.where(active, candidates.gather(1, nearest)[:, 0], nominal)

    def _check_variance_tells_time(self, level: Tensor, path: GaussianPath) -> None:
        spread = level.amax(dim=1) - level.amin(dim=1)
        if bool((spread <= 1e-12 * level.amax(dim=1)).any()):
            raise AnydiffError(
                f"with data_variance={self.data_variance} the variance of a state on {path!r} is the same at every "
                "time and tells none; leave the time shift out."
            )
