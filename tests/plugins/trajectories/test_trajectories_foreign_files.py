"""What other people's episodes hold: goals, bounds, short and cut episodes, other environments, complex numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import minari
import numpy as np
import pytest
import torch

from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.paths import VPCosine
from anydiff.states import Conditioning, VectorCondition
from anydiff_trajectories import files
from anydiff_trajectories.data import EpisodeFile, EpisodeWindows
from anydiff_trajectories.domain import Trajectories
from anydiff_trajectories.episodes import Episode, discounted_returns, returns_to_go
from anydiff_trajectories.generate import pendulum_episodes
from anydiff_trajectories.networks import Planner
from anydiff_trajectories.objective import Planning
from anydiff_trajectories.recipes import own_file


def goal_episodes(count=3, steps=5, final=True):
    random = np.random.default_rng(4)
    return [
        Episode(
            random.normal(size=(steps, 4)), random.uniform(-1, 1, (steps, 2)), np.arange(float(steps)),
            terminal=number == 0, timeout=number == 1, final_observation=np.full(4, 9.0) if final else None,
            infos={"goal": np.full((steps, 2), number), "achieved_goal": random.normal(size=(steps, 2)),
                   "qpos": random.normal(size=(steps, 3)), "contact/force": random.normal(size=(steps, 1))},
            action_bounds=(np.array([-1.0, -2.0]), np.array([1.0, 2.0])),
        )
        for number in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("final", [True, False], ids=["final observation", "no final observation"])
@pytest.mark.parametrize("name", ["episodes.minari", "folder"])
def test_a_relative_minari_folder_keeps_goals_positions_bounds_and_every_step(final, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    episodes = goal_episodes(final=final)
    files.write_episodes(episodes, Path(name))
    back = files.read_episodes(Path(name))
    for one, two in zip(episodes, back, strict=True):
        assert set(one.infos) == set(two.infos)
        for key, value in one.infos.items():
            np.testing.assert_array_equal(two.infos[key], value)
        np.testing.assert_array_equal(two.action_bounds, one.action_bounds)
        assert (two.final_observation is None) == (one.final_observation is None)
        for key in ("observations", "actions", "rewards", "terminal", "timeout"):
            np.testing.assert_array_equal(getattr(two, key), getattr(one, key))


def test_other_readers_of_a_minari_folder_see_goals_and_bounds_and_true_transitions_alone(tmp_path):
    files.write_minari(goal_episodes(final=False), tmp_path / "a.minari")
    dataset = minari.MinariDataset(tmp_path / "a.minari" / "data")
    np.testing.assert_array_equal(dataset.action_space.high, [1, 2])
    assert set(dataset.observation_space.spaces) == {"observation", "desired_goal", "achieved_goal"}
    for seen, made in zip(dataset.iterate_episodes(), goal_episodes(final=False), strict=True):
        np.testing.assert_array_equal(seen.observations["observation"], made.observations)
        np.testing.assert_array_equal(seen.actions, made.actions[:-1])
        assert not seen.terminations.any(), "the step that ended the episode is not among those that Minari can hold"
        assert seen.truncations.tolist() == [False, False, False, True]


def test_bounds_of_actions_survive_d4rl_and_come_from_the_environment(tmp_path):
    files.write_d4rl(goal_episodes(), tmp_path / "a.hdf5")
    np.testing.assert_array_equal(files.read_d4rl(tmp_path / "a.hdf5")[0].action_bounds, [[-1, -2], [1, 2]])
    files.write_minari(pendulum_episodes("expert", 2, 10), tmp_path / "p.minari", "Pendulum-v1")
    np.testing.assert_allclose(files.read_minari(tmp_path / "p.minari")[0].action_bounds, [[-2], [2]])


def test_one_step_without_what_came_after_it_is_refused_by_minari(tmp_path):
    single = Episode(np.zeros((1, 2)), np.zeros((1, 1)), np.zeros(1), terminal=True)
    with pytest.raises(AnydiffError, match=r"1 of 2 episodes \(the first is number 1\) have a single step"):
        files.write_minari([*goal_episodes(1), single], tmp_path / "a.minari")
    assert not (tmp_path / "a.minari").exists()


def test_a_domain_replaces_a_minari_folder_whole_and_nothing_else(tmp_path):
    domain = Trajectories(horizon=5, parts={"action": 2, "observation": 4})
    domain.write(goal_episodes(3), tmp_path / "a.minari")
    domain.write(goal_episodes(2), tmp_path / "a.minari")
    assert len(domain.read(tmp_path / "a.minari")) == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(AnydiffError, match="exists"):
        domain.write(goal_episodes(2), tmp_path / "mine")
    with pytest.raises(AnydiffError, match=r"ends in '\.npz'"):
        domain.write(goal_episodes(2), tmp_path / "a.npz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.minari", "mine"]


def test_complex_and_text_arrays_are_refused_instead_of_cut_to_their_real_part(tmp_path):
    steps = 4
    for name, value in (("observations", np.full((steps, 2), 1 + 2j)), ("rewards", np.full(steps, 1j))):
        arrays = {"observations": np.zeros((steps, 2)), "actions": np.zeros((steps, 1)), "rewards": np.zeros(steps),
                  "terminals": np.zeros(steps, bool), "timeouts": np.zeros(steps, bool), name: value}  # fmt: skip
        with h5py.File(tmp_path / f"{name}.hdf5", "w") as file:
            file.update(arrays)
        with pytest.raises(AnydiffError, match=f"{name}.*complex128.*must be real"):
            files.read_d4rl(tmp_path / f"{name}.hdf5")
    with pytest.raises(AnydiffError, match="must be real numbers"):
        Episode(np.array([["a"]]), np.zeros((1, 1)), np.zeros(1))


def falls_and_runs():
    """Nine episodes of 5 steps that end in a fall, and eleven of 20 that a time limit cut; every reward is 1."""
    return [
        Episode(np.full((steps, 1), number + 1.0), np.ones((steps, 1)), np.ones(steps), terminal=steps == 5,
                timeout=steps == 20)
        for number, steps in enumerate([5] * 9 + [20] * 11)
    ]  # fmt: skip


def test_episodes_shorter_than_the_horizon_are_padded_and_nothing_is_learned_from_the_padding():
    domain = Trajectories(horizon=8, parts={"action": 1, "observation": 1, "reward": 1, "done": 1}, returns="episode")
    data = EpisodeWindows("mine", falls_and_runs(), domain, "train")
    assert data.padded == 9, "one window for each fall"
    assert len(data) == 9 + 9 * 13
    states, condition = data.batch([0, 9])
    assert condition.loss_weight[:, :, 0].tolist() == [[1] * 5 + [0] * 3, [1] * 8]
    assert states[0, :, 1].tolist() == [1.0] * 8, "the last observation is held"
    assert states[0, :, 0].tolist() == states[0, :, 2].tolist() == [1.0] * 5 + [0.0] * 3
    assert states[0, :, 3].tolist() == [0.0] * 4 + [1.0] * 4
    torch.testing.assert_close(condition.given["returns"][0, 0], torch.tensor((1 - 0.99**5) / 0.01), rtol=1e-6, atol=0)
    whole = EpisodeWindows("mine", falls_and_runs()[9:], domain, "train")
    assert whole.batch([0])[1].loss_weight is None


def test_an_episode_that_a_time_limit_cut_is_no_fall_in_its_return():
    cut, fallen = Episode(*[np.ones((6, 1))] * 2, np.ones(6), timeout=True), falls_and_runs()[0]
    going_on = returns_to_go(cut, 0.9, "continue")
    np.testing.assert_allclose(going_on, 10.0, rtol=1e-12)  # a reward of 1 for ever: 1 / (1 - 0.9)
    np.testing.assert_array_equal(returns_to_go(cut, 0.9), discounted_returns(cut.rewards, 0.9))
    np.testing.assert_array_equal(
        returns_to_go(fallen, 0.9, "continue"), discounted_returns(fallen.rewards, 0.9), err_msg="a fall is a fall"
    )
    with pytest.raises(AnydiffError, match="discount is 1"):
        returns_to_go(cut, 1.0, "continue")
    recipe = own_file("mine.hdf5", falls_and_runs(), "", 8, "gaussian", None)
    assert recipe.domain.options["cut"] == "continue"
    assert own_file("mine.hdf5", falls_and_runs()[:9], "", 5, "gaussian", None).domain.options["cut"] == "end"


def test_the_return_of_a_window_is_of_its_own_rewards_however_its_episode_ended():
    domain = Trajectories(8, {"action": 1, "observation": 1}, returns="window", discount=0.9, cut="continue")
    _, condition = EpisodeWindows("mine", falls_and_runs(), domain).batch([9, 9 + 12])
    torch.testing.assert_close(
        condition.given["returns"][:, 0], torch.full((2,), (1 - 0.9**8) / 0.1), rtol=1e-6, atol=0
    )


def test_data_of_another_environment_are_refused(tmp_path):
    files.write_minari(pendulum_episodes("expert", 10, 12), tmp_path / "p.minari", "Pendulum-v1")
    options = {"horizon": 4, "parts": {"action": 1, "observation": 3}}
    assert len(EpisodeFile(str(tmp_path / "p.minari"), {**options, "environment": "Pendulum-v0"})) == 81
    with pytest.raises(AnydiffError, match=r"recorded in 'Pendulum-v1', but domain.options.environment is 'Hopper-v5'"):
        EpisodeFile(str(tmp_path / "p.minari"), {**options, "environment": "Hopper-v5"})


@pytest.mark.parametrize(
    "options",
    [{"normalisers": {"action": {"name": "gaussian", "mean": [0, 0], "std": [2, 2]}}}, {"known": ["start"]},
     {"goal_size": 1}, {"returns": "window"}, {"discount": 0.5}, {"returns_scale": 3.0}, {"cut": "continue"},
     {"parts": {"action": 3, "observation": 3}}],
)  # fmt: skip
def test_domains_of_equal_states_and_unequal_options_differ_in_their_codec(options):
    one, two = Trajectories(), Trajectories(**options)
    assert one.spec.shape == two.spec.shape
    assert one.codec != two.codec


def test_padding_has_no_part_in_the_loss_of_a_planner():
    domain = Trajectories(horizon=8, parts={"action": 1, "observation": 1})
    conditions = {"returns": VectorCondition(1)}
    torch.manual_seed(0)
    network = Planner(domain.spec, conditions, parts={"action": 1, "observation": 1}, channels=8,
                      heads=("inverse", "rollout"), unread=["returns"])  # fmt: skip
    for parameter in network.unet.parameters():
        torch.nn.init.zeros_(parameter)  # a prediction of zero everywhere, so that the loss shows its targets alone
    denoiser = NetworkDenoiser(network, VPCosine().bind(domain.spec), "data", 1.0, domain.spec)
    clean, noise, uniform = torch.randn(2, 8, 2), torch.randn(2, 8, 2), torch.tensor([0.3, 0.7], dtype=torch.float64)
    mask = torch.ones(2, 8, 1)
    mask[0, 5:] = 0
    other = clean.clone()
    other[0, 5:] = 100.0
    condition = Conditioning.of(returns=torch.zeros(2, 1))
    padded = replace(condition, loss_weight=mask)
    losses = [Planning()(denoiser, states, noise, uniform, padded) for states in (clean, other)]
    torch.testing.assert_close(*losses, rtol=0, atol=0)
    full = Planning()(denoiser, other, noise, uniform, condition)
    assert full[0] > 100 * losses[0][0]
