"""Recipes: complete experiments as data, and the live parts that are built from one."""

from anydiff.recipes.recipe import Part, Recipe, SamplingSettings, load_recipe

__all__ = ["Part", "Recipe", "SamplingSettings", "load_recipe"]
