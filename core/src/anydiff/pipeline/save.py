"""From a pipeline to one self-describing weights file, which ``load`` reads back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from anydiff.compression.quantised import Quantised
from anydiff.errors import AnydiffError
from anydiff.pipeline.companions import recorded_text
from anydiff.pipeline.fixed import own_plan
from anydiff.recipes import Recipe
from anydiff.training import save_weights

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline


def save_pipeline(pipeline: Pipeline, path: Path, dtype: torch.dtype | None, overwrite: bool) -> None:
    """Write the weights, widened or shortened to ``dtype``, with the recipe and what the model needs.

    Raises:
        AnydiffError: the file exists and ``overwrite`` is false, a weight is too large for ``dtype``, or ``dtype`` is
            shorter than float32 and the network quantised, whose scales would lose their digits.
    """
    network = pipeline.denoiser.network
    if dtype is not None and dtype.itemsize < 4 and isinstance(network, Quantised):
        raise AnydiffError(
            f"{pipeline.recipe.name!r} is quantised ({network.weights} bits): its integers are as short as they get, "
            f"and its scales would lose digits as {str(dtype).removeprefix('torch.')}; export with --dtype float32."
        )
    tensors = {
        name: tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
        for name, tensor in pipeline.denoiser.network.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise AnydiffError(f"{name!r} holds values that {tensor.dtype} cannot hold; save as bfloat16 or float32.")
    needed, recipe = recorded_text(pipeline.companions, path.parent), pipeline.recipe
    metadata = {**pipeline.metadata, **needed, "recipe": recipe.canonical(), "recipe_hash": recipe.hash}
    save_weights(path, tensors, metadata, overwrite)


def with_harmless_changes(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """The recipe with changes that leave its weights what they are.

    Raises:
        AnydiffError: a change of anything the weights depend on.
    """
    for change in changes:
        if change.partition("=")[0].split(".")[0] not in ("sampling", "metrics", "help"):
            raise AnydiffError(f"{change!r} changes what the weights were trained for; train with it instead.")
        if recipe.sampling.fixed and change.startswith("sampling"):
            raise AnydiffError(
                f"{change!r} changes a plan that is fixed: {recipe.name!r} is a denoiser on its own plan alone "
                f"({own_plan(recipe.sampling)}); leave it out, or take the model that it was made of."
            )
    return recipe.with_changes(changes)
