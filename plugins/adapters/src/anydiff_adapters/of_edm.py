"""Networks D(x, σ) that precondition themselves: EDM and EDM2 (NVlabs), PhysicsNeMo, k-diffusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from anydiff.adapters import Adapter, Example, denoiser_of
from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.networks import ForeignNetwork
from anydiff.paths import EDM as EDMPath
from anydiff.paths import foreign
from anydiff.states import ClassCondition, Condition

RANGE = (0.002, 80.0)
"""Noise levels that are sampled where the network does not bound them (Karras et al. 2022, table 1)."""


def _call(network: nn.Module, x: Tensor, times: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """``network(x, sigma, class_labels)``, labels as one-hot vectors; float32 within, as the networks have it."""
    if "label" not in given:
        output: Tensor = network(x, times)
        return output.to(x.dtype)
    count = int(network.label_dim)  # type: ignore[arg-type]
    label = given["label"]
    # A class number beyond the last is no class: a row of zeros, which these networks take for none.
    hot = torch.nn.functional.one_hot(label.long(), count + 1)[:, :count] if label.ndim == 1 else label
    output = network(x, times, hot.to(x.dtype))
    return output.to(x.dtype)


class EDM(Adapter):
    """Networks ``D(x, sigma, class_labels=None)`` of EDM, EDM2 and PhysicsNeMo; asked for by ``like="edm"``.

    The network scales its input and its output itself, whatever its own preconditioning (VP, VE, iDDPM, EDM), so it
    predicts the data of x = x_0 + σ ε.
    """

    def wrap(
        self,
        network: Any,
        schedule: Any = None,
        *,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> NetworkDenoiser:
        """A denoiser of a preconditioned network.

        Args:
            network: the module; ``label_dim`` and ``augment_dim`` are read from it, as are its ``img_channels`` and
                ``img_resolution``.
            schedule: none.
            sigma_min: least noise level; the network's own bound, at least 0.002, by default.
            sigma_max: greatest noise level; the network's own bound, at most 80, by default.
            shape: of a state.

        Raises:
            AnydiffError: a schedule, or an option of the network that is not modelled.
        """
        if schedule is not None:
            raise AnydiffError(
                f"a {type(schedule).__name__} was given, but a preconditioned network needs no schedule; give "
                "sigma_min and sigma_max."
            )
        count = int(getattr(network, "label_dim", 0) or 0)
        conditions: dict[str, Condition] = {"label": ClassCondition(count)} if count else {}
        made = ForeignNetwork(network, _call, conditions=conditions, nulls={"label": count} if count else {})
        return denoiser_of(
            made, level_path(network, sigma_min, sigma_max), "data", shape=shape or _shape(network)
        )  # fmt: skip

    def example(self) -> Example:
        """A linear network under EDM's preconditioning, written out."""
        network = Preconditioned()
        times = (0.05, 0.7, 12.0)
        states = torch.linspace(-2, 2, 12).reshape(3, 4)

        def data(x: Tensor, sigma: float) -> Tensor:
            with torch.no_grad():
                clean: Tensor = network(x, torch.tensor([sigma]))
            return clean

        return Example(network, None, states, times, tuple((1.0, sigma) for sigma in times), data)


class KDiffusion(EDM):
    """``k_diffusion.Denoiser`` and the wrappers of ``k_diffusion.external``: denoisers D(x, sigma)."""


class Preconditioned(nn.Module):
    """EDM's preconditioning of F(x) = M x + cos(c_noise), as its paper has it, σ_data = 1/2."""

    sigma_min, sigma_max, label_dim = 0.0, float("inf"), 0

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.linspace(-0.5, 0.5, 16).reshape(4, 4))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """D(x, σ)."""
        sigma = sigma.reshape(-1, *[1] * (x.ndim - 1))
        total = sigma**2 + 0.25
        inner = (x / total.sqrt()) @ self.get_buffer("matrix") + torch.cos(sigma.log() / 4)
        return 0.25 / total * x + 0.5 * sigma / total.sqrt() * inner


def level_path(network: Any, sigma_min: float | None, sigma_max: float | None) -> Any:
    """x = x_0 + σ ε between two levels, σ told."""
    low = float(getattr(network, "sigma_min", 0.0) or 0.0)
    high = float(getattr(network, "sigma_max", RANGE[1]) or RANGE[1])
    least = max(low, RANGE[0]) if sigma_min is None else float(sigma_min)
    most = min(high, RANGE[1]) if sigma_max is None else float(sigma_max)
    if not 0 < least < most:
        raise AnydiffError(f"sigma_min is {least} and sigma_max {most}, but 0 < sigma_min < sigma_max must hold.")
    return foreign(EDMPath(t_start=most, t_end=least), "noise-level")


def _shape(network: Any) -> tuple[int, ...] | None:
    channels, size = getattr(network, "img_channels", None), getattr(network, "img_resolution", None)
    if channels is None or size is None:
        return None
    edges = (int(size),) * 2 if isinstance(size, int) else tuple(int(each) for each in size)
    return (int(channels), *edges)
