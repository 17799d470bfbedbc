"""The loss of MT-Diffusion: one call, terms in their units, gradients that stay with their own head, refusals."""

from __future__ import annotations

import math

import pytest
import torch
from killing import assert_killed

from anydiff.denoisers import NetworkDenoiser
from anydiff.denoisers.wrappers import CountingDenoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.networks import MLP, Heads
from anydiff.objectives import Denoising, HeadLoss, MTDiffusion, Sum
from anydiff.objectives import mt_diffusion as module
from anydiff.paths import VPLinear
from anydiff.states import Conditioning, StateSpec

SPEC = StateSpec.single((3,))
LABELS = torch.tensor([0, 1, 1, 0])


def denoiser():
    torch.manual_seed(0)
    network = Heads(SPEC, predicts=["noise", "part"], vectors={"label": 2}, options={"width": 8, "blocks": 1})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return NetworkDenoiser(network, VPLinear(), "noise", spec=SPEC)


def batch():
    generator = torch.Generator().manual_seed(1)
    clean, noise, part = torch.randn(3, 4, 3, generator=generator)
    uniform = torch.rand(4, generator=generator, dtype=torch.float64)
    return clean, noise, uniform, Conditioning(sources={"label": LABELS, "part": part})


def heads(label=0.5, part=0.25, **more):
    return MTDiffusion({"label": {"weight": label, **more}, "part": {"weight": part}})


def test_noise_and_heads_come_from_one_call_and_stand_in_the_log():
    counted = CountingDenoiser(denoiser())
    terms = heads().terms(counted, *batch())
    assert counted.calls == 1
    assert list(terms) == ["denoising", "label", "part"]
    total = heads()(denoiser(), *batch())
    torch.testing.assert_close(total, sum(terms.values()))
    assert torch.equal(terms["denoising"], Denoising()(denoiser(), *batch()))


def test_terms_are_in_their_units():
    """Nats per sample for classes, a mean over the entries otherwise, times the weight."""
    clean, noise, uniform, given = batch()
    network = denoiser()
    t = Denoising().times(network.path, uniform)
    made = network.exits(network.path.noised(t, clean, noise), t)
    nats = torch.stack([-row.log_softmax(0)[label] for row, label in zip(made["label"], LABELS, strict=True)])
    missed = (made["part"] - given.sources["part"]).square().mean(1)
    terms = heads().terms(network, *batch())
    torch.testing.assert_close(terms["label"], 0.5 * nats)
    torch.testing.assert_close(terms["part"], 0.25 * missed)


def test_what_cannot_be_read_any_more_can_be_left_out():
    """weighting: signal, g = α²/(α² + σ²)."""
    network, (_, _, uniform, _) = denoiser(), batch()
    plain, signal = (heads(weighting=name).terms(network, *batch())["label"] for name in ("uniform", "signal"))
    alpha = network.path.alpha(Denoising().times(network.path, uniform))
    torch.testing.assert_close(signal, plain * alpha.square().float())


def test_rows_without_the_condition_are_left_out():
    clean, noise, uniform, given = batch()
    there = torch.tensor([True, False, True, False])
    told = Conditioning(
        {"label": torch.where(there, LABELS, -1)}, {"label": there}, sources={"part": given.sources["part"]}
    )
    network = denoiser()
    plain = heads().terms(network, *batch())["label"]

    class Deaf(CountingDenoiser):
        def exits(self, x, t, condition):
            return self.inner.exits(x, t)

    found = heads().terms(Deaf(network), clean, noise, uniform, told)["label"]
    torch.testing.assert_close(found, torch.where(there, plain, 0.0))


def gradients(objective):
    network = denoiser()
    objective(network, *batch()).sum().backward()
    return {name: p.grad for name, p in network.network.named_parameters()}


def test_heads_get_gradients_from_their_own_terms_alone():
    both = gradients(heads())
    alone = gradients(MTDiffusion({"label": {"weight": 0.5}}))
    assert torch.equal(both["vectors.label.weight"], alone["vectors.label.weight"])
    assert alone["exits.part.weight"] is None, "a head without a term learns nothing"
    plain = gradients(Denoising())
    assert plain["vectors.label.weight"] is None
    assert torch.equal(both["backbone.exit.weight"], plain["backbone.exit.weight"]), "nor does the noise from heads"


def test_without_weight_the_heads_leave_the_noise_as_it_is():
    """λ -> 0: the gradient is that of denoising alone, and for λ it grows in proportion."""
    plain = gradients(Denoising())["backbone.entry.weight"]
    small, large = (gradients(heads(scale, scale))["backbone.entry.weight"] - plain for scale in (1e-4, 1e-2))
    assert float(small.abs().max()) < 1e-3 * float(plain.abs().max())
    torch.testing.assert_close(100 * small, large, rtol=2e-2, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MTDiffusion({}), "heads is {}, but must be a table"),
        (lambda: MTDiffusion({"label": 0.5}), r"heads.label is 0.5, but must be a table"),
        (lambda: MTDiffusion({"label": {}}), r"heads.label has no weight; give it one: heads.label.weight=0.5"),
        (lambda: MTDiffusion({"label": {"weight": 0}}), "a term's weight is 0"),
        (lambda: MTDiffusion({"label": {"weight": -1.0}}), "a term's weight is -1"),
        (lambda: MTDiffusion({"label": {"weight": math.inf}}), "a term's weight is inf"),
        (lambda: MTDiffusion({"label": {"wieght": 1}}), "unknown key of heads.label: 'wieght'; did you mean 'weight'"),
        (lambda: MTDiffusion({"label": {"weight": 1, "weighting": "snr"}}), "weighting of a head"),
        (lambda: MTDiffusion({"denoising": {"weight": 1}}), "a head is called 'denoising'"),
        (
            lambda: Sum(
                {
                    "denoising": {"weight": 1},
                    "one": {"name": "head", "weight": 1, "options": {"head": "label"}},
                    "two": {"name": "head", "weight": 1, "options": {"head": "label"}},
                }
            ),
            "'one' and 'two' are the same one twice",
        ),
    ],
)
def test_wrong_heads_are_refused(make, message):
    with pytest.raises((AnydiffError, UnknownNameError), match=message):
        make()


def loss(**changed):
    clean, noise, uniform, given = batch()
    found = {name: value for name, value in {**given.sources, **changed}.items() if value is not None}
    return heads()(denoiser(), clean, noise, uniform, Conditioning(sources=found))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label": None}, "the head 'label' has no data to be trained on: the data set gives part"),
        ({"label": torch.tensor([0, 1, 2, 0])}, "have class 2, but the head has the classes 0 to 1"),
        ({"label": torch.tensor([0, -1, 1, 0])}, "have class -1"),
        ({"label": torch.zeros(4, 1, dtype=torch.long)}, r"have shape \(4, 1\), but there must be one class number"),
        ({"part": torch.zeros(4, 2)}, r"'part' have shape \(4, 2\), but the head gives \(4, 3\)"),
    ],
)
def test_data_that_do_not_fit_their_head_are_refused(changed, message):
    with pytest.raises(AnydiffError, match=message):
        loss(**changed)


def test_a_network_without_the_head_is_refused_before_training():
    plain = NetworkDenoiser(MLP(SPEC, width=8, blocks=1), VPLinear(), spec=SPEC)
    with pytest.raises(AnydiffError, match="heads names 'label', but the network offers one prediction"):
        heads().prepare(plain)
    with pytest.raises(AnydiffError, match="heads names 'age', but the network offers noise, part, label"):
        HeadLoss("age").prepare(denoiser())
    with pytest.raises(AnydiffError, match="heads names 'noise'"):
        HeadLoss("noise").prepare(denoiser())
    heads().prepare(denoiser())


def mean_of_batch(read, classes, reduction):
    return RIGHT(read, classes).expand(len(read))


RIGHT = torch.nn.functional.cross_entropy
MUTANTS = {
    "a mean over the batch": ((module.functional, "cross_entropy", mean_of_batch), test_terms_are_in_their_units),
    "a sum over the entries": (
        (module, "element_mean", lambda error, weights: error.flatten(1).sum(1)),
        test_terms_are_in_their_units,
    ),
    "a call of each head's own": (
        (module.Call, "exits", property(lambda self: self.denoiser.exits(self.x, self.t, self.condition))),
        test_noise_and_heads_come_from_one_call_and_stand_in_the_log,
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_mutant_is_killed(name, monkeypatch):
    assert_killed(*MUTANTS[name], monkeypatch)
