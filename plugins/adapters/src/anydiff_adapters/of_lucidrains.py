"""denoising-diffusion-pytorch (lucidrains): ``GaussianDiffusion`` and its one-dimensional form, network inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from anydiff.adapters import Adapter, Example, denoiser_of
from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.networks import ForeignNetwork
from anydiff.registry import registry
from anydiff_adapters.libraries import imported
from anydiff_adapters.schedules import kind_of, ladder


def _call(network: nn.Module, x: Tensor, times: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    output: Tensor = network(x, times)
    return output


class Lucidrains(Adapter):
    """``GaussianDiffusion(model, ...)``: the object knows its betas and what its model predicts.

    States are in [-1, 1]; the object's own ``sample`` maps them to [0, 1] (``auto_normalize``) and clips predictions,
    which here are the caller's: ``(x + 1) / 2`` and the guidance ``clamp``.
    """

    def wrap(self, network: Any, schedule: Any = None) -> NetworkDenoiser:
        """A denoiser of a diffusion.

        Args:
            network: the ``GaussianDiffusion``, which holds the model.
            schedule: none.

        Raises:
            AnydiffError: the bare model, or one that conditions on its own prediction.
        """
        diffusion = network
        if not hasattr(diffusion, "betas") or not hasattr(diffusion, "objective"):
            raise AnydiffError(
                f"{type(network).__name__} does not say its betas and objective; wrap the GaussianDiffusion that holds "
                "the model."
            )
        if getattr(diffusion, "self_condition", False):
            raise AnydiffError(
                f"the model of {type(diffusion).__name__} was built with self_condition=True, which asks for its own "
                "last prediction and is not modelled; wrap one without."
            )
        path = registry().build("paths", "ladder", **ladder(diffusion.betas.double())["options"])
        kind = kind_of(diffusion.objective, f"objective of {type(diffusion).__name__}")
        return denoiser_of(ForeignNetwork(diffusion.model, _call), path, kind, shape=_shape(diffusion))

    def example(self) -> Example:
        """A small U-Net in one dimension that predicts v."""
        library = imported("denoising_diffusion_pytorch", "the example of lucidrains", "denoising-diffusion-pytorch")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = library.Unet1D(dim=8, dim_mults=(1, 2), channels=2)
            diffusion = library.GaussianDiffusion1D(model, seq_length=16, timesteps=100, objective="pred_v").eval()
            states = torch.randn(3, 2, 16)
        times = (5, 50, 95)

        def data(x: Tensor, t: float) -> Tensor:
            with torch.no_grad():
                made = diffusion.model_predictions(x, torch.full((len(x),), int(t)))
            clean: Tensor = made.pred_x_start
            return clean

        kept = [float(diffusion.alphas_cumprod[t]) for t in times]
        levels = tuple((each**0.5, (1 - each) ** 0.5) for each in kept)
        return Example(diffusion, None, states, tuple(map(float, times)), levels, data)


def _shape(diffusion: Any) -> tuple[int, ...] | None:
    channels = getattr(diffusion, "channels", None)
    size = getattr(diffusion, "image_size", None) or getattr(diffusion, "seq_length", None)
    if channels is None or size is None:
        return None
    return (int(channels), *((int(size),) if isinstance(size, int) else tuple(map(int, size))))
