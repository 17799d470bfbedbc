"""Gradient guidance: rounds come to rest at a regularised optimum and keep to the support; orders of five samplers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from anydiff.denoisers import GaussianOracle
from anydiff.paths import VPCosine, VPLinear
from anydiff.pipeline import Ascent, optimise_states
from anydiff.samplers import sample
from anydiff.solvers import compile_plan, execute
from anydiff.states import standard_normal
from anydiff_benchmarks.claims.base import Claim, Verdict

ORDERS = {"euler": 1, "heun": 2, "ddim": 1, "euler-maruyama": 1, "ddpm": 1}
CLAIM = Claim(
    slug="overview_gradient_guidance",
    paper="Chen, Mei, Fan & Wang 2024, An overview of diffusion models, arXiv:2404.07771, with Guo et al. 2024, "
    "arXiv:2404.14743",
    says="Guidance by the gradient of a reward, through the network, converges to the optimum of the reward "
    "regularised by the data's law and keeps to the subspace of the data, which the gradient as it is "
    "leaves; samplers converge at the orders of their discretisation.",
    check="Rounds: Gaussian data in 6 dimensions (variances 0.1 to 0.7, random axes and mean), f = 10 - (θ·x - "
    "3)², |θ| = 1, y = η (s² + g·S g) + g·μ with η = 0.3, s = 0.1, exact scores, 200 DDPM steps on the "
    "cosine path, 1,000 samples, 10 rounds: distance of their mean from the maximum of f - |x - μ|² in "
    "S^-1 / (2 η) in standard errors of the mean. Support: x = A u, 4 of 16 dimensions, one round along g"
    " with |g across|/|g along| = 9 and a gain of |g|, s = 0.1, 500 samples, 200 DDPM steps: share of "
    "|x|² off the span of A, of the naive gradient at the gain that brings it to the reward of look-ahead"
    " (at equal gain it reaches less than half of that reward, with a share of 0.04 in a first run; both "
    "are stored). Orders: data N(0, 0.25), VP with β 0.1 to 20 from the exact law at t = 1 to 0.001, "
    "variance of the result without sampling; slope of the error of the standard deviation from 100 to "
    "400 uniform steps.",
    threshold="In every seed: distance below 3 standard errors; share off the support below 1e-3 for look-ahead and "
    "above 0.05 for naive. The slope of each sampler within 0.15 of its order, "
    + ", ".join(f"{name} {order}" for name, order in ORDERS.items())
    + ".",
    seeds=(0, 1, 2),
    minutes=4,
    files=("anydiff/guidance/gradient.py", "anydiff/pipeline/optimise.py"),
    recipes=("weather/gee",),
)
ETA, STEPS = 0.3, 200


def measure(seed: int) -> dict[str, float]:
    """The three parts; the last does not depend on the seed."""
    return {**rounds(seed), **support(seed), **orders()}


def _normal(seed: int, name: str, *shape: int) -> Tensor:
    drawn: Tensor = torch.from_numpy(standard_normal(seed, [0], 0, f"claim/overview_gradient_guidance/{name}", shape))[
        0
    ]
    return drawn


def _unit(seed: int, name: str, size: int) -> Tensor:
    return torch.nn.functional.normalize(_normal(seed, name, size), dim=0)


def rounds(seed: int, count: int = 1000) -> dict[str, float]:
    """Distance of the mean of the last round from the rest point, by either variance and by the naive gradient."""
    axes = torch.linalg.qr(_normal(seed, "axes", 6, 6))[0]
    covariance = axes @ torch.diag(torch.linspace(0.1, 0.7, 6, dtype=torch.float64)) @ axes.T
    mean, theta = _normal(seed, "mean", 6), _unit(seed, "theta", 6)
    # f'(x) = -2 (θ·x - 3) θ and S^-1 (x - μ)/η = f'(x) are linear in θ·x.
    along = covariance @ theta
    weight = 2 * ETA * float(theta @ along)
    rest = mean + 2 * ETA * along * (3 - float(theta @ mean)) / (1 + weight)
    oracle, noise = GaussianOracle(VPCosine(), mean, covariance), 0.1

    def draw(number: int, guidance: object) -> Tensor:
        drawn = 100 * seed + number
        return _drawn(oracle, count, drawn, guidance)

    def schedule(states: Tensor, gradient: Tensor) -> Tensor:
        spread = ((gradient @ covariance) * gradient).sum(1)
        asked: Tensor = ETA * (noise**2 + spread) + gradient @ mean
        return asked

    def reward(values: Tensor) -> Tensor:
        return 10 - (values @ theta - 3).square()

    numbers = {}
    for name, options in {
        "exact": {},
        "published": {"variance": "published"},
        "naive": {"by": "naive"},
    }.items():
        ascent = Ascent(10, target=schedule, noise_std=noise, **options)  # type: ignore[arg-type]
        states, rewards = optimise_states(draw, reward, ascent, range(count), batch_size=count)
        error = (states.T.cov().trace() / count).sqrt()
        numbers[f"distance, {name} (standard errors)"] = float((states.mean(0) - rest).norm() / error)
        numbers[f"reward of the mean, {name}"] = float(reward(states.mean(0)[None]))
        numbers["reward, round 0"] = float(rewards[0].mean())
        numbers[f"reward, {name}"] = float(rewards[-1].mean())
    return {**numbers, "reward of the rest point": float(reward(rest[None]))}


def _drawn(oracle: GaussianOracle, count: int, seed: int, guidance: object) -> Tensor:
    size = oracle.mean.shape
    return sample(
        oracle, size, count, solver="ddpm", nfe=STEPS, seed=seed, guidance=guidance, batch_size=count,
        dtype=torch.float64,
    )  # fmt: skip


def support(seed: int, count: int = 500) -> dict[str, float]:
    """Share of |x|² off the support after one round along a gradient that points off it."""
    basis, rest = torch.linalg.qr(_normal(seed, "support", 16, 16))[0].split([4, 12], dim=1)
    along, across = _unit(seed, "along", 4), _unit(seed, "across", 12)
    gradient = basis @ along + 9 * (rest @ across)
    oracle = GaussianOracle(VPCosine(), torch.zeros(16, dtype=torch.float64), basis @ basis.T)
    gain, numbers = float(gradient.norm()), dict[str, float]()
    # The scores are linear, so the mean reward is proportional to the gain: a third round of the naive gradient asks
    # for as much more as brings it to the reward of look-ahead.
    for name, by in (("look-ahead", "look-ahead"), ("naive, equal gain", "naive"), ("naive", "naive")):
        if name == "naive":
            gain *= numbers["reward, look-ahead"] / numbers["reward, naive, equal gain"]
        states, rewards = optimise_states(
            lambda number, guidance: _drawn(oracle, count, 100 * seed + number, guidance),
            lambda values: values @ gradient,
            Ascent(1, gain=gain, noise_std=0.1, by=by),
            range(count),
            batch_size=count,
        )
        off = (states @ rest).square().sum(1) / states.square().sum(1)
        numbers[f"off the support, {name}"] = float(off.mean())
        numbers[f"reward, {name}"] = float(rewards[1].mean())
    return {f"one round: {name}": value for name, value in numbers.items()}


class _Basis:
    """Noise by which every row has one unit draw: row k has 1 in draw k and 0 elsewhere."""

    def draw(self, samples: object, draw: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        out = torch.zeros(len(samples), 1, dtype=dtype, device=device)  # type: ignore[arg-type]
        if draw < len(out):
            out[draw] = 1
        return out


def orders() -> dict[str, float]:
    """Slope of the error of the standard deviation over the number of steps, of each sampler."""
    path, variance = VPLinear(t_end=1e-3), 0.25
    oracle = GaussianOracle(path, torch.zeros(1, dtype=torch.float64), variance)
    numbers = {}
    for name in ORDERS:
        errors = []
        for steps in (100, 400):
            plan = compile_plan(name, path, steps * (2 if name == "heun" else 1), "time", "stop")
            # The result is linear in x_T and in each draw: row 0 carries x_T, row k the k-th draw.
            start = torch.zeros(plan.draws + 1, 1, dtype=torch.float64)
            start[0] = math.sqrt(path.alpha(path.t_start) ** 2 * variance + path.sigma(path.t_start) ** 2)
            columns = execute(plan, oracle, start, noise=_Basis())
            exact = math.sqrt(path.alpha(path.t_end) ** 2 * variance + path.sigma(path.t_end) ** 2)
            errors.append(abs(float(columns.square().sum().sqrt()) - exact))
        numbers[f"order, {name}"] = math.log(errors[0] / errors[1]) / math.log(4)
        numbers[f"error, {name}, 400 steps"] = errors[1]
    return numbers


def judge(rows: list[dict[str, float]]) -> Verdict:
    """All three parts in every seed."""
    rests = all(0 <= r["distance, exact (standard errors)"] < 3 for r in rows)
    keeps = all(
        0 <= r["one round: off the support, look-ahead"] < 1e-3 and 0.05 < r["one round: off the support, naive"] <= 1
        for r in rows
    )
    right = all(abs(r[f"order, {name}"] - order) <= 0.15 for r in rows for name, order in ORDERS.items())
    middle = rows[len(rows) // 2]
    furthest = max(r["distance, exact (standard errors)"] for r in rows)
    off = [r["one round: off the support, look-ahead"] for r in rows]
    published, naive = (middle[f"distance, {name} (standard errors)"] for name in ("published", "naive"))
    sentence = (
        f"Mean of round 10 at most {furthest:.2f} standard errors from the rest point (published variance "
        f"{published:.1f}, naive {naive:.1f}, middle seed); reward {middle['reward, round 0']:.2f} to "
        f"{middle['reward, exact']:.2f}. Off the support: look-ahead at most {max(off):.1e}, naive at least "
        f"{min(r['one round: off the support, naive'] for r in rows):.3f}. Orders: "
        + ", ".join(f"{name} {middle[f'order, {name}']:.2f}" for name in ORDERS)
        + "."
    )
    return Verdict("reproduced" if rests and keeps and right else "not reproduced", sentence)
