"""The recipe of ACDiT: trained by the command line on latents, drawn block by block with the memory."""

import pytest
import torch

import anydiff
from anydiff.cli.main import run
from anydiff.denoisers.past import Past
from anydiff.errors import AnydiffError
from anydiff_images.acdit import LATENT_DEVIATION

SMALL = [
    "training.steps=2", "training.batch_size=4", "training.ema_decay=0.5", "network.options.width=16",
    "network.options.blocks=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two steps of training."""
    folder = tmp_path_factory.mktemp("runs") / "acdit"
    asked = [word for each in SMALL for word in ("--set", each)]
    assert run(["train", "images/acdit", "--out", str(folder), *asked]) == 0
    return folder


@torch.no_grad()
def test_codes_have_the_deviation_that_the_recipe_says():
    from anydiff_images.data import FashionMNIST

    codec = anydiff.load("images/codes")
    latents = codec.denoiser.network.encode(FashionMNIST(domain=codec.domain).batch(range(128))[0].float())
    assert tuple(latents.shape[1:]) == (4, 7, 7)
    assert float(latents.std()) == pytest.approx(LATENT_DEVIATION, rel=0.05)


def test_pictures_are_drawn_block_by_block_with_what_is_remembered(folder, monkeypatch):
    pipeline, written = anydiff.load(str(folder)), []
    commit = Past.commit
    monkeypatch.setattr(Past, "commit", lambda self, each: (written.append(each.turn), commit(self, each))[1])
    plan = pipeline.plan(nfe=14)
    assert (len(plan), plan.nfe) == (7, 14)
    calls = []
    forward = pipeline.denoiser.network.register_forward_pre_hook(lambda module, args: calls.append(args[0].shape[1]))
    pictures = pipeline.sample(2, nfe=14, condition={"label": "Sneaker"})
    forward.remove()
    assert len(pictures) == 2
    assert calls == [7] * 14, "each call holds the seven positions of its block"
    assert written == list(range(7)), "each block is finished once"


def test_the_command_line_draws_them(folder, tmp_path, capsys):
    out = tmp_path / "drawn"
    assert run(["sample", str(folder), "--count", "2", "--nfe", "7", "--out", str(out)]) == 0
    assert len(list(out.glob("*.png"))) == 2
    assert run(["sample", str(folder), "--count", "2", "--nfe", "6", "--out", str(tmp_path / "none")]) != 0
    assert "raise nfe to 7 or more" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "none").exists()


def test_a_budget_below_one_call_for_each_block_is_refused(folder):
    with pytest.raises(AnydiffError, match=r"nfe is 6 for a whole sample of 7 groups.* raise nfe to 7 or more"):
        anydiff.load(str(folder)).sample(1, nfe=6)


def test_a_block_that_does_not_divide_the_positions_is_refused():
    from anydiff.autoregressive.acdit import ACDiT
    from anydiff.states import StateSpec

    with pytest.raises(AnydiffError, match="block is 5, but must divide the 49 positions"):
        ACDiT(StateSpec.single((4, 7, 7)), block=5)


def test_sample_k_is_the_same_in_every_batch(folder):
    pipeline = anydiff.load(str(folder))
    whole = pipeline.sample_set(5, nfe=7, seed=3, condition={"label": "Bag"}).states
    alone = pipeline.sample_set([4], nfe=7, seed=3, condition={"label": "Bag"}).states
    assert torch.allclose(alone[0], whole[4], atol=1e-4)
