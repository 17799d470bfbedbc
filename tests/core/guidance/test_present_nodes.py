"""Masks of absent nodes: zero at every step of every plan, and without influence in sampling and training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anydiff.denoisers import FunctionDenoiser, NetworkDenoiser
from anydiff.denoisers.wrappers import PresentNodes
from anydiff.errors import AnydiffError
from anydiff.guidance import ClassifierFree
from anydiff.networks import MLP
from anydiff.objectives import Denoising, FlowMatching
from anydiff.paths import VPCosine
from anydiff.registry import registry
from anydiff.samplers import AdaptiveODE, sample
from anydiff.states import UNCONDITIONAL, Conditioning, Leaf, NoiseSource, StateSpec, VectorCondition, uniform

SPEC = StateSpec(
    [
        Leaf("points", (4, 2), mask_axes=(0,)),
        Leaf("links", (4, 4), symmetric=True, zero_diagonal=True, mask_axes=(0, 1)),
    ]
)
MASK = torch.tensor([[True, True, True, True], [True, True, False, False], [True, True, True, False]])
PATH = VPCosine()


def _mixing(x, t, condition=UNCONDITIONAL):
    """A denoiser in which every entry depends on all others, absent ones too if they are let in."""
    return torch.tanh(x + x.sum(dim=1, keepdim=True))


def absent() -> torch.Tensor:
    return SPEC.present(MASK) == 0


@pytest.mark.parametrize(
    "solver",
    [e.name for e in registry().entries("solvers") if e.metadata.get("states") == "numbers"],
)
def test_absent_entries_are_zero_at_every_step_and_the_sample_is_symmetric(solver):
    seen = []
    states = sample(
        FunctionDenoiser(_mixing, PATH), SPEC, 3, solver=solver, nfe=8, condition=Conditioning(mask=MASK),
        callbacks=[lambda step: seen.append((step.state.clone(), step.prediction.clone()))],
    )  # fmt: skip
    for value in (*(tensor for pair in seen for tensor in pair), states):
        assert (value[absent()] == 0).all()
        links = SPEC.unpack(value.contiguous())["links"]
        assert torch.equal(links, links.transpose(1, 2))
    assert (states[0] != 0).any()


def test_an_absent_node_is_as_if_it_did_not_exist():
    """Two nodes of four sampled with the law of a model of two: the others cannot be felt."""
    small = StateSpec([Leaf("points", (2, 2)), Leaf("links", (2, 2), symmetric=True, zero_diagonal=True)])

    inner = FunctionDenoiser(_mixing, PATH)
    mask = torch.tensor([[True, True, False, False]])
    noise = NoiseSource(SPEC, 0, mask=mask).draw([0], 0, torch.float64)
    views = SPEC.unpack(noise)
    start = small.pack({"points": views["points"][:, :2], "links": views["links"][:, :2, :2]})
    options = {"solver": "dpm-solver++-2m", "nfe": 6, "dtype": torch.float64}
    big = sample(inner, SPEC, 1, start=noise, condition=Conditioning(mask=mask), **options)
    little = sample(inner, small, 1, start=start, **options)
    cut = SPEC.unpack(big)
    found = small.pack({"points": cut["points"][:, :2], "links": cut["links"][:, :2, :2]})
    assert torch.allclose(found, little, atol=1e-12)


def test_the_adaptive_solver_masks_too():
    pytest.importorskip("torchdiffeq")
    solver = AdaptiveODE(rtol=1e-3, atol=1e-3)
    states = sample(FunctionDenoiser(_mixing, PATH), SPEC, 3, condition=Conditioning(mask=MASK), solver=solver)
    assert (states[absent()] == 0).all()


@pytest.mark.parametrize("objective", [Denoising(), Denoising("edm"), FlowMatching()])
def test_absent_entries_have_no_influence_on_the_loss(objective):
    denoiser = NetworkDenoiser(MLP(SPEC, width=16, blocks=1), PATH, "velocity", spec=SPEC)
    nn.init.normal_(denoiser.network.exit.weight)
    clean = SPEC.project(NoiseSource(SPEC, 1).draw(range(3), 0), MASK)
    noise = NoiseSource(SPEC, 2).draw(range(3), 0)
    times = uniform(0, range(3), 0, "time")
    with torch.no_grad():
        before = objective(denoiser, clean, noise, times, Conditioning(mask=MASK))
        junk = torch.where(absent(), torch.nan, 0.0)
        assert torch.equal(before, objective(denoiser, clean + junk, noise + junk, times, Conditioning(mask=MASK)))
        assert not torch.equal(before, objective(denoiser, clean + 0.1, noise, times, Conditioning(mask=MASK)))


def test_the_loss_is_a_mean_over_the_entries_that_exist():
    class Zero(nn.Module):
        def forward(self, x, log_snr, condition):
            return torch.zeros_like(x)

    denoiser = NetworkDenoiser(Zero(), PATH, "noise", spec=SPEC)
    noise = NoiseSource(SPEC, 2).draw(range(3), 0)
    loss = Denoising()(denoiser, torch.zeros_like(noise), noise, torch.full((3,), 0.5), Conditioning(mask=MASK))
    present = SPEC.present(MASK)
    expected = (noise.square() * present).sum(1) / present.sum(1)
    assert torch.allclose(loss, expected, rtol=1e-5)


def test_a_network_may_read_the_mask_and_another_may_not():
    class Reader(nn.Module):
        def forward(self, x, log_snr, condition=UNCONDITIONAL):
            assert condition.mask is MASK
            return x

    x = NoiseSource(SPEC, 1).draw(range(3), 0)
    NetworkDenoiser(Reader(), PATH)(x, 0.5, Conditioning(mask=MASK))
    NetworkDenoiser(MLP(SPEC, width=8, blocks=1), PATH)(x, 0.5, Conditioning(mask=MASK))


def test_classifier_free_guidance_does_not_drop_the_mask():
    seen = []

    def network(x, t, condition=UNCONDITIONAL):
        seen.append(sorted(name for name, _ in condition.tensors()))
        return x * 0

    guided = ClassifierFree(2.0)(FunctionDenoiser(network, PATH))
    x = NoiseSource(SPEC, 1).draw(range(3), 0)
    condition = Conditioning({"dose": torch.ones(3, 1)}, mask=MASK)
    guided(x, 0.5, condition)
    ClassifierFree(0.0)(FunctionDenoiser(network, PATH))(x, 0.5, condition)
    assert seen == [["given.dose", "mask", "present.dose"], ["mask"]]
    assert VectorCondition(1).size == 1


def test_which_nodes_are_there_can_be_read_from_a_state():
    state = SPEC.project(NoiseSource(SPEC, 1).draw(range(3), 0), MASK)
    assert torch.equal(SPEC.mask_of(state), MASK)
    assert SPEC.nodes == 4
    assert SPEC.masked
    assert not StateSpec.single((3,)).masked


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(AnydiffError, match=r"mask has shape \(3, 5\)"):
        PresentNodes(SPEC)(FunctionDenoiser(_mixing, PATH))(
            torch.zeros(3, 24), 0.5, Conditioning(mask=torch.ones(3, 5))
        )
    two = StateSpec([Leaf("a", (2, 1), mask_axes=(0,)), Leaf("b", (3, 1), mask_axes=(0,))])
    with pytest.raises(AnydiffError, match="one mask fits one number of nodes"):
        two.present(torch.ones(1, 2, dtype=torch.bool))
