"""The bundled weights: of the recipes as they stand, small, with their command; and what latent diffusion gives."""

from pathlib import Path

import pytest
import torch

from anydiff.pipeline import load
from anydiff.recipes import load_recipe
from anydiff.training import load_weights
from anydiff_volumes import recipes
from anydiff_volumes.data import Population
from anydiff_volumes.metrics import psnr

WEIGHTS = Path(recipes.__file__).with_name("weights")


@pytest.mark.parametrize("name", ["sadm", "brain", "brain-codes", "brain-latent"])
def test_weights_are_those_of_the_recipe(name):
    path = WEIGHTS / f"{name}.safetensors"
    assert path.stat().st_size <= 4 * 2**20
    assert load_weights(path)[1]["recipe"] == load_recipe(f"volumes/{name}").canonical()
    assert f"anydiff train volumes/{name} " in (WEIGHTS / "README.md").read_text(encoding="utf-8")


def test_codes_are_a_sixteenth_and_say_more_than_the_mean():
    network = load("volumes/brain-codes").denoiser.network
    brains = Population("test", test_size=6).batch(range(6))[0]
    with torch.no_grad():
        codes = network.encode(brains)
        again = network.decode(codes).clamp(-1, 1)
    assert codes[0].numel() * 16 == brains[0].numel()
    mean = Population("train", train_size=24).batch(range(24))[0].mean(dim=0)
    for one, truth in zip(again, brains, strict=True):
        assert psnr(one[0].double().numpy(), truth[0].double().numpy()) > 2 + psnr(
            mean[0].double().numpy(), truth[0].double().numpy()
        )


def test_latent_diffusion_gives_volumes_of_the_domain():
    pipeline = load("volumes/brain-latent")
    made = pipeline.sample_set(2, nfe=4, seed=1)
    assert made.states.shape == (2, 1, 28, 32, 28)
    images = pipeline.domain.decode(made.states)
    assert images[0].shape == (28, 32, 28)
    assert abs(images[0].affine - pipeline.domain.affine).max() == 0
    middle = made.states[:, 0, 10:18, 12:20, 10:18]
    assert float(middle.mean()) > 0.3 > -0.5 > float(made.states[:, 0, 0].mean()), "a brain in the middle, air around"
