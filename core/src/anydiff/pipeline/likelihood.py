"""The probability-flow ODE of a pipeline: objects to the latents that flow to them, and to their log-likelihood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from anydiff.denoisers import Denoiser
from anydiff.denoisers.wrappers import PresentNodes
from anydiff.domains import Domain
from anydiff.errors import AnydiffError
from anydiff.pipeline.conditions import Asked
from anydiff.pipeline.fixed import require_free
from anydiff.plugins import hooks
from anydiff.recipes.build import build_guidance

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline


def require_density(domain: Domain) -> None:
    """Refuse a domain whose states have no density of all their entries.

    Raises:
        AnydiffError: entries are masked, mirrored or zero.
    """
    if any(leaf.categorical for leaf in domain.spec.leaves):
        raise AnydiffError(
            f"states of domain {domain.name!r} are classes, which no ODE carries; ask for the bound: pipeline.bound."
        )
    if domain.spec.has_absent_entries or any(leaf.symmetric for leaf in domain.spec.leaves):
        raise AnydiffError(
            f"states of domain {domain.name!r} have entries that are not free (masked, mirrored or zero), so "
            "they have no density of all entries; compare samples instead."
        )


def ode_inputs(
    pipeline: Pipeline, objects: Sequence[Any], condition: Asked | None, options: Mapping[str, Any]
) -> tuple[Denoiser, Tensor, dict[str, Any]]:
    """What :class:`~anydiff.samplers.AdaptiveODE` asks for: the denoiser, the states of ``objects``, its options.

    Args:
        pipeline: the model.
        objects: the field's own objects.
        condition: as for :meth:`Pipeline.sample`.
        options: of the solver; ``guidance`` among them is built.
    """
    require_free(pipeline, "the probability-flow ODE (encode, log_likelihood)")
    states = pipeline.domain.encode(objects)
    states = states if pipeline.latent is None else pipeline.latent.to_latent(states)
    states = states.to(next(pipeline.denoiser.parameters()).device)
    denoiser = hooks().transform("wrap_denoiser", denoiser=pipeline.denoiser, recipe=pipeline.recipe)
    guidance = build_guidance(options.get("guidance"))
    asked = pipeline.conditioning(condition, len(states))
    if pipeline.domain.spec.masked and asked.mask is None:
        asked = replace(asked, mask=pipeline.domain.spec.mask_of(states))
    if pipeline.domain.spec.has_absent_entries:
        guidance = [*guidance, PresentNodes(pipeline.domain.spec)]
    return denoiser, states, {**options, "guidance": guidance, "condition": asked}
