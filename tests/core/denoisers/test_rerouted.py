"""Another route under a trained network: what may change, what is refused, and that training can see every route."""

import pytest
import torch
from torch import nn

from anydiff.denoisers import FunctionDenoiser, NetworkDenoiser, rerouted
from anydiff.errors import AnydiffError
from anydiff.networks import MLP
from anydiff.objectives import EveryRoute, Prediction
from anydiff.paths import RDDM, MeanReverting, VPLinear
from anydiff.samplers import sample
from anydiff.states import Conditioning, StateSpec

SPEC = StateSpec.single((2,))
GIVEN = Conditioning(sources={"input": torch.tensor([[1.0, -1.0]]).expand(4, 2)})


class Exact(nn.Module):
    """Predicts the residual of the clean point (3, 0), and notes what it is told."""

    def __init__(self):
        super().__init__()
        self.told = []

    def forward(self, x, told, condition=None):
        self.told.append(told)
        return (torch.tensor([1.0, -1.0]) - torch.tensor([3.0, 0.0])).expand_as(x)


@pytest.mark.parametrize("route", ["together", "residual-first", "noise-first"])
def test_one_network_travels_every_route(route):
    network = Exact()
    denoiser = rerouted(NetworkDenoiser(network, RDDM(), "residual", spec=SPEC).eval(), {"route": route})
    found = sample(denoiser, (2,), 4, nfe=4, solver="rddm", condition=GIVEN)
    # The residual is gone where A is 0, whatever else is; the noise follows from it exactly.
    assert torch.allclose(found, torch.tensor([3.0, 0.0]).expand(4, 2), atol=1e-5)
    pairs = torch.stack([told[0] for told in network.told])
    wanted = RDDM(route=route).told(torch.tensor([1.0, 0.75, 0.5, 0.25])).float()
    assert torch.allclose(pairs, wanted)
    assert not denoiser.training


def test_what_the_network_was_not_told_cannot_change():
    rddm = NetworkDenoiser(Exact(), RDDM(), "residual")
    with pytest.raises(AnydiffError, match=r"path changes sum_scale to 1.0, but under a network"):
        rerouted(rddm, {"sum_scale": 1.0})
    with pytest.raises(AnydiffError, match="'sideways'"):
        rerouted(rddm, {"route": "sideways"})
    for path in (VPLinear(), MeanReverting()):  # told the log-SNR alone
        with pytest.raises(AnydiffError, match="told one number of the time"):
            rerouted(NetworkDenoiser(Exact(), path, "noise"), {"route": "residual-first"})


def test_the_route_any_is_half_of_it_the_paths_own_pairs_and_half_of_it_all_pairs():
    t = torch.rand(20000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    _a, b = RDDM(route="any").told(t).T / 20 + 0.5
    own = RDDM().told(t)[:, 1] / 20 + 0.5
    same = (b - own).abs() < 1e-12
    assert float(same.double().mean()) == pytest.approx(0.5, abs=0.02)
    free = torch.stack([t[~same], b[~same]])  # B/B_T is the noise's own time here
    assert abs(float(torch.corrcoef(free)[0, 1])) < 0.03
    assert float(b[~same].mean()) == pytest.approx(0.5, abs=0.02)
    with pytest.raises(AnydiffError, match="for training alone"):
        RDDM(route="any").first(torch.zeros(4, 2), GIVEN)


def test_every_route_trains_on_them_and_needs_a_path_with_routes():
    network = MLP(SPEC, {}, width=8, blocks=1, told=2)
    denoiser = NetworkDenoiser(network, RDDM(), "residual", spec=SPEC)
    uniform = torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64)
    clean, noise = torch.randn(4, 2), torch.randn(4, 2)
    objective = EveryRoute()
    objective.prepare(denoiser)
    found = objective(denoiser, clean, noise, uniform, GIVEN)
    on_any = rerouted(denoiser, {"route": "any"})
    assert torch.allclose(found, Prediction()(on_any, clean, noise, uniform, GIVEN))
    for other in (NetworkDenoiser(network, VPLinear(), "noise"), FunctionDenoiser(lambda x, t: x, RDDM(), "residual")):
        with pytest.raises(AnydiffError, match="'every-route' trains a network on a path with routes"):
            objective.prepare(other)


def test_a_network_sees_a_state_of_unit_scale_where_the_input_is_all_that_is_left():
    """Between the two parts of the route noise-first neither data nor noise is in the state, but the input is."""
    t = torch.tensor([0.5, 1.0, 0.0])
    for path in (RDDM(route="noise-first"), RDDM()):
        c = path.coefficients(t.double())
        scale = ((c["x0"] * 0.7) ** 2 + (c["input"] * 0.7) ** 2 + c["noise"] ** 2) ** -0.5
        assert torch.allclose(path.input_scale(t, 0.7), scale)
    assert float(RDDM(route="noise-first").input_scale(t, 0.7)[0]) == pytest.approx(1 / 0.7)
