"""Recipes: complete experiments as data, and the live parts that are built from one."""

from typing import TYPE_CHECKING

from anydiff.exports import on_demand
from anydiff.recipes.models import Model, Start
from anydiff.recipes.recipe import Aggregation, Part, PartSettings, Recipe, SamplingSettings, load_recipe

if TYPE_CHECKING:
    from anydiff.recipes.build import (
        build_dataset,
        build_denoiser,
        build_domain,
        build_guidance,
        build_objective,
        build_solver,
        build_training_method,
        sample_set,
    )

_BUILT = (
    "build_dataset",
    "build_denoiser",
    "build_domain",
    "build_guidance",
    "build_objective",
    "build_solver",
    "build_training_method",
    "sample_set",
)

# Lazily, because a list of recipes needs no torch.
__getattr__ = on_demand(__name__, dict.fromkeys(_BUILT, "anydiff.recipes.build"))

__all__ = [
    "Aggregation",
    "Model",
    "Part",
    "PartSettings",
    "Recipe",
    "SamplingSettings",
    "Start",
    "build_dataset",
    "build_denoiser",
    "build_domain",
    "build_guidance",
    "build_objective",
    "build_solver",
    "build_training_method",
    "load_recipe",
    "sample_set",
]
