"""Policy-guided diffusion: the target policy's likelihood rises while the dynamics stay those of the data."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from anydiff_benchmarks.claims.base import Claim, Verdict

if TYPE_CHECKING:
    from anydiff_trajectories.domain import Trajectories

Array = NDArray[np.float64]

CLAIM = Claim(
    slug="policy_guided_diffusion",
    paper="Jackson et al. 2024, Policy-guided diffusion, arXiv:2404.06356",
    says="With a larger guidance coefficient the synthetic trajectories are likelier under the target policy, at a "
    "dynamics error far below that of an autoregressive world model of comparable likelihood.",
    check="s' = 0.9 s + 0.5 a + 0.1 w, behaviour a ~ N(-0.3 s, 0.5²), target N(-0.9 s + 0.3, 0.2²), 12 steps: "
    "trajectories are Gaussian, so D is exact. The paper's sampler (x moved before each step of EDM's Heun, 64 levels "
    "20 to 0.002, no churn, gradient at x), 2,000 trajectories at coefficients 0, 0.0005, 0.001, 0.002: mean "
    "log-likelihood of the target, mean squared one-step error (floor 0.01). Against it a one-step linear world model "
    "without the action, fitted to 200 transitions, rolled out under the target.",
    threshold="In every seed: the likelihood rises strictly over the four coefficients; unguided is within 0.3 of the "
    "data; some coefficient gains at least 1.5 nats at an error of at most 0.0115; the world model's error is at least "
    "5 times that.",
    seeds=(0, 1, 2),
    needs=("anydiff-trajectories",),
    minutes=1,
    files=("anydiff_trajectories/policy_guided_diffusion.py",),
    recipes=("trajectories/pendulum-experience",),
)
STEPS, COUNT = 12, 2000
COEFFICIENTS = (0.0, 0.0005, 0.001, 0.002)
LEVELS = 64


def behaviour(random: np.random.Generator, count: int) -> tuple[Array, Array]:
    """States ``[count, STEPS]`` and actions of the behaviour policy."""
    state = random.standard_normal(count)
    states, actions = [], []
    for _ in range(STEPS):
        action = -0.3 * state + 0.5 * random.standard_normal(count)
        states.append(state)
        actions.append(action)
        state = 0.9 * state + 0.5 * action + 0.1 * random.standard_normal(count)
    return np.stack(states, axis=1), np.stack(actions, axis=1)


def law() -> tuple[Array, Array]:
    """Mean and covariance of the rows (a_0, s_0, a_1, s_1, ...) under the behaviour policy, exact."""
    # Every quantity is a linear map of independent standard normals: s_0, then an action's and a step's noise each.
    size = 1 + 2 * STEPS
    state = np.zeros(size)
    state[0] = 1.0
    rows = []
    for step in range(STEPS):
        action = -0.3 * state
        action[1 + 2 * step] += 0.5
        rows += [action, state]
        state = 0.9 * state + 0.5 * action
        state[2 + 2 * step] += 0.1
    matrix = np.stack(rows)
    return np.zeros(2 * STEPS), matrix @ matrix.T


def domain() -> Trajectories:
    """Rows (action, observation), not normalised."""
    from anydiff_trajectories.domain import Trajectories

    return Trajectories(horizon=STEPS, parts={"action": 1, "observation": 1})


def target_log_likelihood(states: Array, actions: Array) -> float:
    """Mean log N(a; -0.9 s + 0.3, 0.2²)."""
    residual = (actions - (-0.9 * states + 0.3)) / 0.2
    return float((-0.5 * residual**2).mean() - math.log(0.2) - 0.5 * math.log(2 * math.pi))


def dynamics_error(states: Array, actions: Array) -> float:
    """Mean (s' - 0.9 s - 0.5 a)²."""
    expected = 0.9 * states[:, :-1] + 0.5 * actions[:, :-1]
    return float(((states[:, 1:] - expected) ** 2).mean())


def guided(coefficient: float, seed: int) -> tuple[Array, Array]:
    """States and actions of the guided sampler with the exact denoiser."""
    from anydiff.denoisers import GaussianOracle
    from anydiff.paths import EDM
    from anydiff_trajectories.policy_guided_diffusion import GaussianPolicy, ShiftedEDM, Steering, synthesise

    mean, covariance = law()
    shaped = domain()
    oracle = GaussianOracle(
        EDM(t_start=20.0), torch.from_numpy(mean).reshape(shaped.spec.shape), torch.from_numpy(covariance)
    )
    policy = GaussianPolicy(lambda observation: -0.9 * observation + 0.3, 0.2)
    with warnings.catch_warnings():
        # The data's deviations are about 1, so noise of 20 leaves 0.1 % of their variance.
        warnings.simplefilter("ignore")
        steering = Steering(
            coefficient, "shift", denoised=False, cosine=0.0, solver=ShiftedEDM(churn=0.0), grid="karras"
        )
        samples = synthesise(oracle, shaped, policy, COUNT, steering, nfe=2 * LEVELS, seed=seed, batch_size=COUNT)
    values = samples.states.double().numpy()
    return values[..., 1], values[..., 0]


def world_model_error(random: np.random.Generator) -> float:
    """Error of s' = w s + noise, fitted to 200 transitions, rolled out for 12 steps under the target policy."""
    states, _ = behaviour(random, 200)
    chosen = random.integers(0, STEPS - 1, 200)
    now, after = states[np.arange(200), chosen], states[np.arange(200), chosen + 1]
    weight = float(now @ after / (now @ now))
    spread = float((after - weight * now).std())
    state = random.standard_normal(COUNT)
    rolled, taken = [], []
    for _ in range(STEPS):
        rolled.append(state)
        taken.append(-0.9 * state + 0.3 + 0.2 * random.standard_normal(COUNT))
        state = weight * state + spread * random.standard_normal(COUNT)
    return dynamics_error(np.stack(rolled, axis=1), np.stack(taken, axis=1))


def measure(seed: int) -> dict[str, float]:
    """Likelihood and dynamics error of the data, of each coefficient, and of the world model."""
    random = np.random.default_rng(seed)
    states, actions = behaviour(random, COUNT)
    numbers = {
        "log-likelihood, data": target_log_likelihood(states, actions),
        "error, data": dynamics_error(states, actions),
    }
    for coefficient in COEFFICIENTS:
        states, actions = guided(coefficient, seed)
        numbers[f"log-likelihood, {coefficient:g}"] = target_log_likelihood(states, actions)
        numbers[f"error, {coefficient:g}"] = dynamics_error(states, actions)
    numbers["error, world model"] = world_model_error(random)
    return numbers


def judge(rows: list[dict[str, float]]) -> Verdict:
    """All four conditions in every seed."""
    likelihoods = [[r[f"log-likelihood, {c:g}"] for c in COEFFICIENTS] for r in rows]
    rises = all(all(a < b for a, b in itertools.pairwise(each)) for each in likelihoods)
    unguided = all(abs(each[0] - r["log-likelihood, data"]) <= 0.3 for each, r in zip(likelihoods, rows, strict=True))
    gains = all(
        any(
            value - each[0] >= 1.5 and 0 <= r[f"error, {c:g}"] <= 0.0115
            for value, c in zip(each[1:], COEFFICIENTS[1:], strict=True)
        )
        for each, r in zip(likelihoods, rows, strict=True)
    )
    beaten = all(r["error, world model"] >= 5 * 0.0115 for r in rows)
    mean = {name: float(np.mean([r[name] for r in rows])) for name in rows[0]}
    sentence = (
        "Log-likelihood / error: "
        + ", ".join(f"{c:g}: {mean[f'log-likelihood, {c:g}']:.2f} / {mean[f'error, {c:g}']:.4f}" for c in COEFFICIENTS)
        + f"; data {mean['log-likelihood, data']:.2f} / {mean['error, data']:.4f}; world model "
        f"{mean['error, world model']:.3f}."
    )
    return Verdict("reproduced" if rises and unguided and gains and beaten else "not reproduced", sentence)
