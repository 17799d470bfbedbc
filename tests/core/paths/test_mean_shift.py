"""The aggregated process of MT-Diffusion: marginal and posterior for any b_t, and its special cases."""

from __future__ import annotations

import math

import pytest
import torch
from killing import assert_killed

from anydiff.denoisers import FunctionDenoiser, conversion
from anydiff.denoisers.base import convert
from anydiff.errors import AnydiffError
from anydiff.paths import Aggregated, GaussianPath, MeanShift, VPLinear
from anydiff.paths import mean_shift as module
from anydiff.solvers import build_plan, compile_plan, execute
from anydiff.solvers.ddim import DDPM
from anydiff.states import Conditioning

STEPS = 12
GENERATOR = torch.Generator().manual_seed(3)
SHARES = tuple((0.6 * torch.randn(STEPS, generator=GENERATOR, dtype=torch.float64)).tolist())
CLEAN, MEAN = 0.7, -1.3


def of_process(path, step):
    """a_t, b_t, A_t, A_{t-1}, k_t, k_{t-1} of a step, from the definition alone."""
    alphas = [1.0, *(VPLinear().alpha(i / STEPS) for i in range(1, STEPS + 1))]
    k = [0.0]
    for i in range(1, STEPS + 1):
        k.append(alphas[i] / alphas[i - 1] * k[-1] + path.shares[i - 1])
    return alphas[step] / alphas[step - 1], path.shares[step - 1], alphas[step], alphas[step - 1], k[step], k[step - 1]


def test_the_mean_follows_the_recursion_for_any_shares():
    path = MeanShift(shares=SHARES)
    for step in range(1, STEPS + 1):
        _, _, alpha, _, k, _ = of_process(path, step)
        found = path.coefficients(torch.tensor(step / STEPS, dtype=torch.float64))
        assert float(found["x0"]) == pytest.approx(alpha, abs=1e-14)
        assert float(found["mean"]) == pytest.approx(k, abs=1e-12)
        assert float(found["noise"]) == pytest.approx(math.sqrt(1 - alpha**2), abs=1e-12)
    assert float(path.coefficients(torch.zeros(1, dtype=torch.float64))["mean"]) == 0.0


def test_marginal_and_posterior_are_those_of_the_chain():
    """By Monte Carlo: the chain, step by step, against the path's coefficients and the step of DDPM."""
    path, count, step = MeanShift(shares=SHARES), 200_000, 7
    generator = torch.Generator().manual_seed(5)
    z = torch.full((count,), CLEAN, dtype=torch.float64)
    for i in range(1, step + 1):
        a, b, *_ = of_process(path, i)
        before = z
        z = a * z + b * MEAN + math.sqrt(1 - a**2) * torch.randn(count, generator=generator, dtype=torch.float64)
    c = {name: float(v) for name, v in path.coefficients(torch.tensor(step / STEPS, dtype=torch.float64)).items()}
    error = c["noise"] / math.sqrt(count)
    assert abs(float(z.mean()) - (c["x0"] * CLEAN + c["mean"] * MEAN)) < 3 * error
    assert abs(float(z.var()) / c["noise"] ** 2 - 1) < 3 * math.sqrt(2 / count)
    # q(z_{t-1} | z_t, z_0, m) is linear in z_t: slope, mean and variance of the residual.
    centred = z - z.mean()
    slope = float((centred * before).sum() / centred.square().sum())
    rest = before - before.mean() - slope * centred
    drawn = [stepped(path, step, torch.full((1, 1), x, dtype=torch.float64)) for x in (0.0, 1.0)]
    exact = float(drawn[1] - drawn[0])
    std = float(rest.std())
    assert abs(slope - exact) < 3 * std / float(centred.square().sum().sqrt())
    assert abs(float(before.mean()) - float(stepped(path, step, z.mean().reshape(1, 1)))) < 3 * float(
        before.std()
    ) / math.sqrt(count)
    noisy = stepped(path, step, torch.zeros(1, 1, dtype=torch.float64), noise=1.0)
    assert abs(std / float(noisy - drawn[0]) - 1) < 3 / math.sqrt(2 * count)


class Drawn:
    """Noise that is one number."""

    def __init__(self, value):
        self.value = value

    def draw(self, samples, draw, dtype, device):
        return torch.full((len(samples), 1), self.value, dtype=dtype)


def stepped(path, step, z, noise=0.0):
    """One step of DDPM with the exact z_0, from t = step/N to the one before."""
    plan = build_plan(DDPM(), path, [step / STEPS, (step - 1) / STEPS], end="stop")
    exact = FunctionDenoiser(lambda x, t: torch.full_like(x, CLEAN), path)
    given = Conditioning(sources={"mean": torch.full_like(z, MEAN)})
    return execute(plan, exact, z, condition=given, noise=Drawn(noise))


@pytest.mark.parametrize("step", range(2, STEPS + 1))
def test_a_step_of_ddpm_is_the_posterior(step):
    path = MeanShift(shares=SHARES)
    a, _, alpha, before, k, k_before = of_process(path, step)
    beta = 1 - a**2
    c1, c0 = a * (1 - before**2) / (1 - alpha**2), before * beta / (1 - alpha**2)
    z = torch.tensor([[0.4]], dtype=torch.float64)
    mean = c1 * (0.4 - k * MEAN) + c0 * CLEAN + k_before * MEAN
    assert float(stepped(path, step, z)) == pytest.approx(mean, abs=1e-10)
    std = math.sqrt(beta * (1 - before**2) / (1 - alpha**2))
    assert float(stepped(path, step, z, noise=1.0)) - mean == pytest.approx(std, abs=1e-10)


def test_shares_of_the_signal_add_up():
    """Case (i): b_t = A_t w_t makes k_t/A_t the cumulative sum of w."""
    weights = [0.3, -0.2, 0.5, 0.1]
    path = MeanShift(shares=[VPLinear().alpha((i + 1) / 4) * w for i, w in enumerate(weights)])
    c = path.coefficients(torch.arange(1, 5, dtype=torch.float64) / 4)
    torch.testing.assert_close(
        c["mean"] / c["x0"], torch.tensor(weights, dtype=torch.float64).cumsum(0), rtol=0, atol=1e-12
    )


def test_without_shares_it_is_the_ordinary_path():
    path, plain = MeanShift(shares=[0.0, 0.0]), VPLinear()
    x = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    denoise = lambda x, t: 0.5 * torch.tanh(x)  # noqa: E731
    given = Conditioning(sources={"mean": torch.ones_like(x)})
    for solver in ("ddim", "dpm-solver++-2m", "heun"):
        one = execute(compile_plan(solver, path, 6), FunctionDenoiser(denoise, path), x, condition=given)
        two = execute(compile_plan(solver, plain, 6), FunctionDenoiser(denoise, plain), x)
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12)
    one, two = (compile_plan("ddpm", each, 6, grid="time") for each in (Aggregated(shares=[0.0]), plain))
    assert one.to_json().replace(repr(Aggregated(shares=[0.0])), repr(plain)) == two.to_json()


@pytest.mark.parametrize("t", [0.2, 0.55, 0.9])
def test_the_noise_gives_the_data_less_the_mean(t):
    """D = (z_t - k_t m - σ ε)/A, and the flow has k' m in it."""
    path = MeanShift(shares=SHARES)
    c = {name: float(v) for name, v in path.coefficients(torch.tensor(t, dtype=torch.float64)).items()}
    slope = {name: float(v) for name, v in path.derivatives(torch.tensor(t, dtype=torch.float64)).items()}
    z, noise, mean = (torch.full((1, 1), each, dtype=torch.float64) for each in (0.8, -0.3, MEAN))
    denoiser = FunctionDenoiser(lambda x, t: noise, path, "noise")
    given = Conditioning(sources={"mean": mean})
    data = convert(denoiser, z, t, noise, "noise", "data", given)
    assert float(data) == pytest.approx((0.8 - c["mean"] * MEAN + 0.3 * c["noise"]) / c["x0"], abs=1e-12)
    flow = slope["x0"] * float(data) + slope["mean"] * MEAN - 0.3 * slope["noise"]
    assert float(convert(denoiser, z, t, noise, "noise", "flow", given)) == pytest.approx(flow, abs=1e-9)
    assert conversion(path, t, "noise", "data")[0] == pytest.approx(1 / c["x0"])


def test_data_that_are_the_mean_travel_one_path():
    path, one = MeanShift(shares=SHARES), Aggregated(shares=[0.02, 0.01, -0.005])
    two = MeanShift(shares=[0.02, 0.01, -0.005])
    z, noise = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    t = torch.tensor([0.1, 0.4, 0.7, 1.0], dtype=torch.float64)
    given = Conditioning(sources={"mean": z})
    torch.testing.assert_close(one.noised(t, z, noise), two.noised(t, z, noise, given), rtol=0, atol=1e-12)
    assert not torch.allclose(path.noised(t, z, noise, given), one.noised(t, z, noise))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: MeanShift(shares=[]), r"shares is \[\], but must be a list of finite numbers"),
        (lambda: MeanShift(shares=[0.1, math.nan]), r"must be a list of finite numbers"),
        (lambda: MeanShift(shares=0.1), r"shares is 0.1"),
        (
            lambda: Aggregated(shares=[0.0, 0.0, 5.0]),
            r"shares\[2\] is 5, with which the signal over the noise does not",
        ),
        (lambda: Aggregated(shares=[-2.0]), r"shares\[0\] is -2"),
        (lambda: MeanShift().noised(torch.ones(1), torch.zeros(1, 2), torch.zeros(1, 2)), r"known 'mean'"),
    ],
)
def test_bad_shares_are_refused(made, message):
    with pytest.raises(AnydiffError, match=message):
        made()


KNOTS = module._knots
MUTANTS = {
    "a mean that is not subtracted": (
        (GaussianPath, "shift", lambda self, t: dict.fromkeys(self.known, 0.0)),
        lambda: test_a_step_of_ddpm_is_the_posterior(5),
    ),
    "shares that do not decay": (
        (module, "_knots", lambda path: torch.tensor([0.0, *path.shares], dtype=torch.float64).cumsum(0)),
        test_the_mean_follows_the_recursion_for_any_shares,
    ),
    "shares one step late": (
        (module, "_knots", lambda path: KNOTS(path).roll(1).index_fill(0, torch.tensor(0), 0.0)),
        test_marginal_and_posterior_are_those_of_the_chain,
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_mutant_is_killed(name, monkeypatch):
    assert_killed(*MUTANTS[name], monkeypatch)
