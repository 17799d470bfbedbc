"""From a recipe to live parts: domain, data, path, network, objective, metrics."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from anydiff.compression.floats import require_floats
from anydiff.data.dataset import Dataset
from anydiff.denoisers import NetworkDenoiser
from anydiff.denoisers.wrappers import Wrapper
from anydiff.domains import Domain
from anydiff.errors import AnydiffError
from anydiff.guidance import ClassifierFree
from anydiff.metrics import SampleSet
from anydiff.networks import LogSNREmbedding
from anydiff.objectives import Objective
from anydiff.recipes.recipe import Part, Recipe
from anydiff.registry import registry
from anydiff.solvers import Solver
from anydiff.states import StateSpec, derived_seed, positions_spec
from anydiff.training import TrainingMethod
from anydiff.training.companions import meet
from anydiff.training.method import checked_groups


def build_domain(recipe: Recipe) -> Domain:
    """The recipe's domain."""
    domain: Domain = registry().build("domains", recipe.domain.name, **recipe.domain.options)
    return domain


def build_dataset(recipe: Recipe, split: str) -> Dataset:
    """The recipe's data set, built with the recipe's domain where it takes one: ``split`` is ``train`` or ``test``.

    Raises:
        AnydiffError: its states do not have the shape the recipe's domain says, or mean something else.
    """
    domain = build_domain(recipe)
    return agreeing(recipe, with_domain(recipe, split, domain), domain)


def with_domain(recipe: Recipe, split: str, domain: Domain | Mapping[str, Any] | None) -> Dataset:
    """The recipe's data set, not yet compared with ``domain``, which it is built with if its constructor takes one.

    Options of another domain in ``dataset.options.domain`` come first: recipes of before have them.
    """
    options = {**recipe.dataset.options, "split": split}
    if domain is not None and takes_domain(recipe.dataset.name) and options.get("domain") is None:
        options["domain"] = domain
    dataset: Dataset = registry().build("datasets", recipe.dataset.name, **options)
    return dataset


def takes_domain(name: str) -> bool:
    """Whether the constructor of the data set called ``name`` takes ``domain``."""
    return "domain" in inspect.signature(registry().load("datasets", name)).parameters


def agreeing(recipe: Recipe, dataset: Dataset, domain: Domain) -> Dataset:
    """``dataset`` itself, if its states are what the recipe's ``domain`` says and mean the same.

    Raises:
        AnydiffError: states of another shape, range or kind, or domains that differ in their codec.
    """
    wanted = domain.spec.shape
    if tuple(dataset.spec.shape) != tuple(wanted):
        raise AnydiffError(
            f"data set {recipe.dataset.name!r} has states of shape {tuple(dataset.spec.shape)}, but domain "
            f"{recipe.domain.name!r} says {tuple(wanted)}; change domain.options or the data set."
        )
    for one, two in zip(dataset.spec.leaves, domain.spec.leaves, strict=False):
        if one != two:
            raise AnydiffError(
                f"data set {recipe.dataset.name!r} has the leaf {one!r}, but domain {recipe.domain.name!r} says "
                f"{two!r}; give both the same options."
            )
    for name, (data, own) in codec_differences(dataset.domain, domain).items():
        raise AnydiffError(
            f"data set {recipe.dataset.name!r} has {name} = {data}, but domain {recipe.domain.name!r} says {own}; give "
            "both the same, in dataset.options and domain.options."
        )
    return dataset


def codec_differences(one: Domain, two: Domain) -> dict[str, tuple[str, str]]:
    """Where the codecs of two domains disagree: key -> (what one says, what the other says), as short texts.

    A key that one of them lacks is a disagreement: nobody can tell whether what it decides is the same.
    """
    first, second = dict(one.codec), dict(two.codec)
    found = {}
    for name in sorted({*first, *second}):
        if name not in first or name not in second or not same_values(first[name], second[name]):
            found[name] = tuple(_short(codec[name]) if name in codec else "nothing" for codec in (first, second))
    return {name: (data, own) for name, (data, own) in found.items()}


def same_values(one: Any, two: Any) -> bool:
    """Whether two values of a codec are equal: text, numbers, arrays, and lists (or tuples) and mappings of these."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        return one.keys() == two.keys() and all(same_values(one[name], two[name]) for name in one)
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)):
        return len(one) == len(two) and all(same_values(a, b) for a, b in zip(one, two, strict=True))
    if isinstance(one, (np.ndarray, torch.Tensor)) or isinstance(two, (np.ndarray, torch.Tensor)):
        return np.array_equal(np.asarray(one), np.asarray(two))
    return (type(one) is type(two) and bool(one == two)) or (_is_number(one) and _is_number(two) and one == two)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def build_denoiser(recipe: Recipe, domain: Domain | None = None, spec: StateSpec | None = None) -> NetworkDenoiser:
    """The recipe's network with its path and parametrisation, freshly initialised from ``training.seed``.

    Args:
        recipe: the experiment.
        domain: the recipe's, where the caller has it already.
        spec: of the states that are diffused, where those are latents; the domain's by default. A network with an order
            diffuses their positions.
    """
    domain = domain or build_domain(recipe)
    spec = spec or domain.spec
    path = registry().build("paths", recipe.path.name, **recipe.path.options)
    told = {"told": path.told_size} if path.told_size else {}
    if told and "told" not in inspect.signature(registry().load("networks", recipe.network.name)).parameters:
        raise AnydiffError(
            f"the path {recipe.path.name!r} tells a network {path.told_size} numbers of the time, but the network "
            f"{recipe.network.name!r} takes one; choose mlp, unet or dit, or another path."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        network = registry().build(
            "networks", recipe.network.name, spec=spec, conditions=domain.conditions, **told, **recipe.network.options
        )
    if getattr(path, "tells_rungs", False) and any(isinstance(each, LogSNREmbedding) for each in network.modules()):
        raise AnydiffError(
            f"the path {recipe.path.name!r} tells networks the number of a rung, but {recipe.network.name!r} reads the "
            "log-SNR, and would take all rungs beyond 20 for one; choose the path 'vp-discrete', the same chain."
        )
    order = getattr(network, "order", None)
    spec = spec if order is None else positions_spec(spec, order)
    return NetworkDenoiser(network, path.bind(spec), recipe.parametrization, recipe.sigma_data, spec)


def build_objective(recipe: Recipe) -> Objective:
    """What the recipe minimises."""
    objective: Objective = registry().build("objectives", recipe.objective.name, **recipe.objective.options)
    return objective


def build_training_method(
    recipe: Recipe, denoiser: NetworkDenoiser, companions: Mapping[str, NetworkDenoiser] | None = None
) -> TrainingMethod:
    """How the recipe trains ``denoiser``; modules of the method's own are initialised from ``training.seed``.

    Args:
        recipe: the experiment.
        denoiser: what is trained.
        companions: the frozen models that the recipe names.

    Raises:
        AnydiffError: what is registered under the name is no training method, its groups overlap or miss parameters, a
            companion that the objective asks for is missing or does not fit, or the network is quantised.
    """
    require_floats(denoiser.network, "a training", recipe.name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(recipe.training.seed, "training method"))
        method = registry().build(
            "training_methods",
            recipe.method.name,
            denoiser=denoiser,
            objective=build_objective(recipe),
            **recipe.method.options,
        )
    if not isinstance(method, TrainingMethod):
        raise AnydiffError(
            f"the training method {recipe.method.name!r} builds a {type(method).__name__}, which is no "
            "anydiff.training.TrainingMethod; derive it from that class."
        )
    checked_groups(method)
    meet(method, companions or {})
    return method


def build_solver(part: Part) -> Solver:
    """A solver from its name and options."""
    solver: Solver = registry().build("solvers", part.name, **part.options)
    return solver


def build_guidance(
    value: float | Wrapper | Part | Sequence[Wrapper | Part] | None,
) -> list[Wrapper]:
    """A list of guidances and other wrappers from a classifier-free scale, from wrappers, or from parts that name them.

    Raises:
        UnknownNameError: no guidance of this name, or no such option of it.
        AnydiffError: a scale that is not finite, or an option without default is missing.
    """
    if value is None:
        return []
    if isinstance(value, (int, float)):
        if not math.isfinite(value):
            raise AnydiffError(f"guidance is {value}, but a scale must be a finite number; 1 is no guidance.")
        return [ClassifierFree(float(value))]
    parts = [value] if isinstance(value, (Wrapper, Part)) else value
    return [registry().build("guidance", g.name, **g.options) if isinstance(g, Part) else g for g in parts]


def sample_set(dataset: Dataset, indices: list[int] | range) -> SampleSet:
    """The given entries of a data set as a sample set."""
    states, condition = dataset.batch(list(indices))
    return SampleSet(states, condition, dataset.domain, dataset.case_labels(list(indices)))
