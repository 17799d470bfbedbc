"""The temperature of a recipe: best single estimates, and ensembles of the model's own law."""

from __future__ import annotations

import pytest
import torch
import zarr

from anydiff.errors import AnydiffError
from anydiff.pipeline import load
from anydiff.pipeline.stream import StreamRequest, stream
from anydiff.recipes import load_recipe


@pytest.fixture
def cold(run):
    return load(str(run)).with_changes(["sampling.temperature=0", "sampling.solver.name=ddim", "sampling.nfe=4"])


def test_a_recipe_without_one_keeps_its_name(recipe):
    assert "temperature" not in recipe.canonical()
    assert recipe.with_changes(["sampling.temperature=1"]).hash == recipe.hash
    assert recipe.with_changes(["sampling.temperature=0.5"]).hash != recipe.hash


def test_single_estimates_begin_at_the_mean_of_the_prior_and_ensembles_do_not(cold):
    single = [cold.sample_set(3, seed=seed).states for seed in (0, 1)]
    assert torch.equal(*single)
    assert torch.equal(single[0][0], single[0][2])
    warm = cold.with_changes(["sampling.temperature=1"])
    assert torch.equal(cold.sample_set(3, seed=1, temperature=1.0).states, warm.sample_set(3, seed=1).states)
    ensemble = {"cases": 3, "seed": 1}
    assert torch.equal(cold.sample_set(6, **ensemble).states, warm.sample_set(6, **ensemble).states)
    assert torch.equal(cold.sample_set(6, **ensemble, temperature=0.0).states[:3], single[0])


def test_chunks_of_a_stream_know_whether_they_belong_to_an_ensemble(cold, tmp_path):
    def drawn(members):
        request = StreamRequest(members=members, cases=4, chunk=2)
        return zarr.open_group(str(stream(cold, tmp_path / f"{members}.zarr", request)), mode="r")

    one, two = drawn(1), drawn(2)
    name = next(name for name, array in one.arrays() if array.metadata.dimension_names[:2] == ("member", "case"))
    assert torch.from_numpy(one[name][:]).flatten(0, 1).unique(dim=0).shape[0] == 1
    assert torch.from_numpy(two[name][:]).flatten(0, 1).unique(dim=0).shape[0] == 8
    assert (one.attrs["anydiff"]["temperature"], two.attrs["anydiff"]["temperature"]) == (0.0, 1.0)


@pytest.mark.parametrize("value", ["-1", ".nan", ".inf"])
def test_what_is_no_factor_is_refused(recipe, value):
    with pytest.raises(AnydiffError, match="temperature"):
        load_recipe("two_moons/small", [f"sampling.temperature={value}"])
