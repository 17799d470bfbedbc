"""Checks that the proofs run and that the mutation table runs again: each raises AssertionError when it fails."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable

import torch
from exact import (
    CENTRES,
    affine,
    gaussian,
    gaussian_flow,
    log_snr_line,
    mixture,
    moments,
    reference,
    root_mean_square,
    slopes,
    starts,
)
from torch import Tensor, nn

from anydiff.denoisers import (
    Denoiser,
    FunctionDenoiser,
    GaussianOracle,
    LinearGaussianOracle,
    NetworkDenoiser,
    conversion,
)
from anydiff.denoisers.wrappers import DynamicThreshold
from anydiff.guidance import ClassifierFree, ScoreGuidance
from anydiff.paths import VE, GaussianPath, VPLinear, time_grid
from anydiff.registry import registry
from anydiff.solvers import ENDS, build_plan, compile_plan, execute
from anydiff.solvers.base import preferred_grid
from anydiff.solvers.ddim import DDIM, DDPM
from anydiff.solvers.plan import Evaluate, Noise, Plan
from anydiff.solvers.runge_kutta import EDMHeun
from anydiff.states import UNCONDITIONAL, Conditioning, Leaf, NoiseSource, StateSpec

#: Every kind of prediction on a path of data and Gaussian noise.
KINDS = VPLinear().kinds

#: Solvers that step in t, where a few steps of a stiff path may be far off.
IN_TIME = ("euler", "heun", "interpolant", "midpoint", "rk4")


def times(path: GaussianPath, count: int = 9) -> list[float]:
    """Times strictly inside the path's range."""
    return [path.t_end + (i + 0.5) / count * (path.t_start - path.t_end) for i in range(count)]


def close(value: float, expected: float, relative: float, what: str = "") -> None:
    """Fail unless ``value`` is ``expected`` within a relative error."""
    assert abs(value - expected) <= relative * max(abs(expected), 1e-300), f"{what}: {value!r}, expected {expected!r}"


def closed_form(path: GaussianPath, t: float) -> tuple[float, float]:
    """(α, σ) written out again, with the plain formulas of the papers."""
    kind = type(path).__name__
    if kind in ("VPLinear", "SubVP"):
        squared = math.exp(-(0.1 * t + 19.9 * t * t / 2))
        return math.sqrt(squared), math.sqrt(1 - squared) if kind == "VPLinear" else 1 - squared
    if kind == "VPCosine":
        alpha = math.cos((t + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)
        return alpha, math.sqrt(1 - alpha**2)
    if kind == "VPLogSNR":
        ratio = math.exp(float(log_snr_line(torch.tensor(t, dtype=torch.float64))))
        return ratio / math.sqrt(1 + ratio**2), 1 / math.sqrt(1 + ratio**2)
    if kind == "VE":
        return 1.0, 0.01 * 5000.0**t
    return (1.0, t) if kind == "EDM" else (1 - t, t)


def check_closed_forms(path: GaussianPath) -> None:
    """α, σ and λ at many times."""
    for t in times(path):
        alpha, sigma = closed_form(path, t)
        close(path.alpha(t), alpha, 1e-12, f"alpha({t})")
        close(path.sigma(t), sigma, 1e-9, f"sigma({t})")
        assert abs(path.log_snr(t) - math.log(alpha / sigma)) < 1e-9
    alpha, sigma = closed_form(path, path.t_start)
    close(path.prior_std, sigma, 1e-12, "prior_std")


def difference(f, t: float) -> float:
    """df/dt by the central difference of order 4."""
    h = 1e-3 * t
    return (8 * (f(t + h) - f(t - h)) - (f(t + 2 * h) - f(t - 2 * h))) / (12 * h)


def check_derivatives(path: GaussianPath) -> None:
    """dα/dt and dσ/dt against a central difference of order 4."""
    for t in times(path):
        for name in ("alpha", "sigma"):
            function = getattr(path, name)
            value, expected = getattr(path, f"d_{name}")(t), difference(function, t)
            assert abs(value - expected) <= 1e-8 * max(abs(expected), abs(function(t)) / t), (name, t, value, expected)


def check_inverse_log_snr(path: GaussianPath, t: float) -> None:
    """time(λ(t)) = t to 1e-10 relative."""
    # where σ_0 > 0 the log-SNR is finite at t = 0, and cannot tell times far below 1 apart
    scale = t if path.log_snr(0.0) == math.inf else max(t, 0.1)
    assert abs(path.time(path.log_snr(t)) - t) <= 1e-10 * scale, f"time(log_snr({t!r})) = {path.time(path.log_snr(t))}"


def check_stochastic_equation(path: GaussianPath) -> None:
    """dx = f x dt + g dw keeps the moments: α' = f α and (σ²)' = 2 f σ² + g², g² >= 0; g² = -2 σ² dλ/dt."""
    for t in times(path):
        f, squared = path.drift(t), path.squared_diffusion(t)
        slope = difference(path.alpha, t)
        assert abs(slope - f * path.alpha(t)) < 1e-7 * max(abs(slope), 1e-3)
        variance = difference(lambda s: path.sigma(s) ** 2, t)
        close(2 * f * path.sigma(t) ** 2 + squared, variance, 1e-7, "variance")
        close(squared, -2 * path.sigma(t) ** 2 * difference(path.log_snr, t), 1e-7, "g²")
        assert squared > 0
    if type(path).__name__ == "VPLinear":
        close(path.drift(0.3), -(0.1 + 19.9 * 0.3) / 2, 1e-12, "f of VP")
        close(path.squared_diffusion(0.3), 0.1 + 19.9 * 0.3, 1e-11, "g² of VP")
    if type(path).__name__ == "SubVP":
        shrink = 1 - math.exp(-2 * (0.1 * 0.3 + 19.9 * 0.045))
        close(path.squared_diffusion(0.3), (0.1 + 19.9 * 0.3) * shrink, 1e-11, "g² of sub-VP")


def check_grid(path: GaussianPath, steps: int, grid: str) -> None:
    """steps + 1 finite, strictly decreasing nodes with both ends exact."""
    nodes = time_grid(path, steps, grid)
    assert len(nodes) == steps + 1
    assert (nodes[0], nodes[-1]) == (path.t_start, path.t_end)
    assert all(math.isfinite(t) and type(t) is float for t in nodes)
    assert all(s > t for s, t in itertools.pairwise(nodes)), f"{grid} on {path}: {nodes}"


def check_conversions(path: GaussianPath) -> None:
    """Every kind from every other, against the definitions with a known (x_0, ε)."""
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 4, 3, dtype=torch.float64, generator=generator)
    for t in times(path, 5):
        alpha, sigma = closed_form(path, t)
        x = alpha * clean + sigma * noise
        scale = math.sqrt(sigma**2 + (alpha * 0.7) ** 2)
        skip = alpha * 0.49 / scale**2
        truth = {
            "data": clean,
            "noise": noise,
            "score": -noise / sigma,
            "velocity": alpha * noise - sigma * clean,
            "flow": path.d_alpha(t) * clean + path.d_sigma(t) * noise,
            "edm": (clean - skip * x) * scale / (sigma * 0.7),
            "residual": -clean,
        }
        for source, target in itertools.product(KINDS, KINDS):
            p, q = conversion(path, t, source, target, 0.7)
            # absolute, in the units of the sizes that enter: converting ε to D divides by α
            size = float(abs(p) * x.abs().max() + abs(q) * truth[source].abs().max())
            error = float((p * x + q * truth[source] - truth[target]).abs().max())
            assert error <= 1e-9 * size, (source, target, t, error, size)
            given = FunctionDenoiser(lambda y, s, known=truth[source]: known, path, source, 0.7)
            shown = given.predict(x, t, target)
            assert float((shown - truth[target]).abs().max()) <= 1e-9 * size, (source, target, t)
            per_row = given.predict(x, torch.full((4,), t, dtype=torch.float64), target)
            assert float((per_row - shown).abs().max()) <= 1e-9 * size, (source, target, t)


def check_network_parametrization(path: GaussianPath, kind: str) -> None:
    """A network that outputs the exact prediction of ``kind`` (σ times the score) gives the oracle's E[x_0 | x_t]."""
    oracle = mixture(path)
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    class Perfect(nn.Module):
        def forward(self, scaled: Tensor, log_snr: Tensor, condition: Conditioning) -> Tensor:
            level = path.time(log_snr.double())
            alpha, sigma = path.alpha(level)[:, None], path.sigma(level)[:, None]
            state = scaled * torch.sqrt((alpha * 0.7) ** 2 + sigma**2)
            oracle.sigma_data = 0.7
            out = oracle.predict(state, level, kind)
            return out * sigma if kind == "score" else out

    network = NetworkDenoiser(Perfect(), path, kind, sigma_data=0.7)
    for t in times(path, 5):
        # the network is told λ in float32, so agreement is to float32's digits of λ
        for value in (network(x, t), network(x, torch.full((4,), t, dtype=torch.float64))):
            torch.testing.assert_close(value, oracle(x, t), rtol=2e-4, atol=2e-4 / min(1.0, path.alpha(t)))


def mixture_log_density(path: GaussianPath, x: Tensor, t: float) -> Tensor:
    """log p_t of the plane's mixture, written out once more."""
    alpha, sigma = (1.0, 0.0) if math.isinf(t) else closed_form(path, t)
    variance = alpha**2 * 0.09 + sigma**2
    squared = (x[:, None] - alpha * CENTRES).square().sum(-1)
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64) / 6
    return torch.logsumexp(weights.log() - squared / (2 * variance) - math.log(2 * math.pi * variance), dim=1)


def check_mixture(path: GaussianPath) -> None:
    """E[x_0 | x_t] by brute-force integration over a fine lattice of x_0, and the score by autograd of log p_t."""
    axis = torch.linspace(-3.2, 3.2, 257, dtype=torch.float64)
    lattice = torch.cartesian_prod(axis, axis)
    prior = mixture_log_density(VE(), lattice, -math.inf)
    oracle = mixture(path)
    for t in times(path, 3):
        alpha, sigma = closed_form(path, t)
        if sigma / alpha < 0.1:
            continue  # the likelihood would fall between the lattice's points
        x = torch.tensor([[0.3, -0.4], [-1.2, 0.5]], dtype=torch.float64) * math.hypot(alpha, sigma)
        logits = prior - (x[:, None] - alpha * lattice).square().sum(-1) / (2 * sigma**2)
        expected = torch.softmax(logits, dim=1) @ lattice
        torch.testing.assert_close(oracle(x, t), expected, rtol=1e-7, atol=1e-7)
    for t in times(path, 5):
        alpha, sigma = closed_form(path, t)
        x = torch.tensor([[0.3, -0.4], [-1.2, 0.5]], dtype=torch.float64) * math.hypot(alpha, sigma)
        x.requires_grad_()
        (score,) = torch.autograd.grad(mixture_log_density(path, x, t).sum(), x)
        torch.testing.assert_close(oracle.predict(x.detach(), t, "score"), score, rtol=1e-7, atol=1e-9)


def check_classifier_free(path: GaussianPath) -> None:
    """D_∅ + w (D_c - D_∅) from two separate calls, for w below, between and above 0 and 1."""
    oracle = mixture(path)
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([0, 1, 2, 0, 1])
    for t in times(path, 3):
        conditional, unconditional = oracle(x, t, Conditioning({"label": label})), oracle(x, t)
        for scale in (-1.0, 0.0, 0.3, 1.0, 2.5, 8.0):
            guided = ClassifierFree(scale)(oracle)(x, t, Conditioning({"label": label}))
            expected = unconditional + scale * (conditional - unconditional)
            torch.testing.assert_close(guided, expected, rtol=1e-12, atol=1e-12)


def check_threshold(size: int, rows: int, quantile: float, spread: float) -> None:
    """Dynamic thresholding against the formula with torch.quantile; bounds, identity, rows on their own."""
    limit = DynamicThreshold(quantile).limit
    data = spread * torch.randn(rows, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    level = torch.quantile(data.abs(), quantile, dim=1, keepdim=True).clamp_min(1.0)
    out = limit(data)
    torch.testing.assert_close(out, torch.minimum(torch.maximum(data, -level), level) / level, rtol=1e-12, atol=0)
    assert float(out.abs().max()) <= 1.0
    inside = data / data.abs().max()
    assert torch.equal(limit(inside), inside), "not the identity on data within the bounds"
    for row in range(rows):
        assert torch.equal(limit(data[row : row + 1])[0], out[row]), "rows influence each other"


def check_nodes(name: str, path: GaussianPath) -> None:
    """The plan's nodes are the grid, the first call is at T, no call is outside, and with a point mass the last state
    lies exactly on the noise level of the last node: the plan has all its steps."""
    plan = compile_plan(name, path, 12, end="stop")
    assert list(plan.nodes) == time_grid(path, len(plan.nodes) - 1, preferred_grid(name))
    visited = [i.t for i in plan.instructions if isinstance(i, Evaluate)]
    assert visited[0] == path.t_start
    assert all(path.t_end <= t <= path.t_start for t in visited), visited
    assert len(set(visited)) >= min(len(plan.nodes) - 1, 2)
    if plan.draws == 0 and name not in IN_TIME:
        # x_0 = 0.4 surely: D = 0.4 for ever, so the exact state is on the line from x_T, and methods that integrate
        # D or ε exactly stay on it or come close.
        constant, weight = affine(plan, path, 0.4, 0.0)
        scale = path.sigma(plan.nodes[-1])
        reached = abs(constant - path.alpha(plan.nodes[-1]) * 0.4)
        assert reached < 0.3, constant
        assert abs(weight) < 3 * max(scale, 0.05) * max(path.prior_std, 1.0), weight


def check_ends(path: GaussianPath) -> None:
    """With an exact state at the last node, ``clean`` errs by less than a tenth of ``stop`` and of ``denoise``."""
    oracle = mixture(path)
    x = starts(path)
    errors = {}
    lower = dataclasses.replace(path, t_end=path.t_end / 30)
    truth = reference(lower, oracle, x, lower.t_end, steps=900)
    kappa = lower.sigma(lower.t_end) / lower.alpha(lower.t_end)
    truth = truth / lower.alpha(lower.t_end)
    truth = truth + kappa**2 / 2 * oracle.predict(truth * lower.alpha(lower.t_end), lower.t_end, "score")
    near = path.time(path.log_snr(path.t_end) - 0.05)
    before = reference(path, oracle, x, near, steps=700)
    for end in ENDS:
        out = execute(build_plan(EDMHeun(), path, [near, path.t_end], end), oracle, before)
        errors[end] = root_mean_square(out - truth)
    assert errors["clean"] < errors["stop"] / 10, errors
    assert errors["clean"] < errors["denoise"] / 10, errors


@functools.cache
def mixture_end(path: GaussianPath) -> Tensor:
    """Where the exact flow takes :func:`starts` on the mixture."""
    return reference(path, mixture(path), starts(path), path.t_end, steps=700)


def measured_order(
    name: str, path: GaussianPath, target: str, counts: tuple[int, ...] = (80, 160, 320), from_noise: bool = False
) -> float:
    """Slope of the error at the last node over the number of steps, from exact starts, on a grid that suits.

    ``from_noise``: on the flow path from t = 1, in time, whatever the solver.
    """
    in_time = name in IN_TIME or from_noise
    grid = "log-snr"
    if in_time and type(path).__name__ not in ("VE",):
        grid = "time" if type(path).__name__ == "Flow" else "quadratic"
    if type(path).__name__ == "Flow" and not in_time:
        # λ is infinite at t = 1: start where the grid can be refined
        path = dataclasses.replace(path, t_start=0.999)
    x = starts(path)
    if target == "gaussian":
        denoiser, truth = gaussian(path), gaussian_flow(path, x, path.t_start, path.t_end)
    else:
        denoiser = mixture(path)
        truth = mixture_end(path)
    solver = registry().build("solvers", name)
    errors = []
    for steps in counts:
        plan = build_plan(solver, path, time_grid(path, steps, grid), "stop")
        errors.append(root_mean_square(execute(plan, denoiser, x) - truth))
    return slopes(counts, errors)


def check_moments(path: GaussianPath) -> None:
    """Mean and variance of the clean output for N(0.3, 0.25), exactly, with 100 and 200 steps from the path's prior."""
    for solver, bound in ((DDPM(), 0.08), (DDIM(0.5), 0.08), (EDMHeun(churn=5.0), 0.02)):
        errors = []
        for steps in (100, 200):
            mean, variance = moments(build_plan(solver, path, time_grid(path, steps, "log-snr")), path, 0.3, 0.25)
            assert abs(mean - 0.3) < 0.03, (solver, mean)
            errors.append(abs(variance - 0.25))
        assert errors[0] < bound * 0.5, (solver, path, errors)
        assert errors[1] < bound * 0.25 + 1e-4, (solver, path, errors)


def interpret(plan: Plan, denoiser: Denoiser, start: Tensor, noise: NoiseSource | None = None) -> Tensor:
    """The plan run plainly: every register kept, nothing in place."""
    registers = {Plan.START: start.clone()}
    for i in plan.instructions:
        if isinstance(i, Evaluate):
            made = denoiser.predictions(registers[i.state].clone(), i.t, i.kinds)
            registers.update({out: value.clone() for out, value in zip(i.outs, made, strict=True)})
        elif isinstance(i, Noise):
            registers[i.out] = noise.draw(range(len(start)), i.draw, start.dtype)
        else:
            registers[i.out] = sum(c * registers[r] for r, c in i.terms)
    return registers[plan.result]


def check_executor(plan: Plan) -> None:
    """In place and differentiable runs equal the plain interpreter."""
    path = VPLinear()
    source = NoiseSource(StateSpec.single((2,)), 3)
    for denoiser in (gaussian(path), FunctionDenoiser(lambda y, t: y, path)):
        expected = interpret(plan, denoiser, starts(path, 4), source)
        for differentiable in (False, True):
            out = execute(plan, denoiser, starts(path, 4), noise=source, differentiable=differentiable)
            torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)


def small_plan() -> Plan:
    """Ten calls of 2M on VP."""
    return compile_plan("dpm-solver++-2m", VPLinear(), 10)


def check_reached(name: str, path: GaussianPath) -> None:
    """The state at the last node is close to the exact one there: the plan goes all the way."""
    x = starts(path)
    plan = build_plan(registry().build("solvers", name), path, time_grid(path, 20, "log-snr"), "stop")
    reached = [i.t for i in plan.instructions if isinstance(i, Evaluate)]
    assert len(reached) == 20, reached
    truth = gaussian_flow(path, x, path.t_start, path.t_end)
    assert root_mean_square(execute(plan, gaussian(path), x) - truth) < 0.05


def check_streams() -> None:
    """Sample 5 is the same alone and in any company, and nothing else is like it."""
    spec = StateSpec([Leaf("a", (3,)), Leaf("b", (3,))])
    source = NoiseSource(spec, 1)
    whole = source.draw(range(8), 0)
    assert torch.equal(source.draw([5, 2], 0), whole[[5, 2]]), "the batch reaches the noise"
    everything = torch.stack([whole, source.draw(range(8), 1), NoiseSource(spec, 2).draw(range(8), 0)]).flatten()
    assert everything.unique().numel() == everything.numel(), "two draws share numbers"


def check_symmetric_noise() -> None:
    """Unit variance off the diagonal of a symmetric leaf."""
    spec = StateSpec.single((4, 4), symmetric=True)
    draws = NoiseSource(spec, 0).draw(range(3000), 0, torch.float64)
    assert float((draws[:, *torch.triu_indices(4, 4, 1)].var(0) - 1).abs().max()) < 0.12


def linear_measurement(
    path: GaussianPath,
) -> tuple[LinearGaussianOracle, GaussianOracle, Tensor, Callable[..., Tensor]]:
    """y = A x_0 + n on three correlated variables: (E[x_0 | x_t, y], E[x_0 | x_t], y [1, 2], log p(y | D(x_t)))."""
    root = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.5, 0.0], [-0.3, 0.2, 0.7]], dtype=torch.float64)
    covariance, mean = root @ root.T, torch.tensor([0.4, -0.2, 0.1], dtype=torch.float64)
    operator = torch.tensor([[1.0, 0.5, 0.0], [0.0, -1.0, 2.0]], dtype=torch.float64)
    measurement, noise_std = torch.tensor([[0.7, -0.4]], dtype=torch.float64), 0.3
    truth = LinearGaussianOracle(path, mean, covariance, operator, noise_std)

    def log_density(data: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """y | x_t ~ N(A D, A S_t Aᵀ + s² I) with S_t = C - α² C (α² C + σ² I)^-1 C."""
        alpha, sigma = path.alpha(float(t)), path.sigma(float(t))
        noisy = alpha**2 * covariance + sigma**2 * torch.eye(3, dtype=torch.float64)
        left = covariance - alpha**2 * covariance @ torch.linalg.solve(noisy, covariance)
        spread = operator @ left @ operator.T + noise_std**2 * torch.eye(2, dtype=torch.float64)
        residual = measurement - data @ operator.T
        return -(residual @ torch.linalg.inv(spread) * residual).sum(1) / 2

    return truth, GaussianOracle(path, mean, covariance), measurement, log_density


def check_score_guidance(path: GaussianPath) -> None:
    """With the exact likelihood of D(x_t) the guided denoiser is the posterior's, in every kind."""
    truth, prior, measurement, log_density = linear_measurement(path)
    guided = ScoreGuidance(log_density)(prior)
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for t in times(path, 4):
        for kind in ("data", "noise", "score", "velocity", "flow", "edm"):
            value = guided.predict(path.prior_std * x, t, kind)
            expected = truth.predict(
                path.prior_std * x, t, kind, Conditioning({"measurement": measurement.expand(4, -1)})
            )
            torch.testing.assert_close(value, expected, rtol=1e-7, atol=1e-7 * float(expected.abs().max()))
