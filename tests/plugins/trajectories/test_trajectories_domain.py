"""States and episodes, normalisers, conditions, data sets, networks, the objective."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths import VPCosine
from anydiff.recipes import load_recipe
from anydiff.recipes.build import build_dataset, build_denoiser, build_objective
from anydiff.states import UNCONDITIONAL, Conditioning, StateSpec, VectorCondition
from anydiff_trajectories.data import EpisodeFile, MazeRuns, PendulumRuns
from anydiff_trajectories.domain import Trajectories
from anydiff_trajectories.episodes import Episode, discounted_returns
from anydiff_trajectories.files import write_d4rl
from anydiff_trajectories.generate import pendulum_episodes
from anydiff_trajectories.layout import Layout
from anydiff_trajectories.networks import Planner
from anydiff_trajectories.objective import Planning
from anydiff_trajectories.recipes import MAZE_NORMALISERS

# Domain -------------------------------------------------------------------------------------------------------------


def test_encode_and_decode_are_inverse_with_every_part():
    parts = {"observation": 3, "action": 1, "reward": 1, "done": 1, "return": 1}
    domain = Trajectories(6, parts, discount=0.9, returns_scale=10.0)
    random = np.random.default_rng(0)
    rewards = random.standard_normal(6)
    episode = Episode(random.standard_normal((6, 3)), random.standard_normal((6, 1)), rewards, terminal=True)
    state = domain.encode([episode])
    assert state.shape == (1, 6, 7)
    np.testing.assert_allclose(state[0, :, 6], discounted_returns(rewards, 0.9) / 10, rtol=1e-6)
    assert state[0, :, 5].tolist() == [0, 0, 0, 0, 0, 1]
    np.testing.assert_allclose(state[0, :, 0], episode.actions[:, 0], rtol=1e-6)
    reordered = Trajectories(6, dict(sorted(parts.items())), discount=0.9, returns_scale=10.0)
    assert torch.equal(reordered.encode([episode]), state), "the order of the keys does not matter"
    (back,) = domain.decode(state)
    np.testing.assert_allclose(back.observations, episode.observations, rtol=1e-6)
    np.testing.assert_allclose(back.rewards, rewards, rtol=1e-6)
    assert back.terminal
    torch.testing.assert_close(domain.encode([back]), state)


def test_known_entries_are_the_start_and_the_goal():
    domain = Trajectories(5, {"action": 1, "observation": 3}, known=["start", "goal"], goal_size=2)
    start, goal = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[4.0, 5.0]])
    condition = Conditioning.of(start=start, goal=goal)
    known, mask = domain.known_entries(condition)
    assert known[0, 0].tolist() == [0, 1, 2, 3]
    assert known[0, -1].tolist() == [0, 4, 5, 0]
    assert mask[0].sum(dim=1).tolist() == [3, 0, 0, 0, 2]
    _, mask = domain.known_entries(condition.hidden(["goal"]))
    assert not mask[0, -1].any()
    assert domain.known_entries(UNCONDITIONAL) is None


def test_conditions_as_text():
    domain = load_domain("trajectories/maze")
    condition = domain.parse_condition({"start": "1 1; 5,5", "goal": "5 5"}, 3)
    raw = domain.raw_condition("start", condition["start"])
    np.testing.assert_allclose(raw, [[1, 1, 0, 0], [5, 5, 0, 0], [1, 1, 0, 0]], atol=1e-6)
    assert domain.describe_condition(Conditioning(condition))[1] == "(5.0, 5.0) to (5.0, 5.0)"
    for text in ("", "1", "1 2 3", "here", "nan 1"):
        with pytest.raises(AnydiffError, match="start is"):
            domain.parse_condition({"start": text}, 1)
    with pytest.raises(UnknownNameError, match="condition"):
        domain.parse_condition({"label": "1"}, 1)
    returns = Trajectories(4, {"observation": 1}, returns="window", returns_scale=100.0)
    assert returns.parse_condition({"returns": "-50"}, 2)["returns"].tolist() == [[-0.5], [-0.5]]


def load_domain(recipe):
    from anydiff.recipes.build import build_domain

    return build_domain(load_recipe(recipe))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"horizon": 1}, "horizon is 1"),
        ({"parts": {"action": 1}}, "needs an observation"),
        ({"parts": {"observation": 1, "reward": 2}}, "one number per step"),
        ({"parts": {"observation": 1, "state": 2}}, "part of a state"),
        ({"known": ["end"]}, "known part"),
        ({"known": ["goal"], "goal_size": 9}, "goal_size is 9"),
        ({"returns": "all"}, "kind of returns"),
        ({"discount": 0.0}, "discount is 0"),
        ({"normalisers": {"action": {"name": "gaussian", "mean": [0.0], "std": [1.0]}}}, "has 1 dimensions, but"),
    ],
)
def test_bad_domains(options, sentence):
    with pytest.raises(AnydiffError, match=sentence):
        Trajectories(**options)


def test_bad_episodes_for_a_domain():
    domain = Trajectories(4, {"action": 2, "observation": 4})
    episode = Episode(np.zeros((4, 3)), np.zeros((4, 2)), np.zeros(4))
    with pytest.raises(AnydiffError, match="observation of episode 0 has 3 columns, but this domain has 4"):
        domain.encode([episode])
    with pytest.raises(AnydiffError, match="has 5 steps, but a state has 4"):
        domain.encode([Episode(np.zeros((5, 4)), np.zeros((5, 2)), np.zeros(5))])
    with pytest.raises(AnydiffError, match="not finite"):
        domain.decode(torch.full((1, 4, 6), torch.nan))
    assert Layout({"observation": 2}).width == 2


# Data sets ----------------------------------------------------------------------------------------------------------


def test_windows_are_the_episodes_rows_with_their_returns():
    options = {"horizon": 8, "returns": "episode", "discount": 0.9, "known": ["start"]}
    data = PendulumRuns(options, episodes=20)
    states, condition = data.batch([0, 5, len(data) - 1])
    assert len(data) == 18 * (200 - 8 + 1)
    episode = data.episodes[0]
    np.testing.assert_allclose(states[1, :, 1:], episode.observations[5:13], rtol=1e-6)
    np.testing.assert_allclose(states[1, :, :1], episode.actions[5:13], rtol=1e-6)
    assert torch.equal(condition.given["start"], states[:, 0, 1:])
    to_go = discounted_returns(episode.rewards, 0.9)
    assert float(condition.given["returns"][1, 0]) == pytest.approx(to_go[5], rel=1e-6)
    inside = PendulumRuns({**options, "returns": "window"}, episodes=20)
    expected = sum(0.9**k * episode.rewards[5 + k] for k in range(8))
    assert float(inside.batch([5])[1].given["returns"][0, 0]) == pytest.approx(expected, rel=1e-5)


def test_splits_share_no_episode():
    train, test = (MazeRuns({"horizon": 8}, split, episodes=20, steps=12) for split in ("train", "test"))
    assert len(train.episodes) == 18
    assert len(test.episodes) == 2
    first = {episode.observations.tobytes() for episode in train.episodes}
    assert not first & {episode.observations.tobytes() for episode in test.episodes}
    with pytest.raises(UnknownNameError, match="split"):
        MazeRuns({}, "validation", episodes=20)
    with pytest.raises(AnydiffError, match="10 are needed"):
        MazeRuns({"horizon": 8}, "test", episodes=5, steps=12)


def test_windows_that_stop_hold_a_place_they_came_to_at_rest():
    options = {"horizon": 8, "known": ["start", "goal"], "normalisers": MAZE_NORMALISERS}
    plain, data = (MazeRuns(options, episodes=20, steps=12, stops=stops) for stops in (0, 2))
    count = len(plain)
    assert len(data) == 3 * count
    (states, condition), (same, _) = plain.batch(range(count)), data.batch(range(count))
    assert torch.equal(states, same)
    stopped, ends = data.batch(range(count, 3 * count))
    layout, domain = data.domain.layout, data.domain
    place = slice(layout["observation"].start, layout["observation"].start + 2)
    held = set()
    for row, (window, base) in enumerate(zip(stopped, states.repeat(2, 1, 1), strict=True)):
        row_of_stop = int((window != base).any(dim=1).nonzero()[0]) if not torch.equal(window, base) else 8
        held.add(row_of_stop)
        assert torch.equal(ends.given["goal"][row], window[-1, place])
        assert (window[row_of_stop:, place] == base[min(row_of_stop, 7), place]).all()
        still = domain.raw("observation", window[row_of_stop:].double())[:, 2:]
        torch.testing.assert_close(still, torch.zeros_like(still), rtol=0, atol=1e-6)
    assert held >= set(range(1, 8))
    assert torch.equal(ends.given["start"], condition.given["start"].repeat(2, 1))


def test_the_users_own_file_is_data(tmp_path):
    write_d4rl(pendulum_episodes(episodes=12, steps=30), tmp_path / "own.hdf5")
    domain = {"horizon": 8, "parts": {"action": 1, "observation": 3}}
    data = EpisodeFile(str(tmp_path / "own.hdf5"), domain, stride=4)
    # Starts 0, 4, ..., 20 and the last window, from 22.
    assert len(data) == 11 * 7
    with pytest.raises(AnydiffError, match="observation in 'trajectories/file' has 3 columns, but the domain has 4"):
        EpisodeFile(str(tmp_path / "own.hdf5"), {"horizon": 8, "parts": {"action": 1, "observation": 4}})


# Network and objective ----------------------------------------------------------------------------------------------


def planner(**options):
    conditions = {"start": VectorCondition(3), "goal": VectorCondition(2), "returns": VectorCondition(1)}
    parts = {"action": 1, "observation": 3}
    torch.manual_seed(0)
    network = Planner(StateSpec.single((8, 4)), conditions, parts=parts, channels=8, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return network.eval()


def test_known_ends_reach_the_network_clean_whatever_the_state_holds():
    network = planner()
    start, goal = torch.randn(2, 3), torch.randn(2, 2)
    both, one = Conditioning.of(start=start, goal=goal), Conditioning.of(start=start)
    x, lam = torch.randn(2, 8, 4), torch.zeros(2)
    other = x.clone()
    other[:, 0, 1:] = 9.0
    other[:, -1, 1:3] = -9.0
    assert torch.equal(network(x, lam, both), network(other, lam, both))
    assert not torch.equal(network(x, lam, one), network(other, lam, one))
    assert torch.equal(network(x, lam, one.hidden(["start"])), network(x, lam))
    with pytest.raises(AnydiffError, match="'goal' has shape"):
        network(x, lam, Conditioning.of(goal=start))


def test_a_convolutional_planner_takes_any_horizon():
    network = planner()
    assert network(torch.randn(2, 21, 4), torch.zeros(2)).shape == (2, 21, 4)


def test_hidden_actions_are_neither_seen_nor_predicted_but_by_inverse_dynamics():
    network = planner(heads=["inverse"], hide=["action"])
    x, lam = torch.randn(2, 8, 4), torch.zeros(2)
    other = x.clone()
    other[..., 0] = 7.0
    out = network(x, lam)
    assert torch.equal(out, network(other, lam))
    expected = network.inverse(out[:, :-1, 1:], out[:, 1:, 1:])
    torch.testing.assert_close(out[:, :-1, :1], expected)
    assert not out[:, -1, 0].any()


def test_conditions_for_the_heads_alone_do_not_reach_the_prediction():
    network = planner(unread=["returns"])
    x, lam, condition = torch.randn(2, 8, 4), torch.zeros(2), Conditioning.of(returns=torch.ones(2, 1))
    assert torch.equal(network(x, lam, condition), network(x, lam))
    assert not torch.equal(planner()(x, lam, condition), planner()(x, lam))


def test_a_rollout_generates_what_it_predicts_step_by_step():
    network = planner(heads=["rollout"])
    history, goal = torch.randn(2, 3, 3), torch.randn(2, 2)
    rows = network.rollout.generate(history, 4, goal)
    assert rows.shape == (2, 7, 3)
    torch.testing.assert_close(rows[:, :3], history)
    with torch.no_grad():
        torch.testing.assert_close(network.rollout(rows[:, :-1], goal)[:, 2:], rows[:, 3:], rtol=1e-4, atol=1e-5)


def test_the_objective_leaves_known_and_hidden_entries_out():
    network = planner(heads=["inverse"], hide=["action"])
    denoiser = NetworkDenoiser(network, VPCosine(), "data")
    clean, noise, uniform = torch.randn(3, 8, 4), torch.randn(3, 8, 4), torch.full((3,), 0.4, dtype=torch.float64)
    condition = Conditioning.of(start=clean[:, 0, 1:], goal=clean[:, -1, 1:3])
    objective = Planning(head_weight=0.0)
    with torch.no_grad():
        loss = objective(denoiser, clean, noise, uniform, condition)
        moved = noise.clone()
        moved[:, 0, 1:] += 5.0
        moved[..., 0] -= 3.0
        torch.testing.assert_close(objective(denoiser, clean, moved, uniform, condition), loss)
        with_heads = Planning()(denoiser, clean, noise, uniform, condition)
        inverse = network.inverse(clean[:, :-1, 1:], clean[:, 1:, 1:]) - clean[:, :-1, :1]
    torch.testing.assert_close(with_heads - loss, inverse.square().flatten(1).mean(1))


def test_the_first_action_weighs_more():
    denoiser = NetworkDenoiser(planner(), VPCosine(), "data")
    clean, noise, uniform = torch.randn(2, 8, 4), torch.randn(2, 8, 4), torch.full((2,), 0.4, dtype=torch.float64)
    with torch.no_grad():
        plain = Planning()(denoiser, clean, noise, uniform)
        heavy = Planning(first_action_weight=10.0)(denoiser, clean, noise, uniform)
        t = Planning().times(VPCosine(), uniform)
        error = (denoiser(VPCosine().mix(t, x0=clean, noise=noise), t) - clean).square()
        gain = (plain / error.flatten(1).mean(1))[:, None, None]
    expected = (gain * error).flatten(1).sum(1) + 9 * (gain * error)[:, 0, 0]
    torch.testing.assert_close(heavy, expected / (8 * 4 + 9), rtol=1e-4, atol=1e-6)


def test_every_head_of_every_recipe_learns():
    for name in ("maze", "maze-optimiser", "pendulum", "pendulum-decision", "pendulum-experience"):
        recipe = load_recipe(f"trajectories/{name}", ["network.options.channels=8"])
        data, denoiser, objective = build_dataset(recipe, "test"), build_denoiser(recipe), build_objective(recipe)
        with torch.no_grad():
            for parameter in denoiser.parameters():
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        states, condition = data.batch(range(4))
        noise = torch.randn(states.shape, generator=torch.Generator().manual_seed(2))
        uniform = torch.linspace(0.2, 0.8, 4, dtype=torch.float64)
        condition = condition.hidden(condition.given, torch.tensor([False, True, False, True]))
        objective(denoiser, states, noise, uniform, condition).sum().backward()
        for key, parameter in denoiser.named_parameters():
            assert parameter.grad is not None, (name, key)
            assert parameter.grad.any(), (name, key)


def test_what_a_planner_cannot_be():
    spec = StateSpec.single((8, 4))
    with pytest.raises(UnknownNameError, match="head"):
        Planner(spec, parts={"observation": 4}, heads=["inverted"])
    with pytest.raises(AnydiffError, match="parts holds no action"):
        Planner(spec, parts={"observation": 4}, heads=["inverse"])
    with pytest.raises(AnydiffError, match="parts make rows of 3"):
        Planner(spec, parts={"observation": 3})
    with pytest.raises(AnydiffError, match="has no heads; train the network 'trajectories/planner'"):
        Planning()(NetworkDenoiser(torch.nn.Identity(), VPCosine()), torch.zeros(1, 8, 4), torch.zeros(1, 8, 4),
                   torch.full((1,), 0.5))  # fmt: skip
    with pytest.raises(AnydiffError, match="negative"):
        Planning(head_weight=-1.0)
