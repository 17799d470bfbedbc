"""The sampler inside a loss: right gradients, the memory of its states alone, noise of the rows' own."""

from __future__ import annotations

import pytest
import torch

from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.guidance import ClassifierFree
from anydiff.networks import MLP
from anydiff.objectives import Call, Denoising, sampled
from anydiff.paths import VPCosine, VPLinear
from anydiff.samplers import sample
from anydiff.solvers import compile_plan
from anydiff.states import ClassCondition, Conditioning, Draws, StateSpec

SPEC = StateSpec.single((2,))


def denoiser(path=None, dtype=torch.float64):
    torch.manual_seed(0)
    network = MLP(SPEC, {"label": ClassCondition(3)}, width=16, blocks=1).to(dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=dtype))
    return NetworkDenoiser(network, path or VPLinear(), spec=SPEC)


def call_of(model, positions=range(6), levels=1, dtype=torch.float64):
    rows = len(positions) * levels
    labels = torch.tensor([p % 3 for p in positions for _ in range(levels)])
    clean = torch.zeros(rows, 2, dtype=dtype)
    condition = Conditioning({"label": labels})
    uniform = torch.full((rows,), 0.5, dtype=torch.float64)
    draws = Draws(7, positions, levels, "objective/mmd")
    return Call(model, Denoising().times, clean, clean + 1, uniform, condition, draws)


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "dpm-solver++-2m", "heun"])
def test_gradients_through_three_calls_are_the_differences(solver):
    model = denoiser()
    plan = compile_plan(solver, model.path, 3 if solver != "heun" else 4)
    guidance = [ClassifierFree(1.5)]

    def loss():
        return sampled(call_of(model), plan, guidance).square().sum()

    parameters = list(model.parameters())
    found = torch.autograd.grad(loss(), parameters)
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        ways = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                for parameter, way in zip(parameters, ways, strict=True):
                    parameter.add_(step * way)
                values.append(float(loss()))
                for parameter, way in zip(parameters, ways, strict=True):
                    parameter.sub_(step * way)
        slope = sum(float((g * way).sum()) for g, way in zip(found, ways, strict=True))
        assert abs((values[0] - values[1]) / 2e-5 - slope) < 1e-4 * abs(slope)


def test_samples_are_those_of_the_sampler_from_the_same_states():
    model = denoiser()
    plan = compile_plan("ddim", model.path, 4)
    call = call_of(model)
    source, numbers = call.draws.source("sampler", SPEC)
    start = model.path.prior(source.draw(numbers, 0, torch.float64))
    plain = sample(model, SPEC, 6, solver=plan, start=start, condition=call.condition, dtype=torch.float64)
    torch.testing.assert_close(sampled(call, plan).detach(), plain, rtol=1e-12, atol=1e-12)


def test_rows_draw_the_same_whatever_batch_they_are_in():
    model = denoiser()
    plan = compile_plan("ddpm", model.path, 4)
    whole = sampled(call_of(model, range(10, 16)), plan)
    parts = torch.cat([sampled(call_of(model, range(a, a + 2)), plan) for a in (10, 12, 14)])
    torch.testing.assert_close(whole, parts, rtol=1e-12, atol=1e-12)
    levels = sampled(call_of(model, range(2), levels=2), plan)
    assert len(torch.unique(levels.detach()[:, 0])) == 4
    assert not torch.equal(whole, sampled(call_of(model, range(10, 16)), plan, purpose="other"))


def test_a_plan_of_eight_calls_holds_hardly_more_than_one_of_two():
    """Bytes that the graph keeps alive between the passes, counted by what is saved for the backward pass."""
    model = denoiser(VPCosine(), torch.float32)

    def kept(nfe):
        plan = compile_plan("ddim", model.path, nfe)
        held = {}

        def pack(tensor):
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = sampled(call_of(model, range(64), dtype=torch.float32), plan).square().sum()
        assert loss.requires_grad
        return sum(held.values())

    network = MLP(SPEC, {}, width=16, blocks=1)
    activations = 64 * 4 * 16 * len(list(network.modules()))
    assert kept(8) - kept(2) < activations / 2


def test_a_plan_that_begins_below_the_prior_is_refused():
    model = denoiser()
    with pytest.raises(AnydiffError, match=r"the plan starts at t=0.8, but the prior is at t=1; take a grid"):
        sampled(call_of(model), compile_plan("ddim", model.path, 2, [0.8, 0.4, 0.1]))
