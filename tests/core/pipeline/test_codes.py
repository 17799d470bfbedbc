"""Diffusion of codes: an autoencoder with a codebook makes data classes, and everything else stays what it is."""

import pytest
import torch
from found import WAVES, found

from anydiff.errors import AnydiffError
from anydiff.pipeline import load, train
from anydiff.pipeline.codec import usage
from anydiff.recipes import Start, load_recipe

CODEC = ["network.options.codebook=8", "network.options.code_size=4", "training.steps=40"]


@pytest.fixture(autouse=True)
def _waves(tmp_path_factory):
    with found("waves", WAVES, tmp_path_factory):
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Run folders: an autoencoder of waves with eight codes, and a masked diffusion of its codes."""
    folder = tmp_path_factory.mktemp("codes")
    changes = [
        f"latent={folder / 'codec'}", "network={name: tokens, options: {width: 16, blocks: 1, heads: 2}}",
        "path=masked", "parametrization=logits", "objective=masked-cross-entropy",
        "sampling={solver: ancestral, nfe: 4}",
    ]  # fmt: skip
    with found("waves", WAVES, tmp_path_factory):
        train(load_recipe("waves/codes", CODEC), folder / "codec")
        train(load_recipe("waves/diffusion", changes), folder / "masked")
    return folder


@pytest.fixture
def codec(trained):
    return load(str(trained / "codec"))


@pytest.fixture
def diffusion(trained):
    return load(str(trained / "masked"))


def test_codes_are_classes_and_samples_are_data(codec, diffusion):
    assert diffusion.latent.spec.leaves[0].classes == 8
    assert diffusion.denoiser.spec.shape == (4,)
    samples = diffusion.sample_set(5, seed=1).states
    assert samples.shape == (5, 1, 16)
    codes = diffusion.latent.to_latent(samples)
    assert codes.dtype == torch.int64
    assert set(codes.unique().tolist()) <= set(range(8))
    assert torch.equal(diffusion.sample_set([3], seed=1).states[0], samples[3]), "a sample depends on no other"
    with pytest.raises(AnydiffError, match="this codebook has 0 to 7"):
        codec.denoiser.network.decode(torch.full((1, 4), 8))


def test_a_codec_says_how_its_codes_are_used(codec):
    scores = codec.evaluate(64)
    share = usage(codec.denoiser.network.encode(codec.reference().states[:64]), 8)
    entropy = -sum(p * p.log2() for p in share if p > 0)
    assert scores["codec/perplexity"].value == pytest.approx(float(2**entropy), rel=1e-6)
    assert scores["codec/dead-codes"].value == (share == 0).sum()
    assert scores["codec/bits"].value == 3 * 4
    assert scores["codec/perplexity"].value > 4, "codes that begin among the features are used"


def test_a_codec_resumed_is_the_codec_trained_at_once(tmp_path):
    steps = {count: load_recipe("waves/codes", [*CODEC, f"training.steps={count}"]) for count in (3, 6)}
    train(steps[6], tmp_path / "whole")
    train(steps[3], tmp_path / "parts")
    train(steps[6], tmp_path / "parts", resume=True)
    one, two = (load(tmp_path / name).denoiser.network.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_what_is_known_of_data_is_kept_through_codes(diffusion):
    mask = torch.zeros(1, 16, dtype=torch.bool)
    mask[:, 4:12] = True
    values = torch.linspace(-1, 1, 16)[None]
    made = diffusion.sample_set(6, known=values, known_mask=mask, seed=2).states
    assert torch.equal(made[:, :, 4:12], values[None, :, 4:12].expand(6, 1, 8))
    hidden = torch.where(mask, values, 1e6)
    assert torch.equal(diffusion.sample_set(6, known=hidden, known_mask=mask, seed=2).states, made)
    nothing = diffusion.sample_set(6, known=values, known_mask=~mask & False, seed=2).states
    assert torch.equal(nothing, diffusion.sample_set(6, seed=2).states)
    everything = diffusion.sample_set(1, known=values, known_mask=mask | True).states
    assert torch.equal(everything[0], values)


def test_a_codebook_is_rebuilt_around_a_frozen_encoder(trained, codec, tmp_path):
    frozen = ["entry.*", "encoder.*", "down.*", "norm_latent.*", "to_latent.*"]
    start = Start(source=str(trained / "codec"), partial=True, freeze=frozen)
    smaller = [*CODEC[1:], "network.options.codebook=5", "training.steps=2"]
    with pytest.warns(UserWarning, match=r"codebook\.vectors"):
        rebuilt = train(load_recipe("waves/codes", smaller), tmp_path / "refit", start=start).denoiser.network
    whole = codec.denoiser.network
    states = codec.reference().states[:64]
    assert torch.equal(rebuilt.heads["encode"](states), whole.heads["encode"](states)), "the encoder is what it was"
    assert rebuilt.encode(states).unique().tolist() == [0, 1, 2, 3, 4], "the new codes begin among its features"
    assert not torch.equal(rebuilt.from_latent.weight, whole.from_latent.weight), "the decoder learns"
