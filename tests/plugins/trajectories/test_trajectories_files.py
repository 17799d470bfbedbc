"""D4RL and Minari files made by stepping real Gymnasium environments; and everything that can be wrong with one."""

from __future__ import annotations

import gymnasium
import h5py
import minari
import numpy as np
import pytest

from anydiff.errors import AnydiffError, FileFormatError
from anydiff_trajectories import files
from anydiff_trajectories.domain import Trajectories
from anydiff_trajectories.episodes import Episode, discounted_returns, windows
from anydiff_trajectories.generate import environment_episodes, maze_episodes, pendulum_episodes


def stepped(environment, episodes, steps, seed=0):
    """A D4RL dictionary and the episodes, by stepping one real environment with random actions."""
    env = gymnasium.make(environment)
    env.action_space.seed(seed)
    rows = {name: [] for name in ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")}
    made = []
    for number in range(episodes):
        observation, _ = env.reset(seed=seed + number)
        begin = len(rows["rewards"])
        for step in range(steps):
            action = env.action_space.sample()
            following, reward, terminated, _, _ = env.step(action)
            end = terminated or step == steps - 1
            values = (observation, action, reward, terminated, end and not terminated, following)
            for name, value in zip(rows, values, strict=True):
                rows[name].append(value)
            observation = following
            if end:
                break
        part = {name: np.array(value[begin:]) for name, value in rows.items()}
        made.append(
            Episode(part["observations"], part["actions"], part["rewards"], bool(part["terminals"][-1]),
                    bool(part["timeouts"][-1]), part["next_observations"][-1])
        )  # fmt: skip
    env.close()
    return {name: np.array(value) for name, value in rows.items()}, made


@pytest.fixture(scope="module", params=["Pendulum-v1", "Hopper-v5"])
def recorded(request):
    if request.param == "Hopper-v5":
        pytest.importorskip("mujoco")
    return request.param, *stepped(request.param, 3, 40)


def write_raw(path, arrays):
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file.create_dataset(name, data=value)


def same(one, two, tolerance=1e-6):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a.observations, b.observations, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(a.actions, b.actions, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(a.rewards, b.rewards, rtol=tolerance, atol=tolerance)
        assert (a.terminal, a.timeout) == (b.terminal, b.timeout)


def test_d4rl_files_of_real_environments_split_into_their_episodes(recorded, tmp_path):
    _, arrays, episodes = recorded
    write_raw(tmp_path / "data.hdf5", arrays)
    same(files.read_d4rl(tmp_path / "data.hdf5"), episodes)


def test_d4rl_round_trip_and_columns_of_one(recorded, tmp_path):
    _, arrays, episodes = recorded
    files.write_d4rl(episodes, tmp_path / "out.hdf5")
    same(files.read_d4rl(tmp_path / "out.hdf5"), episodes, 1e-5)
    wide = {**arrays, "rewards": arrays["rewards"][:, None], "metadata/algorithm": np.array(["random"], dtype="S6")}
    write_raw(tmp_path / "wide.hdf5", wide)
    same(files.read_d4rl(tmp_path / "wide.hdf5"), episodes)


def test_the_next_observation_at_a_timeout_is_not_believed(tmp_path):
    arrays, _ = stepped("Pendulum-v1", 2, 5)
    arrays["next_observations"][4] = 99.0  # the first state of the next episode, as in published files
    write_raw(tmp_path / "data.hdf5", arrays)
    first, second = files.read_d4rl(tmp_path / "data.hdf5")
    assert first.final_observation is None
    assert second.final_observation is None


def test_infos_are_split_with_their_episodes(tmp_path):
    episodes = maze_episodes(episodes=3, steps=6)
    files.write_d4rl(episodes, tmp_path / "maze.hdf5")
    with h5py.File(tmp_path / "maze.hdf5") as file:
        assert set(file) == {
            "observations",
            "actions",
            "rewards",
            "terminals",
            "timeouts",
            "next_observations",
            "infos",
        }
    for one, two in zip(episodes, files.read_d4rl(tmp_path / "maze.hdf5"), strict=True):
        np.testing.assert_allclose(one.infos["goal"], two.infos["goal"])


def test_minari_itself_reads_what_is_written(recorded, tmp_path):
    environment, _, episodes = recorded
    files.write_minari(episodes, tmp_path / "data.minari", environment)
    dataset = minari.MinariDataset(tmp_path / "data.minari" / "data")
    assert dataset.total_episodes == len(episodes)
    assert dataset.total_steps == sum(len(episode) for episode in episodes)
    assert dataset.env_spec.id == environment
    for data, episode in zip(dataset.iterate_episodes(), episodes, strict=True):
        assert len(data.observations) == len(data.actions) + 1 == len(episode) + 1
        np.testing.assert_allclose(data.observations[-1], episode.final_observation)
    same(files.read_episodes(tmp_path / "data.minari"), episodes)


def test_conversion_keeps_the_number_of_transitions(recorded, tmp_path):
    _, _, episodes = recorded
    files.write_d4rl(episodes, tmp_path / "one.hdf5")
    files.write_minari(files.read_d4rl(tmp_path / "one.hdf5"), tmp_path / "two.minari")
    back = files.read_minari(tmp_path / "two.minari")
    assert [len(episode) for episode in back] == [len(episode) for episode in episodes]
    # What ends by timeout does not know its last observation in D4RL, so other readers see one true step less of it.
    lost = sum(not episode.terminal for episode in episodes)
    dataset = minari.MinariDataset(tmp_path / "two.minari" / "data")
    assert dataset.total_steps == sum(len(episode) for episode in episodes) - lost


def test_goal_environments_of_minari_keep_their_goals(tmp_path):
    pytest.importorskip("gymnasium_robotics")
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    def act(observation):
        return np.zeros((len(observation["observation"]), 2))

    made = environment_episodes("PointMaze_UMaze-v3", act, 1, 4)[0]
    assert made.observations.shape == (4, 4)
    space = gymnasium.spaces.Box(-np.inf, np.inf, (4,))
    goal = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    both = gymnasium.spaces.Dict({"observation": space, "desired_goal": goal})
    storage = MinariStorage.new(
        tmp_path / "data", observation_space=both, action_space=gymnasium.spaces.Box(-1, 1, (2,))
    )
    (tmp_path / "m").mkdir()
    observations = np.concatenate([made.observations, made.final_observation[None]])
    goals = np.concatenate([made.infos["goal"], made.infos["goal"][-1:]])
    storage.update_metadata({"dataset_id": "x-v0", "minari_version": minari.__version__})
    storage.update_episodes(
        [EpisodeBuffer(0, observations={"observation": list(observations), "desired_goal": list(goals)},
                       actions=list(made.actions), rewards=list(made.rewards), terminations=[False] * 4,
                       truncations=[False] * 3 + [True])]
    )  # fmt: skip
    read = files.read_minari(tmp_path)[0]
    np.testing.assert_allclose(read.observations, made.observations)
    np.testing.assert_allclose(read.infos["goal"], made.infos["goal"])


# Bad input ----------------------------------------------------------------------------------------------------------


def broken(tmp_path, change):
    arrays, _ = stepped("Pendulum-v1", 2, 10)
    change(arrays)
    write_raw(tmp_path / "bad.hdf5", arrays)
    return tmp_path / "bad.hdf5"


def test_without_timeouts_the_time_limit_must_be_given(tmp_path):
    path = broken(tmp_path, lambda arrays: arrays.pop("timeouts"))
    with pytest.raises(FileFormatError, match=r"no array 'timeouts'.*episode_steps="):
        files.read_d4rl(path)
    assert [len(episode) for episode in files.read_d4rl(path, episode_steps=10)] == [10, 10]
    with pytest.raises(AnydiffError, match="episode_steps is 0"):
        files.read_d4rl(path, episode_steps=0)


@pytest.mark.parametrize("name", ["observations", "actions", "rewards", "terminals"])
def test_a_required_array_is_named_when_it_is_missing(tmp_path, name):
    with pytest.raises(FileFormatError, match=f"no array '{name}'"):
        files.read_d4rl(broken(tmp_path, lambda arrays: arrays.pop(name)))


def test_wrong_lengths(tmp_path):
    path = broken(tmp_path, lambda arrays: arrays.update(rewards=arrays["rewards"][:-1]))
    with pytest.raises(FileFormatError, match=r"rewards in .* has 19 rows, but observations has 20"):
        files.read_d4rl(path)


def test_rewards_that_are_not_finite(tmp_path):
    def spoil(arrays):
        arrays["rewards"][13] = np.nan

    with pytest.raises(AnydiffError, match=r"rewards in .* is not finite at row 13"):
        files.read_d4rl(broken(tmp_path, spoil))


def test_discrete_actions(tmp_path):
    path = broken(tmp_path, lambda arrays: arrays.update(actions=np.zeros(20, dtype=np.int64)))
    with pytest.raises(AnydiffError, match="int64, which means discrete ones"):
        files.read_d4rl(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files(tmp_path, share):
    path = broken(tmp_path, lambda arrays: None)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FileFormatError, match=r"bad\.hdf5' cannot be read as an HDF5 file"):
        files.read_d4rl(path)


def test_what_is_no_file_of_either_kind(tmp_path):
    with pytest.raises(AnydiffError, match="does not exist"):
        files.read_episodes(tmp_path / "none.hdf5")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileFormatError, match="no Minari data set"):
        files.read_episodes(tmp_path / "folder")
    (tmp_path / "folder" / "metadata.json").write_text("{")
    with pytest.raises(FileFormatError, match="no readable Minari data set"):
        files.read_episodes(tmp_path / "folder")


def test_minari_does_not_write_over_a_folder(tmp_path):
    episodes = pendulum_episodes(episodes=1, steps=5)
    files.write_minari(episodes, tmp_path / "a.minari")
    with pytest.raises(AnydiffError, match="exists"):
        files.write_minari(episodes, tmp_path / "a.minari")
    with pytest.raises(AnydiffError, match="no episode"):
        files.write_minari([], tmp_path / "b.minari")
    assert not list(tmp_path.glob(".b*")), "nothing half-written is left"


# Episodes -----------------------------------------------------------------------------------------------------------


def test_windows_stay_inside_their_episodes():
    episodes = pendulum_episodes(episodes=3, steps=10)
    index = windows(episodes, 4, stride=3)
    assert index.tolist() == [[e, s] for e in range(3) for s in (0, 3, 6)]
    assert windows(episodes, 4, stride=4).tolist()[:3] == [[0, 0], [0, 4], [0, 6]], "the last window is always there"
    with pytest.raises(AnydiffError, match="horizon is 11, but the longest episode has 10"):
        windows(episodes, 11)


def test_a_window_ends_where_its_episode_does():
    episode = Episode(np.zeros((5, 2)), np.zeros((5, 1)), np.arange(5.0), terminal=True, final_observation=np.ones(2))
    assert not episode.window(0, 3).terminal
    np.testing.assert_array_equal(episode.window(0, 3).final_observation, np.zeros(2))
    assert episode.window(2, 3).terminal
    np.testing.assert_array_equal(episode.window(2, 3).final_observation, np.ones(2))
    with pytest.raises(AnydiffError, match="not all inside"):
        episode.window(3, 3)


def test_returns_are_discounted_from_each_step():
    rewards = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(discounted_returns(rewards, 0.5), [1 + 1 + 0.75, 2 + 1.5, 3])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"actions": np.zeros((3, 1))}, "actions has 3 rows, but observations has 4"),
        ({"rewards": np.full(4, np.inf)}, "rewards is not finite at step 0"),
        ({"actions": np.zeros((4, 1), dtype=int)}, "discrete"),
        ({"observations": np.zeros((4, 2, 2))}, "observations has shape"),
    ],
)
def test_bad_episodes(change, sentence):
    good = {"observations": np.zeros((4, 2)), "actions": np.zeros((4, 1)), "rewards": np.zeros(4)}
    with pytest.raises(AnydiffError, match=sentence):
        Episode(**{**good, **change})


def test_the_domain_reads_and_writes_both(tmp_path):
    domain = Trajectories(8, {"action": 1, "observation": 3}, environment="Pendulum-v1")
    episodes = [episode.window(0, 8) for episode in pendulum_episodes(episodes=2, steps=9)]
    for name in ("samples.hdf5", "samples.minari"):
        domain.write(episodes, tmp_path / name)
        for read, written in zip(domain.read(tmp_path / name), episodes, strict=True):
            np.testing.assert_allclose(read.observations, written.observations, rtol=1e-5, atol=1e-6)
