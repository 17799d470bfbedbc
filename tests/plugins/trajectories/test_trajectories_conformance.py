"""The trajectories plugin runs the kit that strangers' plugins do; its weights are those of its recipes."""

import pytest

from anydiff.pipeline import load
from anydiff.recipes import load_recipe
from anydiff.recipes.build import build_dataset
from anydiff.registry import registry
from anydiff.testing import conformance

test_conformance = conformance("trajectories")


def bundled():
    """Names of this plugin's recipes that come with weights."""
    return [
        e.name
        for e in registry().entries("recipes")
        if e.name.startswith("trajectories/") and e.metadata.get("weights")
    ]


def test_every_recipe_has_weights():
    names = {entry.name for entry in registry().entries("recipes") if entry.name.startswith("trajectories/")}
    assert set(bundled()) == names


@pytest.mark.parametrize("name", bundled())
def test_the_weights_are_those_of_the_recipe_as_it_is(name):
    pipeline, recipe = load(name), load_recipe(name)
    assert pipeline.recipe == recipe
    assert pipeline.metadata["step"] == str(recipe.training.steps)
    assert pipeline.metadata["command"] == f"anydiff train {name}"
    assert pipeline.metadata["dataset_hash"] == build_dataset(recipe, "train").hash
