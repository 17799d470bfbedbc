"""Policy-guided diffusion: a policy trained on guided synthetic experience beats one on the data and on unguided."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from anydiff_benchmarks.claims.base import Claim, Verdict

if TYPE_CHECKING:
    from anydiff.metrics import SampleSet
    from anydiff.pipeline import Pipeline
    from anydiff_trajectories.learner import TD3BC

UPDATES, SETS, TRAJECTORIES, EPISODES = 5000, 5, 256, 64
SHARE = 240 / 256
COEFFICIENT = 0.3
"""Chosen on seed 50, by likelihood and dynamics error of the samples and not by returns."""
ARMS = {"data": None, "unguided": 0.0, "guided": COEFFICIENT}

CLAIM = Claim(
    slug="policy_guided_diffusion_learner",
    paper="Jackson et al. 2024, Policy-guided diffusion, arXiv:2404.06356",
    says="Agents trained on policy-guided synthetic data beat the same agents trained on the real data and on unguided "
    "synthetic data, on average over D4RL tasks, for TD3+BC and IQL.",
    check="Pendulum-v1, replay data of 180 episodes from random to nearly expert, the plugin's reference model of "
    "experience. TD3+BC (alpha 2.5, discount 0.98, learning rate 0.001), 5,000 updates of 256 transitions: on the data "
    "alone, or with 240 of 256 synthetic, drawn afresh every 1,000 updates as 256 trajectories of 32 rows (32 calls of "
    f"Heun), unguided or guided by the current actor (unit deviation) with coefficient {COEFFICIENT:g} (the first set "
    "is unguided). Normalised return of the last actor over 64 episodes, three seeds of learner, samples and tasks; "
    "beside it the data's own return and behaviour cloning.",
    threshold="Reproduced: guided exceeds both others in the mean over seeds by more than the standard error of the "
    "paired differences. Otherwise 'not at this scale' (one small task cannot show an average over many), but 'not "
    "reproduced' where guided is below unguided by more than two standard errors.",
    seeds=(0, 1, 2),
    needs=("anydiff-trajectories",),
    minutes=6,
    files=("anydiff_trajectories/policy_guided_diffusion.py", "anydiff_trajectories/learner.py"),
    recipes=("trajectories/pendulum-experience",),
)


def synthetic_set(pipeline: Pipeline, learner: TD3BC, coefficient: float, seed: int) -> SampleSet:
    """Trajectories guided towards the learner's present actor."""
    from anydiff_trajectories.domain import Trajectories
    from anydiff_trajectories.policy_guided_diffusion import GaussianPolicy, Steering, synthesise

    domain = pipeline.domain
    assert isinstance(domain, Trajectories)
    policy = GaussianPolicy(learner.actor, 1.0)
    steering = Steering(coefficient, solver="heun", grid="karras")
    given = policy if coefficient else None
    return synthesise(pipeline.denoiser, domain, given, TRAJECTORIES, steering, nfe=32, seed=seed)


def _train(pipeline: Pipeline, data: Any, coefficient: float | None, seed: int) -> tuple[TD3BC, dict[str, float]]:
    """The learner, and likelihood and dynamics error of its last synthetic set."""
    from anydiff_trajectories.learner import TD3BC, synthetic_transitions, transitions_of
    from anydiff_trajectories.metrics import DynamicsError
    from anydiff_trajectories.policy_guided_diffusion import GaussianPolicy, policy_likelihood

    learner = TD3BC(transitions_of(data.episodes), discount=0.98, learning_rate=1e-3, seed=seed)
    samples = None
    for number in range(SETS):
        if coefficient is not None:
            guided = coefficient if number else 0.0
            samples = synthetic_set(pipeline, learner, guided, seed=1000 * seed + number)
        made = None if samples is None else synthetic_transitions(samples)
        learner.train(UPDATES // SETS, made, share=SHARE)
    if samples is None:
        return learner, {}
    return learner, {
        "log-likelihood": policy_likelihood(samples, GaussianPolicy(learner.actor, 1.0)),
        "dynamics error": DynamicsError().compute(samples, pipeline.reference(256)),
    }


def measure(seed: int) -> dict[str, float]:
    """Normalised returns of the arms, of the data and of behaviour cloning."""
    from anydiff.pipeline import load
    from anydiff.recipes import build_dataset
    from anydiff_trajectories.data import EpisodeWindows
    from anydiff_trajectories.learner import behaviour_cloning
    from anydiff_trajectories.rollout import roll_out
    from anydiff_trajectories.scores import normalised_score

    torch.set_num_threads(1)
    pipeline = load("trajectories/pendulum-experience")
    data = build_dataset(pipeline.recipe, "train")
    assert isinstance(data, EpisodeWindows)

    def score(agent: Any) -> float:
        returns = roll_out(agent, "Pendulum-v1", EPISODES, seed=seed).returns
        return float(np.mean(normalised_score("Pendulum-v1", returns)))

    own = np.array([episode.total_return for episode in data.episodes])
    numbers = {
        "return, the data itself": float(np.mean(normalised_score("Pendulum-v1", own))),
        "return, behaviour cloning": score(behaviour_cloning(data.episodes, steps=2000, seed=seed)),
    }
    for name, coefficient in ARMS.items():
        learner, judged = _train(pipeline, data, coefficient, seed)
        numbers[f"return, TD3+BC on {name}"] = score(learner.agent())
        numbers.update({f"{key}, {name}": value for key, value in judged.items()})
    return numbers


def judge(rows: list[dict[str, float]]) -> Verdict:
    """Paired differences over the seeds."""
    arms = {name: np.array([row[f"return, TD3+BC on {name}"] for row in rows]) for name in ARMS}

    def above(other: str) -> float:
        """The mean paired difference in standard errors."""
        difference = arms["guided"] - arms[other]
        error = float(difference.std(ddof=1)) / math.sqrt(len(difference))
        return float(difference.mean()) / max(error, 1e-9)

    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    table = ", ".join(
        f"{name} {mean[f'return, TD3+BC on {name}']:.1f} ({arms[name].min():.1f} to {arms[name].max():.1f})"
        for name in ARMS
    )
    sentence = (
        f"Normalised return of TD3+BC: {table}; the data itself {mean['return, the data itself']:.1f}, behaviour "
        f"cloning {mean['return, behaviour cloning']:.1f}. Log-likelihood / dynamics error of the last set: unguided "
        f"{mean['log-likelihood, unguided']:.2f} / {mean['dynamics error, unguided']:.4f}, guided "
        f"{mean['log-likelihood, guided']:.2f} / {mean['dynamics error, guided']:.4f}."
    )
    if above("unguided") > 1 and above("data") > 1:
        return Verdict("reproduced", sentence)
    return Verdict("not reproduced" if above("unguided") < -2 else "not at this scale", sentence)
