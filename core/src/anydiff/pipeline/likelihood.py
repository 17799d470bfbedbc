"""What a model says of objects: the latents that flow to them, their log-likelihood, and a bound of it for classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from anydiff.denoisers import Denoiser
from anydiff.denoisers.wrappers import PresentNodes
from anydiff.domains import Domain
from anydiff.errors import AnydiffError, natural_number
from anydiff.objectives import DiscreteBound, NextToken, Objective
from anydiff.paths.categorical import categorical
from anydiff.pipeline.conditions import Asked
from anydiff.pipeline.fixed import require_free, require_whole
from anydiff.plugins import hooks
from anydiff.recipes.build import build_guidance
from anydiff.states import NoiseSource, uniform

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
    require_whole(pipeline, "the probability-flow ODE (encode, log_likelihood)")
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


@torch.no_grad()
def bound(
    pipeline: Pipeline, objects: Sequence[Any], *, draws: int = 64, condition: Asked | None = None, seed: int = 0,
    batch_size: int = 256,
) -> Tensor:  # fmt: skip
    """An upper bound of -log p in nats, float64 ``[B]``, of native ``objects`` whose states are classes.

    The bound of infinitely many steps (:class:`~anydiff.objectives.DiscreteBound`; on a masked path the masked
    cross-entropy) at ``draws`` levels 1 - ᾱ that are spread evenly over (0, 1) from a start of each object's own.
    Unbiased for any number of draws; object b depends on (seed, b) alone. Of an autoregressive model it is -log p
    itself, by one call.

    Raises:
        AnydiffError: no objects, or a path that is not one of classes.
    """
    natural_number("draws", draws)
    if not len(objects):
        raise AnydiffError("there are no objects to score; give at least one.")
    categorical(pipeline.denoiser.path, "a bound of the log-likelihood (pipeline.bound)")
    states = pipeline.domain.encode(objects)
    given = pipeline.conditioning(condition, len(states))
    source = NoiseSource(pipeline.domain.spec, seed, pipeline.denoiser.path.noise_law)
    causal = pipeline.denoiser.causal
    objective: Objective = NextToken() if causal else DiscreteBound()
    draws, numbers = 1 if causal else draws, range(len(states))
    begin = uniform(seed, numbers, 0, "bound")
    total = torch.zeros(len(states), dtype=torch.float64)
    for draw in range(draws):
        level = ((begin + draw / draws) % 1).clamp_min(2.0**-54)
        noise = source.draw(numbers, draw + 1)
        for first in range(0, len(states), batch_size):
            rows = slice(first, first + batch_size)
            loss = objective(pipeline.denoiser, states[rows], noise[rows], level[rows], given.rows(rows))
            total[rows] += loss.double()
    return total / draws * pipeline.domain.spec.size
