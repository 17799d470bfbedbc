"""k-diffusion's samplers as published, in y and κ: ``model(x, sigma)`` is the denoiser."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from anydiff_benchmarks.peers.cases import Case, Counted
from anydiff_benchmarks.peers.targets import PATH, sigma_max, sigma_min

DISTRIBUTION = "k-diffusion"


@functools.cache
def sampling() -> Any:
    """The module ``k_diffusion.sampling``, without the package's __init__, which imports what only training needs.

    Its ``utils`` imports torchvision for reading images; where that is absent, an empty module stands for it.
    """
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("k_diffusion is not installed.")
    stand_ins: dict[str, types.ModuleType] = {}
    if importlib.util.find_spec("torchvision") is None:
        names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
        stand_ins = {name: types.ModuleType(name) for name in names}
        vars(stand_ins[names[1]])["functional"] = stand_ins[names[2]]
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules.update(stand_ins)
    sys.modules.setdefault("k_diffusion", package)
    try:
        return importlib.import_module("k_diffusion.sampling")
    finally:
        for name in stand_ins:  # other libraries look for torchvision too
            del sys.modules[name]


def version() -> str:
    """The installed version; raises ImportError where there is none."""
    sampling()
    return importlib.metadata.version(DISTRIBUTION)


#: sampler -> (options, steps that n calls buy with a grid of that many positive sigmas)
_SAMPLERS: dict[str, tuple[dict[str, Any], Callable[[int], int]]] = {
    "sample_euler": ({}, lambda n: n),
    "sample_heun": ({}, lambda n: (n + 1) // 2),
    "sample_dpm_2": ({}, lambda n: (n + 1) // 2),
    "sample_lms": ({}, lambda n: n),
    "sample_dpmpp_2s_ancestral": ({"eta": 0.0}, lambda n: (n + 1) // 2),
    "sample_dpmpp_sde": ({"eta": 0.0, "noise_sampler": lambda *_: 0.0}, lambda n: (n + 1) // 2),
    "sample_dpmpp_2m": ({}, lambda n: n),
    "sample_dpmpp_2m_sde": ({"eta": 0.0, "noise_sampler": lambda *_: 0.0}, lambda n: n),
    "sample_dpmpp_3m_sde": ({"eta": 0.0, "noise_sampler": lambda *_: 0.0}, lambda n: n),
}
_GRIDS = ("karras", "exponential", "polyexponential rho=1.5", "vp")


def sigmas(grid: str, count: int) -> Tensor:
    """The library's own grid of ``count`` positive sigmas and a zero, between our κ at both ends."""
    module = sampling()
    levels: Tensor
    if grid == "karras":
        levels = module.get_sigmas_karras(count, sigma_min(), sigma_max())
    elif grid == "exponential":
        levels = module.get_sigmas_exponential(count, sigma_min(), sigma_max())
    elif grid.startswith("polyexponential"):
        levels = module.get_sigmas_polyexponential(count, sigma_min(), sigma_max(), rho=1.5)
    else:
        levels = module.get_sigmas_vp(count, eps_s=PATH.t_end)
    return levels.double()


def model(denoise: Counted) -> Callable[..., Tensor]:
    """The denoiser in k-diffusion's form."""
    return lambda y, sigma, **_: denoise(y, float(sigma[0]))


def cases() -> Iterator[Case]:
    """Every sampler (stochastic ones without noise) on every grid."""
    for name in _SAMPLERS:
        for grid in _GRIDS:
            yield Case("k-diffusion", name, grid, functools.partial(_run, name, grid))
    yield Case("k-diffusion", "sample_dpm_fast", "(its own)", _fast)


def _run(name: str, grid: str, denoise: Counted, nfe: int) -> Tensor:
    options, steps = _SAMPLERS[name]
    levels = sigmas(grid, steps(nfe))
    levels[0] = sigma_max()  # the float32 grid misses it by 1e-7
    sampler = getattr(sampling(), name)
    end: Tensor = sampler(model(denoise), denoise.target.unscaled_start(), levels, disable=True, **options)
    return end


def _fast(denoise: Counted, nfe: int) -> Tensor:
    with torch.no_grad():
        end: Tensor = sampling().sample_dpm_fast(
            model(denoise), denoise.target.unscaled_start(), sigma_min(), sigma_max(), nfe, disable=True
        )
    return end
