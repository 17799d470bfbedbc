"""Several predictions from one call."""

from __future__ import annotations

import pytest
import torch

from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.networks import MLP
from anydiff.networks.heads import Heads
from anydiff.objectives import Prediction
from anydiff.paths import RDDM, Interpolant, VPCosine
from anydiff.states import Conditioning, StateSpec
from anydiff.testing.networks import awake

SPEC = StateSpec.single((1, 8, 8))
BACKBONES = {
    "mlp": {"width": 16, "blocks": 1},
    "unet": {"channels": 8, "multipliers": [1]},
    "dit": {"width": 16, "blocks": 1, "heads": 2},
}


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_gives_several_predictions_and_vectors_in_one_call(name):
    network = Heads(SPEC, predicts=["flow", "noise"], backbone=name, vectors={"label": 5}, options=BACKBONES[name])
    awake(network)
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    made = network(x, torch.zeros(3))
    assert {key: tuple(value.shape) for key, value in made.items()} == {
        "flow": (3, 1, 8, 8),
        "noise": (3, 1, 8, 8),
        "label": (3, 5),
    }
    assert not torch.equal(made["flow"], made["noise"])
    alone = network.backbone(x, torch.zeros(3))
    assert torch.equal(made["flow"], alone)


def test_a_denoiser_of_several_kinds_makes_one_call_for_all():
    network = Heads(StateSpec.single((2,)), predicts=["flow", "noise"], options={"width": 16, "blocks": 1})
    awake(network)
    calls = []
    network.register_forward_hook(lambda *_: calls.append(1))
    denoiser = NetworkDenoiser(network, Interpolant(), ["flow", "noise"])
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        flow, score, data = denoiser.predictions(x, 0.5, ["flow", "score", "data"])
        assert len(calls) == 1
        noise = denoiser.predict(x, 0.5, "noise")
    torch.testing.assert_close(score, -noise / 0.5)
    # x = (start + data)/2 + z/2 and flow = start - data + γ' z with γ' = 0 in the middle.
    torch.testing.assert_close(data, x - noise / 2 - flow / 2)


def test_what_several_predictions_cannot_be_is_refused():
    one = MLP(StateSpec.single((2,)), width=8, blocks=1)
    with pytest.raises(AnydiffError, match=r"names 'flow', but the network MLP predicts one kind.*network: heads"):
        NetworkDenoiser(one, Interpolant(), ["flow", "noise"])
    with pytest.raises(AnydiffError, match=r"\['noise', 'noise'\], but must name"):
        NetworkDenoiser(one, VPCosine(), ["noise", "noise"])
    for options in ({"predicts": []}, {"predicts": ["noise", "noise"]}, {"predicts": ["a"], "vectors": {"a": 2}}):
        with pytest.raises(AnydiffError, match="every name once"):
            Heads(StateSpec.single((2,)), **options)
    with pytest.raises(AnydiffError, match="'autoencoder' has no features to read from"):
        Heads(SPEC, predicts=["noise"], backbone="autoencoder")
    with pytest.raises(UnknownNameError, match="network"):
        Heads(SPEC, predicts=["noise"], backbone="nothing")


def test_a_pair_that_is_told_needs_a_network_that_takes_it():
    path, spec = RDDM(), StateSpec.single((2,))
    clean = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    given = Conditioning(sources={"input": clean.flip(0)})
    time = torch.linspace(0.2, 0.8, 4).double()
    right = NetworkDenoiser(MLP(spec, width=8, blocks=1, told=2), path, "residual")
    assert Prediction("l1")(right, clean, clean.flip(1), time, given).shape == (4,)
    wrong = NetworkDenoiser(MLP(spec, width=8, blocks=1), path, "residual")
    with pytest.raises(AnydiffError, match=r"log_snr has shape \(4, 2\).*is told 1 number"):
        Prediction()(wrong, clean, clean.flip(1), time, given)
