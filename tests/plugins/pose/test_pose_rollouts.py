"""Roll-outs of Gymnasium's Humanoid: a body's proportions, gravity, and a pure function of the seed."""

import sys

import numpy as np
import pytest

from anydiff.errors import AnydiffError
from anydiff_pose.rollouts import RolloutVideo, humanoid_rollouts
from anydiff_pose.skeletons import load_skeleton

INDEX = load_skeleton("humanoid15").index


def test_without_mujoco_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(AnydiffError, match=r"anydiff-pose\[rollouts\]"):
        humanoid_rollouts(1)
    for options, message in (({"episodes": 0}, "episodes"), ({"seconds": 0.0}, "seconds is 0.0")):
        with pytest.raises(AnydiffError, match=message):
            humanoid_rollouts(**options)


def test_a_figure_of_fixed_limbs_falls():
    pytest.importorskip("mujoco")
    clips = humanoid_rollouts(2, seconds=1.5, seed=3)
    assert np.array_equal(clips[1].positions, humanoid_rollouts(2, seconds=1.5, seed=3)[1].positions)
    assert not np.array_equal(clips[0].positions, clips[1].positions)
    for clip in clips:
        places = clip.positions
        assert places.shape == (90, 15, 3)
        assert places[0, INDEX("head"), 2] > 1.4 > places[0, INDEX("pelvis"), 2] > places[0, INDEX("left_knee"), 2]
        assert places[0, INDEX("left_hip"), 1] > places[0, INDEX("right_hip"), 1], "left is +y, as in every motion"
        assert places[-1, INDEX("pelvis"), 2] < 0.6
        assert places[..., 2].min() > -0.05
        thigh = np.linalg.norm(places[:, INDEX("right_hip")] - places[:, INDEX("right_knee")], axis=1)
        assert np.ptp(thigh) < 0.02, "no limb stretches, but for the line between two steps of the simulation"


def test_roll_outs_are_rendered():
    pytest.importorskip("mujoco")
    data = RolloutVideo("test", episodes=2, size=4)
    states, condition = data.batch(range(4))
    assert states.shape[:2] == (4, 15)
    assert condition.given["frames"].shape == (4, 3, 3, 64, 48)
    assert data.hash != RolloutVideo("test", episodes=2, size=4, seed=1).hash
