"""Other models that a model needs: the autoencoder it diffuses in, one day a teacher, a base, a proposal.

A recipe names each by a role and a source (a recipe with bundled weights, a run folder, a weights file). What stands
behind a name may change, so weights record of every role the recipe's and the weights' hash (the metadata field
``requires``), and loading refuses another. A relative name is sought beside the weights first, so that a model and what
it needs can be moved together.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from anydiff.errors import AnydiffError, FileFormatError
from anydiff.recipes import Recipe
from anydiff.registry import registry
from anydiff.training.weights import REQUIRES, Requirement, requirements, requirements_text

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline

Companions = Mapping[str, "Pipeline"]
"""Role -> the model."""


def sources(recipe: Recipe) -> dict[str, str]:
    """Role -> source of every model that ``recipe`` names; a further role is a further entry here."""
    named = {"latent": recipe.latent, "refines": recipe.refines}
    return {role: source for role, source in named.items() if isinstance(source, str)}


def companions_of(
    recipe: Recipe, load: Callable[[str], Pipeline], metadata: Mapping[str, str] | None = None, path: Path | None = None
) -> dict[str, Pipeline]:
    """Load every model that ``recipe`` needs, and refuse one that is not the recorded one.

    Args:
        recipe: names them.
        load: loads one by its source.
        metadata: of the weights; None where there are none yet, so that any model will do.
        path: of the weights, beside which relative names are sought first.

    Raises:
        AnydiffError: one cannot be found, or is another than the weights were trained with.
        FileFormatError: the weights do not say which one they need, though their format does.
    """
    named = sources(recipe)
    recorded = {} if metadata is None else requirements(metadata, str(path))
    if recorded is not None and metadata is not None:
        for role in named:
            if role not in recorded:
                raise FileFormatError(
                    f"the metadata of {str(path)!r} do not say which model it needs as {role} ({REQUIRES!r} lacks it); "
                    "get the weights again, or train them again."
                )
    found = {}
    for role, source in named.items():
        required = (recorded or {}).get(role)
        found[role] = _find(role, source, required, load, path)
    return found


def _find(
    role: str, source: str, required: Requirement | None, load: Callable[[str], Pipeline], path: Path | None
) -> Pipeline:
    """The first candidate that is the required model; the first of all where none is required."""
    refused = ""
    for candidate in _candidates(source, required, path):
        try:
            pipeline = load(candidate)
        except AnydiffError as error:
            if refused:
                break  # what was found first is what its owner should hear of
            whose = f"{str(path)!r} needs" if path else "the recipe names"
            kind = FileFormatError if isinstance(error, FileFormatError) else AnydiffError
            raise kind(f"{whose} as {role} the model {source!r}, which cannot be loaded: {error}") from error
        hashes = (pipeline.recipe.hash, pipeline.weights_hash)
        if required is None or hashes == (required.recipe_hash, required.weights_hash):
            return pipeline
        refused = refused or (
            f"{str(path)!r} needs as {role} the model with weights {required.weights_hash[:12]} and recipe "
            f"{required.recipe_hash[:12]}, but {candidate!r} has weights {hashes[1][:12]} and recipe {hashes[0][:12]}; "
            f"put back the {role} it was trained with, or train it again with this one{hidden_recipe(candidate)}."
        )
    raise AnydiffError(refused)


def hidden_recipe(source: str) -> str:
    """What an error adds where a folder or file of the working directory is taken for the recipe of its name."""
    if not Path(source).exists() or source not in registry().names("recipes"):
        return ""
    what = "folder" if Path(source).is_dir() else "file"
    return f"; the {what} {source!r} here hides the recipe of that name: rename it, or run in another folder"


def _candidates(source: str, required: Requirement | None, path: Path | None) -> list[str]:
    """Where a model may be: beside the weights as recorded and as named, then as named from here."""
    found = []
    if path is not None:
        names = [source] if required is None else [required.source, source]
        beside = [path.parent / name for name in names if not Path(name).is_absolute()]
        found += [os.path.normpath(place) for place in beside if place.exists()]
    return list(dict.fromkeys([*found, source]))


def recorded_text(companions: Companions, folder: Path) -> dict[str, str]:
    """The metadata that weights in ``folder`` carry of ``companions``; nothing where there are none."""
    if not companions:
        return {}
    found = {
        role: Requirement(_name(each.origin, folder), each.recipe.hash, each.weights_hash)
        for role, each in companions.items()
    }
    return {REQUIRES: requirements_text(found)}


def require_same_classes(pipeline: Pipeline, other: Pipeline, what: str) -> None:
    """Refuse a model whose classes mean something else than those of ``pipeline``; of real numbers nothing is said.

    Args:
        pipeline: whose states are handed to the other.
        other: is asked.
        what: it is called in errors.

    Raises:
        AnydiffError: states of classes, and another domain, shape, number of classes or vocabulary.
    """
    own, its = pipeline.domain, other.domain
    if not any(leaf.categorical for leaf in own.spec.leaves):
        return
    shapes = [", ".join(f"{leaf.shape} of {leaf.classes} classes" for leaf in each.spec.leaves) for each in (own, its)]
    for quality, mine, theirs in (
        ("domain", own.name, its.name), ("states", *shapes), ("vocabulary", dict(own.codec), dict(its.codec)),
    ):  # fmt: skip
        if mine != theirs:
            raise AnydiffError(
                f"{what} is of {quality} {theirs}, but {pipeline.recipe.name!r} of {quality} {mine}; name a model that "
                "was trained on the same states."
            )


def joint_hash(own: str, companions: Companions) -> str:
    """sha256 (hex) of a model's own weights and those of every model it needs; its own alone where it needs none."""
    if not companions:
        return own
    digest = hashlib.sha256(own.encode())
    for role, each in sorted(companions.items()):
        digest.update(f"/{role}:{each.recipe.hash}:{each.weights_hash}".encode())
    return digest.hexdigest()


def _name(origin: str, folder: Path) -> str:
    """A path relative to ``folder``; a recipe's name as it is."""
    return os.path.relpath(origin, folder.resolve()) if os.path.isabs(origin) else origin
