"""From a name, a run folder or a weights file to a pipeline: where the weights lie, and the recipe that they carry."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from anydiff.adapters import foreign_source, read_foreign
from anydiff.data.reading import Place, parse_json
from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff.pipeline.companions import companions_of, hidden_recipe
from anydiff.recipes import Recipe, load_recipe
from anydiff.registry import registry
from anydiff.training import load_into, load_weights
from anydiff.training.budget import within_weights, without_budget
from anydiff.training.weights import REQUIRES

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline


MOST_ENTRIES = 1 << 28
"""Of one state of a model from a file: 2 GiB in float64, a volume of 645 x 645 x 645."""


def load_pipeline(kind: type[Pipeline], source: str, within: tuple[Path, ...] = ()) -> Pipeline:
    """A pipeline of ``kind`` from ``source``; see :func:`anydiff.pipeline.load` for what it may be and what is refused.

    Args:
        kind: the class that is made.
        source: a recipe's name, a run folder, a weights file, or ``ADAPTER:FOLDER`` of another library.
        within: the weights that need this model, outermost first.
    """
    foreign = foreign_source(source)
    if foreign is not None:
        return _load_foreign(kind, *foreign)
    path = weights_file(source)
    origin = str(Path(source).resolve()) if Path(source).exists() else source
    if path.resolve() in within:
        raise AnydiffError(f"{str(path)!r} needs itself by way of the models it names; train it with another latent.")
    with without_budget():  # of a model that needs this one
        tensors, metadata = load_weights(path)
        recipe = stored_recipe(metadata, path)
        inner = functools.partial(load_pipeline, kind, within=(*within, path.resolve()))
        companions = companions_of(recipe, inner, metadata, path)
        with within_weights(tensors, repr(str(path)), recipe.network.options), _built_from(path):
            pipeline = kind.untrained(recipe, companions)
        _check_states(pipeline, path)
        load_into(pipeline.denoiser.network, tensors, repr(str(path)))
    own = ("recipe", "recipe_hash", "format", REQUIRES)
    pipeline.metadata = {name: text for name, text in metadata.items() if name not in own}
    pipeline.origin = origin
    return pipeline


def _load_foreign(kind: type[Pipeline], adapter: str, folder: Path) -> Pipeline:
    """A pipeline of another library's folder, by its adapter."""
    where = f"{adapter}:{folder}"
    found = read_foreign(adapter, folder)
    recipe = Recipe.parse(found.recipe, f"the model {where!r}")
    with without_budget(), within_weights(found.tensors, repr(where), recipe.network.options), _built_from(folder):
        pipeline = kind.untrained(recipe, {})
    _check_states(pipeline, folder)
    load_into(pipeline.denoiser.network, found.tensors, repr(where))
    pipeline.metadata = dict(found.metadata)
    pipeline.origin = f"{adapter}:{folder.resolve()}"
    return pipeline


def weights_file(source: str) -> Path:
    """The file that holds the weights of a run folder, of a file itself, or of a recipe.

    Raises:
        AnydiffError: a folder without weights, or a name that is no recipe with bundled weights.
    """
    path = Path(source)
    if path.is_file():
        return path
    if not path.is_dir():
        return bundled_weights(source)
    path = path / "model.safetensors"
    if not path.is_file():
        wrong = f"{source!r} is a folder without model.safetensors; give a run folder or a recipe"
        raise AnydiffError(f"{wrong}{hidden_recipe(source)}.")
    return path


@contextlib.contextmanager
def _built_from(path: Path) -> Iterator[None]:
    """Whatever stored options make a library raise (a size beyond 64 bits, say) is a fault of the file."""
    try:
        yield
    except (AnydiffError, KeyboardInterrupt):
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise FileFormatError(
            f"the recipe in {str(path)!r} asks for a model that cannot be made ({reason}); get the weights again."
        ) from error


def _check_states(pipeline: Pipeline, path: Path) -> None:
    """Refuse states of which no memory holds one: networks take any size, so the weights do not bound it."""
    size = pipeline.domain.spec.size
    if size > MOST_ENTRIES:
        raise FileFormatError(
            f"the recipe in {str(path)!r} asks for states of {size:,} entries, but {MOST_ENTRIES:,} are allowed; it is "
            "damaged or made to exhaust memory: get the weights again."
        )


def bundled_weights(name: str) -> Path:
    """The file of a recipe's bundled weights, named in its registry entry as ``weights="package:path"``."""
    try:
        entry = registry().get("recipes", name)
    except UnknownNameError as error:
        raise AnydiffError(f"{name!r} is no run folder and no weights file, and an {error}") from error
    reference = entry.metadata.get("weights")
    if not reference:
        load_recipe(name)
        raise AnydiffError(f"recipe {name!r} has no bundled weights; train it with `anydiff train {name}`.")
    package, _, relative = str(reference).partition(":")
    return Path(str(resources.files(package).joinpath(relative)))


def stored_recipe(metadata: Mapping[str, str], path: Path) -> Recipe:
    """The resolved recipe that weights carry in their metadata."""
    if "recipe" not in metadata:
        raise FileFormatError(f"{str(path)!r} carries no recipe; load weights that a pipeline or a training saved.")
    data = parse_json(
        metadata["recipe"],
        Place(f"the recipe in {str(path)!r}"),
        advice="the file is damaged: get the weights again",
    )
    return Recipe.parse(data, f"the recipe of {str(path)!r}")
