"""The maze, the simulators, the generated data, normalised scores: all against the environments themselves."""

from __future__ import annotations

import itertools

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff_trajectories import environments, scores
from anydiff_trajectories.controllers import PendulumController, WaypointController
from anydiff_trajectories.generate import environment_episodes, maze_episodes, pendulum_episodes
from anydiff_trajectories.maze import GOAL_RADIUS, MAPS, RADIUS, Maze, MazeEnv, MazeVectorEnv
from anydiff_trajectories.recipes import BESIDE_CORNERS, CORNERS, MAZE_RUNS, WAYS, never_joined
from anydiff_trajectories.simulators import pendulum_step, simulator


def test_the_maze_is_a_gymnasium_environment():
    env = environments.make("anydiff/Maze-v0")
    assert isinstance(env.unwrapped, MazeEnv)
    check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=0)
    for step in range(100):
        *_, truncated, _ = env.step(np.zeros(2))
        assert truncated == (step == 99)


def test_one_and_many_mazes_are_the_same():
    many = environments.make_many("anydiff/Maze-v0", 3)
    assert isinstance(many.unwrapped, MazeVectorEnv)
    actions = np.random.default_rng(0).uniform(-1.2, 1.2, (30, 3, 2))
    observation, _ = many.reset(seed=[5, 6, 7])
    for row in range(3):
        one = environments.make("anydiff/Maze-v0")
        alone, _ = one.reset(seed=5 + row)
        np.testing.assert_array_equal(alone["desired_goal"], observation["desired_goal"][row])
    singles = [environments.make("anydiff/Maze-v0") for _ in range(3)]
    for row, one in enumerate(singles):
        one.reset(seed=5 + row)
    for action in actions:
        observation, reward, *_ = many.step(action)
        for row, one in enumerate(singles):
            alone, alone_reward, *_ = one.step(action[row])
            np.testing.assert_array_equal(alone["observation"], observation["observation"][row])
            assert alone_reward == reward[row]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), name=st.sampled_from(sorted(MAPS)))
def test_no_push_leads_into_a_wall(seed, name):
    random = np.random.default_rng(seed)
    maze = Maze(name)
    cell = maze.free[int(random.integers(len(maze.free)))]
    state = np.array([[cell[1], cell[0], 0.0, 0.0]]).repeat(8, axis=0)
    push = random.uniform(-1, 1, (8, 2))
    for _ in range(40):
        state = maze.step(state, push if random.random() < 0.7 else random.uniform(-1, 1, (8, 2)))
        assert not maze.blocked(state[:, 0], state[:, 1]).any()
        assert np.abs(state[:, 2:]).max() <= 0.25 + 1e-12


def test_motion_in_the_open_is_the_stated_recursion():
    maze = Maze("open")
    state, action = np.array([[3.0, 2.0, 0.1, -0.05]]), np.array([[0.4, 2.0]])
    after = maze.step(state, action)
    velocity = 0.7 * state[:, 2:] + 0.075 * np.array([[0.4, 1.0]])
    np.testing.assert_allclose(after, np.concatenate([state[:, :2] + velocity, velocity], axis=1))
    wall = maze.step(np.array([[5.0 + 0.5 - RADIUS - 0.01, 2.0, 0.2, 0.0]]), np.array([[1.0, 0.0]]))
    assert wall[0, 2] == 0.0, "a wall takes the velocity towards it"


@pytest.mark.parametrize("layout", [["###", "#.", "###"], ["###", "#x#", "###"], ["#.#", "#.#", "###"], ["##", "##"]])
def test_layouts_that_are_no_closed_maze(layout):
    with pytest.raises(AnydiffError, match="layout"):
        Maze(layout)


def test_ways_through_the_maze():
    maze = Maze("hallway")
    way = maze.path((1, 1), (5, 5))
    assert way[0] == (1, 1)
    assert way[-1] == (5, 5)
    assert len(way) == 9
    with pytest.raises(AnydiffError, match="no free cell"):
        maze.path((1, 1), (1, 2))
    with pytest.raises(AnydiffError, match="no way leads"):
        Maze(["#####", "#.#.#", "#####"]).path((1, 1), (1, 3))
    with pytest.raises(UnknownNameError, match="did you mean 'hallway'"):
        Maze("hallways")


def test_the_controller_reaches_every_goal():
    env = MazeVectorEnv(40, "medium")
    observation, _ = env.reset(seed=0)
    controller = WaypointController(env.maze)
    controller.reset(observation)
    for _ in range(100):
        observation, *_, infos = env.step(controller.act(observation))
    assert infos["success"].all()
    assert GOAL_RADIUS == 0.5


def test_maze_data_are_rebuilt_by_their_seed():
    one, two, other = (maze_episodes(episodes=12, steps=60, seed=seed) for seed in (3, 3, 4))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.observations, b.observations)
        np.testing.assert_array_equal(a.actions, b.actions)
    assert np.abs(one[0].observations - other[0].observations).max() > 1e-3


def came_to(episode, cells):
    """The cells within whose centre's GOAL_RADIUS the episode ever was, as a set."""
    centres = np.array([[column, row] for row, column in cells])
    near = np.linalg.norm(episode.observations[:, None, :2] - centres, axis=-1) <= GOAL_RADIUS
    return {tuple(cells[index]) for index in np.flatnonzero(near.any(axis=0))}


def test_no_run_of_the_data_joins_a_pair_of_the_test_and_some_run_joins_every_other():
    episodes = maze_episodes(**MAZE_RUNS)
    for ends in (CORNERS, BESIDE_CORNERS):
        groups = never_joined(ends)
        assert {name: len(pairs) for name, pairs in groups.items()} == {"corridor": 4, "straight": 4}
        apart = {frozenset((tuple(a), tuple(b))) for pairs in groups.values() for a, b in pairs}
        joined = {frozenset(pair) for e in episodes for pair in itertools.combinations(came_to(e, ends), 2)}
        assert not joined & apart
        assert len(joined | apart) == 6


def test_the_way_of_every_pair_of_the_test_is_made_of_pieces_of_two_ways():
    maze = Maze("hallway")
    steps = [set(itertools.pairwise([tuple(cell) for cell in way])) for way in WAYS]
    steps = [one | {(b, a) for a, b in one} for one in steps]
    for start, goal in (pair for pairs in never_joined(CORNERS).values() for pair in pairs):
        taken = set(itertools.pairwise(maze.path(tuple(start), tuple(goal))))
        assert taken <= steps[0] | steps[1]
        assert not taken <= steps[0]
        assert not taken <= steps[1]


def test_the_environment_says_which_group_a_task_is_of():
    options = {"pairs": {"straight": [[[1, 1], [5, 1]]], "corridor": [[[1, 1], [1, 5]]]}}
    many = environments.make_many("anydiff/Maze-v0", 20, options)
    observation, infos = many.reset(seed=list(range(20)))
    for goal, group in zip(observation["desired_goal"], infos["group"], strict=True):
        assert cell(goal) == ((5, 1) if group == "straight" else (1, 5))
    assert environments.make("anydiff/Maze-v0", options).reset(seed=3)[1]["group"] == infos["group"][3]
    assert "group" not in environments.make("anydiff/Maze-v0").reset(seed=3)[1]
    with pytest.raises(AnydiffError, match="give at least one pair"):
        environments.make("anydiff/Maze-v0", {"pairs": []})


def cell(point):
    return round(float(point[1])), round(float(point[0]))


def test_pendulum_in_numpy_is_gymnasiums():
    env = gymnasium.make("Pendulum-v1")
    observation, _ = env.reset(seed=1)
    random = np.random.default_rng(0)
    for _ in range(60):
        action = random.uniform(-2.5, 2.5, 1)
        expected, expected_reward = pendulum_step(np.asarray(observation, dtype=float)[None], action[None])
        observation, reward, *_ = env.step(np.clip(action, -2, 2))
        np.testing.assert_allclose(expected[0], observation, atol=2e-6)
        assert float(expected_reward[0]) == pytest.approx(float(reward), abs=2e-5)


@pytest.mark.parametrize("name", ["Hopper-v5", "HalfCheetah-v5", "PointMaze_UMaze-v3"])
def test_mujoco_simulators_follow_recorded_steps(name):
    pytest.importorskip("gymnasium_robotics")
    random = np.random.default_rng(0)
    env = environments.make(name)
    size = env.action_space.shape[0]
    episode = environment_episodes(name, lambda o: random.uniform(-0.5, 0.5, (1, size)), 1, 6)[0]
    step = simulator(name)
    after, rewards = step(episode.observations[:-1], episode.actions[:-1])
    np.testing.assert_allclose(after, episode.observations[1:], atol=1e-6)
    if "Maze" not in name:
        np.testing.assert_allclose(rewards, episode.rewards[:-1], atol=1e-6)


def test_qualities_of_pendulum_are_in_order():
    returns = {q: np.mean([e.total_return for e in pendulum_episodes(q, 60)]) for q in ("random", "medium", "expert")}
    assert returns["random"] < returns["medium"] - 200
    assert returns["medium"] < returns["expert"] - 300
    assert returns["random"] < np.mean([e.total_return for e in pendulum_episodes("replay", 60)]) < returns["expert"]
    with pytest.raises(UnknownNameError, match="quality"):
        pendulum_episodes("good")
    with pytest.raises(UnknownNameError, match="quality"):
        PendulumController.of_quality("good")


# Environments that cannot be had ------------------------------------------------------------------------------------


def test_an_environment_that_is_not_installed_says_what_to_install():
    with pytest.raises(AnydiffError, match=r"'LunarLanderContinuous-v3'.*pip install 'gymnasium\[box2d\]'"):
        environments.make("LunarLanderContinuous-v3")
    with pytest.raises(AnydiffError, match=r"'Nowhere-v0' is not installed.*check its name"):
        environments.make_many("Nowhere-v0", 2)


def test_without_robotics_the_sentence_names_the_package(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    monkeypatch.setattr(gymnasium, "registry", {k: v for k, v in gymnasium.registry.items() if "PointMaze" not in k})
    monkeypatch.setattr("gymnasium.envs.registration.registry", gymnasium.registry)
    with pytest.raises(AnydiffError, match=r"pip install gymnasium-robotics 'mujoco==3\.3\.\*'"):
        environments.make("PointMaze_UMaze-v3")


def test_discrete_actions_are_refused():
    with pytest.raises(AnydiffError, match=r"'CartPole-v1' has the action space Discrete\(2\)"):
        environments.make("CartPole-v1")


def test_a_state_that_cannot_be_set():
    with pytest.raises(AnydiffError, match="cannot be set"):
        simulator("MountainCarContinuous-v0")


# Scores -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*scores.REFERENCE, *scores.OWN, "Hopper-v5"])
def test_scores_of_the_references_are_0_and_100_and_come_back(name):
    low, high = scores.reference_scores(name)
    assert scores.normalised_score(name, low) == 0.0
    assert scores.normalised_score(name, high) == pytest.approx(100.0, abs=1e-12)
    raw = np.linspace(low - 10, high + 10, 7)
    np.testing.assert_allclose(scores.raw_return(name, scores.normalised_score(name, raw)), raw, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("hopper-medium-replay-v2", "hopper"), ("maze2d-umaze-dense-v1", "maze2d-umaze-dense"), ("Ant-v4", "ant"),
        ("maze2d-umaze-v1", "maze2d-umaze"), ("antmaze-large-play-v2", "antmaze"), ("pen-human-v1", "pen"),
        ("bullet-hopper-medium-v0", "bullet-hopper"),
    ],
)  # fmt: skip
def test_families_of_d4rl(name, family):
    assert scores.reference_scores(name) == scores.REFERENCE[family]
    with pytest.raises(UnknownNameError):
        scores.reference_scores("hop")


def test_the_table_is_the_one_of_the_d4rl_package():
    infos = pytest.importorskip("d4rl.infos", reason="the optional package d4rl is not installed")
    for name, low in infos.REF_MIN_SCORE.items():
        assert scores.reference_scores(name) == (low, infos.REF_MAX_SCORE[name])
