"""From a recipe to live parts: domain, data, path, network, objective, metrics."""

from __future__ import annotations

import torch

from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.guidance import ClassifierFree, Guidance
from anydiff.objectives import Objective
from anydiff.pipeline.dataset import Dataset
from anydiff.pipeline.domain import Domain
from anydiff.pipeline.latent import Latent, load_latent
from anydiff.pipeline.metrics import Metric, SampleSet
from anydiff.pipeline.recipe import Part, Recipe
from anydiff.registry import registry
from anydiff.solvers import Solver


def build_domain(recipe: Recipe) -> Domain:
    """The recipe's domain."""
    domain: Domain = registry().build("domains", recipe.domain.name, **recipe.domain.options)
    return domain


def build_dataset(recipe: Recipe, split: str) -> Dataset:
    """The recipe's data set: ``split`` is ``train`` or ``test``.

    Raises:
        AnydiffError: its states do not have the shape the recipe's domain says, or mean something else.
    """
    dataset: Dataset = registry().build("datasets", recipe.dataset.name, **{**recipe.dataset.options, "split": split})
    domain = build_domain(recipe)
    wanted = domain.spec.shape
    if tuple(dataset.spec.shape) != tuple(wanted):
        raise AnydiffError(
            f"data set {recipe.dataset.name!r} has states of shape {tuple(dataset.spec.shape)}, but domain "
            f"{recipe.domain.name!r} says {tuple(wanted)}; change domain.options or the data set."
        )
    own = dataset.domain.codec
    for name, value in domain.codec.items():
        if name in own and own[name] != value:
            raise AnydiffError(
                f"data set {recipe.dataset.name!r} has {name} = {own[name]!r}, but domain {recipe.domain.name!r} says "
                f"{value!r}; give both the same, in dataset.options and domain.options."
            )
    return dataset


def build_latent(recipe: Recipe, domain: Domain | None = None) -> Latent | None:
    """The latent space that the recipe diffuses in; None for the data's own."""
    return None if recipe.latent is None else load_latent(recipe.latent, domain or build_domain(recipe))


def build_denoiser(recipe: Recipe, domain: Domain | None = None, latent: Latent | None = None) -> NetworkDenoiser:
    """The recipe's network with its path and parametrisation, freshly initialised from ``training.seed``."""
    domain = domain or build_domain(recipe)
    latent = latent or build_latent(recipe, domain)
    spec = domain.spec if latent is None else latent.spec
    path = registry().build("paths", recipe.path.name, **recipe.path.options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        network = registry().build(
            "networks", recipe.network.name, spec=spec, conditions=domain.conditions, **recipe.network.options
        )
    return NetworkDenoiser(network, path.bind(spec), recipe.parametrization, recipe.sigma_data, spec)


def build_objective(recipe: Recipe) -> Objective:
    """What the recipe minimises."""
    objective: Objective = registry().build("objectives", recipe.objective.name, **recipe.objective.options)
    return objective


def build_metrics(recipe: Recipe) -> list[Metric]:
    """The recipe's metrics, in its order."""
    return [registry().build("metrics", part.name, **part.options) for part in recipe.metrics]


def build_solver(part: Part) -> Solver:
    """A solver from its name and options."""
    solver: Solver = registry().build("solvers", part.name, **part.options)
    return solver


def build_guidance(value: float | Guidance | list[Guidance] | tuple[Part, ...] | None) -> list[Guidance]:
    """A list of guidances from what a user may write: a classifier-free scale, guidances, or a recipe's parts."""
    if value is None:
        return []
    if isinstance(value, Guidance):
        return [value]
    if isinstance(value, (int, float)):
        return [ClassifierFree(float(value))]
    return [registry().build("guidance", g.name, **g.options) if isinstance(g, Part) else g for g in value]


def sample_set(dataset: Dataset, indices: list[int] | range) -> SampleSet:
    """The given entries of a data set as a sample set."""
    states, condition = dataset.batch(list(indices))
    return SampleSet(states, condition, dataset.domain)
