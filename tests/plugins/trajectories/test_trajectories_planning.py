"""Diffuser, Decision Diffuser, Trajectory Diffuser, the policy and its rollouts: reductions and exact relations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.pipeline import Pipeline
from anydiff.recipes import load_recipe
from anydiff.states import UNCONDITIONAL, Conditioning, NoiseSource
from anydiff_trajectories import rollout
from anydiff_trajectories.diffuser import DiffusionPlanner, plan_values, value_guidance
from anydiff_trajectories.policy import DiffusionPolicy, track_places
from anydiff_trajectories.tasks import rollouts as evaluator
from anydiff_trajectories.trajectory_diffuser import Entry, TrajectoryPlanner, entry_plan, refine


def untrained(name, *changes):
    pipeline = Pipeline.untrained(load_recipe(f"trajectories/{name}", ["network.options.channels=8", *changes]))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in pipeline.denoiser.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return pipeline


@pytest.fixture(scope="module")
def maze():
    return untrained("maze")


@pytest.fixture(scope="module")
def optimiser():
    return untrained("maze-optimiser")


@pytest.fixture(scope="module")
def pendulum():
    return untrained("pendulum")


ENDS = Conditioning.of(start=torch.tensor([[-1.0, -1.2, 0.0, 0.0]] * 3), goal=torch.tensor([[1.1, 0.9]] * 3))


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "dpm-solver++-2m", "heun", "euler", "unipc-3"])
def test_plans_begin_and_end_exactly_where_they_must_with_every_solver(maze, solver):
    states = maze.sample_set(3, nfe=6, solver=solver, condition=ENDS).states
    observation = states[..., maze.domain.layout["observation"]]
    assert torch.equal(observation[:, 0], ENDS.given["start"])
    assert torch.equal(observation[:, -1, :2], ENDS.given["goal"])


def test_known_entries_hold_at_every_step(maze):
    seen = []
    maze.sample_set(
        3, nfe=5, condition=ENDS, callbacks=[lambda step: seen.append((step.kind, step.prediction.clone()))]
    )
    assert len(seen) == 5
    for kind, prediction in seen:
        assert kind == "data"
        assert torch.equal(prediction[:, 0, 2:], ENDS.given["start"])
        assert torch.equal(prediction[:, -1, 2:4], ENDS.given["goal"])


# Value guidance -----------------------------------------------------------------------------------------------------


def test_value_guidance_shifts_the_score_by_the_gradient_of_the_value(pendulum):
    guided = value_guidance(pendulum, scale=0.7, stop=0.1)(pendulum.denoiser)
    path, network = pendulum.denoiser.path, pendulum.denoiser.network
    x, t = torch.randn(4, 32, 4, generator=torch.Generator().manual_seed(1)), 0.5
    condition = Conditioning.of(start=torch.randn(4, 3, generator=torch.Generator().manual_seed(2)))
    point = x.clone().requires_grad_()
    value = network.value_of(point, torch.full((4,), path.log_snr(t)).float(), condition)
    (gradient,) = torch.autograd.grad(value.sum(), point)
    with torch.no_grad():
        shift = guided(x, t, condition) - pendulum.denoiser(x, t, condition)
        assert torch.equal(guided(x, 0.1, condition), pendulum.denoiser(x, 0.1, condition))
    torch.testing.assert_close(shift, 0.7 * path.sigma(t) ** 2 / path.alpha(t) * gradient, rtol=1e-3, atol=1e-5)
    assert not gradient[:, 0, 1:].any(), "the known start is not what is pushed"


def test_the_value_reads_the_shrunk_state_beside_the_start_as_it_is(pendulum):
    network, path = pendulum.denoiser.network, pendulum.denoiser.path
    x, start = torch.randn(3, 32, 4, generator=torch.Generator().manual_seed(4)), torch.full((3, 3), 0.7)
    log_snr = torch.full((3,), float(path.log_snr(0.6)))
    shrunk = float(path.alpha(0.6)) * x
    shrunk[:, 0, 1:] = start
    condition = Conditioning.of(start=start)
    with torch.no_grad():
        torch.testing.assert_close(network.value_of(x, log_snr, condition), network.value(shrunk, log_snr))
        nothing = network.value_of(1e3 * x, torch.full((3,), -40.0), condition)
        torch.testing.assert_close(nothing, nothing[:1].expand(3), msg="pure noise has one value")


def test_a_constant_value_guides_nowhere(pendulum):
    condition = Conditioning.of(start=torch.zeros(2, 3))
    plain = DiffusionPlanner(pendulum, nfe=4).plan(condition, [0, 1], 0)
    import copy

    flat = copy.deepcopy(pendulum)
    with torch.no_grad():
        for parameter in flat.denoiser.network.value.exit[-1].parameters():
            parameter.zero_()
    guided = DiffusionPlanner(flat, nfe=4, value_scale=3.0).plan(condition, [0, 1], 0)
    assert torch.equal(plain, guided)


def test_the_best_candidate_is_kept(pendulum):
    condition = Conditioning.of(start=torch.randn(2, 3, generator=torch.Generator().manual_seed(3)))
    best = DiffusionPlanner(pendulum, nfe=3, candidates=4).plan(condition, [5, 9], 0)
    for row, index in enumerate((5, 9)):
        alone = pendulum.sample_set(
            range(4 * index, 4 * index + 4), nfe=3, condition={"start": condition.given["start"][row].expand(4, 3)}
        ).states
        chosen = alone[plan_values(pendulum, alone).argmax()]
        torch.testing.assert_close(best[row], chosen, rtol=1e-4, atol=1e-4)


# Trajectory Diffuser ------------------------------------------------------------------------------------------------


def test_no_steps_leave_the_autoregressive_plan(optimiser):
    planner = TrajectoryPlanner(optimiser, nfe=0)
    assert torch.equal(planner.plan(ENDS, [0, 1, 2], 0), planner.autoregressive(ENDS))
    plan = planner.autoregressive(ENDS)
    assert torch.equal(plan[:, 0, 2:], ENDS.given["start"])
    network = optimiser.denoiser.network
    with torch.no_grad():
        torch.testing.assert_close(plan[:, :-1, :2], network.inverse(plan[:, :-1, 2:], plan[:, 1:, 2:]))
        torch.testing.assert_close(
            plan[:, 1:, 2:], network.rollout(plan[:, :-1, 2:], ENDS.given["goal"]), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
def test_entering_at_the_top_with_the_priors_noise_is_the_plain_sampler(optimiser, solver):
    path = optimiser.denoiser.path
    noise = NoiseSource(optimiser.domain.spec, 4, path.noise_law).draw(range(3), 0)
    entered = refine(
        optimiser, path.prior(noise), Entry(path.t_start, 6, renoise=False, solver=solver), seed=4, condition=ENDS
    )
    plan = entry_plan(path, path.t_start, 6, solver)
    assert torch.equal(entered, optimiser.sample_set(3, solver=plan, seed=4, condition=ENDS).states)


def test_a_low_entry_keeps_the_plan_and_a_high_one_forgets_it(optimiser):
    states = torch.zeros(2, 48, 6)
    condition = ENDS.rows(slice(2))
    other = states + 2.0
    results = {
        level: [refine(optimiser, s, Entry(level, 3), seed=1, condition=condition) for s in (states, other)]
        for level in (0.002, 0.99)
    }
    gap = {level: float((a - b)[:, 5:40, 2:].abs().mean()) for level, (a, b) in results.items()}
    # The network is untrained, so even a low entry moves halfway to its D.
    assert gap[0.002] > 0.5
    assert gap[0.99] < 0.1


def test_entry_plans_spend_their_budget_and_refuse_what_is_no_level(optimiser):
    path = optimiser.denoiser.path
    plan = entry_plan(path, 0.3, 4)
    assert plan.nfe == 4
    assert plan.nodes[0] == 0.3
    log_snr = np.diff([path.log_snr(t) for t in plan.nodes])
    np.testing.assert_allclose(log_snr, log_snr[0])
    for level in (0.0, path.t_end, 1.5):
        with pytest.raises(AnydiffError, match="level is"):
            entry_plan(path, level, 4)
    with pytest.raises(AnydiffError, match="nfe is 0"):
        entry_plan(path, 0.3, 0)


def test_heads_that_are_missing_are_named(maze, optimiser, pendulum):
    with pytest.raises(AnydiffError, match="no rollout head"):
        TrajectoryPlanner(maze)
    with pytest.raises(AnydiffError, match="no value head"):
        value_guidance(maze)
    with pytest.raises(AnydiffError, match="candidates is 2"):
        DiffusionPlanner(optimiser, candidates=2)
    with pytest.raises(AnydiffError, match="needs the condition start"):
        TrajectoryPlanner(optimiser).autoregressive(UNCONDITIONAL)
    assert isinstance(DiffusionPolicy(optimiser).planner, TrajectoryPlanner)
    assert not isinstance(DiffusionPolicy(pendulum).planner, TrajectoryPlanner)


# The policy ---------------------------------------------------------------------------------------------------------


def observations(rows):
    random = np.random.default_rng(0)
    state = np.concatenate([random.uniform(1, 5, (rows, 2)), np.zeros((rows, 2))], axis=1)
    return {"observation": state, "achieved_goal": state[:, :2], "desired_goal": random.uniform(1, 5, (rows, 2))}


def test_a_row_acts_the_same_alone_and_among_others(maze):
    many = observations(4)
    together = DiffusionPolicy(maze, nfe=4).act(many)
    assert together.shape == (4, 2)
    alone = DiffusionPolicy(maze, nfe=4).act({name: value[:1] for name, value in many.items()})
    np.testing.assert_allclose(alone, together[:1], rtol=1e-4, atol=1e-5)
    single = DiffusionPolicy(maze, nfe=4).act({name: value[0] for name, value in many.items()})
    np.testing.assert_allclose(single, together[0], rtol=1e-4, atol=1e-5)


def test_it_plans_when_it_should(pendulum, maze):
    policy = DiffusionPolicy(pendulum, nfe=2, replan_every=3)
    for step in range(7):
        policy.act(np.tile([1.0, 0.0, 0.1], (2, 1)))
        assert policy.decisions == 1 + step // 3
    policy.reset()
    assert policy.decisions == 0
    once = DiffusionPolicy(maze, nfe=2)
    for _ in range(55):
        action = once.act(observations(2))
    assert once.decisions == 1, "a plan to a goal is made once and held at its end"
    assert np.isfinite(action).all()


def test_a_planned_action_is_followed_and_inverse_dynamics_corrects(maze):
    policy = DiffusionPolicy(untrained("pendulum", "network.options.heads=[value]"), nfe=2, replan_every=5)
    state = np.tile([1.0, 0.0, 0.1], (2, 1))
    for step in range(3):
        np.testing.assert_allclose(policy.act(state), policy.domain.raw("action", policy.states[:, step].double()))
    seen = observations(2)
    tracking = DiffusionPolicy(maze, nfe=2)
    tracking.act(seen)
    moved = {**seen, "observation": seen["observation"] + 0.05}
    planned = tracking.domain.raw("observation", tracking.states[:, 2].double()).numpy()
    np.testing.assert_allclose(tracking.act(moved), track_places(moved["observation"], planned))
    inverse = DiffusionPolicy(maze, nfe=2)
    inverse.tracker = None
    inverse.act(seen)
    with torch.no_grad():
        network, domain = maze.denoiser.network, maze.domain
        current, following = domain.normalise("observation", moved["observation"]), inverse.states[:, 2, 2:]
        expected = domain.restore("action", network.inverse(current, following).double())
    np.testing.assert_allclose(inverse.act(moved), expected)


def test_a_warm_start_enters_with_the_shifted_plan(pendulum):
    plain = {"candidates": 1, "value_scale": 0.0}
    policy = DiffusionPolicy(pendulum, nfe=4, replan_every=3, warm_start=0.3, warm_nfe=2, seed=6, **plain)
    state = np.tile([1.0, 0.0, 0.1], (2, 1))
    for _ in range(3):
        policy.act(state)
    before = policy.states.clone()
    policy.act(state)
    shifted = torch.cat([before[:, 3:], before[:, -1:].expand(-1, 3, -1)], dim=1)
    condition = Conditioning.of(start=policy.domain.condition("start", state))
    expected = refine(pendulum, shifted, Entry(0.3, 2), seed=6, indices=[1 << 20, (1 << 20) + 1], condition=condition)
    torch.testing.assert_close(policy.states, expected)


def test_a_recipe_says_how_its_agent_plans_and_the_caller_overrules_it():
    own = untrained("pendulum", "domain.options.planning={candidates: 3, value_scale: 0.5, replan_every: 2}")
    policy = DiffusionPolicy(own, nfe=2)
    assert (policy.planner.candidates, policy.replan_every, policy.warm_nfe) == (3, 2, 4)
    assert len(policy.planner.options["guidance"]) == 1
    policy = DiffusionPolicy(own, nfe=2, candidates=1, value_scale=0.0, replan_every=7)
    assert (policy.planner.candidates, policy.replan_every) == (1, 7)
    assert policy.planner.options["guidance"] == []
    decision = untrained("pendulum-decision")
    assert not isinstance(DiffusionPolicy(decision).planner, TrajectoryPlanner)
    assert isinstance(DiffusionPolicy(decision, from_noise=False).planner, TrajectoryPlanner)
    with pytest.raises(UnknownNameError, match="planning option 'candidate'"):
        untrained("pendulum", "domain.options.planning={candidate: 3}")


def test_returns_are_asked_for():
    decision = untrained("pendulum-decision")
    state = np.tile([1.0, 0.0, 0.1], (2, 1))
    good, bad, none = (
        DiffusionPolicy(decision, nfe=2, target_return=value).act(state) for value in (-5.0, -300.0, None)
    )
    assert np.abs(good - bad).max() > 1e-6
    assert np.abs(good - none).max() > 1e-6


def test_what_cannot_act():
    experience = untrained("pendulum-experience")
    with pytest.raises(AnydiffError, match="knows no start or has no actions"):
        DiffusionPolicy(experience)
    assert experience.domain.evaluate(experience, 2) == {}
    with pytest.raises(AnydiffError, match="needs 'observation'"):
        DiffusionPolicy(untrained("pendulum"), nfe=2).act({"state": np.zeros(3)})


# Rollouts -----------------------------------------------------------------------------------------------------------


class Still:
    def reset(self):
        self.resets = getattr(self, "resets", 0) + 1

    def act(self, observation):
        rows = len(observation["observation"] if isinstance(observation, dict) else observation)
        return np.zeros((rows, 2 if isinstance(observation, dict) else 1))


def test_rollouts_are_those_of_the_environment_one_by_one():
    from anydiff_trajectories.environments import make

    many = rollout.roll_out(Still(), "Pendulum-v1", 3, seed=1, at_once=2)
    for row in range(3):
        env = make("Pendulum-v1")
        env.reset(seed=rollout.FIRST_SEED + 1000 + row)
        total, end = 0.0, False
        while not end:
            _, reward, terminated, truncated, _ = env.step(np.zeros(1, dtype=np.float32))
            total, end = total + float(reward), terminated or truncated
        assert many.returns[row] == pytest.approx(total, rel=1e-5)
    assert many.steps.tolist() == [200] * 3
    assert many.success is None


def test_progress_is_told_and_chunks_change_nothing():
    told, agent = [], Still()
    one = rollout.roll_out(agent, "anydiff/Maze-v0", 5, at_once=2, report=lambda *counts: told.append(counts))
    assert told == [(2, 5), (4, 5), (5, 5)]
    assert agent.resets == 3
    whole = rollout.roll_out(Still(), "anydiff/Maze-v0", 5)
    np.testing.assert_array_equal(one.returns, whole.returns)
    assert whole.success is not None


def test_an_action_that_is_not_finite_is_refused():
    class Broken(Still):
        def act(self, observation):
            return super().act(observation) * np.nan

    with pytest.raises(AnydiffError, match="not finite"):
        rollout.roll_out(Broken(), "anydiff/Maze-v0", 1)


def test_the_interval_holds_the_mean_and_shrinks():
    random = np.random.default_rng(0)
    widths = []
    for count in (20, 2000):
        values = random.standard_normal(count)
        low, high = rollout.interval(values)
        assert low < values.mean() < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(2 * 1.96 / np.sqrt(2000), rel=0.15)
    assert widths[0] > 5 * widths[1]


def test_evaluate_adds_the_rollouts_to_the_metrics(maze):
    told = []
    scores = maze.evaluate(12, nfe=2, report=lambda *counts: told.append(counts))
    assert {"trajectories/normalised-return", "trajectories/success-rate", "trajectories/seconds-per-decision"} <= set(
        scores
    )
    low, mean, high = (scores[f"trajectories/normalised-return{end}"].value for end in ("-low", "", "-high"))
    assert low <= mean <= high
    assert told == [(12, 12)]
    same = evaluator(maze, 12, 0, nfe=2)
    assert same["trajectories/normalised-return"].value == mean
