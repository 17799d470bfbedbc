"""azula's samplers through its public classes: a Schedule (ours, in float64) and a Denoiser (the exact one).

azula's samplers step uniformly in their time; a grid is therefore chosen by the schedule's own parametrisation, and
"log-snr" is its VESchedule.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from anydiff_benchmarks.peers.cases import Case, Counted
from anydiff_benchmarks.peers.targets import PATH, sigma_max, sigma_min

DISTRIBUTION = "azula"


def version() -> str:
    """The installed version; raises ImportError where there is none."""
    import azula.sample  # noqa: F401

    return importlib.metadata.version(DISTRIBUTION)


_SAMPLERS: dict[str, tuple[dict[str, Any], int]] = {
    "DDIMSampler": ({}, 1),
    "EulerSampler": ({}, 1),
    "HeunSampler": ({}, 2),
    **{f"{name}Sampler order={order}": ({"order": order}, 1) for name in ("zAB", "vAB", "zEAB", "xEAB", "REAB")
       for order in (2, 3, 4)},
}  # fmt: skip

#: time in [0, 1] -> (α, σ), both float64
_SCHEDULES: dict[str, Callable[[float], tuple[float, float]]] = {
    "time": lambda u: _at(PATH.t_end + u * (PATH.t_start - PATH.t_end)),
    "quadratic": lambda u: _at((PATH.t_end**0.5 + u * (PATH.t_start**0.5 - PATH.t_end**0.5)) ** 2),
}
_GRIDS = (*_SCHEDULES, "log-snr", "log-snr to 0.001")


def _at(t: float) -> tuple[float, float]:
    return PATH.alpha(min(t, PATH.t_start)), PATH.sigma(min(t, PATH.t_start))


def denoiser(denoise: Counted, grid: str) -> Any:
    """The exact denoiser in azula's form, on the schedule of ``grid``."""
    from azula.denoise import Denoiser, DiracPosterior
    from azula.noise import Schedule, VESchedule

    class Reparametrised(Schedule):  # type: ignore[misc]  # azula is optional, so its classes have no types here
        def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
            pairs = [_SCHEDULES[grid](float(u)) for u in t.reshape(-1)]
            alpha, sigma = torch.tensor(pairs, dtype=torch.float64).T
            return alpha.reshape(t.shape), sigma.reshape(t.shape)

    class Exact(Denoiser):  # type: ignore[misc]  # as above
        def __init__(self) -> None:
            super().__init__()
            least = 1e-3 if grid.endswith("0.001") else sigma_min()
            self.schedule = Reparametrised() if grid in _SCHEDULES else VESchedule(least, sigma_max())

        def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> Any:
            alpha, sigma = self.schedule(t)
            return DiracPosterior(denoise(x_t / alpha, float(sigma / alpha)))

    return Exact()


def cases() -> Iterator[Case]:
    """Every deterministic sampler on every grid."""
    for name in _SAMPLERS:
        for grid in _GRIDS:
            yield Case("azula", name, grid, functools.partial(_run, name, grid))


def _run(name: str, grid: str, denoise: Counted, nfe: int) -> Tensor:
    import azula.sample

    options, calls = _SAMPLERS[name]
    exact = denoiser(denoise, grid)
    sampler = getattr(azula.sample, name.split()[0])(
        exact, steps=nfe // calls, silent=True, dtype=torch.float64, **options
    )
    alpha, _ = exact.schedule(torch.ones((), dtype=torch.float64))
    end, _ = exact.schedule(torch.zeros((), dtype=torch.float64))
    drawn: Tensor = sampler(denoise.target.unscaled_start() * alpha) / end
    return drawn
