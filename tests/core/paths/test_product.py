"""Product paths: per-leaf coefficients, and every core solver on them, exact against each leaf alone."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch

from anydiff.denoisers import GaussianOracle
from anydiff.errors import AnydiffError
from anydiff.objectives import Denoising
from anydiff.paths import EDM, VE, Flow, MeanReverting, ProductPath, SubVP, VPCosine, VPLinear
from anydiff.paths.mixed import product
from anydiff.registry import registry
from anydiff.samplers import AdaptiveODE, sample
from anydiff.solvers import compile_plan
from anydiff.solvers.plan import Apply, Plan
from anydiff.states import Leaf, NoiseSource, StateSpec

SPEC = StateSpec([Leaf("left", (3,)), Leaf("right", (2, 2))])
MEAN = torch.linspace(-1, 1, 7, dtype=torch.float64)
VARIANCE = torch.linspace(0.04, 0.5, 7, dtype=torch.float64)
PAIRS = {
    "two-rates": (VPLinear(), VPLinear(0.2, 12.0)),
    "vp-ve": (VPLinear(), VE(t_end=1e-3)),
    "vp-subvp": (VPLinear(), SubVP()),
}
SOLVERS = [entry.name for entry in registry().entries("solvers") if entry.metadata.get("states") == "numbers"]
#: Their inner nodes are placed by the clock, so on the other leaf they are other methods than on it alone.
INNER = {"dpm-solver-2", "dpm-solver-3", "dpm-solver-fast", "dpm-solver++-2s", "dpm-solver++-3s", "seeds-2", "seeds-3"}
#: Their inner nodes lie at fractions of the noise level, which are other times on every leaf.
REFUSED = {"rho-kutta", "rho-rk4"}


def pair(name: str) -> ProductPath:
    left, right = PAIRS[name]
    return ProductPath((("left", left), ("right", right))).bind(SPEC)


def alone(path, leaf: str, plan: Plan, solver: str, count: int = 4) -> torch.Tensor:
    begin, end = SPEC.offsets[leaf]
    shape = SPEC.leaf(leaf).shape
    oracle = GaussianOracle(path, MEAN[begin:end].reshape(shape), VARIANCE[begin:end].reshape(shape))
    own = compile_plan(solver, path, plan.nfe, grid=list(plan.nodes))
    spec = StateSpec([Leaf(leaf, shape)])
    return sample(oracle, spec, count, solver=own, dtype=torch.float64).reshape(count, -1)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", PAIRS)
def test_each_leaf_is_sampled_as_it_is_alone(solver, name):
    path = pair(name)
    if solver in REFUSED:
        with pytest.raises(AnydiffError, match="different steps on the leaves"):
            compile_plan(solver, path, 13, grid="time")
        return
    plan = compile_plan(solver, path, 13, grid="time")
    if any(isinstance(instruction, Apply) for instruction in plan.instructions):
        pytest.skip("norms over the batch")
    joint = sample(GaussianOracle(path, MEAN, VARIANCE), SPEC, 4, solver=plan, dtype=torch.float64)
    for (leaf, own), first in zip(path.leaves, (True, False), strict=True):
        if solver in INNER and not first:
            continue
        begin, end = SPEC.offsets[leaf]
        assert torch.allclose(joint[:, begin:end], alone(own, leaf, plan, solver), atol=1e-9), leaf


@pytest.mark.parametrize("solver", sorted(INNER - {"seeds-2", "seeds-3", "dpm-solver-fast"}))
def test_singlestep_solvers_keep_an_order_of_two_on_the_leaf_that_is_not_the_clock(solver):
    path = pair("two-rates")
    oracle = GaussianOracle(path, MEAN, VARIANCE)
    calls = registry().get("solvers", solver).metadata["calls_per_step"]
    results = []
    for steps in (32, 64, 128):
        plan = compile_plan(solver, path, steps * calls, grid="log-snr", end="stop")
        results.append(sample(oracle, SPEC, 4, solver=plan, dtype=torch.float64)[:, 3:])
    one, two = (float((a - b).abs().max()) for a, b in itertools.pairwise(results))
    assert one / two > 3.5


def test_correlated_leaves_are_coupled_by_the_joint_oracle():
    """x0 ~ N(0, C) with correlation between leaves: the joint denoiser reproduces C, the leaves' own would not."""
    path = pair("two-rates")
    factor = torch.eye(7, dtype=torch.float64)
    factor[3:6, :3] = 0.9 * torch.eye(3)
    covariance = 0.25 * factor @ factor.T
    oracle = GaussianOracle(path, torch.zeros(7, dtype=torch.float64), covariance)
    drawn = sample(oracle, SPEC, 4000, nfe=30, solver="dpm-solver++-2m", batch_size=4000, dtype=torch.float64)
    assert torch.allclose(torch.cov(drawn.T), covariance, atol=0.035)
    apart = sample(
        GaussianOracle(path, torch.zeros(7, dtype=torch.float64), covariance.diag()), SPEC, 4000, nfe=30,
        batch_size=4000, dtype=torch.float64,
    )  # fmt: skip
    assert torch.cov(apart.T)[:3, 3:].abs().max() < 0.035


def test_full_covariance_oracle_agrees_with_the_one_for_a_single_path():
    mean, factor = MEAN, torch.randn(7, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    covariance = factor @ factor.T / 7
    same = ProductPath((("left", VPLinear()), ("right", VPLinear()))).bind(SPEC)
    x = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for t in (0.1, torch.linspace(0.05, 0.9, 5, dtype=torch.float64)):
        one = GaussianOracle(VPLinear(), mean, covariance)(x, t)
        assert torch.allclose(GaussianOracle(same, mean, covariance)(x, t), one, atol=1e-10)


def test_coefficients_are_each_leafs_own():
    path = pair("vp-ve")
    times = torch.tensor([0.2, 0.7], dtype=torch.float64)
    for name in ("alpha", "sigma", "d_alpha", "d_sigma"):
        value = getattr(path, name)(times)
        assert value.shape == (2, 7)
        for leaf, own in path.leaves:
            begin, end = SPEC.offsets[leaf]
            assert torch.equal(value[:, begin:end], getattr(own, name)(times).reshape(-1, 1).expand(-1, end - begin))
        assert getattr(path, name)(0.2).shape == (1, 7)
    assert torch.equal(path.log_snr(times), VPLinear().log_snr(times)), "the clock's"
    assert path.time(path.log_snr(0.3)) == pytest.approx(0.3)
    other = ProductPath(path.leaves, clock="right").bind(SPEC)
    assert other.log_snr(0.5) == VE().log_snr(0.5)


def test_the_prior_is_each_leafs_own():
    noise = NoiseSource(SPEC, 0).draw(range(3), 0, torch.float64)
    start = pair("vp-ve").prior(noise)
    assert torch.allclose(start[:, :3], noise[:, :3] * VPLinear().prior_std)
    assert torch.allclose(start[:, 3:], noise[:, 3:] * 50.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ProductPath((("left", VPLinear()), ("right", VPLinear(0.1, 1.0)))).bind(SPEC).prior(noise)
    assert ["not the law of x_T" in str(each.message) for each in caught] == [True]


def test_a_plan_of_equal_leaves_is_the_plan_of_one():
    path = ProductPath((("left", VPCosine()), ("right", VPCosine()))).bind(SPEC)
    for solver in ("dpm-solver++-3m", "ddpm", "heun", "unipc-3"):
        joint, single = compile_plan(solver, path, 9), compile_plan(solver, VPCosine(), 9)
        assert (joint.nfe, joint.draws) == (single.nfe, single.draws)
        assert not any(isinstance(c, np.ndarray) for i in joint.instructions for _, c in getattr(i, "terms", ()))
        mean, variance = MEAN, VARIANCE
        one = sample(GaussianOracle(path, mean, variance), SPEC, 3, solver=joint, dtype=torch.float64)
        two = sample(GaussianOracle(VPCosine(), mean, variance), SPEC, 3, solver=single, dtype=torch.float64)
        assert torch.allclose(one, two, atol=1e-10)


def test_a_joint_plan_survives_json():
    plan = compile_plan("dpm-solver++-2m", pair("two-rates"), 6, grid="time")
    again = Plan.from_json(plan.to_json())
    oracle = GaussianOracle(pair("two-rates"), MEAN, VARIANCE)
    assert torch.equal(sample(oracle, SPEC, 2, solver=plan), sample(oracle, SPEC, 2, solver=again))


def test_an_operation_acts_on_each_leaf_with_its_own_options():
    path = pair("two-rates")
    plan = compile_plan("predictor-corrector", path, 4, grid="time", step="norm", snr=0.1)
    apply = next(instruction for instruction in plan.instructions if isinstance(instruction, Apply))
    assert (apply.function, apply.options["sizes"]) == ("leafwise", [3, 4])
    scales = [options["scale"] for options in apply.options["options"]]
    assert scales[0] != scales[1]
    assert sample(GaussianOracle(path, MEAN, VARIANCE), SPEC, 2, solver=plan).isfinite().all()


def test_the_loss_weighs_each_entry_by_its_own_leaf():
    """The data loss of a perfect noise-kind denoiser is zero; a wrong one costs what its leaves cost alone."""
    path = pair("two-rates")
    clean = NoiseSource(SPEC, 1).draw(range(6), 0, torch.float64)
    noise = NoiseSource(SPEC, 2).draw(range(6), 0, torch.float64)
    uniform = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    joint = Denoising()(GaussianOracle(path, MEAN, VARIANCE), clean, noise, uniform)
    parts = []
    for leaf, own in path.leaves:
        begin, end = SPEC.offsets[leaf]
        oracle = GaussianOracle(own, MEAN[begin:end], VARIANCE[begin:end])
        loss = Denoising()(oracle, clean[:, begin:end], noise[:, begin:end], uniform)
        parts.append(loss * (end - begin))
    assert torch.allclose(joint, sum(parts) / 7, rtol=1e-9)


def test_what_does_not_fit_is_refused_in_one_sentence():
    with pytest.raises(AnydiffError, match="share their time"):
        ProductPath((("left", VPLinear()), ("right", EDM())))
    with pytest.raises(AnydiffError, match="paths of x0 and noise"):
        ProductPath((("left", VPLinear()), ("right", MeanReverting())))
    with pytest.raises(AnydiffError, match="leaf"):
        ProductPath((("left", VPLinear()),), clock="top")
    with pytest.raises(AnydiffError, match="give each leaf"):
        ProductPath((("left", VPLinear()), ("middle", VPLinear()))).bind(SPEC)
    with pytest.raises(AnydiffError, match="not bound"):
        ProductPath((("left", VPLinear()), ("right", VPLinear()))).alpha(0.5)
    with pytest.raises(AnydiffError, match=r"leaves\.left is 3"):
        product({"left": 3})
    mixed = ProductPath((("left", Flow()), ("right", VPLinear()))).bind(SPEC)
    with pytest.raises(AnydiffError, match="different steps on the leaves"):
        compile_plan("edm", mixed, 9)
    with pytest.raises(AnydiffError, match="sample by a plan"):
        sample(GaussianOracle(mixed, MEAN, VARIANCE), SPEC, 2, solver=AdaptiveODE())


def test_built_from_options():
    path = product({"left": "vp-linear", "right": {"name": "ve", "options": {"sigma_max": 5.0}}}, clock="right")
    assert isinstance(path, ProductPath)
    assert path.clock == "right"
    assert product({"only": "vp-cosine"}) == VPCosine(), "the product of one path is that path"
