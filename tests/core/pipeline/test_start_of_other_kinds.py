"""Bases that are no model of the recipe's kind: an autoencoder, another domain, another latent space."""

from __future__ import annotations

import pytest
from found import WAVES, found

from anydiff.errors import AnydiffError
from anydiff.pipeline import load, train
from anydiff.recipes import load_recipe


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of two steps: an autoencoder ``codes``, another one ``others``, and a model ``model`` in its space."""
    with found("waves,images", WAVES, tmp_path_factory):
        folder = tmp_path_factory.mktemp("kinds")
        for name, seed in (("codes", 0), ("others", 1)):
            train(load_recipe("waves/codes", ["training.steps=2", f"training.seed={seed}"]), folder / name)
        train(load_recipe("waves/diffusion", [f"latent={folder / 'codes'}"]), folder / "model")
    return folder


@pytest.fixture(autouse=True)
def _own(tmp_path_factory):
    with found("waves,images", WAVES, tmp_path_factory):
        yield


def test_an_autoencoder_is_no_base_of_a_denoiser_nor_the_other_way_round(runs, tmp_path):
    with pytest.raises(AnydiffError, match=r"one of the two is an autoencoder .'waves/codes'"):
        train(load_recipe("waves/diffusion"), tmp_path / "run", start=runs / "codes")
    with pytest.raises(AnydiffError, match=r"one of the two is an autoencoder .'waves/codes'"):
        train(load_recipe("waves/codes"), tmp_path / "run", start=runs / "model")
    assert not (tmp_path / "run").exists()
    finer = train(load_recipe("waves/codes", ["training.steps=1"]), tmp_path / "finer", start=runs / "codes")
    assert finer.recipe.start.weights_hash == load(runs / "codes").weights_hash


def test_a_base_of_another_domain_or_latent_space_is_refused(runs, tmp_path):
    with pytest.raises(AnydiffError, match="whose domain is 'images', but the recipe says 'waves'"):
        train(load_recipe("waves/diffusion"), tmp_path / "run", start="images/fashion")
    for latent in ([], [f"latent={runs / 'others'}"]):
        with pytest.raises(AnydiffError, match=r"whose latent is .*codes"):
            train(load_recipe("waves/diffusion", latent), tmp_path / "run", start=runs / "model")
    assert not (tmp_path / "run").exists()
    recipe = load_recipe("waves/diffusion", [f"latent={runs / 'codes'}"])
    assert train(recipe, tmp_path / "finer", start=runs / "model").recipe.latent == str(runs / "codes")
