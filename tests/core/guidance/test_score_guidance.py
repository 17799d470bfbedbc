"""Gradient guidance: exact posteriors and mixtures, neutral at 0, the scale in every form, what a step makes of it."""

from __future__ import annotations

import math

import pytest
import torch
from checks import check_score_guidance, linear_measurement, times
from exact import CENTRES, PATHS, Counting, mixture
from torch import Tensor, nn

from anydiff.denoisers import Denoiser, FunctionDenoiser, GaussianOracle, NetworkDenoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.guidance import ScoreGuidance
from anydiff.paths import Flow, VPCosine, VPLinear
from anydiff.samplers import sample
from anydiff.solvers import build_plan, compile_plan, execute
from anydiff.solvers.ddim import DDPM
from anydiff.states import UNCONDITIONAL, Conditioning, NoiseSource, StateSpec


def states(rows: int = 5, size: int = 2) -> Tensor:
    return torch.randn(rows, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def towards_one(value: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
    return -(value - 1).square().sum(1) / 2


@pytest.mark.parametrize("name", sorted(PATHS))
def test_exact_likelihood_gives_the_posterior_on_every_path(name):
    check_score_guidance(PATHS[name])


@pytest.mark.parametrize("solver", ["dpm-solver++-2m", "ddim", "heun", "unipc-3"])
def test_mean_and_covariance_of_the_posterior(solver):
    """A deterministic plan is affine in x_T here, so its law is known without sampling."""
    path = VPCosine()
    truth, prior, measurement, log_density = linear_measurement(path)
    plan = compile_plan(solver, path, 400)
    basis = torch.cat([torch.zeros(1, 3), torch.eye(3)]).double()
    out = execute(plan, ScoreGuidance(log_density)(prior), basis)
    columns = (out[1:] - out[0]) * path.prior_std
    torch.testing.assert_close(out[0], truth.posterior(measurement)[0], rtol=0, atol=4e-3)
    torch.testing.assert_close(columns.T @ columns, truth.covariance, rtol=0, atol=4e-3)


@pytest.mark.parametrize("solver", ["ddpm", "sde-dpm-solver++-2m", "seeds-1", "euler-maruyama"])
def test_a_stochastic_plan_draws_the_samples_of_the_posterior_itself(solver):
    truth, prior, measurement, log_density = linear_measurement(VPCosine())
    options = {"nfe": 30, "solver": solver, "dtype": torch.float64}
    drawn = sample(prior, (3,), 64, guidance=ScoreGuidance(log_density), **options)
    expected = sample(truth, (3,), 64, condition={"measurement": measurement.expand(64, -1)}, **options)
    torch.testing.assert_close(drawn, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", sorted(PATHS))
def test_mixture_with_its_own_classifier_is_the_class(name):
    """∇ log p(class | x_t) of the noisy state turns the mixture's score into the class's own."""
    path = PATHS[name]
    oracle = mixture(path)

    def log_class(x: Tensor, t: float | Tensor, condition: Conditioning) -> Tensor:
        alpha = torch.full((1, 1), path.alpha(float(t)), dtype=torch.float64)
        variance = alpha**2 * oracle.std**2 + path.sigma(float(t)) ** 2
        return (
            oracle._responsibility(x, alpha, variance, UNCONDITIONAL)
            .gather(1, condition.given["label"][:, None])[:, 0]
            .log()
        )

    label = torch.tensor([0, 1, 2, 2, 1])
    guided = ScoreGuidance(log_class, at="state", names=("label",))(oracle)
    for t in times(path, 4):
        x = path.alpha(t) * CENTRES[label] + path.sigma(t) * states()
        torch.testing.assert_close(
            guided(x, t, Conditioning({"label": label})),
            oracle(x, t, Conditioning({"label": label})),
            rtol=1e-8,
            atol=1e-8,
        )


def test_tilted_gaussian_is_the_product():
    """g(x_0) = exp(-w |x_0 - c|²/2) through its noised form log E[g(x_0) | x_t] gives the product of Gaussians."""
    path, variance, weight, centre = VPLinear(), 0.25, 3.0, 1.0
    prior = GaussianOracle(path, torch.zeros(2), variance)
    product = 1 / (1 / variance + weight)
    truth = GaussianOracle(path, torch.full((2,), product * weight * centre, dtype=torch.float64), product)

    def log_tilt(x: Tensor, t: float | Tensor) -> Tensor:
        alpha, sigma = path.alpha(float(t)), path.sigma(float(t))
        left = variance * sigma**2 / (alpha**2 * variance + sigma**2)
        data = alpha * variance / (alpha**2 * variance + sigma**2) * x
        return -(data - centre).square().sum(1) / (2 * (left + 1 / weight))

    guided = ScoreGuidance(log_tilt, at="state")(prior)
    for t in times(path, 5):
        torch.testing.assert_close(guided(states(), t), truth(states(), t), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("at", ["state", "data", "data-direct"])
@pytest.mark.parametrize("scale", [0.0, 0, torch.tensor(0.0), torch.zeros(6), lambda t: 0.0])
def test_scale_0_is_the_unguided_sampler_bit_for_bit(scale, at):
    network = NetworkDenoiser(Line(), VPLinear()).eval()
    for solver in ("ddim", "ddpm", "dpm-solver++-2m", "heun"):
        guidance = ScoreGuidance(towards_one, scale, at=at)
        plain, guided = (sample(network, (2,), 6, nfe=6, solver=solver, guidance=layer) for layer in (None, guidance))
        assert torch.equal(plain, guided)


def test_scale_0_costs_nothing():
    def refuse(value, t):
        raise AssertionError("log f was evaluated")

    assert torch.equal(
        ScoreGuidance(refuse, 0.0)(mixture(VPLinear()))(states(), 0.4), mixture(VPLinear())(states(), 0.4)
    )


class Line(nn.Module):
    """A small network with weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[0.8, 0.1], [-0.2, 0.7]]))
            self.layer.bias.zero_()

    def forward(self, x: Tensor, log_snr: Tensor, condition: Conditioning) -> Tensor:
        return torch.tanh(self.layer(x.to(self.layer.weight.dtype)))


def test_three_places():
    path, t = VPLinear(), 0.4
    oracle = GaussianOracle(path, torch.zeros(2), 0.25)
    gain = path.alpha(t) * 0.25 / (path.alpha(t) ** 2 * 0.25 + path.sigma(t) ** 2)
    step, x = path.sigma(t) ** 2 / path.alpha(t), states()
    expected = {
        "state": gain * x + 0.3 * step * (1 - x),
        "data": gain * x + 0.3 * step * gain * (1 - gain * x),
        "data-direct": gain * x + 0.3 * step * (1 - gain * x),
    }
    for at, value in expected.items():
        torch.testing.assert_close(ScoreGuidance(towards_one, 0.3, at=at)(oracle)(x, t), value, rtol=1e-13, atol=1e-13)


def test_one_call_and_the_same_in_float32():
    counting = Counting(mixture(VPLinear()))
    guided = ScoreGuidance(towards_one, 2.0)(counting)
    value = guided(states(), 0.4)
    assert counting.calls == [(0.4, 5)]
    assert value.dtype == torch.float64
    single = guided(states().float(), 0.4)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("at", ["state", "data", "data-direct"])
def test_scale_per_sample_of_time_and_times_per_row(at):
    oracle = mixture(VPLinear())

    def alone(scale, row, t):
        return ScoreGuidance(towards_one, scale, at=at)(oracle)(states()[row : row + 1], t)

    scales = torch.tensor([0.0, 0.5, 1.0, 2.0, -7.0])
    together = ScoreGuidance(towards_one, scales, at=at)(oracle)(states(), 0.4)
    rows = torch.cat([alone(scale, row, 0.4) for row, scale in enumerate(scales.tolist())])
    torch.testing.assert_close(together, rows, rtol=1e-12, atol=1e-12)
    timed, fixed = ScoreGuidance(towards_one, lambda t: 10 * t, at=at), ScoreGuidance(towards_one, 4.0, at=at)
    assert torch.equal(timed(oracle)(states(), 0.4), fixed(oracle)(states(), 0.4))
    levels = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    mixed = ScoreGuidance(towards_one, 2.0, at=at)(oracle)(states(), levels)
    rows = torch.cat([alone(2.0, row, float(t)) for row, t in enumerate(levels)])
    torch.testing.assert_close(mixed, rows, rtol=1e-12, atol=1e-12)


def test_the_step_of_ddpm_and_of_ddim():
    """DDPM adds s β/sqrt(1-β) ∇log f to its mean; DDIM sees ε - s σ ∇log f (TSDiff's form)."""
    path, s, t, scale = VPLinear(), 0.6, 0.55, 3.0
    oracle, slope = mixture(path), torch.tensor([0.4, -1.1], dtype=torch.float64)
    guided = ScoreGuidance(lambda x, t: (x * slope).sum(1), scale, at="state")(oracle)
    plan = build_plan(DDPM(), path, [s, t], end="stop")
    noise = NoiseSource(StateSpec.single((2,)), 0)
    plain, moved = (execute(plan, d, states(), noise=noise) for d in (oracle, guided))
    keep = path.alpha(s) / path.alpha(t)  # sqrt(1-β)
    torch.testing.assert_close(moved - plain, (scale * (1 - keep**2) / keep * slope).expand(5, 2), rtol=1e-9, atol=0)
    epsilon = oracle.predict(states(), s, "noise") - scale * path.sigma(s) * slope
    torch.testing.assert_close(guided.predict(states(), s, "noise"), epsilon, rtol=1e-12, atol=1e-12)


def test_where_the_state_says_nothing_the_shift_is_left_out():
    path = Flow()
    oracle = mixture(path)
    guided = ScoreGuidance(towards_one)(oracle)
    for kind in ("data", "flow"):
        assert torch.equal(guided.predict(states(), 1.0, kind), oracle.predict(states(), 1.0, kind))
        rows = guided.predict(states(2), torch.tensor([1.0, 0.5], dtype=torch.float64), kind)
        assert rows.isfinite().all()
    drawn = sample(oracle, (2,), 8, nfe=20, solver="euler", guidance=ScoreGuidance(towards_one, 0.3))
    assert drawn.isfinite().all()


def test_conditions_for_f_alone_do_not_reach_the_network():
    seen = []

    class Spy(Denoiser):
        path = VPLinear()

        def native(self, x, t, condition=UNCONDITIONAL):
            seen.append(sorted(condition.given))
            return 0.5 * x

    def towards(value, t, condition):
        assert condition.given["label"].shape == (5,)
        return -(value - condition.given["target"]).square().sum(1)

    label = torch.zeros(5, dtype=torch.long)
    for scale in (1.0, 0.0):
        asked = Conditioning({"target": states(), "label": label})
        ScoreGuidance(towards, scale, names=("target",))(Spy())(states(), 0.4, asked)
    assert seen == [["label"], ["label"]]


def test_it_leaves_its_input_alone_and_keeps_no_graph_inside_a_plan():
    x = states()
    network = NetworkDenoiser(Line(), VPLinear())
    for at in ("state", "data", "data-direct"):
        with torch.no_grad():
            value = ScoreGuidance(towards_one, at=at)(network)(x, 0.4)
        assert not value.requires_grad
        assert not x.requires_grad
        assert all(parameter.grad is None for parameter in network.parameters())
        with torch.inference_mode():
            inside = ScoreGuidance(towards_one, at=at)(network)(states(), 0.4)
        assert torch.equal(inside, value)


@pytest.mark.parametrize("at", ["state", "data", "data-direct"])
def test_differentiable_through_the_sampler(at):
    """The gradient of a guided sample by its start agrees with finite differences: second derivatives are kept."""
    path = VPLinear()
    guided = ScoreGuidance(lambda v, t: -(v**4).sum(1) / 40, 0.5, at=at)(mixture(path))
    plan = compile_plan("ddim", path, 4)
    start = states(2).requires_grad_()
    execute(plan, guided, start, differentiable=True).sum().backward()
    step = 1e-5
    for index in range(2):
        nudge = torch.zeros(2, 2, dtype=torch.float64)
        nudge[:, index] = step
        with torch.no_grad():
            ends = [execute(plan, guided, start + sign * nudge).sum(1) for sign in (1, -1)]
        torch.testing.assert_close(start.grad[:, index], (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-6)


def test_bad_guidance():
    oracle = mixture(VPLinear())
    with pytest.raises(UnknownNameError, match="place of guidance"):
        ScoreGuidance(towards_one, at="date")
    with pytest.raises(AnydiffError, match="finite"):
        ScoreGuidance(towards_one, math.inf)
    with pytest.raises(AnydiffError, match="one number per row"):
        ScoreGuidance(lambda v, t: v.sum())(oracle)(states(), 0.4)
    with pytest.raises(AnydiffError, match="one number per row"):
        ScoreGuidance(lambda v, t: 1.0)(oracle)(states(), 0.4)
    for constant in (lambda v, t: torch.zeros(5), lambda v, t: torch.ones(5, requires_grad=True)):
        with pytest.raises(AnydiffError, match="does not depend"):
            ScoreGuidance(constant)(oracle)(states(), 0.4)
    with pytest.raises(AnydiffError, match="function of time"):
        ScoreGuidance(towards_one, lambda t: t)(oracle)(states(), torch.full((5,), 0.4))
    with pytest.raises(AnydiffError, match="scale has shape"):
        ScoreGuidance(towards_one, torch.ones(4))(oracle)(states(), 0.4)


def test_around_a_plain_function():
    denoiser = FunctionDenoiser(lambda x, t: 0.3 * x, VPLinear(), "noise")
    value = ScoreGuidance(towards_one, 2.0)(denoiser).predict(states(), 0.5, "score")
    path = denoiser.path
    data = (1 - 0.3 * path.sigma(0.5)) / path.alpha(0.5)
    expected = -0.3 * states() / path.sigma(0.5) + 2.0 * data * (1 - data * states())
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
