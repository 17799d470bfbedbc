"""Sums of named terms: one shared call, weights, laws of times, draws keyed by (seed, position, name), refusals."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from anydiff.denoisers import NetworkDenoiser
from anydiff.denoisers.wrappers import CountingDenoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.networks import MLP
from anydiff.objectives import CrossEntropy, Denoising, FlowMatching, Objective, Reconstruction, Sum, Term, Weighted
from anydiff.paths import VPLinear
from anydiff.registry import registry
from anydiff.states import UNCONDITIONAL, Draws, StateSpec

SPEC = StateSpec.single((3,))


def denoiser(kind="noise"):
    torch.manual_seed(0)
    network = MLP(SPEC, width=8, blocks=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return NetworkDenoiser(network, VPLinear(), kind, spec=SPEC)


def batch(rows=4):
    generator = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, rows, 3, generator=generator)
    return clean, noise, torch.rand(rows, generator=generator, dtype=torch.float64)


class Drawn(Term):
    """The number that each row draws."""

    def loss(self, call):
        return call.draws.uniform("number").float()


class Size(Term):
    """The size of the data prediction."""

    def loss(self, call):
        return call.predict("data").square().flatten(1).mean(1)


def test_a_sum_of_one_term_is_the_term_to_the_bit():
    for objective in (Denoising("edm"), FlowMatching()):
        alone = objective(denoiser(), *batch())
        assert torch.equal(Sum({"only": Weighted(objective, 1.0)})(denoiser(), *batch()), alone)


def test_terms_share_one_call_and_add_up_with_their_weights():
    counted = CountingDenoiser(denoiser())
    terms = {
        "denoising": Weighted(Denoising(), 2.0),
        "flow": Weighted(FlowMatching(), 0.5),
        "size": Weighted(Size(), 3),
    }
    found = Sum(terms).terms(counted, *batch())
    assert counted.calls == 1
    assert list(found) == ["denoising", "flow", "size"]
    torch.testing.assert_close(found["denoising"], 2 * Denoising()(denoiser(), *batch()))
    torch.testing.assert_close(found["flow"], 0.5 * FlowMatching()(denoiser(), *batch()))
    clean, noise, uniform = batch()
    t = Denoising().times(VPLinear(), uniform)
    data = denoiser()(VPLinear().mix(t, x0=clean, noise=noise), t)
    torch.testing.assert_close(found["size"], 3 * data.square().mean(1))
    torch.testing.assert_close(Sum(terms)(denoiser(), *batch()), sum(found.values()))


def test_terms_of_a_recipe_are_registered_objectives():
    flow = {"name": "flow-matching", "weight": 0.5, "options": {"times_std": 2}}
    built = registry().build("objectives", "sum", terms={"denoising": {"weight": 1}, "flow": flow})
    assert [type(part.objective) for part in built.parts.values()] == [Denoising, FlowMatching]
    assert built.parts["flow"].weight == 0.5
    assert built.parts["flow"].objective.law.std == 2


def test_a_sum_within_a_sum_keeps_its_terms_in_the_log():
    inner = Sum({"denoising": Weighted(Denoising(), 1.0), "size": Weighted(Size(), 2.0)})
    outer = Sum({"both": Weighted(inner, 0.5), "flow": Weighted(FlowMatching(), 1.0)})
    found = outer.terms(denoiser(), *batch())
    assert list(found) == ["both/denoising", "both/size", "flow"]
    torch.testing.assert_close(found["both/size"], inner.terms(denoiser(), *batch())["size"] / 2)


def test_a_term_draws_by_seed_position_and_name():
    objective = Sum({"denoising": Weighted(Denoising(), 1.0), "a": Weighted(Drawn(), 1.0), "b": Weighted(Drawn(), 1.0)})
    clean, noise, uniform = batch()

    def drawn(positions, seed=3, rows=slice(None), levels=1):
        parts = [each[rows].repeat_interleave(levels, dim=0) for each in (clean, noise, uniform)]
        return objective.terms(denoiser(), *parts, UNCONDITIONAL, Draws(seed, positions, levels))

    every = drawn([7, 8, 9, 10])
    assert not torch.equal(every["a"], every["b"])
    assert len(set(every["a"].tolist())) == 4
    assert torch.equal(drawn([10, 7], rows=slice(2))["a"], every["a"][[3, 0]])
    assert not torch.equal(drawn([7, 8, 9, 10], seed=4)["a"], every["a"])
    levels = drawn([7, 8, 9, 10], levels=2)["a"]
    assert torch.equal(levels[::2], every["a"])
    assert len(set(levels.tolist())) == 8


def test_signs_and_normal_numbers_have_their_laws():
    draws = Draws(1, range(4000))
    signs, normal = draws.signs("probe", (2,)), draws.normal("probe", (2,))
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert signs.mean().abs() < 0.03
    assert normal.mean().abs() < 0.03
    assert abs(normal.std() - 1) < 0.03
    assert draws.rows[:3] == [0, 1, 2]


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ({}, "at least one term"),
        ([{"name": "denoising", "weight": 1}], "must be a table with at least one term"),
        ({"denoising": {}}, "terms.denoising has no weight; give it one: terms.denoising.weight=1.0"),
        ({"denoising": {"weight": None}}, "terms.denoising has no weight"),
        ({"denoising": 1.0}, "terms.denoising is 1.0, but must be a table"),
        ({"denoising": {"weight": 0}}, "terms.denoising does not fit: a term's weight is 0,"),
        ({"denoising": {"weight": -1.0}}, "weight is -1.0"),
        ({"denoising": {"weight": float("nan")}}, "weight is nan"),
        ({"denoising": {"weight": True}}, "weight is True"),
        ({"denoising": {"weight": "1"}}, "weight is '1'"),
        ({"a.b": {"name": "denoising", "weight": 1}}, "a term is called 'a.b'"),
        ({"loss": {"name": "denoising", "weight": 1}}, "a term is called 'loss'"),
        ({"denoising": {"weight": 1, "options": 3}}, "the options 3"),
        ({"a": {"name": "denoising", "weight": 1}, "b": {"name": "denoising", "weight": 2}}, "the same one twice"),
        ({"size": Weighted(Size(), 1.0)}, "none of the terms size says at which times"),
    ],
)
def test_what_is_no_sum_of_terms(terms, sentence):
    with pytest.raises(AnydiffError, match=sentence):
        Sum(terms)


def test_what_is_unknown_is_named():
    with pytest.raises(UnknownNameError, match="unknown objective 'denoisin'"):
        Sum({"denoisin": {"weight": 1}})
    with pytest.raises(UnknownNameError, match="wieght"):
        Sum({"denoising": {"wieght": 1}})
    with pytest.raises(UnknownNameError, match="gama"):
        Sum({"denoising": {"weight": 1, "options": {"gama": 1}}})


def test_one_object_twice_is_refused():
    term = Denoising()
    with pytest.raises(AnydiffError, match="'a' and 'b' are the same one twice"):
        Sum({"a": Weighted(term, 1.0), "b": Weighted(term, 1.0)})


def test_terms_with_other_laws_of_times_are_refused():
    objective = Sum({"a": Weighted(Denoising(), 1.0), "b": Weighted(FlowMatching("logit-normal"), 1.0)})
    with pytest.raises(AnydiffError, match="'a' and 'b' share one network call, but ask for different times"):
        objective(denoiser(), *batch())
    with pytest.raises(AnydiffError, match="different times"):
        objective.prepare(denoiser())


def test_an_objective_with_a_call_of_its_own_is_no_term():
    class Alone(Denoising):
        def __call__(self, denoiser, clean, noise, uniform, condition=UNCONDITIONAL):
            return clean.sum(1)

    with pytest.raises(AnydiffError, match="Alone makes a network call of its own"):
        Weighted(Alone(), 1.0)
    assert torch.equal(Alone().terms(denoiser(), *batch())["loss"], batch()[0].sum(1))


def test_every_objective_of_the_core_can_be_a_term():
    for made in (CrossEntropy(), Denoising(), FlowMatching(), Reconstruction()):
        assert type(made).__call__ is Objective.__call__


class Autoencoding(nn.Module):
    """The least network with the two heads."""

    def __init__(self, latents: int = 2) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(3, latents), nn.Linear(latents, 3)
        self.heads = {"encode": self.down, "decode": self.up}

    def forward(self, x, log_snr, condition=UNCONDITIONAL):
        return self.up(self.down(x))


def test_reconstruction_has_two_terms_on_one_encoding():
    network, encoded = Autoencoding(), []
    network.down.register_forward_hook(lambda *_: encoded.append(1))
    clean, noise, _ = batch()
    found = Reconstruction(0.5, 0.2).terms(NetworkDenoiser(network, VPLinear(), "data", spec=SPEC), *batch())
    assert len(encoded) == 1
    means = network.down(clean)
    torch.testing.assert_close(found["error"], (network.up(means + 0.5 * noise[:, :2]) - clean).square().mean(1))
    torch.testing.assert_close(found["penalty"], 0.1 * means.square().mean(1))
    assert list(Reconstruction(0.5, 0.0).terms(NetworkDenoiser(network, VPLinear(), spec=SPEC), *batch())) == ["error"]


def test_reconstruction_refuses_what_has_no_encoder_and_latents_that_are_too_large():
    with pytest.raises(AnydiffError, match="but the network has no heads; choose 'autoencoder'"):
        Reconstruction()(denoiser(), *batch())
    wide = NetworkDenoiser(Autoencoding(5), VPLinear(), "data", spec=SPEC)
    with pytest.raises(AnydiffError, match="the latent has 5 entries, but the state only 3"):
        Reconstruction()(wide, *batch())


def test_a_weighted_term_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Weighted(Denoising(), 1.0).weight = 2.0
