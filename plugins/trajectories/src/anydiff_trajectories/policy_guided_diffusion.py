"""Policy-guided diffusion: synthetic experience that leans towards a target policy.

Jackson, Matthews, Lu, Ellis, Whiteson, Foerster, "Policy-guided diffusion", RLC 2024 (arXiv:2404.06356). A model of
the behaviour data is sampled with the score

    ∇ log p_b(x; σ) + λ ∇_a Σ_t log π(a_t | o_t),

the gradient through the actions alone (states would be pushed to where the policy is confident). Two modes:

- ``score``: the gradient is added to the score, whatever solver and number of steps: D moves by
  λ σ²/α w ∇_a log π with w = 1/(1 + (σ/α)²). The gradient is taken at D without its derivative by x, which for data of
  unit variance is w/α; without that factor the shift of D would grow as σ².
- ``shift``: as the paper's code, x moves by λ_i ∇_a log π before step i of EDM's stochastic sampler; the strength
  then depends on the number of steps.

The policy's likelihood is taken at the restored action (tanh included) and without the change of variables, so
saturated actions feel no gradient, as in the paper's code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from anydiff.denoisers import Denoiser
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.guidance import ScoreGuidance
from anydiff.metrics import SampleSet
from anydiff.paths import GaussianPath
from anydiff.samplers import sample
from anydiff.solvers import EDMHeun, LinearForm, Node, Plan, Program, Solver, compile_plan, execute
from anydiff.states import UNCONDITIONAL, Conditioning, NoiseSource
from anydiff_trajectories.domain import Trajectories

MODES = ("score", "shift")
_SHIFT = "trajectories/policy-shift"


class Policy(Protocol):
    """log π(a | o) of raw observations ``[..., d_o]`` and actions ``[..., d_a]``, differentiable in the actions."""

    def log_prob(self, observation: Tensor, action: Tensor) -> Tensor:
        """``[...]``."""
        ...


@dataclass(frozen=True)
class GaussianPolicy:
    """π(a | o) = N(mean(o), std²), independent per dimension; std 1 is how a deterministic actor is taken.

    Attributes:
        mean: raw observations ``[..., d_o]`` to raw actions ``[..., d_a]``.
        std: standard deviation, one number.
    """

    mean: Callable[[Tensor], Tensor]
    std: float = 1.0

    def log_prob(self, observation: Tensor, action: Tensor) -> Tensor:
        """Σ_d log N(a_d; mean_d, std²)."""
        residual = (action - self.mean(observation)) / self.std
        constant = math.log(self.std) + 0.5 * math.log(2 * math.pi)
        return (-0.5 * residual.square() - constant).sum(dim=-1)


def policy_log_likelihood(domain: Trajectories, policy: Policy, normalised: bool = False) -> Callable[..., Tensor]:
    """Σ_t log π(a_t | o_t) of states ``[B, horizon, width]`` as a function ``f(x, t, condition) -> [B]``.

    Its gradient reaches x through the actions alone.

    Args:
        domain: restores actions and observations.
        policy: the target policy; its parameters get no gradient.
        normalised: the gradient is g / (||g|| + 1e-8) per trajectory, and the value its inner product with x.
    """

    def log_likelihood(x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        observation = domain.raw("observation", x.detach())
        total: Tensor = policy.log_prob(observation, domain.raw("action", x)).sum(dim=1)
        return total

    def direction(x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        point = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(log_likelihood(point, t).sum(), point)
        norm = gradient.flatten(1).norm(dim=1).reshape(-1, 1, 1)
        # The constant belongs inside the division, or a zero gradient would give NaN.
        value: Tensor = (x * (gradient / (norm + 1e-8))).flatten(1).sum(dim=1)
        return value

    return direction if normalised else log_likelihood


def policy_guidance(
    domain: Trajectories,
    policy: Policy,
    coefficient: float,
    *,
    normalised: bool = False,
    denoised: bool = True,
    path: GaussianPath | None = None,
) -> ScoreGuidance:
    """Mode ``score``: λ w ∇_a log π added to the score in any solver; 0 is the unguided sampler bit for bit.

    Args:
        domain: restores actions and observations.
        policy: the target policy.
        coefficient: λ.
        normalised: see :func:`policy_log_likelihood`.
        denoised: take the gradient at D(x) (without the network's derivative) instead of at x.
        path: gives w = 1/(1 + (σ/α)²); w is 1 without it.
    """

    def scale(t: float) -> float:
        return coefficient if path is None else coefficient / (1 + math.exp(-2 * path.log_snr(float(t))))

    log_likelihood = policy_log_likelihood(domain, policy, normalised)
    # The number 0 says that nothing is guided, which a function of time cannot.
    return ScoreGuidance(log_likelihood, scale if coefficient else 0.0, at="data-direct" if denoised else "state")


def shift_coefficient(index: int, steps: int, coefficient: float, cosine: float = 0.3) -> float:
    """λ_i = coefficient (1 - i/n + cosine sin(π (i+1)/n)), and 0 in the last step."""
    if index == steps - 1:
        return 0.0
    return coefficient * (1 - index / steps + cosine * math.sin(math.pi * (index + 1) / steps))


@dataclass(frozen=True)
class ShiftedEDM(EDMHeun):
    """EDM's stochastic Heun sampler (Karras et al. 2022, algorithm 2) with x moved by the policy before each step.

    Attributes:
        churn: S_churn.
        churn_min: S_tmin.
        churn_max: S_tmax.
        noise_scale: S_noise.
    """

    churn: float = 80.0
    churn_min: float = 0.05
    churn_max: float = 50.0
    noise_scale: float = 1.003

    def steps(self, nfe: int) -> int:
        """n steps cost 2 n - 1 calls (and n more where the policy's gradient is taken at D)."""
        return (nfe + 1) // 2

    def before_step(self, program: Program, x: LinearForm, s: Node, index: int, steps: int) -> LinearForm:
        """The state moved by the policy."""
        return program.apply(_SHIFT, x, node=s, index=index, steps=steps)


@dataclass(frozen=True)
class Steering:
    """How a policy guides, and what carries it there.

    Attributes:
        coefficient: λ (mode ``score``) or the largest λ_i up to the cosine (mode ``shift``).
        mode: ``score`` or ``shift``, see the module.
        normalised: see :func:`policy_log_likelihood`.
        denoised: where the gradient is taken.
        cosine: weight of the sine in λ_i.
        solver: of mode ``score`` a name or a solver (``heun`` by default), of mode ``shift`` a :class:`ShiftedEDM`.
        grid: time grid; the path's default by default.

    Raises:
        UnknownNameError: no such mode.
        AnydiffError: a coefficient that is not finite, or another solver in mode ``shift``.
    """

    coefficient: float = 0.0
    mode: str = "score"
    normalised: bool = False
    denoised: bool = True
    cosine: float = 0.3
    solver: str | Solver | None = None
    grid: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UnknownNameError("mode of policy guidance", self.mode, MODES)
        if not math.isfinite(self.coefficient):
            raise AnydiffError(f"coefficient is {self.coefficient}, but must be a finite number; 0 is unguided.")
        if self.mode == "shift" and not isinstance(self.solver, ShiftedEDM | None):
            raise AnydiffError(
                f"solver is {self.solver!r}, but mode 'shift' needs a ShiftedEDM; leave it out, or give one."
            )


UNGUIDED = Steering()


def synthesise(
    denoiser: Denoiser,
    domain: Trajectories,
    policy: Policy | None,
    count: int,
    steering: Steering = UNGUIDED,
    *,
    nfe: int = 64,
    seed: int = 0,
    batch_size: int = 256,
) -> SampleSet:
    """``count`` trajectories of ``domain``, guided by ``policy``.

    A convolutional model may be sampled at another length than it was trained on: give ``domain.resized(horizon)``.

    Args:
        denoiser: the model of the behaviour data.
        domain: of the trajectories.
        policy: the target policy; None for unguided ones.
        count: how many.
        steering: how strongly the policy guides, in which mode, by which solver.
        nfe: budget of network calls.
        seed: whole number.
        batch_size: rows per network call.

    Raises:
        AnydiffError: mode ``shift`` on a path that scales the data.
    """
    count = natural_number("count", count)
    if steering.mode == "score":
        guidance = None
        if policy is not None:
            guidance = policy_guidance(
                domain, policy, steering.coefficient, normalised=steering.normalised, denoised=steering.denoised,
                path=denoiser.gaussian_path,
            )  # fmt: skip
        states = sample(
            denoiser, domain.spec, count, nfe=nfe, solver=steering.solver or "heun", grid=steering.grid, seed=seed,
            guidance=guidance, batch_size=batch_size,
        )  # fmt: skip
        return SampleSet(states, UNCONDITIONAL, domain)
    path = denoiser.gaussian_path
    if path.alpha(path.t_start) != 1.0 or path.sigma(1.0) != 1.0:
        raise AnydiffError("mode 'shift' moves x itself, which needs the path 'edm' (σ = t, α = 1); use mode 'score'.")
    plan = compile_plan(steering.solver or ShiftedEDM(), path, nfe, steering.grid, end="clean")
    shift = _Shift(denoiser, domain, policy, steering)
    states = torch.cat(
        [_shifted(denoiser, domain, plan, shift, range(begin, min(begin + batch_size, count)), seed)
         for begin in range(0, count, batch_size)]
    )  # fmt: skip
    return SampleSet(states, UNCONDITIONAL, domain)


def _shifted(
    denoiser: Denoiser, domain: Trajectories, plan: Plan, shift: _Shift, samples: Sequence[int], seed: int
) -> Tensor:
    noise = NoiseSource(domain.spec, seed, denoiser.path.noise_law)
    start = denoiser.gaussian_path.prior(noise.draw(samples, 0))
    condition = Conditioning(index=torch.tensor(samples))
    return execute(plan, denoiser, start, noise=noise, condition=condition, operations={_SHIFT: shift})


@dataclass(frozen=True)
class _Shift:
    """x <- x + λ_i ∇_a log π, the operation of :class:`ShiftedEDM`."""

    denoiser: Denoiser
    domain: Trajectories
    policy: Policy | None
    steering: Steering

    def __call__(self, x: Tensor, *, t: float, index: int, steps: int) -> Tensor:
        how = self.steering
        weight = shift_coefficient(index, steps, how.coefficient, how.cosine)
        if self.policy is None or weight == 0.0:
            return x
        base = self.denoiser(x, t) if how.denoised else x
        with torch.enable_grad():
            point = base.detach().requires_grad_()
            value = policy_log_likelihood(self.domain, self.policy, how.normalised)(point, t)
            (gradient,) = torch.autograd.grad(value.sum(), point)
        return x + weight * gradient


# What synthetic experience is judged by -----------------------------------------------------------------------------


def policy_likelihood(samples: SampleSet, policy: Policy) -> float:
    """Mean log π(a | o) over all rows (nats per action)."""
    domain = samples.domain
    assert isinstance(domain, Trajectories)
    states = samples.states.double()
    with torch.no_grad():
        value = policy.log_prob(domain.raw("observation", states), domain.raw("action", states))
    return float(value.mean())
