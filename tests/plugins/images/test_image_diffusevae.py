"""Codes that are refined, through the whole pipeline: training draws codes, sampling draws them by sample."""

from __future__ import annotations

import pytest
import torch

import anydiff
from anydiff.data.dataset import Occasion
from anydiff.errors import AnydiffError
from anydiff.networks import Autoencoder
from anydiff.pipeline import Pipeline, train
from anydiff.recipes import load_recipe
from anydiff.recipes.build import build_dataset
from anydiff.representation import RefinedDataset, Refinement

SHORT = ["training.steps=2", "training.batch_size=4", "training.warmup_steps=0"]


@pytest.fixture(scope="module")
def refined():
    return anydiff.load("images/refined")


def test_a_sample_is_the_same_whatever_is_drawn_beside_it(refined):
    all_of_them = refined.sample_set(3, nfe=2, seed=4)
    one = refined.sample_set([2], nfe=2, seed=4)
    assert torch.equal(all_of_them.condition.given["input"][2:], one.condition.given["input"])
    assert torch.allclose(all_of_them.states[2:], one.states, atol=1e-5)
    other = refined.sample_set([2], nfe=2, seed=5)
    assert not torch.equal(one.condition.given["input"], other.condition.given["input"])


def test_a_reconstruction_that_is_given_is_the_one_that_is_refined(refined):
    given = refined.refinement.drawn(0, [7])
    made = refined.sample_set(1, nfe=2, condition={"input": given})
    assert torch.equal(made.condition.given["input"], given)


def test_training_draws_codes_about_the_examples_own(refined):
    data = RefinedDataset(build_dataset(refined.recipe, "test"), refined.refinement)
    still, again = data.batch([0, 1])[1].given["input"], data.batch([1, 0])[1].given["input"].flip(0)
    assert torch.equal(still, again)

    def drawn(positions):
        return data.drawn(Occasion(positions, 3, 4, lambda asked: [0 for _ in asked]))[1].given["input"]

    first, second = drawn([5, 6])
    assert not torch.equal(first, second)
    assert torch.equal(drawn([6])[0], second)
    spread = refined.refinement
    codes = spread.codes(data.batch([0])[0])
    assert float((spread.reconstructed(codes) - still[:1]).abs().max()) == 0.0


def test_the_autoencoder_is_recorded_and_another_one_is_refused(refined, tmp_path):
    assert set(refined.companions) == {"refines"}
    before = refined.weights_hash
    with torch.no_grad():
        changed = anydiff.load("images/coarse")
        changed.denoiser.network.density.means.add_(1.0)
    changed.save(tmp_path / "coarse.safetensors")
    recipe = refined.recipe.with_changes([f"refines={tmp_path / 'coarse.safetensors'}", *SHORT])
    trained = train(recipe, tmp_path / "run")
    assert trained.weights_hash != before
    with torch.no_grad():
        changed.denoiser.network.density.means.add_(1.0)
    changed.save(tmp_path / "coarse.safetensors", overwrite=True)
    with pytest.raises(AnydiffError, match="needs as refines the model with weights"):
        anydiff.load(tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["refines=images/fashion"], "holds a UNet; name a recipe"),
        (["refines=images/fashion-vq-codes"], "with a codebook"),
        (["latent=images/coarse"], "leave one of them out"),
        (["domain.options.input=false"], "domain.options.input=true"),
        (["domain.options.height=32"], "autoencoder of states of shape"),
        (["domain.options.range=[0.0,1.0]"], "give both the same domain.options"),
    ],
)
def test_what_does_not_fit_is_refused(changes, sentence):
    with pytest.raises(AnydiffError, match=sentence):
        Pipeline.untrained(load_recipe("images/refined", changes))


def test_the_second_formulation_trains_and_samples(tmp_path):
    recipe = load_recipe("images/refined", ["path=known-shift", *SHORT])
    trained = train(recipe, tmp_path / "run")
    assert trained.sample_set(2, nfe=2).states.isfinite().all()


def test_the_density_says_more_of_held_out_codes_than_a_standard_normal(refined):
    network = refined.refinement.autoencoder
    assert isinstance(network, Autoencoder)
    states, _ = build_dataset(refined.recipe, "test").batch(range(64))
    codes = refined.refinement.codes(states)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(codes).sum(1).mean()
    assert float(network.density.log_density(codes).mean()) > float(normal) + 2


def test_recipes_without_codes_keep_their_names():
    assert "refines" not in load_recipe("images/fashion").canonical()
    assert load_recipe("images/fashion").hash == anydiff.load("images/fashion").recipe.hash


def test_a_refinement_needs_a_reconstructing_stage(refined):
    assert isinstance(refined.refinement, Refinement)
    assert refined.refinement.spread == 0.2
    assert anydiff.load("images/unrefined").refinement is None
