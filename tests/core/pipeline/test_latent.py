"""Latent diffusion for any domain: one line in the recipe; data, files and metrics stay in the domain's own space."""

import numpy as np
import pytest
import torch
from found import WAVES, found

from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.networks import Autoencoder
from anydiff.objectives import Reconstruction
from anydiff.paths import VPLinear
from anydiff.pipeline import Pipeline, load, train
from anydiff.pipeline.latent import Latent, LatentDataset
from anydiff.recipes import load_recipe
from anydiff.registry import registry
from anydiff.states import Conditioning, Known, StateSpec


@pytest.fixture(autouse=True)
def _waves(tmp_path_factory):
    with found("waves", WAVES, tmp_path_factory):
        yield


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    """A trained autoencoder of waves, as a run folder."""
    with found("waves", WAVES, tmp_path_factory):
        folder = tmp_path_factory.mktemp("codes") / "run"
        train(load_recipe("waves/codes"), folder)
    return str(folder)


def test_training_an_autoencoder_is_training_a_recipe(codes):
    network = load(codes).denoiser.network
    held_out = registry().build("datasets", "waves/data", split="test").batch(range(256))[0]
    with torch.no_grad():
        error = float((network(held_out) - held_out).square().mean() / held_out.square().mean())
    assert network.latent_shape == (2, 4)
    assert error < 0.3, "after a few steps most of a wave is in its code"


def test_a_latent_recipe_trains_samples_and_is_judged_in_the_space_of_the_data(codes, tmp_path):
    recipe = load_recipe("waves/diffusion", [f"latent={codes}"])
    pipeline = train(recipe, tmp_path / "run")
    assert pipeline.denoiser.network.shape == (2, 4)
    samples = pipeline.sample_set(3, seed=1)
    assert samples.states.shape == (3, 1, 16), "samples are waves, not latents"
    again = load(tmp_path / "run").sample_set([2, 0], seed=1).states
    assert torch.equal(again, samples.states[[2, 0]]), "decoded row by row: no sample depends on the others"
    assert [wave.shape for wave in pipeline.sample(2)] == [(16,), (16,)]
    scores = pipeline.evaluate(8)
    assert scores["waves/energy"].value == pytest.approx(pipeline.sample_set(8).states.square().mean().item(), rel=1e-5)
    assert pipeline.reference().states.shape == (256, 1, 16), "the reference is the data, not reconstructions"
    assert pipeline.evaluate_objects([np.ones(16)])["waves/energy"].value == 1
    latents = pipeline.encode([np.ones(16, np.float32)])
    assert latents.shape == (1, 2, 4), "latents of the diffusion are those of the latent space"


def test_the_hash_of_latent_data_knows_the_data_and_the_weights(codes):
    data = registry().build("datasets", "waves/data")
    network = load(codes).denoiser.network
    latent = Latent(data.domain, network)
    one = LatentDataset(data, latent)
    assert one.spec.shape == (2, 4)
    assert torch.equal(one.batch([5, 1])[0][1], one.batch([1])[0][0])
    other = Autoencoder(data.spec, latent_channels=2, channels=16)
    assert LatentDataset(data, Latent(data.domain, other)).hash != one.hash
    assert LatentDataset(registry().build("datasets", "waves/data", split="test"), latent).hash != one.hash


def test_a_recipe_that_does_not_use_what_came_later_keeps_its_hash():
    recipe = load_recipe("waves/diffusion")
    assert "latent" not in recipe.canonical()
    assert "noise_levels" not in recipe.canonical(), "nor do other keys count that came later and are not used"
    assert load_recipe("waves/diffusion", ["latent=x"]).hash != recipe.hash


def test_wrong_latents_are_one_sentence(codes, tmp_path):
    plain = train(load_recipe("waves/diffusion"), tmp_path / "plain")
    with pytest.raises(AnydiffError, match="holds a UNet"):
        train(load_recipe("waves/diffusion", [f"latent={tmp_path / 'plain'}"]), tmp_path / "run")
    with pytest.raises(AnydiffError, match=r"states of shape \(1, 8\).*has \(1, 16\)"):
        Latent(plain.domain, Autoencoder(StateSpec.single((1, 8))))
    with pytest.raises(AnydiffError, match="'waves/codes' is an autoencoder, which draws nothing"):
        load(codes).sample_set(1)


def test_what_is_known_of_data_is_kept_through_latents_and_nothing_hidden_reaches_them(codes, tmp_path):
    latent = train(load_recipe("waves/diffusion", [f"latent={codes}"]), tmp_path / "latent")
    mask = torch.zeros(1, 16, dtype=torch.bool)
    mask[:, :6] = True  # the first cell of four, and half of the second
    values = torch.linspace(-1, 1, 16)[None]
    made = latent.sample_set(3, known=values, known_mask=mask, seed=2).states
    assert torch.equal(made[:, :, :6], values[None, :, :6].expand(3, 1, 6)), "known entries come out as they are"
    hidden = torch.where(mask, values, torch.nan)
    assert torch.equal(latent.sample_set(3, known=hidden, known_mask=mask, seed=2).states, made)
    known = latent.latent.known(Known(values[None], mask[None]))
    assert known.mask[0, 0].tolist() == [True, False, False, False], "a latent is known where its cell is"
    everything = latent.sample_set(1, known=values, known_mask=torch.ones_like(mask)).states
    assert torch.equal(everything[0], values)
    nothing = latent.sample_set(3, known=values, known_mask=torch.zeros_like(mask), seed=2).states
    assert torch.allclose(nothing, latent.sample_set(3, seed=2).states, atol=1e-5)


def test_an_autoencoder_is_evaluated_by_what_it_gives_back(codes):
    pipeline = load(codes)
    reference = pipeline.reference(8)
    network = pipeline.denoiser.network
    with torch.no_grad():
        again = torch.cat([network.decode(network.encode(row[None])) for row in reference.states])
    expected = pipeline.evaluate_objects(pipeline.domain.decode(again), reference)
    found = pipeline.evaluate(100, reference=reference)
    error = (again - reference.states).square().mean().item()
    assert found.pop("codec/squared-error").value == pytest.approx(error, rel=1e-5)
    assert found.keys() == expected.keys() != set()
    for name, score in found.items():
        assert score.value == pytest.approx(expected[name].value, rel=1e-5)
        assert score.samples == 8, "no more than there are"
    with pytest.raises(AnydiffError, match=r"is an autoencoder.*nfe has no meaning for it; leave it out"):
        pipeline.evaluate(8, nfe=5)


@pytest.mark.parametrize("sizes", [(13,), (8, 10), (5, 8, 6)])
@pytest.mark.parametrize("factor", [2, 4])
def test_shapes_in_every_dimension(sizes, factor):
    network = Autoencoder(StateSpec.single((2, *sizes)), factor=factor, channels=4, latent_channels=1)
    x = torch.randn(3, 2, *sizes)
    latent = network.encode(x)
    assert latent.shape == (3, *network.latent_shape) == (3, 1, *[-(-size // factor) for size in sizes])
    assert network.decode(latent).shape == x.shape
    with pytest.raises(AnydiffError, match="expects"):
        network.decode(latent[:, :, :1])


class Halves(torch.nn.Module):
    """A linear 'autoencoder': the state of two entries is their sum, decoded to half of it each."""

    def __init__(self):
        super().__init__()
        self.heads = {
            "encode": lambda x: x.sum(dim=1, keepdim=True),
            "decode": lambda z: z.expand(-1, 2) / 2,
        }


def of(network):
    return NetworkDenoiser(network, VPLinear(), "data")


def test_the_loss_has_its_closed_form():
    denoiser = of(Halves())
    clean, noise = torch.tensor([[1.0, 3.0], [2.0, 2.0]]), torch.tensor([[2.0, 9.0], [-1.0, 9.0]])
    loss = Reconstruction(noise=0.5, penalty=0.1)(denoiser, clean, noise, torch.tensor([0.5, 0.5]))
    # Row 0: the code 4 + 0.5 * 2 = 5 gives 2.5 twice: errors 1.5 and -0.5; penalty 0.05 * 16.
    assert loss.tolist() == pytest.approx([(1.5**2 + 0.5**2) / 2 + 0.8, 0.25**2 + 0.8])
    mask = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    masked = Reconstruction(noise=0.5, penalty=0.0)(
        denoiser, clean, noise, torch.rand(2), Conditioning(loss_weight=mask)
    )
    assert masked.tolist() == pytest.approx([1.5**2, 0.25**2])


def test_bad_autoencoders_are_one_sentence():
    for options, message in [
        ({"factor": 3}, "power of two"),
        ({"factor": 1}, "factor is 1"),
        ({"blocks": 0}, "blocks"),
    ]:
        with pytest.raises(AnydiffError, match=message):
            Autoencoder(StateSpec.single((1, 8)), **options)
    with pytest.raises(AnydiffError, match="needs a state of shape"):
        Autoencoder(StateSpec.single((8,)))
    with pytest.raises(AnydiffError, match="penalty is -1"):
        Reconstruction(penalty=-1)
    denoiser = of(torch.nn.Linear(2, 2))
    with pytest.raises(AnydiffError, match="encode and decode"):
        Reconstruction()(denoiser, torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1))
    wide = Autoencoder(StateSpec.single((1, 8)), latent_channels=9, channels=4)
    with pytest.raises(AnydiffError, match="18 entries, but the state only 8"):
        Reconstruction()(of(wide), *torch.zeros(2, 1, 1, 8), torch.zeros(1))


def test_a_reward_is_of_data_and_led_back_through_the_autoencoder(codes):
    """Its gradient is by the latents; rewards of round 0 are those of the samples."""
    pipeline = Pipeline.untrained(load_recipe("waves/diffusion", [f"latent={codes}"]))

    def first(values):
        assert values.shape[1:] == (1, 16)
        return values[:, 0, :4].mean(1)

    found = pipeline.optimise(first, 6, rounds=2, gain=0.5, nfe=4)
    assert found.samples.states.shape == (6, 1, 16)
    torch.testing.assert_close(found.rewards[0], first(pipeline.sample_set(6, nfe=4).states))
    torch.testing.assert_close(found.rewards[-1], first(found.samples.states))
    assert float(found.rewards[-1].mean()) > float(found.rewards[0].mean())


def test_latents_of_unit_deviation_are_those_of_the_autoencoder_times_a_number_that_is_taken_back(codes, tmp_path):
    recipe = load_recipe("waves/diffusion", [f"latent={codes}", "latent_scale=unit", "training.steps=2"])
    pipeline = train(recipe, tmp_path / "run")
    scale = pipeline.recipe.latent_scale
    data = registry().build("datasets", "waves/data")
    states = data.batch(range(len(data)))[0]
    plain = Latent(data.domain, load(codes).denoiser.network)
    assert scale == pytest.approx(1 / float(plain.to_latent(states).double().std()), rel=1e-5)
    assert float(pipeline.latent.to_latent(states).std()) == pytest.approx(1, abs=1e-4)
    assert torch.equal(pipeline.latent.to_latent(states[:3]), plain.to_latent(states[:3]) * scale)
    there = pipeline.latent.to_data(pipeline.latent.to_latent(states[:3]))
    torch.testing.assert_close(there, plain.to_data(plain.to_latent(states[:3])), rtol=1e-5, atol=1e-6)
    again = load(tmp_path / "run")
    assert again.recipe.latent_scale == scale
    assert torch.equal(again.sample_set(2).states, pipeline.sample_set(2).states)
    assert again.latent.identity != plain.identity, "other latents are other data"


def test_a_scale_without_numbers_to_scale_is_refused(codes):
    with pytest.raises(AnydiffError, match="latent_scale is 'unit', but latent names no autoencoder"):
        load_recipe("waves/diffusion", ["latent=null", "latent_scale=unit"])
    with pytest.raises(AnydiffError, match="latent_scale"):
        load_recipe("waves/diffusion", [f"latent={codes}", "latent_scale=-2"])
    network = Autoencoder(StateSpec.single((1, 16)), codebook=4, code_size=2, channels=16)
    with pytest.raises(AnydiffError, match="latent_scale is 2, but this autoencoder's latents are classes"):
        Latent(registry().build("datasets", "waves/data").domain, network, 2.0)
    assert "latent_scale" not in load_recipe("waves/diffusion", ["latent=x"]).canonical()
