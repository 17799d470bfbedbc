"""Weights that were published when cross-entropy was the molecules plugin's hold its old name, and keep their hash."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from anydiff.objectives import CrossEntropy
from anydiff.pipeline import load
from anydiff.plugins import report_to
from anydiff.recipes import load_recipe
from anydiff.recipes.build import build_objective
from anydiff.registry import registry
from anydiff.training import load_weights

OLD = "molecules/cross-entropy"
STORED = ("molecules/qm9", "molecules/zinc", "graphs/community-small")


def test_there_is_one_cross_entropy():
    """``masked-cross-entropy`` is another objective: the bound of masked classes, not the loss of relaxed ones."""
    entries = [entry for entry in registry().entries("objectives") if "cross-entropy" in entry.name]
    assert {(entry.name, entry.plugin) for entry in entries} == {
        ("cross-entropy", "anydiff"), ("masked-cross-entropy", "anydiff"),
    }  # fmt: skip
    assert len({entry.reference for entry in entries}) == len(entries) == 2


@pytest.mark.parametrize("name", STORED)
def test_published_weights_are_trained_by_it_under_its_old_name(name):
    said = []
    report_to(said.append)
    try:
        pipeline = load(name)
        assert said == [], "samples need no objective"
        objective = build_objective(pipeline.recipe)
    finally:
        report_to(None)
    assert said == [f"objective {OLD!r} is called 'cross-entropy' now; write that."]
    assert isinstance(objective, CrossEntropy)
    stored, own = (json.loads(each.canonical())["objective"] for each in (pipeline.recipe, load_recipe(name)))
    assert (stored.pop("name"), own.pop("name")) == (OLD, "cross-entropy")
    assert stored == own
    file = files("anydiff_molecules") / "weights" / f"{name.partition('/')[2]}.safetensors"
    assert pipeline.recipe.hash == load_weights(file)[1]["recipe_hash"]
