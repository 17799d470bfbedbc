"""What a check is given: the plugin under test, one of its entries, and the means to build it."""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from anydiff.errors import AnydiffError
from anydiff.plugins import Plugin, loaded
from anydiff.registry import Entry, Registry, registry

if TYPE_CHECKING:
    from anydiff.data.dataset import Dataset
    from anydiff.recipes import Recipe

T = TypeVar("T")
_EXTRA = re.compile(r"pip install [^`]*\w\[[\w,-]+\]")


class CheckFailed(AssertionError):
    """A check found what its sentence says."""


class Skip(Exception):
    """A check does not apply; the sentence says why."""


def require(condition: object, sentence: str) -> None:
    """Fail the running check with ``sentence`` unless ``condition`` holds."""
    if not condition:
        raise CheckFailed(sentence)


def skip(sentence: str) -> NoReturn:
    """Leave the running check out, with the reason."""
    raise Skip(sentence)


@dataclass
class Subject:
    """A plugin under test.

    Attributes:
        name: of the plugin; ``"anydiff"`` is the core's own entries.
        plugin: what discovery found; None for the core.
        module: the plugin's module or object; None if it could not be loaded.
        entries: all it registered.
        problem: why it could not be loaded, or ``""``.
    """

    name: str
    plugin: Plugin | None
    module: object | None
    entries: list[Entry] = field(default_factory=list)
    problem: str = ""

    def of_kind(self, kind: str) -> list[Entry]:
        """Its entries of one kind."""
        return [entry for entry in self.entries if entry.kind == kind]

    @property
    def registry(self) -> Registry:
        """Everything there is to build with."""
        return registry()

    @functools.cached_property
    def scratch(self) -> Path:
        """A folder for files, gone with this object."""
        self._scratch = tempfile.TemporaryDirectory(prefix="anydiff-check-", ignore_cleanup_errors=True)
        return Path(self._scratch.name)

    def data(self, attribute: str) -> dict[str, Any]:
        """A dictionary in the plugin's module, or an empty one."""
        value = getattr(self.module, attribute, {})
        return dict(value) if isinstance(value, Mapping) else {}

    def options(self, name: str) -> dict[str, Any]:
        """The options with which the plugin wants an entry to be checked."""
        return dict(self.data("ANYDIFF_CHECK_OPTIONS").get(name, {}))

    def build(self, entry: Entry, **more: Any) -> Any:
        """Build an entry as the plugin wants it checked, else as the first of its recipes that uses it does."""
        return self.registry.build(entry.kind, entry.name, **{**self.built_with(entry), **more})

    def dataset(self, entry: Entry, split: str) -> Dataset:
        """A data set, built once."""
        built: Dataset = self.once(("dataset", entry.name, split), lambda: self.build(entry, split=split))
        return built

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What several checks look at, made by the first that asks; none of them may change it."""
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made

    @functools.cached_property
    def _made(self) -> dict[Hashable, Any]:
        return {}

    @functools.cached_property
    def recipes(self) -> dict[str, Recipe]:
        """Those of its recipes that parse."""
        from anydiff.recipes import load_recipe

        found = {}
        for entry in self.of_kind("recipes"):
            try:
                found[entry.name] = load_recipe(entry.name)
            except Exception:  # recipe.parses reports it, whatever it is
                continue
        return found

    def recipe_of(self, entry: Entry) -> Recipe | None:
        """The first of its recipes that uses ``entry``, with data that are at hand if there is a choice."""
        using = [recipe for recipe in self.recipes.values() if any(p == entry.name for _, p, _ in _parts(recipe))]
        return min(using, key=lambda recipe: bool(self.absent_data(recipe)), default=None)

    def built_with(self, entry: Entry) -> dict[str, Any]:
        """The options that :meth:`build` builds an entry with."""
        options = self.options(entry.name)
        if options or entry.kind in ("recipes", "networks"):
            return options
        recipe = self.recipe_of(entry)
        parts = _parts(recipe) if recipe else []
        return next((dict(o) for kind, name, o in parts if (kind, name) == (entry.kind, entry.name)), {})

    def absent_data(self, recipe: Recipe) -> str:
        """Why the recipe's data set cannot be had here, or ``""``."""

        def absent() -> str:
            entry = self.registry.get("datasets", recipe.dataset.name)
            options = {**recipe.dataset.options, "split": "train"}
            return self._absent(entry, lambda: self.registry.build("datasets", entry.name, **options))

        return self.once(("absent", str(recipe.dataset)), absent)

    def unavailable(self, entry: Entry) -> str:
        """Why an entry cannot be checked here, though nothing is wrong with it, or ``""``.

        Only data may be absent: a data set that is fetched on the user's word (it registers ``ledger``) and was not, or
        one that is made of the user's own files (an option without default), or one that says which extra of a
        distribution it needs (`pip install NAME[EXTRA]`); and recipes on such data.
        """
        if entry.kind == "datasets":
            return self._absent(entry, lambda: self.dataset(entry, "train"))
        if entry.kind == "recipes" and entry.name in self.recipes:
            return self.absent_data(self.recipes[entry.name])
        return ""

    def _absent(self, entry: Entry, build: Callable[[], object]) -> str:
        try:
            build()
        except AnydiffError as error:
            if "ledger" in entry.metadata or "needs the option" in str(error) or _EXTRA.search(str(error)):
                return str(error)
        except Exception:  # the checks themselves report it
            return ""
        return ""


def _parts(recipe: Recipe) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Every part of a recipe as (kind, name, options)."""
    single = [("domains", recipe.domain), ("datasets", recipe.dataset), ("networks", recipe.network)]
    single += [("paths", recipe.path), ("objectives", recipe.objective), ("training_methods", recipe.method)]
    single += [("solvers", recipe.sampling.solver)]
    single += [("guidance", part) for part in recipe.sampling.guidance]
    single += [("metrics", part) for part in recipe.metrics]
    return [(kind, part.name, part.options) for kind, part in single]


def subject(name: str) -> Subject:
    """The plugin called ``name``, loaded in this process.

    Raises:
        UnknownNameError: no such plugin.
    """
    from anydiff.errors import UnknownNameError
    from anydiff.registry import CORE

    now = loaded()
    found = next((plugin for plugin in now.plugins if plugin.name == name), None)
    if found is None and name != CORE:
        raise UnknownNameError("plugin", name, [CORE, *(plugin.name for plugin in now.plugins)])
    problem = found.problem if found is not None else ""
    return Subject(name, found, now.hooks.plugin(name), now.registry.of_plugin(name), problem)
