"""Policy-guided diffusion and the learners: exact gradients, exact posteriors, nothing where nothing is asked."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from anydiff.denoisers import GaussianOracle
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.guidance import ScoreGuidance
from anydiff.metrics import SampleSet
from anydiff.paths import EDM, VPCosine
from anydiff.paths.grids import karras
from anydiff.pipeline import Pipeline
from anydiff.recipes import load_recipe
from anydiff.samplers import sample
from anydiff.states import UNCONDITIONAL, Conditioning
from anydiff_trajectories.domain import Trajectories
from anydiff_trajectories.episodes import Episode
from anydiff_trajectories.generate import pendulum_episodes
from anydiff_trajectories.learner import (
    TD3BC,
    Transitions,
    behaviour_cloning,
    synthetic_transitions,
    transitions_of,
)
from anydiff_trajectories.metrics import DynamicsError, GoalError
from anydiff_trajectories.policy_guided_diffusion import (
    GaussianPolicy,
    ShiftedEDM,
    Steering,
    policy_guidance,
    policy_likelihood,
    policy_log_likelihood,
    shift_coefficient,
    synthesise,
)

DOMAIN = Trajectories(4, {"action": 1, "observation": 1})
POLICY = GaussianPolicy(lambda observation: -0.9 * observation + 0.3, 0.2)


def oracle(path=None):
    """A Gaussian law of 4 rows (a, s) with correlated entries."""
    factor = np.tril(np.random.default_rng(0).standard_normal((8, 8))) * 0.3 + np.eye(8)
    covariance = torch.from_numpy(factor @ factor.T)
    mean = torch.linspace(-0.5, 0.5, 8, dtype=torch.float64).reshape(4, 2)
    return GaussianOracle(path or EDM(), mean, covariance), mean.flatten(), covariance


# The gradient -------------------------------------------------------------------------------------------------------


def test_the_gradient_is_the_closed_form_and_touches_actions_alone():
    x = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(policy_log_likelihood(DOMAIN, POLICY)(x, 0.5).sum(), x)
    action, state = x.detach().unbind(-1)
    torch.testing.assert_close(gradient[..., 0], -(action - (-0.9 * state + 0.3)) / 0.04, rtol=1e-6, atol=1e-6)
    assert not gradient[..., 1].any()
    deterministic = GaussianPolicy(POLICY.mean)
    (gradient,) = torch.autograd.grad(policy_log_likelihood(DOMAIN, deterministic)(x, 0.5).sum(), x)
    torch.testing.assert_close(gradient[..., 0], -0.9 * state + 0.3 - action)


def test_the_gradient_passes_through_tanh_and_scaling_and_vanishes_where_saturated():
    normalisers = {
        "action": {"name": "squashed-gaussian", "mean": [0.1], "std": [1.5], "limit": [2.0]},
        "observation": {"name": "gaussian", "mean": [1.0], "std": [3.0]},
    }
    domain = Trajectories(4, {"action": 1, "observation": 1}, normalisers)
    x = torch.tensor([[[0.2, 0.4], [-0.3, 1.0], [0.0, 0.0], [9.0, 0.5]]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(policy_log_likelihood(domain, POLICY)(x, 0.5).sum(), x)
    action, state = x.detach().unbind(-1)
    raw = 2 * torch.tanh(0.1 + 1.5 * action)
    slope = 2 * (1 - torch.tanh(0.1 + 1.5 * action) ** 2) * 1.5
    expected = -(raw - (-0.9 * (1 + 3 * state) + 0.3)) / 0.04 * slope
    torch.testing.assert_close(gradient[..., 0], expected)
    assert abs(float(gradient[0, 3, 0])) < 1e-6


def test_a_normalised_gradient_has_length_one_and_a_zero_one_is_no_nan():
    x = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(policy_log_likelihood(DOMAIN, POLICY, True)(x, 0.5).sum(), x)
    torch.testing.assert_close(
        gradient.flatten(1).norm(dim=1), torch.ones(3, dtype=torch.float64), rtol=1e-6, atol=1e-6
    )
    indifferent = GaussianPolicy(lambda observation: torch.zeros_like(observation), 1.0)
    zero = torch.zeros(1, 4, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(policy_log_likelihood(DOMAIN, indifferent, True)(zero, 0.5).sum(), zero)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_policy_parameters_get_no_gradient():
    actor = torch.nn.Linear(1, 1)
    denoiser, _, _ = oracle()
    synthesise(denoiser, DOMAIN, GaussianPolicy(lambda o: actor(o.float())), 3, Steering(0.1), nfe=6)
    assert actor.weight.grad is None


# Sampling -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["score", "shift"])
def test_coefficient_zero_is_the_unguided_sampler_bit_for_bit(mode):
    denoiser, _, _ = oracle()
    plain = synthesise(denoiser, DOMAIN, None, 6, Steering(mode=mode), nfe=11).states
    assert torch.equal(plain, synthesise(denoiser, DOMAIN, POLICY, 6, Steering(0.0, mode), nfe=11).states)
    guided = synthesise(denoiser, DOMAIN, POLICY, 6, Steering(0.05, mode), nfe=11).states
    assert not torch.equal(plain, guided)
    assert torch.equal(
        guided, synthesise(denoiser, DOMAIN, POLICY, 6, Steering(0.05, mode), nfe=11, batch_size=4).states
    )


def test_without_churn_the_shifted_sampler_unshifted_is_edms_heun():
    denoiser, _, _ = oracle()
    ours = synthesise(denoiser, DOMAIN, None, 5, Steering(mode="shift", solver=ShiftedEDM(churn=0.0)), nfe=15).states
    other = sample(denoiser, DOMAIN.spec, 5, nfe=15, solver="heun", grid="karras")
    torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-4)


def test_the_shift_follows_the_papers_schedule():
    n = 10
    assert shift_coefficient(0, n, 2.0) == pytest.approx(2.0 * (1 + 0.3 * math.sin(math.pi / n)))
    assert shift_coefficient(n - 1, n, 2.0) == 0.0
    assert shift_coefficient(4, n, 1.0, cosine=0.0) == pytest.approx(0.6)
    nodes = karras(EDM(), n)
    assert len(nodes) == n + 1
    assert nodes[0] == 80.0
    assert nodes[-1] == 0.002


def test_one_shifted_step_is_x_plus_lambda_g():
    denoiser, _, _ = oracle()
    solver = ShiftedEDM(churn=0.0)
    steered = [Steering(c, "shift", denoised=False, solver=solver) for c in (0.0, 1.0)]
    plan_free = [synthesise(denoiser, DOMAIN, POLICY, 2, each, nfe=2).states for each in steered]
    # A single step is the last one, which is not shifted.
    assert torch.equal(*plan_free)


def test_the_exact_noised_likelihood_of_a_state_free_policy_gives_the_product_of_gaussians():
    """π = N(c, s²) per action: p(τ) Π π(a) is Gaussian; the sampler is affine, so its law is known without sampling."""
    denoiser, mean, covariance = oracle()
    c, s = 0.8, 0.5
    chosen = torch.zeros(4, 8, dtype=torch.float64)
    chosen[torch.arange(4), torch.arange(0, 8, 2)] = 1.0

    def log_likelihood(x, t, _):
        noisy = covariance + torch.eye(8, dtype=torch.float64) * float(t) ** 2
        gain = torch.linalg.solve(noisy, covariance).T
        posterior = covariance - gain @ covariance
        centre = (mean + (x.flatten(1).double() - mean) @ gain.T) @ chosen.T
        spread = chosen @ posterior @ chosen.T + s**2 * torch.eye(4, dtype=torch.float64)
        return torch.distributions.MultivariateNormal(torch.full((4,), c, dtype=torch.float64), spread).log_prob(centre)

    precision = torch.linalg.inv(covariance) + chosen.T @ chosen / s**2
    product = torch.linalg.inv(precision)
    expected = product @ (
        torch.linalg.solve(covariance, mean) + chosen.T @ torch.full((4,), c, dtype=torch.float64) / s**2
    )
    basis = torch.cat([torch.zeros(1, 8), torch.eye(8)]).double().reshape(9, 4, 2) * 80.0
    out = sample(
        denoiser, DOMAIN.spec, 9, nfe=256, solver="heun", grid="karras", start=basis, dtype=torch.float64,
        guidance=ScoreGuidance(log_likelihood, 1.0, at="state"),
    ).flatten(1)  # fmt: skip
    linear = (out[1:] - out[0]).T
    scale = float(covariance.diagonal().max())
    assert float((linear @ linear.T - product).abs().max()) < 0.03 * scale
    assert float((out[0] - expected).abs().max()) < 0.03
    cheap = sample(
        denoiser, DOMAIN.spec, 9, nfe=64, solver="heun", grid="karras", start=basis, dtype=torch.float64,
        guidance=policy_guidance(DOMAIN, GaussianPolicy(lambda o: torch.full_like(o, c), s), 0.3),
    ).flatten(1)[0]  # fmt: skip
    moved, wanted = (cheap - mean)[::2], (expected - mean)[::2]
    cosine = float(moved @ wanted / (moved.norm() * wanted.norm()))
    assert cosine > 0.5, "the paper's gradient moves the actions the same way"


def test_a_policy_guidance_of_coefficient_0_is_none():
    policy = GaussianPolicy(torch.zeros_like, 1.0)
    for path in (None, VPCosine()):
        assert not policy_guidance(DOMAIN, policy, 0.0, path=path).bends
        assert policy_guidance(DOMAIN, policy, 0.3, path=path).bends


def test_a_convolutional_model_makes_longer_trajectories():
    pipeline = Pipeline.untrained(load_recipe("trajectories/pendulum-experience", ["network.options.channels=8"]))
    longer = pipeline.domain.resized(129)
    samples = synthesise(pipeline.denoiser, longer, None, 2, nfe=3)
    assert samples.states.shape == (2, 129, 5)
    assert len(synthetic_transitions(samples)) == 2 * 128


def test_what_synthesis_refuses():
    denoiser, _, _ = oracle()
    with pytest.raises(UnknownNameError, match="mode of policy guidance"):
        Steering(mode="shifted")
    with pytest.raises(AnydiffError, match="coefficient is nan"):
        Steering(math.nan)
    with pytest.raises(AnydiffError, match="needs the path 'edm'"):
        synthesise(oracle(VPCosine())[0], DOMAIN, POLICY, 2, Steering(mode="shift"))
    with pytest.raises(AnydiffError, match="needs a ShiftedEDM"):
        Steering(mode="shift", solver="heun")
    with pytest.raises(AnydiffError, match="count is 0"):
        synthesise(denoiser, DOMAIN, POLICY, 0)


def test_policy_likelihood_of_known_rows():
    states = torch.zeros(2, 4, 2)
    expected = -0.5 * (0.3 / 0.2) ** 2 - math.log(0.2) - 0.5 * math.log(2 * math.pi)
    assert policy_likelihood(SampleSet(states, UNCONDITIONAL, DOMAIN), POLICY) == pytest.approx(expected)


# Metrics ------------------------------------------------------------------------------------------------------------


def test_dynamics_error_is_zero_on_real_steps_and_the_known_value_beside_them():
    domain = Trajectories(8, {"action": 1, "observation": 3}, environment="Pendulum-v1")
    states = domain.encode([episode.window(0, 8) for episode in pendulum_episodes(episodes=12, steps=8)])
    real = SampleSet(states, UNCONDITIONAL, domain)
    assert DynamicsError().compute(real, real) < 1e-9
    moved = states.clone()
    moved[:, -1, 3] += 0.5  # ω, which is observation 2 of the last row: one transition of seven, one entry of three
    spread = float(states[..., 3].double().flatten().std())
    expected = (0.5 / spread) ** 2 / (7 * 3)
    assert DynamicsError().compute(SampleSet(moved, UNCONDITIONAL, domain), real) == pytest.approx(expected, rel=1e-4)
    nowhere = SampleSet(torch.zeros(12, 4, 2), UNCONDITIONAL, DOMAIN)
    with pytest.raises(AnydiffError, match=r"set domain\.environment"):
        DynamicsError().compute(nowhere, nowhere)


def test_goal_error_is_a_distance():
    domain = Trajectories(4, {"action": 1, "observation": 2}, known=["goal"], goal_size=2)
    states = torch.zeros(3, 4, 3)
    samples = SampleSet(states, Conditioning.of(goal=torch.tensor([[3.0, 4.0]] * 3)), domain)
    assert GoalError().compute(samples, samples) == pytest.approx(5.0)


# Learners -----------------------------------------------------------------------------------------------------------


def test_transitions_do_not_cross_the_end_of_an_episode():
    known = Episode(
        np.arange(3.0)[:, None], np.ones((3, 1)), np.arange(3.0), terminal=True, final_observation=np.array([9.0])
    )
    cut = Episode(10 + np.arange(3.0)[:, None], np.ones((3, 1)), np.arange(3.0), timeout=True)
    found = transitions_of([known, cut])
    assert found.observations[:, 0].tolist() == [0, 1, 2, 10, 11]
    assert found.following[:, 0].tolist() == [1, 2, 9, 11, 12]
    assert found.terminals.tolist() == [0, 0, 1, 0, 0]


def test_synthetic_rows_after_an_end_are_left_out():
    domain = Trajectories(4, {"observation": 1, "action": 1, "reward": 1, "done": 1})
    states = torch.zeros(2, 4, 4)
    states[:, :, 1] = torch.arange(4.0)  # the columns: action, observation, reward, done
    states[0, 1, 3] = 0.9
    found = synthetic_transitions(SampleSet(states, UNCONDITIONAL, domain))
    assert found.observations[:, 0].tolist() == [0, 1, 0, 1, 2]
    assert found.terminals.tolist() == [0, 1, 0, 0, 0]
    with pytest.raises(AnydiffError, match="needs trajectories with rewards"):
        synthetic_transitions(SampleSet(torch.zeros(2, 4, 2), UNCONDITIONAL, DOMAIN))


def test_cloning_finds_a_linear_policy():
    random = np.random.default_rng(0)
    observations = random.uniform(-1, 1, (4, 100, 2))
    episodes = [Episode(o, 0.5 * o[:, :1] - 0.2 * o[:, 1:], np.zeros(100)) for o in observations]
    agent = behaviour_cloning(episodes, steps=400, hidden=32, learning_rate=3e-3)
    probe = random.uniform(-0.9, 0.9, (50, 2))
    np.testing.assert_allclose(agent.act(probe), 0.5 * probe[:, :1] - 0.2 * probe[:, 1:], atol=0.06)
    again = behaviour_cloning(episodes, steps=400, hidden=32, learning_rate=3e-3)
    np.testing.assert_array_equal(again.act(probe), agent.act(probe))


def test_cloning_with_goals_in_hindsight_goes_where_it_is_told():
    """Straight walks on a line, each after a goal that says nothing: only where they came to later tells the way."""
    random = np.random.default_rng(0)
    episodes = []
    for _ in range(60):
        walk = np.linspace(random.uniform(-1, 1), random.uniform(-1, 1), 11)
        episodes.append(
            Episode(walk[:-1, None], np.sign(np.diff(walk))[:, None], np.zeros(10), infos={"goal": np.zeros((10, 1))})
        )
    agent = behaviour_cloning(episodes, hindsight=True, steps=400, hidden=32, learning_rate=3e-3)
    start, goal = np.array([[0.0], [0.0], [-0.5], [0.5]]), np.array([[0.6], [-0.6], [0.4], [-0.4]])
    acted = agent.act({"observation": start, "desired_goal": goal})
    np.testing.assert_allclose(acted, [[1], [-1], [1], [-1]], atol=0.3)


def test_td3_with_cloning_leans_to_the_better_actions_and_mixes_as_told():
    """One step: reward -(a - 0.2)², behaviour uniform in [-1, 0.6], so cloning alone would give -0.2."""
    generator = torch.Generator().manual_seed(0)
    action = torch.rand(2000, 1, generator=generator) * 1.6 - 1
    observation = torch.randn(2000, 1, generator=generator)
    data = Transitions(observation, action, -((action[:, 0] - 0.2) ** 2), observation, torch.ones(2000))
    learner = TD3BC(data, hidden=32, learning_rate=1e-3)
    learner.train(300, batch_size=64)
    with torch.no_grad():
        grid = torch.tensor([[-0.8], [-0.2], [0.2]])
        values = learner._q(learner.critics, torch.zeros(3, 1), grid)[0]
    assert bool((values.diff() > 0).all()), "the critic ranks the actions as the reward does"
    assert learner.agent().act(np.zeros((1, 1)))[0, 0] > 0.0
    other = TD3BC(data, hidden=8)
    drawn = []
    other._update = lambda batch: drawn.append(batch)
    marked = Transitions(observation + 100, action, data.rewards, observation, data.terminals)
    other.train(2, marked, share=0.75, batch_size=40)
    assert [int((batch.observations > 50).sum()) for batch in drawn] == [30, 30]
    with pytest.raises(AnydiffError, match="share is 2"):
        other.train(1, marked, share=2.0)
