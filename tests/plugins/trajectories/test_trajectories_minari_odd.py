"""Minari data sets that hold more, or less, than an episode here: counted, or one sentence."""

from __future__ import annotations

import warnings

import minari
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from anydiff.errors import AnydiffError
from anydiff_trajectories import files
from anydiff_trajectories.minari_folder import _from_minari

BOX, ACTION = Box(-np.inf, np.inf, (3,), dtype=np.float64), Box(-1, 1, (1,), dtype=np.float64)


def stored(folder, observation_space, **parts):
    """A data set of one episode of five steps."""
    (folder / "a").mkdir()
    storage = MinariStorage.new(folder / "a" / "data", observation_space=observation_space, action_space=ACTION)
    about = {"dataset_id": "x-v0", "minari_version": minari.__version__, "algorithm_name": "", "requirements": []}
    storage.update_metadata(about)
    given = {
        "observations": np.zeros((6, 3)), "actions": np.zeros((5, 1)), "rewards": np.ones(5),
        "terminations": np.zeros(5, bool), "truncations": np.arange(5) == 4, **parts,
    }  # fmt: skip
    storage.update_episodes([EpisodeBuffer(id=0, **given)])
    return folder / "a"


def test_what_has_no_place_is_counted(tmp_path):
    pixels = Box(0, 255, (2, 2), dtype=np.uint8)
    both = {"observation": np.zeros((6, 3)), "pixels": np.zeros((6, 2, 2), np.uint8)}
    infos = {"odd": np.zeros((3, 2)), "kept": np.zeros((6, 2))}
    path = stored(tmp_path, Dict({"observation": BOX, "pixels": pixels}), observations=both, infos=infos)
    with pytest.warns(UserWarning, match="'infos/odd' of 1, 'observations/pixels' of 1 of 1 episodes"):
        (episode,) = files.read_episodes(path)
    assert set(episode.infos) == {"kept"}


def test_nothing_is_said_where_all_is_kept(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        files.read_episodes(stored(tmp_path, BOX))


def test_an_episode_that_ends_before_its_end_is_refused(tmp_path):
    path = stored(tmp_path, BOX, terminations=np.arange(5) == 2)
    with pytest.raises(AnydiffError, match="episode 0 of 5 steps ends at step 2 already"):
        files.read_episodes(path)


def test_an_episode_without_steps_is_one_sentence():
    empty = EpisodeBuffer(id=7, observations=np.zeros((1, 3)), actions=np.zeros((0, 1)), rewards=np.zeros(0),
                          terminations=np.zeros(0, bool), truncations=np.zeros(0, bool))  # fmt: skip
    with pytest.raises(AnydiffError, match="episode 7 has no steps"):
        _from_minari(empty, {}, None, {})
