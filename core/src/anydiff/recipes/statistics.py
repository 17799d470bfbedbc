"""Options of a domain that are statistics of the training data: sizes, scales, class lists. The data decide them.

A recipe is written for one data set, and some of its numbers come from there: how many atoms a molecule has, the scale
of a property. Trained on other data the recipe would keep them in silence. So :func:`fit_to_data` asks the training
data (``Dataset.statistics``) and puts their values into the recipe of the run.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from anydiff.data.dataset import Dataset
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.recipes.build import agreeing, build_dataset, build_domain, takes_domain, with_domain
from anydiff.recipes.recipe import Part, Recipe, load_recipe
from anydiff.registry import registry

TOLERANCE = 1e-3
"""Numbers agree that differ by less than this share of the largest: recipes hold rounded ones."""


def fit_to_data(recipe: Recipe) -> tuple[Recipe, Dataset]:
    """The recipe with the statistics of its training data, and those data.

    For each statistic, in ``domain.options`` and, where the data set takes it too, in ``dataset.options``:

    - a value that agrees with the data stays as it is written;
    - a value that is missing or null, or that the registered recipe of this name has as a constant, is replaced;
    - any other value was asked for and contradicts the data: it is refused.

    Raises:
        AnydiffError: a contradiction, with the fix; a statistic that the domain has no option for; or data that do not
            fit the domain.
    """
    takes = takes_domain(recipe.dataset.name)
    dataset = _training_data(recipe) if takes else with_domain(recipe, "train", None)
    found = plain(dataset.statistics)
    if not found:
        return recipe, agreeing(recipe, dataset, build_domain(recipe))
    _check_names(recipe, found)
    constants = _registered(recipe.name)
    domain = _fitted(recipe, "domain", found, constants)
    taken = {name: found[name] for name in found if name in _options("datasets", recipe.dataset.name)}
    given = recipe.dataset.options
    # An option the recipe leaves to the data set's default stays so while the recipe needs no change, or where the
    # data set is built with the domain, which has it.
    left = domain == recipe.domain or takes
    taken = {name: value for name, value in taken.items() if name in given or not left}
    data = _fitted(recipe, "dataset", taken, constants)
    if (domain, data) == (recipe.domain, recipe.dataset):
        return recipe, agreeing(recipe, dataset, build_domain(recipe))
    fitted = recipe.model_copy(update={"domain": domain, "dataset": data})
    if data != recipe.dataset or takes:
        return fitted, build_dataset(fitted, "train")
    return fitted, agreeing(fitted, dataset, build_domain(fitted))


def _training_data(recipe: Recipe) -> Dataset:
    """The training data, built with the recipe's domain.

    Without the statistics of the data, the options may make no domain yet (a season that is longer than the context).
    The data set then gets the options themselves; where it cannot be built with them either, they are what is wrong.
    """
    try:
        domain = build_domain(recipe)
    except AnydiffError as error:
        try:
            return with_domain(recipe, "train", recipe.domain.options)
        except Exception:
            raise error from None
    return with_domain(recipe, "train", domain)


def plain(value: Any) -> Any:
    """``value`` as a recipe can hold it: dictionaries, lists, numbers and texts."""
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def agree(given: Any, found: Any) -> bool:
    """Whether two values of an option are the same, numbers within :data:`TOLERANCE` of the largest beside them."""
    if isinstance(given, Mapping) and isinstance(found, Mapping):
        return given.keys() == found.keys() and all(agree(given[name], found[name]) for name in found)
    if isinstance(given, (list, tuple)) and isinstance(found, (list, tuple)):
        if not all(_is_number(value) for value in [*given, *found]):
            return len(given) == len(found) and all(agree(a, b) for a, b in zip(given, found, strict=True))
        return len(given) == len(found) and _close(given, found)
    if _is_number(given) and _is_number(found):
        return _close([given], [found])
    return type(given) is type(found) and bool(given == found)


def _close(given: Any, found: Any) -> bool:
    one, two = np.asarray(given, dtype=np.float64), np.asarray(found, dtype=np.float64)
    return one.size == 0 or bool((np.abs(one - two) <= TOLERANCE * np.abs(two).max()).all())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _fitted(recipe: Recipe, part: str, found: Mapping[str, Any], constants: Recipe | None) -> Part:
    """``recipe.domain`` or ``recipe.dataset`` with the statistics ``found``."""
    own: Part = getattr(recipe, part)
    written = {} if constants is None else getattr(constants, part).options
    options = dict(own.options)
    for name, value in found.items():
        given = options.get(name)
        if given is not None and agree(given, value):
            continue
        if given is not None and given != written.get(name):
            raise AnydiffError(
                f"{part}.options.{name} is {_short(given)}, but the training data of {recipe.dataset.name!r} say "
                f"{_short(value)}; set {part}.options.{name}=null to take it from the data."
            )
        options[name] = value
    return own if options == own.options else Part(name=own.name, options=options)


def _registered(name: str) -> Recipe | None:
    """The registered recipe of this name, whose values are constants that nobody asked for."""
    return load_recipe(name) if name in registry().names("recipes") else None


def _options(kind: str, name: str) -> set[str]:
    """The options of a registered thing."""
    return set(inspect.signature(registry().load(kind, name)).parameters)


def _check_names(recipe: Recipe, found: Mapping[str, Any]) -> None:
    accepted = _options("domains", recipe.domain.name)
    for name in found:
        if name not in accepted:
            raise UnknownNameError(
                f"option of domain {recipe.domain.name!r}, named by the statistics of data set "
                f"{recipe.dataset.name!r}:", name, accepted,
            )  # fmt: skip


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
