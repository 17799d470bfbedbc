"""Values in a field's own units, which rewards are given, are those of its native objects, differentiable."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from anydiff.domains import HasUnits
from anydiff.recipes import load_recipe
from anydiff.recipes.build import build_dataset

OBJECTS = {
    "images/fashion": lambda image: np.asarray(image, dtype=np.float64)[None],
    "weather/gee": lambda field: field.to_dataarray().to_numpy(),
    "timeseries/traffic": lambda series: series.to_numpy(),
    "trajectories/maze": lambda plan: np.concatenate([plan.actions, plan.observations], axis=1),
    "volumes/brain": lambda volume: volume.get_fdata()[None],
}


@pytest.mark.parametrize("recipe", OBJECTS)
def test_they_are_what_the_objects_hold(recipe):
    if importlib.util.find_spec(f"anydiff_{recipe.partition('/')[0]}") is None:
        pytest.skip("this plugin is not installed")
    dataset = build_dataset(load_recipe(recipe), "test")
    states, condition = dataset.batch(range(2))
    assert isinstance(dataset.domain, HasUnits)
    leaf = states.clone().requires_grad_()
    values = dataset.domain.in_units(leaf, condition)
    expected = np.stack([OBJECTS[recipe](each) for each in dataset.domain.decode(states, condition)])
    np.testing.assert_allclose(values.detach().numpy(), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    assert torch.autograd.grad(values.sum(), leaf)[0].any()
