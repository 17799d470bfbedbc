"""GDSS: its samplers' coefficients and laws, call counts, symmetric noise, the published schedule."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch

import anydiff
from anydiff.denoisers import GaussianOracle, NetworkDenoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.objectives import Denoising
from anydiff.paths import VE, ProductPath, VPLinear
from anydiff.registry import registry
from anydiff.samplers import sample
from anydiff.solvers import compile_plan
from anydiff.solvers.operations import langevin
from anydiff.solvers.plan import Apply, Combine, Evaluate, Noise
from anydiff.solvers.program import Node
from anydiff.states import Conditioning, Leaf, NoiseSource, StateSpec
from anydiff_benchmarks.claims import gdss as claim
from anydiff_molecules.gdss import DenseGCN, GDSSNetwork, GDSSPath, GDSSSequential
from anydiff_molecules.gdss_solvers import S4, GDSSPredictorCorrector, half_step_std
from anydiff_molecules.graph_domain import Graphs

SPEC = StateSpec(
    [
        Leaf("nodes", (4, 2), mask_axes=(0,)),
        Leaf("edges", (4, 4), symmetric=True, zero_diagonal=True, mask_axes=(0, 1)),
    ]
)


def test_two_half_steps_compose_to_the_exact_growth():
    """On a VP leaf: mean factor exp(B/2) and variance exp(B) - 1 with B the integral of β over the whole step."""
    path = VPLinear()
    s, m, t = (Node(path, time) for time in (0.7, 0.65, 0.6))
    total = 2 * math.log(t.alpha / s.alpha)
    assert total == pytest.approx(0.1 * 0.1 + 19.9 * (0.7**2 - 0.6**2) / 2, rel=1e-9)
    variance = (t.alpha / m.alpha) ** 2 * half_step_std(s, m) ** 2 + half_step_std(m, t) ** 2
    assert variance == pytest.approx(math.expm1(total), abs=1e-6)
    ve = [Node(VE(), time) for time in (0.7, 0.6)]
    assert half_step_std(*ve) ** 2 == pytest.approx(ve[0].sigma ** 2 - ve[1].sigma ** 2, rel=1e-12)


def law(plan, path, mean: float, variance: float) -> tuple[float, float]:
    """(mean, variance) that a linear plan ends with for the data N(mean, variance) and the exact denoiser, exactly.

    A register is a vector over the constant 1, the start and the noise draws, which are independent.
    """
    size, last = plan.draws + 2, plan.last_uses()

    def unit(place):
        vector = np.zeros(size)
        vector[place] = 1.0
        return vector

    registers = {"x0": unit(1) * path.sigma(plan.nodes[0])}
    for index, instruction in enumerate(plan.instructions):
        if isinstance(instruction, Noise):
            value = unit(1 + instruction.draw)
        elif isinstance(instruction, Evaluate):
            alpha, sigma = path.alpha(instruction.t), path.sigma(instruction.t)
            gain = alpha * variance / (alpha**2 * variance + sigma**2)
            value = gain * registers[instruction.state]
            value[0] += mean * (1 - gain * alpha)
        else:
            value = sum(coefficient * registers[register] for register, coefficient in instruction.terms)
        registers[instruction.out] = value
        for register in [name for name in registers if last.get(name, index) <= index]:
            del registers[register]
    result = registers[plan.result]
    return float(result[0]), float((result[1:] ** 2).sum())


@pytest.mark.parametrize(
    "solver", [S4(snr=0.0), GDSSPredictorCorrector(corrections=0), GDSSPredictorCorrector("reverse", 0)]
)
def test_the_law_of_a_gaussian_at_a_thousand_steps(solver):
    """Terminal mean and variance within 3 %, without sampling; S4 without correction tends to Euler-Maruyama's law."""
    path = VPLinear()
    for mean, variance in ((0.5, 0.25), (-1.0, 0.05)):
        plan = compile_plan(solver, path, 1000, grid="time", end="stop")
        found = law(plan, path, mean, variance)
        assert found[0] == pytest.approx(mean, rel=0.03)
        assert found[1] == pytest.approx(variance, rel=0.03)
        euler = compile_plan(GDSSPredictorCorrector(corrections=0), path, 1000, grid="time", end="stop")
        assert found == pytest.approx(law(euler, path, mean, variance), rel=0.02)


def test_calls_are_two_per_step_and_one():
    path = VPLinear()
    for solver, steps in ((GDSSPredictorCorrector(), 10), (S4(), 20), (GDSSPredictorCorrector(corrections=0), 20)):
        plan = compile_plan(solver, path, 20, grid="time", end="stop")
        assert (plan.nfe, len(plan.nodes) - 1) == (20, steps)


def test_no_correction_and_a_correction_of_no_length_are_the_predictor_alone():
    path, oracle = VPLinear(), GaussianOracle(VPLinear(), torch.zeros(3), 0.25)
    x, noise = torch.randn(4, 3), torch.randn(4, 3)
    assert torch.equal(langevin(x, x, noise, t=0.5, snr=0.0, scale=1.0, sigma=0.8), x)
    for solver in (S4(snr=0.0), GDSSPredictorCorrector(corrections=0), GDSSPredictorCorrector(snr=0.0)):
        plan = compile_plan(solver, path, 8, grid="time", end="stop")
        assert not any(isinstance(instruction, Apply) for instruction in plan.instructions)
        assert sample(oracle, (3,), 4, solver=plan).isfinite().all()
    plan = compile_plan(S4(), path, 8, grid="time", end="stop")
    assert sum(isinstance(instruction, Apply) for instruction in plan.instructions) == 8


def test_the_langevin_step_is_the_published_one():
    """step = 2 a (snr mean|z|/mean|s|)², x + step s + scale_eps sqrt(2 step) z, but for each sample alone."""
    generator = np.random.default_rng(0)
    x, score, noise = (torch.from_numpy(generator.standard_normal((5, 4000))) for _ in range(3))
    step = 2 * 0.9 * (0.2 * noise.norm(dim=1).mean() / score.norm(dim=1).mean()) ** 2
    expected = x + step * score + 0.7 * torch.sqrt(2 * step) * noise
    moved = langevin(x, score, noise, t=0.1, snr=0.2, scale=0.9, sigma=1.0, noise_scale=0.7)
    assert torch.allclose(moved, expected, atol=0.03)


@pytest.mark.filterwarnings("ignore:.*signal-to-noise")
def test_a_graph_of_the_bundled_model_is_the_same_in_a_set_of_16_and_of_40():
    """Up to the network's rounding; norms over the batch changed 7 of 16 graphs."""
    pipeline = anydiff.load("graphs/gdss")
    few, many = (pipeline.sample_set(count, seed=3, nfe=20).states for count in (16, 40))
    assert torch.allclose(few, many[:16], atol=1e-4)


def test_the_last_step_returns_the_mean():
    for solver in (S4(snr=0.0), GDSSPredictorCorrector(corrections=0)):
        plan = compile_plan(solver, VPLinear(), 3, grid="time", end="stop")
        last = next(i for i in reversed(plan.instructions) if isinstance(i, Combine) and i.out == plan.result)
        last_draw = f"z{plan.draws}"
        names = {register for register, _ in last.terms}
        # S4's first half step of the last step has the last draw; after it no noise of the second half is added.
        assert plan.draws == (3 * 2 - 1 if isinstance(solver, S4) else 2)
        assert (last_draw in names) == isinstance(solver, S4)


def test_noise_has_unit_variance_per_edge_is_symmetric_and_masked():
    count = 40_000
    mask = torch.ones(count, 4, dtype=torch.bool)
    mask[:, 3] = False
    edges = SPEC.unpack(NoiseSource(SPEC, 0, mask=mask).draw(range(count), 0))["edges"]
    assert torch.equal(edges, edges.transpose(1, 2))
    assert (torch.diagonal(edges, dim1=1, dim2=2) == 0).all()
    assert (edges[:, 3] == 0).all()
    variance = edges.var(dim=0)
    assert all(abs(float(variance[i, j]) - 1) < 0.02 for i, j in itertools.combinations(range(3), 2))


@pytest.mark.filterwarnings("ignore:.*is not the law of x_T")
@pytest.mark.parametrize("solver", [S4(), GDSSPredictorCorrector(), GDSSPredictorCorrector("reverse")])
def test_every_step_is_symmetric_and_masked(solver):
    network = GDSSNetwork(SPEC, width=8, edge_layers=2, attention=8, heads=2).eval()
    path = ProductPath((("nodes", VPLinear()), ("edges", VE(0.2, 1.0, t_end=1e-3)))).bind(SPEC)
    mask = torch.tensor([[True, True, True, False], [True, True, True, True]])
    seen = []
    sample(
        NetworkDenoiser(network, path, "noise"), SPEC, 2, solver=solver, nfe=8, grid="time", end="stop",
        condition=Conditioning(mask=mask), callbacks=[lambda step: seen.append(step.state.clone())],
    )  # fmt: skip
    for state in seen:
        edges = SPEC.unpack(state)["edges"]
        assert torch.allclose(edges, edges.transpose(1, 2), atol=1e-6)
        assert (state[SPEC.present(mask) == 0] == 0).all()


def test_every_solver_of_the_core_samples_graphs():
    """With the path and network of the recipe: finite, symmetric, nothing at absent nodes; none is refused."""
    network = GDSSNetwork(SPEC, width=8, edge_layers=2, attention=8, heads=2).eval()
    path = ProductPath((("nodes", GDSSPath()), ("edges", GDSSPath()))).bind(SPEC)
    denoiser = NetworkDenoiser(network, path, "noise")
    mask = torch.tensor([[True, True, True, False], [True, True, True, True]])
    names = [entry.name for entry in registry().entries("solvers") if entry.metadata.get("states") == "numbers"]
    assert len(names) > 20
    for name in names:
        drawn = sample(denoiser, SPEC, 2, solver=name, nfe=10, end="stop", condition=Conditioning(mask=mask))
        edges = SPEC.unpack(drawn)["edges"]
        assert drawn.isfinite().all(), name
        assert torch.allclose(edges, edges.transpose(1, 2), atol=1e-5 * float(edges.abs().max() + 1)), name
        assert (drawn[SPEC.present(mask) == 0] == 0).all(), name


def test_a_graph_convolution_is_the_published_one():
    """D^-1/2 (A + I) D^-1/2 X W + b, degrees at least 1, entry by entry for weighted edges of either sign."""
    layer = DenseGCN(2, 3).double()
    torch.nn.init.ones_(layer.bias)
    generator = np.random.default_rng(0)
    weights = np.triu(generator.normal(size=(5, 5)), 1)
    adjacency, x = weights + weights.T, generator.normal(size=(5, 2))
    mixed = adjacency + np.eye(5)
    degree = np.maximum(mixed.sum(axis=1), 1)
    assert sorted(set(degree == 1)) == [False, True], "both cases of the clamp"
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    wanted = [
        sum(mixed[i, j] / math.sqrt(degree[i] * degree[j]) * x[j] @ weight for j in range(5)) + bias for i in range(5)
    ]
    flags = torch.tensor([[1.0, 1, 1, 1, 0]]).double()
    found = layer(torch.from_numpy(x)[None], torch.from_numpy(adjacency)[None], flags)[0].detach().numpy()
    assert found[:4] == pytest.approx(np.array(wanted)[:4], abs=1e-12)
    assert not found[4].any()


def test_the_scores_are_put_together_as_published():
    """Nodes: input and every tanh(GCN) enter the last perceptron. Edges: A and A² enter, per head tanh(Q Kᵀ/√out)."""
    network = GDSSNetwork(SPEC, width=8, node_depth=2, edge_layers=2, attention=8, heads=2).double().eval()
    edges = SPEC.unpack(NoiseSource(SPEC, 1).draw([0], 0, torch.float64))["edges"]
    x = SPEC.unpack(NoiseSource(SPEC, 2).draw([0], 0, torch.float64))["nodes"]
    flags = torch.ones(1, 4, dtype=torch.float64)
    first = torch.tanh(network.node_score.layers[0](x, edges, flags))
    second = torch.tanh(network.node_score.layers[1](first, edges, flags))
    wanted = network.node_score.exit(torch.cat([x, first, second], dim=-1))
    assert torch.allclose(network.node_score(x, edges, flags), wanted)
    seen = []
    hook = network.edge_score.layers[0].register_forward_pre_hook(lambda module, given: seen.append(given[1]))
    score = network.edge_score(x, edges, flags)
    hook.remove()
    assert torch.allclose(seen[0], torch.stack([edges, edges @ edges], dim=1))
    assert torch.allclose(score, score.transpose(1, 2), atol=1e-12)
    one = network.edge_score.layers[0].attentions[0]
    query, key = one.query(x, edges, flags), one.key(x, edges, flags)
    heads = [torch.tanh(query[..., c] @ key[..., c].transpose(1, 2) / math.sqrt(8)) for c in (slice(4), slice(4, 8))]
    mean = (heads[0] + heads[1]) / 2
    assert torch.allclose(one(x, edges, flags), (mean + mean.transpose(1, 2)) / 2)


@pytest.mark.parametrize("kind", [GDSSNetwork, GDSSSequential])
def test_rows_of_a_size_are_computed_together_and_padding_changes_nothing(kind):
    domain = Graphs(size=9, degrees=4)
    torch.manual_seed(0)
    network = kind(domain.spec, width=8, edge_layers=2).double().eval()
    sizes = torch.tensor([3, 9, 4, 8, 3, 9])
    mask = torch.arange(9) < sizes[:, None]
    x = domain.spec.project(torch.randn(6, domain.spec.size, dtype=torch.float64), mask)
    seen = []
    network.node_score.register_forward_hook(lambda _, given, __: seen.append(tuple(given[0].shape[:2])))
    together = network(x, torch.zeros(6), Conditioning(mask=mask))
    assert sum(rows for rows, _ in seen) == 6
    assert sum(rows * count for rows, count in seen) < 6 * 9, "small graphs are not padded to the largest"
    nodes, edges, flags = network._leaves(x, mask)
    given = nodes if kind is GDSSNetwork else torch.zeros_like(nodes)
    apart = network._scores(nodes, edges, flags, given)
    whole = domain.spec.pack(dict(zip(("nodes", "edges"), apart, strict=True)))
    assert torch.allclose(together, whole, atol=1e-12)


def test_the_loss_does_not_change_under_a_joint_permutation():
    spec = Graphs(5, 3).spec
    network = GDSSNetwork(spec, width=8, edge_layers=2, attention=8, heads=2).double().eval()
    path = ProductPath((("nodes", GDSSPath()), ("edges", GDSSPath()))).bind(spec)
    denoiser = NetworkDenoiser(network, path, "noise", spec=spec)
    mask = torch.tensor([[True, True, True, True, False]])
    clean, noise = (spec.project(NoiseSource(spec, seed).draw([0], 0, torch.float64), mask) for seed in (1, 2))
    order = torch.tensor([3, 0, 4, 2, 1])

    def turned(x):
        views = spec.unpack(x)
        return spec.pack({"nodes": views["nodes"][:, order], "edges": views["edges"][:, order][:, :, order]})

    time = torch.tensor([0.4])
    with torch.no_grad():
        plain = Denoising()(denoiser, clean, noise, time, Conditioning(mask=mask))
        permuted = Denoising()(denoiser, turned(clean), turned(noise), time, Conditioning(mask=mask[:, order]))
    assert torch.allclose(plain, permuted, rtol=1e-9)


def test_the_published_schedule_starts_from_unit_noise_and_says_so_only_elsewhere():
    """The paper's networks are made for it; the same rates on the plain path warn."""
    path = GDSSPath()
    assert (path.alpha(1.0), path.sigma(1.0)) == (pytest.approx(0.760, abs=1e-3), pytest.approx(0.650, abs=1e-3))
    noise = torch.randn(3, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(path.prior(noise), noise)
    with pytest.warns(UserWarning, match="not the law of x_T"):
        VPLinear(0.1, 1.0).prior(noise)


def test_gdss_seq_draws_nodes_without_edges_and_edges_given_the_nodes():
    network = GDSSSequential(SPEC, width=8, edge_layers=2, attention=8, heads=2).eval()
    x, other = (NoiseSource(SPEC, seed).draw(range(2), 0) for seed in (1, 2))
    level = torch.zeros(2)
    mixed = SPEC.pack({"nodes": SPEC.unpack(x)["nodes"], "edges": SPEC.unpack(other)["edges"]})
    clean = torch.nn.functional.one_hot(torch.tensor([[0, 1, 1, 0], [1, 1, 0, 0]]), 2)
    given = Conditioning({"clean_nodes": clean})
    with torch.no_grad():
        one, two = (SPEC.unpack(network(state, level, given)) for state in (x, mixed))
        turned = SPEC.unpack(network(x, level, Conditioning({"clean_nodes": 1 - clean})))
        three = SPEC.unpack(network(SPEC.pack({**SPEC.unpack(x), "nodes": clean.float()}), level, given))
    assert torch.equal(one["nodes"], two["nodes"]), "edges do not reach the nodes"
    assert torch.equal(one["edges"], three["edges"]), "noisy nodes do not reach the edges"
    assert not torch.equal(one["edges"], turned["edges"]), "clean nodes do"
    for kind, other in ((GDSSSequential, "label"), (GDSSNetwork, "clean_nodes")):
        with pytest.raises(UnknownNameError, match=f"'{other}'"):
            kind(SPEC)(x, level, Conditioning({other: clean}))


def test_options_out_of_range_are_refused():
    for make in (
        lambda: S4(snr=-1.0),
        lambda: GDSSPredictorCorrector(corrections=-1),
        lambda: GDSSPredictorCorrector("heun"),
    ):
        with pytest.raises(AnydiffError):
            make()


def test_the_claims_denoiser_is_the_posterior_mean():
    """Against a brute-force average over the data's own draws."""
    denoiser, t = claim.Correlated(joint=True), 0.5
    data = claim.truth(200_000, 0)
    x = torch.tensor([[0.3, 0.1], [-0.2, 0.1]], dtype=torch.float64)
    alpha, sigma = VPLinear().alpha(t), VPLinear().sigma(t)
    weight = (-((x[:, None] - alpha * data) ** 2).sum(2) / (2 * sigma**2)).softmax(dim=1)
    assert torch.allclose(denoiser(x, t), weight @ data, atol=5e-3)


def test_the_claim_can_fail():
    good = {
        "s4_sign": 1.0, "s4_w2": 0.07, "pc_sign": 0.9, "pc_w2": 0.2, "marginal_sign": 0.5, "marginal_w2": 0.3,
        "floor_w2": 0.03, "em_sign": 1.0, "em_correlation": 0.9,
    }  # fmt: skip
    for name, value in (("gdss", 0.2), ("seq", 0.1), ("er", 0.5)):
        good |= {f"{name}_{statistic}": value for statistic in claim.STATISTICS}
    assert claim.judge([good]).outcome == "reproduced"
    assert claim.judge([good, {**good, "gdss_clustering": 0.36}]).outcome == "not at this scale"
    assert "in 0 of 1 seeds" in claim.judge([good]).sentence
    for change in ({"s4_sign": 0.9}, {"s4_w2": 0.3}, {"marginal_sign": 0.7}, {"em_correlation": 0.6}, {"pc_w2": 0.01}):
        assert claim.judge([{**good, **change}]).outcome == "not reproduced"
