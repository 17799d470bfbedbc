"""Recipes: complete as written, and able to train, sample, save and load."""

from __future__ import annotations

import shutil
from typing import Any

import torch

from anydiff.pipeline import Recipe, load, load_recipe, train
from anydiff.registry import Entry
from anydiff.testing.kit import check
from anydiff.testing.subject import Subject, require

SHORT = ("training.steps=2", "training.batch_size=4", "training.warmup_steps=0", "training.precision=32-true")
"""Two steps say whether a recipe works, not whether it is good."""


@check("recipe.parses", "recipes")
def parses(plugin: Subject, entry: Entry) -> None:
    """It parses, is called what it is registered as, names parts that exist, and survives being written as YAML."""
    recipe = load_recipe(entry.name)
    require(recipe.name == entry.name, f"the recipe's name is {recipe.name!r}, but it is registered as {entry.name!r}.")
    parts = [("domains", recipe.domain), ("datasets", recipe.dataset), ("networks", recipe.network)]
    parts += [("paths", recipe.path), ("objectives", recipe.objective), ("solvers", recipe.sampling.solver)]
    parts += [("guidance", part) for part in recipe.sampling.guidance]
    parts += [("metrics", part) for part in recipe.metrics]
    for kind, part in parts:
        plugin.registry.get(kind, part.name)
    path = plugin.scratch / f"{entry.name.replace('/', '-')}.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    require(load_recipe(path).hash == recipe.hash, "written as YAML and read again it is another recipe.")


@check("recipe.runs", "recipes")
def runs(plugin: Subject, entry: Entry) -> None:
    """Two steps of training, then samples, a saved file, and the same samples from what is loaded."""
    recipe = _short(plugin, entry)
    folder = plugin.scratch / entry.name.replace("/", "-")
    shutil.rmtree(folder, ignore_errors=True)
    trained = train(recipe, folder)
    require((folder / "model.safetensors").is_file(), "the training left no model.safetensors.")
    budget: dict[str, Any] = {"nfe": max(2, trained.plan().nfe // 10), "seed": 1}
    first = trained.sample_set(2, **budget).states
    require(first.isfinite().all(), "the samples are not finite.")
    file = folder / "saved.safetensors"
    trained.save(file, overwrite=True)
    for source in (folder, file):
        again = load(source).sample_set(2, **budget).states
        require(torch.equal(first, again), f"loaded from its {'folder' if source is folder else 'file'} it differs.")


def _short(plugin: Subject, entry: Entry) -> Recipe:
    own = [f"{key}={value}" for key, value in plugin.options(entry.name).items()]
    return load_recipe(entry.name, [*SHORT, *own])
