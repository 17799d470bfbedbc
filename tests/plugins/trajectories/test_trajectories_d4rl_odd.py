"""D4RL files whose columns or ends have two readings, and infos that have no row per step."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from anydiff.errors import FileFormatError
from anydiff_trajectories import files


def stored(path, **change):
    arrays = {"observations": np.zeros((4, 2)), "actions": np.zeros((4, 1)), "rewards": np.zeros(4),
              "terminals": np.arange(4) == 3, "timeouts": np.zeros(4), **change}  # fmt: skip
    with h5py.File(path, "w") as file:
        file.update(arrays)
    return path


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rewards": np.zeros((4, 2))}, r"rewards in .* has shape \(4, 2\), but needs one number per step"),
        ({"terminals": np.array([0, 0.5, 0, 1])}, r"terminals in .* holds 0\.5, but must be 0 or 1"),
        ({"timeouts": np.array([0, np.nan, 0, 1])}, "timeouts in .* holds nan, but must be 0 or 1"),
    ],
)
def test_columns_and_ends_of_two_readings_are_refused(tmp_path, change, sentence):
    with pytest.raises(FileFormatError, match=sentence):
        files.read_d4rl(stored(tmp_path / "a.hdf5", **change))


def test_columns_of_one_are_read_and_infos_without_rows_counted(tmp_path):
    path = stored(
        tmp_path / "a.hdf5", rewards=np.ones((4, 1)), **{"infos/goal": np.zeros((4, 2)), "infos/x": np.ones(3)}
    )
    with pytest.warns(UserWarning, match="1 infos of .* left out: infos/x"):
        (episode,) = files.read_d4rl(path)
    assert (episode.rewards.tolist(), set(episode.infos)) == ([1.0] * 4, {"goal"})


def test_arrays_behind_soft_links_are_read(tmp_path):
    path = stored(tmp_path / "a.hdf5", stored=np.full(4, 2.0), rewards=h5py.SoftLink("/stored"))
    (episode,) = files.read_d4rl(path)
    assert episode.rewards.tolist() == [2.0] * 4
