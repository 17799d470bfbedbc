"""Energies that a guidance names by a model: loaded, compared with the model that proposes, and called by one face."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from anydiff.denoisers.wrappers import Wrapper
from anydiff.errors import AnydiffError
from anydiff.guidance.energy import AutoregressiveEnergy, Energy, EnergyFunction
from anydiff.objectives import network_heads
from anydiff.pipeline.companions import require_same_classes
from anydiff.pipeline.load import load_pipeline
from anydiff.recipes.build import build_guidance
from anydiff.states import Conditioning

if TYPE_CHECKING:
    from collections.abc import Callable

    from anydiff.pipeline.pipeline import Pipeline


@dataclass(frozen=True)
class HeadEnergy:
    """The head ``energy`` of a network, trained by ``noise-contrastive``, as an energy of candidates."""

    head: Callable[..., Any]

    def __call__(
        self, candidates: Tensor, log_proposal: Tensor, x: Tensor, t: float, condition: Conditioning
    ) -> Tensor:
        """See :class:`~anydiff.guidance.energy.EnergyFunction`."""
        found: Tensor = self.head(candidates, x, condition)
        return found


def guidance_of(pipeline: Pipeline, guidance: Any = None) -> list[Wrapper]:
    """What ``guidance`` says, or else the recipe, as wrappers; each ``energy`` that names a model has its energy.

    Raises:
        AnydiffError: the model is of another domain or vocabulary, is not the one of the hash that is given, or has no
            energy.
    """
    layers = build_guidance(pipeline.recipe.sampling.guidance if guidance is None else guidance)
    return [
        _met(pipeline, layer) if isinstance(layer, Energy) and layer.energy is None and layer.model else layer
        for layer in layers
    ]


def _met(pipeline: Pipeline, layer: Energy) -> Energy:
    assert layer.model is not None
    other = load_pipeline(type(pipeline), layer.model)
    require_same_classes(pipeline, other, f"the energy's model {layer.model!r}")
    if layer.model_hash not in ("", other.weights_hash):
        raise AnydiffError(
            f"the energy's model {layer.model!r} has the weights {other.weights_hash}, but model_hash says "
            f"{layer.model_hash}; name the model that was meant, or leave model_hash out."
        )
    other.denoiser.to(next(pipeline.denoiser.parameters()).device).eval()
    return replace(layer, energy=_energy(layer, other), model_hash=other.weights_hash)


def _energy(layer: Energy, other: Pipeline) -> EnergyFunction:
    heads = network_heads(other.denoiser)
    if "energy" in heads:
        return HeadEnergy(heads["energy"])
    if other.denoiser.causal:
        return AutoregressiveEnergy(other.denoiser, layer.carry_over)
    raise AnydiffError(
        f"the model {layer.model!r} gives no energy; name one that was trained by noise-contrastive or next-token."
    )
