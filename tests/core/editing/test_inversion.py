"""Inversion of every registered stochastic solver on every kind of path: a replay of the record gives the data."""

from __future__ import annotations

import pytest
import torch

from anydiff.denoisers import FunctionDenoiser, GaussianMixtureOracle
from anydiff.editing import invert, inverted
from anydiff.editing.inversion import KEEP
from anydiff.errors import AnydiffError, NotApplicableError, UnknownNameError
from anydiff.paths import EDM, VE, Flow, MeanReverting, ProductPath, VPLinear
from anydiff.registry import registry
from anydiff.samplers import sample
from anydiff.solvers import compile_plan
from anydiff.solvers.plan import Apply, Plan
from anydiff.states import Conditioning, Leaf, StateSpec

COUNT, CALLS = 7, 20
FLAT = StateSpec.single((6,))
LEAVES = StateSpec([Leaf("nodes", (2,)), Leaf("edges", (4,))])
PATHS = {
    "vp": VPLinear(),
    "ve": VE(),
    "edm": EDM(),
    "flow": Flow(),
    "mean-reverting": MeanReverting(),
    "product": ProductPath((("nodes", VPLinear()), ("edges", VE(t_start=1.0)))).bind(LEAVES),
}
OPTIONS = {"ddim": {"eta": 0.5}, "edm": {"churn": 10.0}, "interpolant": {"epsilon": 0.5}}
"""Solvers that draw noise where an option asks for it."""
CLASSES = ("ancestral", "tau-leaping", "unmasking")


def stochastic():
    entries = registry().entries("solvers")
    named = {entry.name: {} for entry in entries if entry.metadata.get("stochastic") and entry.name not in CLASSES}
    return {**named, **OPTIONS}


def random_network(path, spec):
    """A network that was never trained: whatever it says, the noises must make up for it."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(spec.size, 32, generator=generator, dtype=torch.float64) / 2
    second = torch.randn(32, spec.size, generator=generator, dtype=torch.float64) / 6

    def data(x, t):
        seen = x.flatten(1) * (path.input_scale(torch.tensor([t], dtype=torch.float64), 1.0).to(x))
        return (torch.tanh(seen @ first.to(x) + t) @ second.to(x)).reshape(x.shape)

    return FunctionDenoiser(data, path)


def data(dtype=torch.float64, count=COUNT):
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def asked(path):
    mu = torch.linspace(-1, 1, 6, dtype=torch.float64).expand(COUNT, 6)
    return Conditioning(sources={"mu": mu}) if path.known else Conditioning()


@pytest.mark.parametrize("trajectory", ["independent", "native"])
@pytest.mark.parametrize("name", sorted(PATHS))
def test_a_replay_gives_the_data(name, trajectory):
    path, tried = PATHS[name], 0
    spec = LEAVES if name == "product" else FLAT
    denoiser, condition = random_network(path, spec), asked(path)
    for solver, options in stochastic().items():
        try:
            plan = compile_plan(solver, path, CALLS, **options)
        except NotApplicableError:
            continue
        tried += 1
        clean = data()
        record = invert(plan, denoiser, clean, spec, trajectory, condition=condition)
        assert inverted(plan, path, trajectory).nfe == plan.nfe
        settings = {"solver": plan, "noise": record, "condition": condition, "dtype": torch.float64}
        found = record.finished(sample(denoiser, spec, COUNT, **settings))
        limit = 1e-9 * max(1.0, *(float(each.abs().max()) for each in record.draws.values()))
        assert float((found - clean).abs().max()) < limit, solver
        cut = record.finished(sample(denoiser, spec, COUNT, batch_size=3, **settings))
        assert float((cut - clean).abs().max()) < limit, solver
    assert tried >= (8 if name == "product" else 14), tried


@pytest.mark.parametrize("trajectory", ["independent", "native"])
def test_single_precision_does_not_drift(trajectory):
    path = PATHS["vp"]
    denoiser, clean = random_network(path, FLAT), data(torch.float32)
    for solver, options in stochastic().items():
        plan = compile_plan(solver, path, CALLS, **options)
        record = invert(plan, denoiser, clean, FLAT, trajectory)
        found = record.finished(sample(denoiser, FLAT, COUNT, solver=plan, noise=record))
        largest = max(1.0, *(float(each.abs().max()) for each in record.draws.values()))
        assert float((found - clean).abs().max()) < 1e-4 * largest, solver


def test_ancestral_sampling_needs_no_residual_and_churn_does():
    path = PATHS["vp"]
    denoiser, clean = random_network(path, FLAT), data()
    exact = invert(compile_plan("ddpm", path, CALLS), denoiser, clean, FLAT)
    assert float(exact.residual.abs().max()) < 1e-13
    churned = invert(compile_plan("edm", path, CALLS, churn=10.0), denoiser, clean, FLAT)
    assert float(churned.residual.abs().max()) > 1e-3


def test_the_noises_of_a_sample_do_not_depend_on_its_chunk_or_company():
    path = PATHS["vp"]
    plan, denoiser, clean = compile_plan("ddpm", path, 6), random_network(path, FLAT), data()
    whole = invert(plan, denoiser, clean, FLAT, seed=3)
    cut = invert(plan, denoiser, clean, FLAT, seed=3, batch_size=2)
    some = invert(plan, denoiser, clean[[4, 1]], FLAT, seed=3, count=[4, 1])
    for number, value in whole.draws.items():
        torch.testing.assert_close(cut.draws[number], value, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(some.draws[number], value[[4, 1]], rtol=1e-9, atol=1e-9)
    other = invert(plan, denoiser, clean, FLAT, seed=4)
    assert not torch.allclose(other.draws[3], whole.draws[3])


def test_an_inversion_is_a_plan_that_is_data():
    plan = inverted(compile_plan("sde-dpm-solver++-2m", PATHS["vp"], 4), PATHS["vp"])
    assert Plan.from_json(plan.to_json()) == plan
    assert sum(isinstance(row, Apply) and row.function == KEEP for row in plan.instructions) == 5


def test_a_plan_on_the_tail_of_a_grid_begins_at_its_first_node():
    path = PATHS["vp"]
    grid = [0.6, 0.4, 0.2, 0.05, 0.001]
    plan, denoiser, clean = compile_plan("ddpm", path, 4, grid=grid), random_network(path, FLAT), data()
    record = invert(plan, denoiser, clean, FLAT)
    assert record.time == 0.6
    found = sample(denoiser, FLAT, COUNT, solver=plan, noise=record, dtype=torch.float64)
    torch.testing.assert_close(found, clean, rtol=0, atol=1e-12)


def refused(match, solver, path="vp", kind=NotApplicableError, **options):
    with pytest.raises(kind, match=match):
        inverted(compile_plan(solver, PATHS[path], 6, **options), PATHS[path])


def test_what_cannot_be_inverted_is_refused_with_the_way_out():
    refused("draws no noise on its way.*'ddib'", "dpm-solver++-2m")
    refused("draws no noise on its way.*'ddib'", "ddim", eta=0.0)
    with pytest.raises(UnknownNameError, match="trajectory"):
        inverted(compile_plan("ddpm", PATHS["vp"], 4), PATHS["vp"], "nativ")
    denoiser = random_network(PATHS["vp"], FLAT)
    with pytest.raises(AnydiffError, match="not finite"):
        invert(compile_plan("ddpm", PATHS["vp"], 4), denoiser, data() / 0, FLAT)


def ring(path, std=0.3, count=1000):
    """Twelve Gaussians on a circle: the exact denoiser, and samples."""
    angle = torch.arange(12, dtype=torch.float64) * (torch.pi / 6)
    centres, generator = torch.stack([angle.cos(), angle.sin()], 1), torch.Generator().manual_seed(2)
    noise = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    return GaussianMixtureOracle(path, centres, std), centres[torch.arange(count) % 12] + std * noise


def statistics(solver, trajectory, calls, perfect=False, **options):
    """Deviations of the draws, and correlations of neighbouring ones, in the order of the draws."""
    path = PATHS["vp"]
    oracle, clean = ring(path)
    plan = compile_plan(solver, path, calls, **options)
    denoiser = oracle
    if perfect:
        denoiser = FunctionDenoiser(lambda x, t: clean, path)
    record = invert(plan, denoiser, clean, (2,), trajectory, batch_size=1000)
    draws = torch.stack(list(record.draws.values())).flatten(1)
    scaled = (draws - draws.mean(1, keepdim=True)) / draws.std(1, keepdim=True)
    return draws.std(1), (scaled[1:] * scaled[:-1]).mean(1), plan


@pytest.mark.parametrize(
    ("solver", "options", "calls"),
    [
        ("ddpm", {}, 100),
        ("sde-dpm-solver++-2m", {}, 100),
        ("seeds-2", {}, 200),
        ("euler-maruyama", {}, 100),
        ("reverse-diffusion", {}, 100),
        ("predictor-corrector", {}, 200),
        ("edm", {"churn": 20.0}, 200),
    ],
)
def test_native_draws_are_standard_normal(solver, options, calls):
    """With exact denoisers; the last three draws take up the discretisation at the data.

    A draw also takes up x_0 - E[x_0 | x_t], so its variance is 1 + O(step): 1.02 to 1.05 on average, 1.17 at most.
    """
    std, correlation, _ = statistics(solver, "native", calls, **options)
    assert abs(float(std[:-3].mean()) - 1) < 0.1
    assert float((std[:-3] - 1).abs().max()) < 0.2
    assert abs(float(correlation[:-3].mean())) < 0.05


def test_independent_draws_have_the_law_of_the_sheet():
    """Var z = (2 σ_s² - sd²)/sd² and the correlation of neighbours, of a network that knows x_0."""
    path = PATHS["vp"]
    std, correlation, plan = statistics("ddpm", "independent", 100, perfect=True)
    nodes = plan.nodes
    sigma = torch.tensor([path.sigma(t) for t in nodes], dtype=torch.float64)
    h = torch.tensor([path.log_snr(t) for t in nodes], dtype=torch.float64).diff()
    sd = sigma[1:] * torch.sqrt(-torch.expm1(-2 * h))
    rest = sigma[1:] * torch.exp(-h)
    expected = torch.sqrt(2 * sigma[1:] ** 2 - sd**2) / sd
    torch.testing.assert_close(std[:-1], expected[:-1], rtol=0.1, atol=0)
    first, second = sigma[1:-1] ** 2 + rest[:-1] ** 2, sigma[2:] ** 2 + rest[1:] ** 2
    wanted = -sigma[1:-1] * rest[1:] / torch.sqrt(first * second)
    assert float((correlation[:-1] - wanted[:-1]).abs().max()) < 0.08
    assert float(wanted[:-1].mean()) < -0.45
