"""A recipe that ``refines`` an autoencoder: its reconstructions as the condition, in training and in sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from anydiff.data.pairs import NAME
from anydiff.domains import Domain
from anydiff.errors import AnydiffError
from anydiff.networks import Autoencoder
from anydiff.objectives import Reconstruction
from anydiff.pipeline.conditions import Asked
from anydiff.recipes import Recipe
from anydiff.registry import registry
from anydiff.representation import Refinement
from anydiff.states import Conditioning

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline


def refinement_of(recipe: Recipe, domain: Domain, companions: Mapping[str, Pipeline]) -> Refinement | None:
    """What ``recipe`` refines; None where it refines nothing.

    Raises:
        AnydiffError: the model that it names is no autoencoder, or does not fit; or the recipe has a latent too.
    """
    if recipe.refines is None:
        return None
    if recipe.latent is not None:
        raise AnydiffError(
            f"{recipe.name!r} has refines={recipe.refines!r} and a latent, but a reconstruction is a state of the "
            "data; leave one of them out."
        )
    stage = companions["refines"]
    network = stage.denoiser.network
    if not isinstance(network, Autoencoder):
        raise AnydiffError(
            f"refines is {recipe.refines!r}, which holds a {type(network).__name__}; name a recipe, run folder or "
            "weights file of the network 'autoencoder'."
        )
    if stage.domain.name != domain.name:
        raise AnydiffError(
            f"refines is {recipe.refines!r} of the domain {stage.domain.name!r}, but {recipe.name!r} is of "
            f"{domain.name!r}; name an autoencoder of the same domain."
        )
    _same_range(recipe, stage.domain, domain)
    return Refinement(network, _spread(stage.recipe), domain)


def refined_by(pipeline: Pipeline) -> Refinement | None:
    """What the model refines: codes of an autoencoder (the recipe's ``refines``); None where it refines none."""
    return refinement_of(pipeline.recipe, pipeline.domain, pipeline.companions)


def _same_range(recipe: Recipe, stage: Domain, own: Domain) -> None:
    ranges = [[leaf.range for leaf in each.spec.leaves] for each in (stage, own)]
    if ranges[0] != ranges[1]:
        raise AnydiffError(
            f"refines is {recipe.refines!r} of states in the ranges {ranges[0]}, but {recipe.name!r} has {ranges[1]}; "
            "give both the same domain.options."
        )


def _spread(stage: Recipe) -> float:
    """s of the codes, as stage 1 was trained."""
    objective = registry().build("objectives", stage.objective.name, **stage.objective.options)
    if not isinstance(objective, Reconstruction):
        raise AnydiffError(
            f"refines is {stage.name!r}, trained by the objective {stage.objective.name!r}, which does not say how its "
            "codes spread; name an autoencoder that was trained by 'reconstruction'."
        )
    return objective.noise


def with_codes(pipeline: Pipeline, asked: Asked | None, numbers: Sequence[int], seed: int) -> Asked | None:
    """``asked`` with the reconstructions of drawn codes, where the recipe refines some and none are asked for.

    Args:
        pipeline: the model.
        asked: conditions, as for :meth:`Pipeline.sample`.
        numbers: of the rows, which have codes of their own.
        seed: of the samples.
    """
    refinement = pipeline.refinement
    if refinement is None:
        return asked
    if isinstance(asked, Conditioning):
        if NAME in asked.given:
            return asked
        return replace(asked, given={**asked.given, NAME: refinement.drawn(seed, numbers)})
    if asked is not None and NAME in asked:
        return asked
    return {**(asked or {}), NAME: refinement.drawn(seed, numbers)}
